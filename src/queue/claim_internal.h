/*
 * claim_internal.h: between claim.c, which chooses lanes, and claim_lane.c, which
 * takes tasks from one.
 */
#ifndef EDUAI_QUEUE_CLAIM_INTERNAL_H
#define EDUAI_QUEUE_CLAIM_INTERNAL_H

#include "core/heap.h"
#include "queue/catalog.h"
#include "queue/claim.h"
#include "queue/lane_internal.h"
#include "queue/schedule.h"
#include "queue/store.h"

#define CLAIM_MOST_HELD 1000 /* tasks of busy keys that one claim takes out of their lanes */

/* A pool as this claim sees it. */
typedef struct ClaimPool
{
	Pool pool;
	int slots;    /* free ones */
	int reserved; /* of those, for critical tasks */
	ScheduleState choices;
	int nlanes;
	ScheduleLane *lanes; /* as the schedule wants them */
	LaneView *views;     /* the same lanes */
	int *planned;        /* how many tasks are to be taken from each */
	bool closed;
} ClaimPool;

/* A task type whose tasks the order asks for. */
typedef struct ClaimType
{
	char *name;
	uint64 word;
	int pool; /* of Claim.pools */
} ClaimType;

typedef struct Claim
{
	const ClaimOrder *order;
	MemoryContext parent; /* of the claimed tasks' contexts */
	ClaimedTask *claimed;
	int got;
	int held;    /* tasks taken out of their lanes, their key being busy */
	bool locked; /* a row is locked, by no claim */
	bool full;   /* nothing more can start */
	TimestampTz now;
	LaneDatabase *database;
	EduaiTasks *tasks;
	EduaiScan scan;    /* of the lanes' index */
	MemoryContext row; /* reset after each candidate */
	ClaimType *types;
	int ntypes;
	ClaimPool *pools;
	int npools;
	int *chosen; /* lanes of a pool, in a turn */
} Claim;

typedef enum LaneEnd
{
	LANE_END_MOST,    /* as many as were asked for were taken */
	LANE_END_SPENT,   /* the rest cannot be had now */
	LANE_END_NO_SLOT, /* the pool is full for such tasks */
} LaneEnd;

/* Takes up to "most" tasks from a lane of a pool; *took of them. */
extern LaneEnd eduai_queue_claim_lane(Claim *claim, const ClaimPool *pool, const LaneView *view,
									  int most, int *took);

#endif
