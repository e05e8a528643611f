/*
 * chores.c: a worker whose work is a list of chores.  See chores.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "core/chores.h"
#include "core/clock.h"
#include "core/guard.h"
#include "core/worker.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#define MAX_BACKOFF_MS 60000

/* reset after each chore */
static MemoryContext context;

void
eduai_core_chores_add(EduaiChores *list, const EduaiChore *chore)
{
	if (list->n >= EDUAI_CHORES)
		elog(FATAL, "too many chores of the %s", list->worker);
	list->chores[list->n++] = chore;
}

long
eduai_core_chores_backoff_ms(int failures)
{
	return Min(MAX_BACKOFF_MS, 1000L << Min(failures - 1, 6));
}

/* in a PG_CATCH: leaves no transaction behind and says what happened */
static void
clean_up_after(EduaiChores *list, int i)
{
	ErrorData *error = eduai_core_catch(context);
	list->failures[i]++;
	/* it may have failed because the extension is being dropped under it */
	if (eduai_core_worker_should_stop())
		return;
	if (list->fared != NULL)
		list->fared(i, error);
	ereport(LOG, (errcode(error->sqlerrcode),
				  errmsg("eduai %s could not do its chore \"%s\": %s", list->worker,
						 list->chores[i]->name, error->message),
				  error->detail ? errdetail_internal("%s", error->detail) : 0,
				  error->hint ? errhint("%s", error->hint) : 0));
}

static void
run_chore(EduaiChores *list, int i)
{
	volatile long next_ms = 0;

	pgstat_report_activity(STATE_RUNNING, list->chores[i]->name);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		next_ms = list->chores[i]->run();
		list->failures[i] = 0;
		if (list->fared != NULL)
			list->fared(i, NULL);
	}
	PG_CATCH();
	{
		clean_up_after(list, i);
		next_ms = eduai_core_chores_backoff_ms(list->failures[i]);
	}
	PG_END_TRY();
	list->due_us[i] = next_ms < 0 ? PG_INT64_MAX : eduai_core_mono_us() + (int64) next_ms * 1000;
	MemoryContextSwitchTo(context);
	MemoryContextReset(context);
	pgstat_report_activity(STATE_IDLE, NULL);
}

static bool
is_due(const EduaiChores *list, int i, bool requested)
{
	const EduaiChore *chore = list->chores[i];

	if (eduai_core_mono_us() >= list->due_us[i])
		return true;
	if (list->failures[i] > 0)
		return false;
	return requested || (chore->wanted != NULL && chore->wanted());
}

/* ms until the next one is due, -1 for never */
static long
sleep_ms(const EduaiChores *list)
{
	int64 next = PG_INT64_MAX;

	for (int i = 0; i < list->n; i++)
		next = Min(next, list->due_us[i]);
	if (next == PG_INT64_MAX)
		return -1;
	return (long) Max(0, (next - eduai_core_mono_us() + 999) / 1000);
}

/* the chores that are due, once each; a stop is heard between them */
static void
run_due(EduaiChores *list, bool requested)
{
	bool any = false;

	for (int i = 0; i < list->n && !eduai_core_worker_should_stop(); i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!is_due(list, i, requested))
			continue;
		run_chore(list, i);
		any = true;
	}
	/* autovacuum learns of the dead rows here; before a sleep nothing is kept back */
	if (any)
		(void) pgstat_report_stat(sleep_ms(list) != 0);
}

/*
 * Nobody may keep the worker from stopping: not who holds a lock, not a
 * standby that is away.  What it commits is derived from what others
 * committed, and comes after it in the WAL: it needs no standby's word.
 */
static void
pin_settings(void)
{
	SetConfigOption("lock_timeout", "500ms", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("synchronous_commit", "local", PGC_SUSET, PGC_S_OVERRIDE);
}

void
eduai_core_chores_run(EduaiChores *list)
{
	bool requested = true;

	pin_settings();
	context = AllocSetContextCreate(TopMemoryContext, "eduai chore", ALLOCSET_DEFAULT_SIZES);
	if (list->begin != NULL)
		list->begin();
	while (!eduai_core_worker_should_stop())
	{
		run_due(list, requested);
		if (eduai_core_worker_should_stop())
			break;
		(void) eduai_core_worker_wait(sleep_ms(list));
		requested = eduai_core_worker_requested();
		if (eduai_core_worker_reloaded())
		{
			/* core has set its own again */
			pin_settings();
			requested = true;
		}
	}
}
