/*
 * hooks.h: how a higher room takes part when a lower one acts.
 *
 * Each list is filled from <room>_init() and called in order of rank, then of
 * registration.  Hooks that may raise say so; what they write belongs to the
 * caller's transaction.
 */
#ifndef EDUAI_CORE_HOOKS_H
#define EDUAI_CORE_HOOKS_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/* ---- append: called by events ---- */

typedef struct EduaiEvent
{
	char *stream;
	char *event_type;
	char *user_id;    /* NULL when the event is about nobody */
	char *session_id; /* NULL when absent */
	Jsonb *data;
	Jsonb *metadata;
	pg_uuid_t event_id;
	bool own_id;        /* the id is made by eduai at insertion, not given */
	int schema_version; /* of the type, set by events */
	TimestampTz occurred_at;
	TimestampTz recorded_at;
	int64 version; /* set once the stream is locked */
} EduaiEvent;

typedef struct EduaiAppendBatch
{
	const char *tenant;
	EduaiEvent *events;
	int nevents;
	bool nowait; /* never wait for a lock: give up instead */
	bool own;    /* written by eduai itself: not checked against the types' schemas */
} EduaiAppendBatch;

/* What a hook wants of a batch. */
typedef enum EduaiAppendInterest
{
	EDUAI_APPEND_NONE,
	EDUAI_APPEND_DIRECT, /* its other functions are called */
	EDUAI_APPEND_SQL,    /* they are called inside SPI, as the owner */
} EduaiAppendInterest;

typedef struct EduaiAppendHooks
{
	const char *name;
	int rank;
	/* called first, for every batch: locks to take before wants() looks; false only with nowait */
	bool (*enter)(const EduaiAppendBatch *batch);
	/* whether the batch is of interest; without SQL, but for what it opens by itself */
	EduaiAppendInterest (*wants)(const EduaiAppendBatch *batch);
	/* before any lock; may raise (consent, erasure) or replace data (encryption) */
	void (*before)(EduaiAppendBatch *batch);
	/* after the streams' locks; false only with batch->nowait */
	bool (*lock)(EduaiAppendBatch *batch);
	/* the events are inserted, versions set; may raise; inline projections */
	void (*after)(EduaiAppendBatch *batch);
} EduaiAppendHooks;

extern void eduai_core_append_hooks_register(const EduaiAppendHooks *hooks);
/* Calls enter() of all; false only with nowait. */
extern bool eduai_core_append_enter(const EduaiAppendBatch *batch);
/* The most that any hook wants of the batch; with none, the others are not called. */
extern EduaiAppendInterest eduai_core_append_wanted(const EduaiAppendBatch *batch);
extern void eduai_core_append_before(EduaiAppendBatch *batch);
extern bool eduai_core_append_lock(EduaiAppendBatch *batch);
extern void eduai_core_append_after(EduaiAppendBatch *batch);

/* ---- enqueue: called by queue; the gateway refuses what nothing serves ---- */

typedef struct EduaiEnqueue
{
	const char *tenant;
	const char *task_type;
	bool by_gateway;   /* served by the gateway, not by an application */
	const char *model; /* payload.model, or NULL */
	const char *user_id;
	int priority; /* 0 critical .. 3 low */
	const Jsonb *payload;
	const Jsonb *metadata;
} EduaiEnqueue;

typedef struct EduaiRefusal
{
	int sqlstate;
	char *message;
	char *detail; /* NULL when there is none */
	char *hint;   /* NULL when there is none */
} EduaiRefusal;

/* Returns false and fills "why" to refuse; may raise only on bad input. */
typedef bool (*EduaiEnqueueHook)(const EduaiEnqueue *task, EduaiRefusal *why);
extern void eduai_core_enqueue_hook_register(EduaiEnqueueHook hook);
extern bool eduai_core_enqueue_check(const EduaiEnqueue *task, EduaiRefusal *why);

/* ---- result: called by queue in the transaction that records results ---- */

typedef struct EduaiTaskResult
{
	int64 task_id;
	int attempt;
	const char *tenant;
	const char *task_type;
	const char *user_id;   /* NULL when the task is about nobody */
	const char *state;     /* the final state */
	const char *instance;  /* NULL for application workers */
	bool follow_up;        /* append ai_feedback_given to the learner's stream */
	const Jsonb *result;   /* NULL unless completed */
	const Jsonb *metadata; /* NULL where nothing in it matters: a task about nobody */
	bool may_wait;         /* record() may wait for locks: an application's session ends the task */
} EduaiTaskResult;

typedef struct EduaiResultHooks
{
	const char *name;
	/* takes what record() will need without waiting; false: try again later */
	bool (*try_lock)(const EduaiTaskResult *result);
	/* writes, for all results of one transaction; may raise */
	void (*record)(const EduaiTaskResult *results, int n);
} EduaiResultHooks;

extern void eduai_core_result_hooks_register(const EduaiResultHooks *hooks);
extern bool eduai_core_result_try_lock(const EduaiTaskResult *result);
extern void eduai_core_result_record(const EduaiTaskResult *results, int n);

/* ---- task events: called by queue in the transaction that changes tasks ---- */

typedef struct EduaiTaskEvent
{
	const char *tenant;
	int64 task_id;
	const char *event_type; /* task_enqueued, task_started, ... */
	const Jsonb *data;
} EduaiTaskEvent;

typedef struct EduaiTaskEventHooks
{
	const char *name;
	/* takes what record() will need without waiting (data is not known yet); false: not free */
	bool (*try_lock)(const EduaiTaskEvent *event);
	/* writes them, those of a task in this order; with nowait, raises 55P03 rather than wait */
	void (*record)(const EduaiTaskEvent *events, int n, bool nowait);
} EduaiTaskEventHooks;

extern void eduai_core_task_event_hooks_register(const EduaiTaskEventHooks *hooks);
extern bool eduai_core_task_event_try_lock(const EduaiTaskEvent *event);
extern void eduai_core_task_event_record(const EduaiTaskEvent *events, int n, bool nowait);

#endif
