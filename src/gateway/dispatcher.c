/*
 * dispatcher.c: the worker that sends tasks to providers.
 *
 * It sleeps on its latch and on the transfers' epoll descriptor.  A turn is
 * one transaction: it records the calls that ended, claims what may start, and
 * commits once; what ends while that commit runs is the next turn's batch.
 * Only after the commit do the claimed calls leave.  Between turns there is no
 * transaction and no snapshot.
 *
 * A turn is taken when a commit asked for it (enqueue, cancel, configuration),
 * a call ended, a scheduled task is due, or the sweep's period is over; the
 * sweep finds what no commit callback sees (COMMIT PREPARED, a restore, dead
 * dispatchers' attempts, expired tasks).
 *
 * When a turn fails, it is taken apart: each outcome is recorded in a
 * transaction of its own, so that one that cannot be recorded delays itself
 * only, and the claims get theirs.
 */
#include "postgres.h"

#include "access/xact.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/pause.h"
#include "core/plan.h"
#include "core/worker.h"
#include "executor/spi.h"
#include "gateway/dispatch.h"
#include "gateway/gateway.h"
#include "gateway/record.h"
#include "gateway/transfer.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "queue/board.h"
#include "queue/catalog.h"
#include "queue/dependency.h"
#include "queue/queue.h"
#include "queue/sweep.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define RECORD_BATCH           512
#define MAX_TRIES_UNRECORDABLE 5
#define MAX_LOCKED_IN_TURN     5
#define STATS_PERIOD_US        (2 * INT64CONST(1000000))

static int sweep_interval_ms = 5000;

static Fleet *fleet = NULL;
static MemoryContext turn_context;

/* flights that ended and are not recorded yet, oldest first */
static Flight *ended_first = NULL;
static Flight *ended_last = NULL;

/* monotonic times; 0: at once */
static int64 next_sweep_us = 0;
static int64 next_due_us = 0;
static int64 next_claim_us = INT64_MAX; /* a claim that left something behind */
static int64 next_stats_us = 0;

void
eduai_gateway_dispatch_settings(void)
{
	DefineCustomIntVariable(
		"eduai.sweep_interval", "How often the dispatcher looks for what no commit announces.",
		NULL, &sweep_interval_ms, 5000, 100, 3600000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

/* ---- transactions ---- */

static void
begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	/* the last wall against waiting for an application's lock */
	(void) set_config_option("lock_timeout", "100ms", PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
							 true, 0, false);
	SPI_connect();
	MemoryContextSwitchTo(turn_context);
}

static void
commit(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(turn_context);
}

/* after an error: logs it, leaves no transaction behind, returns its SQLSTATE */
static int
roll_back(const char *doing)
{
	ErrorData *error;
	int sqlstate;

	MemoryContextSwitchTo(turn_context);
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(turn_context);
	sqlstate = error->sqlerrcode;
	ereport(
		sqlstate == ERRCODE_LOCK_NOT_AVAILABLE ? DEBUG1 : LOG,
		(errcode(sqlstate), errmsg("eduai dispatcher could not %s: %s", doing, error->message)));
	FreeErrorData(error);
	return sqlstate;
}

/* ---- flights ---- */

static void
release_fleet(Fleet *old)
{
	if (old != fleet && old->refs == 0)
		MemoryContextDelete(old->context);
}

static void
dispose(Flight *f)
{
	Fleet *used = f->call.instance->fleet;

	used->refs--;
	MemoryContextDelete(f->call.context);
	release_fleet(used);
}

static void
append_ended(Flight *f)
{
	f->next = NULL;
	if (ended_last != NULL)
		ended_last->next = f;
	else
		ended_first = f;
	ended_last = f;
}

/* takes what the transfers hand back; their slots are free from now on */
static int
collect(void)
{
	GatewayCall *call;
	CallOutcome *outcome;
	int n = 0;

	while ((call = eduai_gateway_transfer_next(&outcome)) != NULL)
	{
		Flight *f = FLIGHT_OF(call);

		f->outcome = outcome;
		f->ended_us = eduai_core_mono_us();
		f->retry_us = 0;
		eduai_gateway_dispatch_free_slot(f);
		append_ended(f);
		n++;
	}
	return n;
}

/* the flights that may be recorded now, at most a batch, out of the list */
static int
take_ended(Flight **batch)
{
	int64 now = eduai_core_mono_us();
	Flight *rest_first = NULL;
	Flight *rest_last = NULL;
	Flight *next;
	int n = 0;

	for (Flight *f = ended_first; f != NULL; f = next)
	{
		next = f->next;
		if (n < RECORD_BATCH && f->retry_us <= now)
		{
			batch[n++] = f;
			continue;
		}
		f->next = NULL;
		if (rest_last != NULL)
			rest_last->next = f;
		else
			rest_first = f;
		rest_last = f;
	}
	ended_first = rest_first;
	ended_last = rest_last;
	return n;
}

/* 50 ms, doubled each time, at most 2 s */
static void
defer(Flight *f)
{
	f->tries++;
	f->retry_us = eduai_core_mono_us() + (INT64CONST(50000) << Min(f->tries - 1, 5));
	append_ended(f);
}

static void
settle(Flight **batch, const bool *done, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (done[i])
			dispose(batch[i]);
		else
			defer(batch[i]);
	}
}

/* monotonic time of the next deferred flight, INT64_MAX for none */
static int64
next_ended_us(void)
{
	int64 next = INT64_MAX;

	for (Flight *f = ended_first; f != NULL; f = f->next)
		next = Min(next, f->retry_us);
	return next;
}

/* ---- a turn ---- */

static void
refresh_fleet(void)
{
	Fleet *old = fleet;

	if (fleet != NULL && !eduai_gateway_fleet_stale())
		return;
	fleet = eduai_gateway_fleet_load(TopMemoryContext);
	if (old != NULL)
		release_fleet(old);
}

/* aborts the transfers of tasks that are no longer theirs */
static void
abort_superseded(void)
{
	int64 *ids;
	int *attempts;
	int n = eduai_gateway_transfer_list(&ids, &attempts);
	int *gone;
	int ngone;

	if (n == 0)
		return;
	gone = palloc(sizeof(int) * n);
	ngone = eduai_queue_superseded(ids, attempts, n, gone);
	for (int i = 0; i < ngone; i++)
		(void) eduai_gateway_transfer_cancel(ids[gone[i]], attempts[gone[i]]);
}

static void
handle_cancels(void)
{
	EndedTask tasks[64];
	bool overflow;
	bool any = false;
	int n;

	while ((n = eduai_queue_board_take(tasks, lengthof(tasks), &overflow)) > 0 || overflow)
	{
		any = true;
		eduai_queue_follow_ended(tasks, n);
	}
	if (any)
		abort_superseded();
}

static void
sweep(void)
{
	int orphans;

	if (eduai_core_mono_us() < next_sweep_us)
		return;
	(void) eduai_queue_expire();
	(void) eduai_queue_release_orphans();
	orphans = eduai_gateway_record_orphans();
	abort_superseded();
	next_sweep_us = eduai_core_mono_us() + (orphans > 0 ? 50000 : (int64) sweep_interval_ms * 1000);
}

static void
wake_due(void)
{
	int64 ms;

	(void) eduai_queue_wake_due();
	ms = eduai_queue_next_due_ms();
	next_due_us = ms < 0 ? INT64_MAX : eduai_core_mono_us() + ms * 1000;
}

/* the claims of a turn, and when to look again */
static void
claim(void)
{
	switch (eduai_gateway_dispatch_claim(fleet))
	{
		case CLAIM_ALL:
			next_claim_us = INT64_MAX;
			break;
		case CLAIM_HELD:
			next_claim_us = eduai_core_mono_us() + 20000;
			break;
		case CLAIM_MORE:
			next_claim_us = 0;
			break;
	}
}

/* everything in one transaction; false when it failed */
static bool
turn_together(Flight **batch, int n, bool *done)
{
	volatile bool committed = false;

	PG_TRY();
	{
		begin();
		refresh_fleet();
		handle_cancels();
		sweep();
		if (n > 0)
			eduai_gateway_record(fleet, batch, n, done);
		/* after recording: a failed attempt may just have been scheduled again */
		wake_due();
		claim();
		EDUAI_PAUSE("turn-before-commit");
		commit();
		committed = true;
		EDUAI_PAUSE("turn-committed");
	}
	PG_CATCH();
	{
		if (committed)
			PG_RE_THROW();
		roll_back("take a turn");
		eduai_gateway_dispatch_forget_claims();
	}
	PG_END_TRY();
	return committed;
}

/* a lock or a full disk says nothing against the outcome: it keeps */
static bool
is_outcomes_fault(int sqlstate)
{
	return sqlstate != ERRCODE_LOCK_NOT_AVAILABLE && sqlstate != ERRCODE_T_R_DEADLOCK_DETECTED &&
		   sqlstate != ERRCODE_DISK_FULL;
}

/* an outcome that cannot be recorded as it is becomes a failure that can */
static void
make_recordable(Flight *f)
{
	if (++f->failures <= MAX_TRIES_UNRECORDABLE || f->outcome->verdict != CALL_COMPLETED)
		return;
	f->outcome->verdict = CALL_FATAL;
	f->outcome->code = "unrecordable";
	f->outcome->message = "the result could not be recorded; the server log says why";
	f->outcome->result = NULL;
}

/* returns false when a lock was in the way of the whole transaction */
static bool
record_alone(Flight *f)
{
	volatile bool busy = true;
	volatile bool locked = false;
	bool done = false;

	PG_TRY();
	{
		begin();
		eduai_gateway_record(fleet, &f, 1, &done);
		commit();
		busy = !done;
	}
	PG_CATCH();
	{
		int sqlstate = roll_back("record a result");

		locked = sqlstate == ERRCODE_LOCK_NOT_AVAILABLE;
		if (is_outcomes_fault(sqlstate))
			make_recordable(f);
	}
	PG_END_TRY();
	if (busy)
		defer(f);
	else
		dispose(f);
	return !locked;
}

/*
 * Each in a transaction of its own.  Where locks keep failing them, as while
 * somebody changes a table, the rest goes back to the head of the line: no turn
 * may keep the transfers waiting.
 */
static void
record_each(Flight **batch, int n)
{
	int patience = MAX_LOCKED_IN_TURN;
	int i = 0;

	while (i < n && patience > 0)
		if (!record_alone(batch[i++]))
			patience--;
	while (n > i)
	{
		Flight *f = batch[--n];

		f->next = ended_first;
		ended_first = f;
		if (ended_last == NULL)
			ended_last = f;
	}
}

static void
claim_alone(void)
{
	PG_TRY();
	{
		begin();
		refresh_fleet();
		handle_cancels();
		sweep();
		wake_due();
		claim();
		commit();
	}
	PG_CATCH();
	{
		roll_back("claim tasks");
		eduai_gateway_dispatch_forget_claims();
		/* whatever it is, it is not cured by trying at once */
		next_claim_us = eduai_core_mono_us() + 1000000;
		next_sweep_us = eduai_core_mono_us() + (int64) sweep_interval_ms * 1000;
		next_due_us = next_claim_us;
	}
	PG_END_TRY();
}

static void
turn(void)
{
	static Flight *batch[RECORD_BATCH];
	static bool done[RECORD_BATCH];
	int n = take_ended(batch);

	MemoryContextSwitchTo(turn_context);
	if (turn_together(batch, n, done))
		settle(batch, done, n);
	else
	{
		record_each(batch, n);
		claim_alone();
	}
	eduai_gateway_dispatch_start_claims();
	MemoryContextSwitchTo(turn_context);
	MemoryContextReset(turn_context);
}

/* ---- the loop ---- */

static long
sleep_ms(void)
{
	int64 next = Min(Min(next_sweep_us, next_due_us), Min(next_ended_us(), next_claim_us));
	int64 left = next == INT64_MAX ? 60000 : (next - eduai_core_mono_us() + 999) / 1000;
	long transfers = eduai_gateway_transfer_timeout_ms();

	left = Max(0, Min(left, 60000));
	return transfers < 0 ? (long) left : Min((long) left, transfers);
}

static bool
turn_is_due(void)
{
	int64 now = eduai_core_mono_us();

	return now >= next_sweep_us || now >= next_due_us || now >= next_claim_us ||
		   now >= next_ended_us();
}

/* the planner may not mistake a small or unanalysed table for a reason to scan it */
static void
pin_planner(void)
{
	static const char *const off[] = {"enable_seqscan",    "enable_hashjoin", "enable_mergejoin",
									  "enable_bitmapscan", "enable_material", "enable_memoize"};

	for (size_t i = 0; i < lengthof(off); i++)
		SetConfigOption(off[i], "off", PGC_SUSET, PGC_S_OVERRIDE);
	/* a plan for each call would cost more than the calls */
	SetConfigOption("plan_cache_mode", "force_generic_plan", PGC_SUSET, PGC_S_OVERRIDE);
}

static void
report_statistics(void)
{
	if (eduai_core_mono_us() < next_stats_us)
		return;
	/* autovacuum learns of the dead rows here, and here only */
	(void) pgstat_report_stat(true);
	next_stats_us = eduai_core_mono_us() + STATS_PERIOD_US;
}

void
eduai_gateway_dispatch_run(void)
{
	pin_planner();
	turn_context = AllocSetContextCreate(TopMemoryContext, "eduai turn", ALLOCSET_DEFAULT_SIZES);
	eduai_core_worker_watch(eduai_gateway_transfer_open());

	while (!eduai_core_worker_should_stop())
	{
		bool requested;

		(void) eduai_core_worker_wait(sleep_ms());
		if (eduai_core_worker_reloaded())
			eduai_gateway_fleet_mark_stale();
		eduai_gateway_transfer_poll();
		requested = eduai_core_worker_requested();
		if (eduai_core_worker_reconfigured())
		{
			eduai_gateway_fleet_mark_stale();
			eduai_queue_catalog_mark_stale();
		}
		if (eduai_core_worker_should_stop())
			break;
		if (collect() > 0 || requested || turn_is_due())
		{
			turn();
			report_statistics();
		}
	}
}
