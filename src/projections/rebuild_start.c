/*
 * rebuild_start.c: who starts the process that rebuilds: the projector, and
 * whoever calls rebuild_projection().  See rebuild.h.
 */
#include "postgres.h"

#include "core/clock.h"
#include "events/projector.h"
#include "miscadmin.h"
#include "projections/failing.h"
#include "projections/rebuild.h"
#include "projections/rebuild_state.h"

/* how soon the projector tries again where no process could be had */
#define AGAIN_MS 5000

bool
eduai_projections_rebuild_start(int projection, bool begin, EduaiRebuildProcess *process)
{
	EduaiRebuild before;
	char argument[EDUAI_APART_ARGUMENT];

	if (process->handle != NULL)
		pfree(process->handle);
	process->handle = NULL;
	if (!eduai_projections_rebuild_ask(projection, &before))
		return false;
	process->asked_us = eduai_projections_rebuild_get(projection).asked_us;
	snprintf(argument, sizeof(argument), "%d %d", projection, begin ? 1 : 0);
	process->handle = eduai_events_start_apart("eduai_projections_rebuild_run", argument);
	if (process->handle == NULL)
		eduai_projections_rebuild_never_came(projection, process->asked_us);
	return true;
}

void
eduai_projections_rebuild_check(int projection, EduaiRebuildProcess *process)
{
	pid_t pid;

	if (process->handle == NULL || GetBackgroundWorkerPid(process->handle, &pid) != BGWH_STOPPED)
		return;
	eduai_projections_rebuild_never_came(projection, process->asked_us);
	pfree(process->handle);
	process->handle = NULL;
}

/* The projector's last: which projection it is for. */
static EduaiRebuildProcess mine = {0};
static int mine_for = 0;

static void
note_no_process(int projection)
{
	ErrorData error = {.sqlerrcode = ERRCODE_INSUFFICIENT_RESOURCES,
					   .message = "no background worker could be started to rebuild it"};

	eduai_projections_failing_note(projection, "", &error);
	ereport(LOG, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				  errmsg("eduai could not start a process to rebuild projection %d", projection),
				  errhint("Raise max_worker_processes.")));
}

static long
start_one(int projection)
{
	mine_for = projection;
	if (!eduai_projections_rebuild_start(projection, false, &mine) || mine.handle != NULL)
		return -1;
	note_no_process(projection);
	return AGAIN_MS;
}

long
eduai_projections_rebuild_tend(const int *projections, int n)
{
	int64 now_us = eduai_core_mono_us();
	int64 next_us = PG_INT64_MAX;

	eduai_projections_rebuild_check(mine_for, &mine);
	for (int i = 0; i < n; i++)
		if (eduai_projections_rebuild_get(projections[i]).phase != EDUAI_REBUILD_NONE)
			return -1;
	for (int i = 0; i < n; i++)
	{
		int64 retry_us = eduai_projections_rebuild_get(projections[i]).retry_us;

		if (retry_us <= now_us)
			return start_one(projections[i]);
		next_us = Min(next_us, retry_us);
	}
	return next_us == PG_INT64_MAX ? -1 : (long) ((next_us - now_us + 999) / 1000);
}
