/*
 * attempt.h: the attempt that an application's worker names by task and number.
 */
#ifndef EDUAI_QUEUE_ATTEMPT_H
#define EDUAI_QUEUE_ATTEMPT_H

#include "postgres.h"
#include "fmgr.h"
#include "queue/store.h"

typedef struct NamedAttempt
{
	const char *tenant;
	int64 task_id;
	int attempt;
} NamedAttempt;

/* Raises 22004 when the argument is null. */
extern void eduai_queue_require_argument(FunctionCallInfo fcinfo, int n, const char *name);

/* From a function's first two arguments, for the session's tenant; before eduai_core_enter(). */
extern void eduai_queue_attempt_read(FunctionCallInfo fcinfo, NamedAttempt *attempt);

/*
 * The row of the attempt, if it runs and a worker of an application has it.
 * Its worker counts as seen.  SPI connected, as the owner; so for the next.
 */
extern bool
eduai_queue_attempt_find(EduaiTasks *tasks, const NamedAttempt *attempt, LiveTask *live);

/* Raises UE009; the detail says what took the attempt's place. */
extern void eduai_queue_attempt_refuse(const NamedAttempt *attempt) __attribute__((noreturn));

#endif
