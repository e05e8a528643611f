/*
 * claim.h: the dispatcher's side of the queue: what is ready, and taking it.
 *
 * All functions run in the dispatcher, inside a transaction, SPI connected.
 * None waits for a lock: rows that somebody holds are passed over.
 */
#ifndef EDUAI_QUEUE_CLAIM_H
#define EDUAI_QUEUE_CLAIM_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "storage/itemptr.h"
#include "utils/jsonb.h"

typedef struct PoolRoom
{
	const char *pool;
	int slots;    /* that may still be filled */
	int reserved; /* of those, only by critical tasks */
} PoolRoom;

typedef struct Candidate
{
	int64 task_id;
	ItemPointerData tid; /* of the row version that was seen */
	char *tenant;
	char *task_type;
	char *model; /* NULL: any */
	char *user_id;
	int pool; /* index into the PoolRooms */
	int priority;
	TimestampTz deadline;
	char *failed_last; /* the instance of its last attempt, or NULL */
	char *instance;    /* set by the router before the claim */
} Candidate;

/*
 * What should start next, most urgent first: at most "slots" per pool.
 * blocked_classes are "type\x01model" (model empty when any will do),
 * blocked_tenants "tenant\x01type\x01model": left out.  palloc'd.
 */
extern int eduai_queue_candidates(const PoolRoom *rooms, int nrooms, char *const *blocked_classes,
								  int nclasses, char *const *blocked_tenants, int ntenants,
								  Candidate **candidates);

/* A claimed task; everything in a context of its own, which the caller deletes. */
typedef struct ClaimedTask
{
	MemoryContext context;
	int64 task_id;
	ItemPointerData tid; /* of the row as the claim left it */
	int attempt;
	char *tenant;
	char *task_type;
	char *pool;
	char *user_id;
	char *instance;
	char *model;
	int priority;
	int64 timeout_ms;
	Jsonb *payload;
	Jsonb *metadata;
} ClaimedTask;

/*
 * Marks the candidates running, counts the attempt and records the instance:
 * the durable record without which nothing may be sent.  Returns those that
 * were still free, in "claimed" (room for n); contexts under "parent".
 */
extern int
eduai_queue_claim(const Candidate *candidates, int n, MemoryContext parent, ClaimedTask *claimed);

#endif
