/*
 * hooks.c: the lists through which higher rooms take part.  See hooks.h.
 */
#include "postgres.h"

#include "core/hooks.h"

#define MAX_HOOKS 8

static const EduaiAppendHooks *append_hooks[MAX_HOOKS]; /* ordered by rank */
static int nappend = 0;
static EduaiEnqueueHook enqueue_hooks[MAX_HOOKS];
static int nenqueue = 0;
static const EduaiResultHooks *result_hooks[MAX_HOOKS];
static int nresult = 0;
static const EduaiTaskEventHooks *task_event_hooks[MAX_HOOKS];
static int ntask_event = 0;

static void
check_room(int used)
{
	if (used >= MAX_HOOKS)
		elog(FATAL, "too many hooks");
}

void
eduai_core_append_hooks_register(const EduaiAppendHooks *hooks)
{
	int at = nappend;

	check_room(nappend);
	while (at > 0 && append_hooks[at - 1]->rank > hooks->rank)
	{
		append_hooks[at] = append_hooks[at - 1];
		at--;
	}
	append_hooks[at] = hooks;
	nappend++;
}

bool
eduai_core_append_enter(const EduaiAppendBatch *batch)
{
	for (int i = 0; i < nappend; i++)
		if (append_hooks[i]->enter && !append_hooks[i]->enter(batch))
			return false;
	return true;
}

EduaiAppendInterest
eduai_core_append_wanted(const EduaiAppendBatch *batch)
{
	EduaiAppendInterest most = EDUAI_APPEND_NONE;

	for (int i = 0; i < nappend; i++)
		most = Max(most, append_hooks[i]->wants(batch));
	return most;
}

void
eduai_core_append_before(EduaiAppendBatch *batch)
{
	for (int i = 0; i < nappend; i++)
		if (append_hooks[i]->before)
			append_hooks[i]->before(batch);
}

bool
eduai_core_append_lock(EduaiAppendBatch *batch)
{
	for (int i = 0; i < nappend; i++)
		if (append_hooks[i]->lock && !append_hooks[i]->lock(batch))
			return false;
	return true;
}

void
eduai_core_append_after(EduaiAppendBatch *batch)
{
	for (int i = 0; i < nappend; i++)
		if (append_hooks[i]->after)
			append_hooks[i]->after(batch);
}

void
eduai_core_enqueue_hook_register(EduaiEnqueueHook hook)
{
	check_room(nenqueue);
	enqueue_hooks[nenqueue++] = hook;
}

bool
eduai_core_enqueue_check(const EduaiEnqueue *task, EduaiRefusal *why)
{
	for (int i = 0; i < nenqueue; i++)
		if (!enqueue_hooks[i](task, why))
			return false;
	return true;
}

void
eduai_core_result_hooks_register(const EduaiResultHooks *hooks)
{
	check_room(nresult);
	result_hooks[nresult++] = hooks;
}

bool
eduai_core_result_try_lock(const EduaiTaskResult *result)
{
	for (int i = 0; i < nresult; i++)
		if (result_hooks[i]->try_lock && !result_hooks[i]->try_lock(result))
			return false;
	return true;
}

void
eduai_core_result_record(const EduaiTaskResult *results, int n)
{
	for (int i = 0; i < nresult; i++)
		if (result_hooks[i]->record)
			result_hooks[i]->record(results, n);
}

void
eduai_core_task_event_hooks_register(const EduaiTaskEventHooks *hooks)
{
	check_room(ntask_event);
	task_event_hooks[ntask_event++] = hooks;
}

bool
eduai_core_task_event_try_lock(const EduaiTaskEvent *event)
{
	for (int i = 0; i < ntask_event; i++)
		if (!task_event_hooks[i]->try_lock(event))
			return false;
	return true;
}

void
eduai_core_task_event_record(const EduaiTaskEvent *events, int n, bool nowait)
{
	for (int i = 0; i < ntask_event; i++)
		task_event_hooks[i]->record(events, n, nowait);
}
