/*
 * claim_internal.h: between claim.c, which chooses lanes, and claim_lane.c, which
 * takes tasks from one.
 */
#ifndef EDUAI_QUEUE_CLAIM_INTERNAL_H
#define EDUAI_QUEUE_CLAIM_INTERNAL_H

#include "core/heap.h"
#include "queue/catalog.h"
#include "queue/claim.h"
#include "queue/dependency.h"
#include "queue/lane_internal.h"
#include "queue/schedule.h"
#include "queue/store.h"

#define CLAIM_MOST_HELD \
	1000 /* tasks that one claim takes out of their lanes without starting them */

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
	int held;    /* tasks taken out of their lanes: their key is busy, or the router says so */
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
	int *chosen;          /* lanes of a pool, in a turn */
	EndedParent *refused; /* whose dependants are to follow */
	int nrefused;
	int refused_room;
} Claim;

typedef enum LaneEnd
{
	LANE_END_MOST,    /* as many as were asked for were taken */
	LANE_END_SPENT,   /* the rest cannot be had now */
	LANE_END_NO_SLOT, /* the pool is full for such tasks */
} LaneEnd;

typedef enum RowEnd
{
	ROW_TAKEN,
	ROW_PASSED,
	ROW_LOCKED,
	ROW_BLOCKS, /* no instance has room: so for all of the lane */
	ROW_NO_SLOT,
	ROW_FULL
} RowEnd;

/* One lane, being looked at. */
#define CLAIM_MOST_LOCKED 16 /* locked rows that a scan remembers */
typedef struct LaneScan
{
	Claim *claim;
	const ClaimPool *pool;
	int most;
	int took;
	LaneEnd end;
	bool over; /* for a reason other than that all was looked at */
	int64 locked[CLAIM_MOST_LOCKED];
	int nlocked;
} LaneScan;

/* Takes up to "most" tasks from a lane of a pool; *took of them. */
extern LaneEnd eduai_queue_claim_lane(Claim *claim, const ClaimPool *pool, const LaneView *view,
									  int most, int *took);

/* Starts a task, if the order asks for it. */
extern RowEnd eduai_queue_claim_start(Claim *claim, const ClaimPool *pool, LiveTask *live);

/* What an end means for the scan: false when it is over before the task with this key. */
extern bool eduai_queue_claim_look(LaneScan *scan, RowEnd end, int64 key);

/* ---- claim_fresh.c ---- */

/* Takes the lane's fresh tasks (fresh.h) whose keys are below "before". */
extern void eduai_queue_claim_fresh(LaneScan *scan, const LaneView *view, int64 before);

/*
 * Before a task that is fresh is written in any way but as started: it gets its row,
 * as ready.  Does nothing with others.
 */
extern void eduai_queue_claim_write_fresh(Claim *claim, LiveTask *live);

/* ---- claim_verdict.c: the row was read and has not started ---- */

/* It becomes scheduled, its error the routing's code and message, if any; false when the row was not to be had. */
extern bool eduai_queue_claim_defer(Claim *claim, LiveTask *live, const Routing *routing);

/* It ends dead with the routing's code and message; false when the row was not to be had. */
extern bool eduai_queue_claim_refuse(Claim *claim, LiveTask *live, const Routing *routing);

/* When no scan is open any more: the dependants of the refused. */
extern void eduai_queue_claim_follow_refused(Claim *claim);

#endif
