/*
 * sensitive.h: payloads, results and what is said meanwhile that metadata.sensitive
 * marks.
 *
 * metadata.sensitive: true, for the whole payload, or an array of the payload's
 * keys.  Of a task about a learner (user_id) these are stored sealed, and so are
 * its result, its progress and the messages of its errors; in between only the
 * attempt that runs has them in clear, and callers who may see them
 * (core/personal.h).
 */
#ifndef EDUAI_QUEUE_SENSITIVE_H
#define EDUAI_QUEUE_SENSITIVE_H

#include "postgres.h"
#include "core/json.h"
#include "queue/claim.h"
#include "queue/enqueue.h"

extern void eduai_queue_sensitive_init(void);

/* Raises 22023 unless metadata.sensitive is what it may be. */
extern void eduai_queue_check_sensitive(const Jsonb *metadata);

/*
 * Takes out of the payload what the learner has not consented to, where the
 * requirement says redact, and sets task->kept, the payload as it is stored.
 * Raises 55000 when something must be sealed and cannot be.
 */
extern void eduai_queue_guard_payload(TaskRequest *task);

/* What a task's words may be sealed for. */
typedef struct TaskSubject
{
	const char *tenant;
	const char *user_id; /* NULL: nobody */
	const char *task_type;
	const Jsonb *metadata;
} TaskSubject;

/* The result or progress ("field") as it is stored. */
extern const Jsonb *
eduai_queue_guard_json(const TaskSubject *of, const Jsonb *json, const char *field);
/*
 * Puts what a provider, worker or handler said, which may quote the payload: as it
 * is, sealed, or, while that is impossible, that there was something.
 */
extern void
eduai_queue_put_words(EduaiJson *j, const char *key, const TaskSubject *of, const char *words);

/* May the role read what the task gives while it runs? */
extern bool eduai_queue_may_read(const TaskSubject *of, Oid role);

/* A payload or result as the role may see it; InvalidOid: in clear. */
extern Jsonb *eduai_queue_open_json(const char *tenant, const char *user_id, const char *task_type,
									Jsonb *json, Oid role);
/* The parents of a task, each opened as its own type and learner's. */
extern Jsonb *eduai_queue_open_parents(const char *tenant, Jsonb *parents, Oid role);
/* An eduai.task_status with its result, error and progress so, and the text that it has given so far. */
extern Datum eduai_queue_open_status(const char *tenant, Datum status, Oid role);

/*
 * May the task be started now?  ROUTE_TO, or what is to become of it: its
 * learner was erased or has withdrawn a consent, or its payload does not open.
 */
extern RouteVerdict
eduai_queue_may_start(const Candidate *candidate, Routing *routing, TimestampTz now);

#endif
