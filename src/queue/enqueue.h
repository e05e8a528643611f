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
	char *unique_key;
	int max_attempts;
	int64 timeout_ms;
	char *user_id;
	Jsonb *payload;
	Jsonb *metadata;
	OnRefusal on_refusal;
	char *owner;     /* the enqueuing role's name */
	char *on_result; /* qualified name, or NULL */
	char *idempotency_key;
	TimestampTz expires_at; /* 0: never */
} TaskRequest;

extern void eduai_queue_enqueue_init(void);

/* Settings */
extern PGDLLIMPORT int eduai_queue_max_size;

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

/* Inserts the row; SPI connected, as the owner. */
extern int64 eduai_queue_insert(const TaskRequest *task);

/* Inserts a row for each payload, with its user_id where user_ids is not NULL. */
extern void eduai_queue_insert_many(const TaskRequest *task, const int64 *ids,
									Jsonb *const *payloads, char *const *user_ids, int n);

extern int64 eduai_queue_next_id(void);

#endif
