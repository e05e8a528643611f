/*
 * keeper.c: the worker "eduai keeper".  See keeper.h.
 *
 * It runs the chores that are due, one after the other, and sleeps until the
 * next one is or somebody wakes it.  Between chores there is no transaction and
 * no snapshot.  A chore that fails is put off, alone: a wake-up does not shorten
 * its wait, so that what always fails costs a try a minute.
 */
#include "postgres.h"

#include "access/xact.h"
#include "core/clock.h"
#include "core/worker.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "privacy/keeper.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#define MAX_CHORES     8
#define MAX_BACKOFF_MS 60000

typedef struct ChoreState
{
	int64 due_us; /* monotonic */
	int failures; /* since it last succeeded */
} ChoreState;

static const EduaiKeeperChore *chores[MAX_CHORES];
static int nchores = 0;
static int kind = -1;

/* in a keeper */
static ChoreState states[MAX_CHORES];
static MemoryContext chore_context;

void
eduai_privacy_keeper_register(const EduaiKeeperChore *chore)
{
	if (nchores >= MAX_CHORES)
		elog(FATAL, "too many chores of the keeper");
	chores[nchores++] = chore;
}

/* a second, doubled with each failure, at most a minute */
static long
backoff_ms(int failures)
{
	return Min(MAX_BACKOFF_MS, 1000L << Min(failures - 1, 6));
}

/* in a PG_CATCH: leaves no transaction behind and says what happened */
static void
clean_up_after(int i)
{
	ErrorData *error;

	MemoryContextSwitchTo(chore_context);
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(chore_context);
	states[i].failures++;
	/* it may have failed because the extension is being dropped under it */
	if (eduai_core_worker_should_stop())
		return;
	ereport(LOG, (errcode(error->sqlerrcode),
				  errmsg("eduai keeper could not do its chore \"%s\": %s", chores[i]->name,
						 error->message),
				  error->detail ? errdetail_internal("%s", error->detail) : 0,
				  error->hint ? errhint("%s", error->hint) : 0));
}

static void
run_chore(int i)
{
	volatile long next_ms = 0;

	pgstat_report_activity(STATE_RUNNING, chores[i]->name);
	MemoryContextSwitchTo(chore_context);
	PG_TRY();
	{
		if (!chores[i]->run())
			next_ms = chores[i]->period_ms;
		states[i].failures = 0;
	}
	PG_CATCH();
	{
		clean_up_after(i);
		next_ms = backoff_ms(states[i].failures);
	}
	PG_END_TRY();
	states[i].due_us = eduai_core_mono_us() + (int64) next_ms * 1000;
	MemoryContextSwitchTo(chore_context);
	MemoryContextReset(chore_context);
	pgstat_report_activity(STATE_IDLE, NULL);
}

static bool
is_due(int i, bool requested)
{
	return eduai_core_mono_us() >= states[i].due_us || (requested && states[i].failures == 0);
}

static long
sleep_ms(void)
{
	int64 next = PG_INT64_MAX;

	for (int i = 0; i < nchores; i++)
		next = Min(next, states[i].due_us);
	if (next == PG_INT64_MAX)
		return -1;
	return (long) Max(0, (next - eduai_core_mono_us() + 999) / 1000);
}

/* the chores that are due, once each; a stop is heard between them */
static void
run_due(bool requested)
{
	bool any = false;

	for (int i = 0; i < nchores && !eduai_core_worker_should_stop(); i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!is_due(i, requested))
			continue;
		run_chore(i);
		any = true;
	}
	/* autovacuum learns of the dead rows here */
	if (any)
		(void) pgstat_report_stat(sleep_ms() != 0);
}

/*
 * Nobody may keep the keeper from stopping: not who holds a lock, not a
 * standby that is away.  What it commits comes after what it derives from in
 * the WAL.
 */
static void
pin_settings(void)
{
	SetConfigOption("lock_timeout", "500ms", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("synchronous_commit", "local", PGC_SUSET, PGC_S_OVERRIDE);
}

static void
run(void)
{
	bool requested = true;

	pin_settings();
	chore_context = AllocSetContextCreate(TopMemoryContext, "eduai keeper", ALLOCSET_DEFAULT_SIZES);
	while (!eduai_core_worker_should_stop())
	{
		run_due(requested);
		if (eduai_core_worker_should_stop())
			break;
		(void) eduai_core_worker_wait(sleep_ms());
		requested = eduai_core_worker_requested();
		if (eduai_core_worker_reloaded())
		{
			/* core has set its own again */
			pin_settings();
			requested = true;
		}
	}
}

void
eduai_privacy_keeper_wake_at_commit(void)
{
	eduai_core_worker_wake_at_commit(kind);
}

void
eduai_privacy_keeper_wake_now(void)
{
	eduai_core_worker_wake_now(kind);
}

void
eduai_privacy_keeper_init(void)
{
	static const EduaiWorkerKind keeper = {"keeper", run};

	kind = eduai_core_worker_register(&keeper);
}
