/*
 * enqueue.h: what a task is asked to be, before it is a row.
 */
#ifndef EDUAI_QUEUE_ENQUEUE_H
#define EDUAI_QUEUE_ENQUEUE_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "queue/catalog.h"
#include "utils/array.h"
#include "utils/jsonb.h"

typedef struct EduaiTasks EduaiTasks; /* queue/store.h */

typedef enum OnRefusal
{
	REFUSAL_ERROR,
	REFUSAL_DEFER,
	REFUSAL_SKIP
} OnRefusal;

typedef struct TaskRequest
{
	char *tenant;
	TaskType type;
	int priority;
	TimestampTz now;
	TimestampTz run_at;
	char *state;           /* 'ready', 'scheduled', 'waiting' or 'dead' */
	ArrayType *depends_on; /* NULL: none */
	int64 *awaited;        /* of those, what it waits for: eduai_queue_look_at_parents() */
	int nawaited;
	char *unique_key;
	int max_attempts;
	int64 timeout_ms;
	char *user_id;
	char *model;           /* payload.model; NULL: any */
	char *concurrency_key; /* metadata.concurrency_key; NULL: none */
	Jsonb *payload;
	Jsonb *kept; /* the payload as it is stored; NULL: as it is */
	Jsonb *metadata;
	bool unconsented;    /* it needs a consent that is not given */
	const char *purpose; /* which */
	OnRefusal on_refusal;
	char *owner;     /* the enqueuing role's name */
	char *on_result; /* qualified name, or NULL */
	char *idempotency_key;
	TimestampTz expires_at; /* 0: never */
	bool of_many;           /* one of a large batch */
} TaskRequest;

extern void eduai_queue_enqueue_init(void);

/* Settings */
extern PGDLLIMPORT int eduai_queue_max_size;
extern size_t eduai_queue_max_payload_bytes(void);

/* Checks of single arguments; each raises 22023 with the bad value. */
extern OnRefusal eduai_queue_on_refusal(const char *name);
extern void eduai_queue_check_payload(const Jsonb *payload);
extern void eduai_queue_check_metadata(const Jsonb *metadata);
extern void eduai_queue_check_label(const char *what, const char *label);

/*
 * The qualified name of the handler that "name" means to the calling role,
 * who must be allowed to run it.  Call before eduai_core_enter().
 */
extern char *eduai_queue_resolve_handler(const char *name);

/*
 * May the task be taken?  True: a place of the tenant's quota is reserved.
 * False: refused, and on_refusal is skip.  Raises when on_refusal is error.
 */
extern bool eduai_queue_admit(const TaskRequest *task);

/*
 * Writes the task's rows, ready tasks announced to their lanes; the nth of one
 * call, which decides its place among those that become ready together.  One
 * whose state is "dead" gets its end at once.
 */
extern int64 eduai_queue_insert(EduaiTasks *tasks, const TaskRequest *task, int nth);

#endif
