/*
 * finish.h: recording what became of attempts.
 *
 * Inside a transaction, SPI connected.  The dispatcher never waits for a lock
 * that an application can hold: an outcome that would wait comes back as
 * FINISH_BUSY, nothing of it written, to be tried in a later batch.  An
 * application's session waits, as for any lock.
 */
#ifndef EDUAI_QUEUE_FINISH_H
#define EDUAI_QUEUE_FINISH_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "storage/itemptr.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

typedef enum FinishStatus
{
	FINISH_RECORDED,
	FINISH_BUSY, /* somebody holds the task, the learner or the handler's rows */
	FINISH_STALE /* the attempt was superseded: cancelled, or final already */
} FinishStatus;

typedef enum AttemptEnd
{
	ATTEMPT_COMPLETED,
	ATTEMPT_FAILED,
	ATTEMPT_UNCERTAIN /* its process died, or its answer was lost */
} AttemptEnd;

typedef struct TaskOutcome
{
	const char *tenant;
	int64 task_id;
	ItemPointerData tid; /* where the row was when it was claimed or seen running */
	int attempt;
	AttemptEnd end;
	bool by_worker;       /* an application's: the attempt must have a lease */
	bool retry;           /* of a failure: may another attempt help? */
	bool at_once;         /* of a failure: without backoff, elsewhere */
	int64 retry_after_ms; /* the provider's wish, -1 for none */
	const char *code;
	const char *message;
	int http_status;
	const char *instance;
	/* of a failure: another call of the same attempt that failed before it; NULL: none */
	const char *also_code;
	const char *also_message;
	const char *also_instance;
	Numeric cost_usd; /* of this attempt */
	const Jsonb *result;
	bool patience_over; /* a busy handler is now an error of the handler */
	/* out */
	FinishStatus status;
	bool final; /* the task ended with it */
} TaskOutcome;

/*
 * Records the outcomes of one transaction.  by_dispatcher: without waiting, and
 * what follows (dependants, notifications) at once; otherwise the dispatcher is
 * told at the commit.
 */
extern void eduai_queue_finish(TaskOutcome *outcomes, int n, bool by_dispatcher);

extern void eduai_queue_finish_init(void);

#endif
