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
#include "core/guard.h"
#include "core/json.h"
#include "core/pause.h"
#include "core/plan.h"
#include "core/worker.h"
#include "executor/spi.h"
#include "gateway/budget.h"
#include "gateway/dispatch.h"
#include "gateway/gateway.h"
#include "gateway/health_check.h"
#include "gateway/hedge.h"
#include "gateway/record.h"
#include "gateway/stand.h"
#include "gateway/transfer.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "queue/catalog.h"
#include "queue/history.h"
#include "queue/queue.h"
#include "queue/running.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define RECORD_BATCH           512
#define MAX_TRIES_UNRECORDABLE 5
#define MAX_LOCKED_IN_TURN     5
#define REST                   20 /* times as long as a turn took that sent and recorded nothing */
#define REST_MOST_US           2000
#define STATS_PERIOD_US        (2 * INT64CONST(1000000))
#define FORGET_PATIENCE_US     INT64CONST(500000)

static Fleet *fleet = NULL;
static MemoryContext turn_context;

/* flights that ended and are not recorded yet, oldest first */
static Flight *ended_first = NULL;
static Flight *ended_last = NULL;

/* monotonic times; 0: at once */
static int64 next_claim_us = INT64_MAX; /* a claim that left something behind */
static int64 next_stats_us = 0;
static int64 next_forget_us = 0; /* a step of forgetting finished tasks */
static int64 rest_until_us = 0;

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

	error = eduai_core_catch(turn_context);
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
dispose(GatewayCall *call)
{
	Fleet *used = call->instance->fleet;

	used->refs--;
	MemoryContextDelete(call->context);
	release_fleet(used);
}

/* The two calls of a hedged attempt go together: they share memory. */
static void
dispose_flight(Flight *f)
{
	if (f->partner != NULL)
	{
		Flight *hedge = f->hedge ? f : f->partner;

		f = hedge->partner;
		dispose(&hedge->call);
	}
	dispose(&f->call);
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

		if (call->health_check)
		{
			/* a turn finds out what that means for tasks that wait */
			if (eduai_gateway_health_check_ended(fleet, call, outcome))
				next_claim_us = 0;
			dispose(call);
			continue;
		}
		f->outcome = outcome;
		f->ended_us = eduai_core_mono_us();
		f->retry_us = 0;
		eduai_gateway_dispatch_leave(f);
		f = eduai_gateway_hedge_ended(f);
		if (f == NULL)
			continue;
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
			dispose_flight(batch[i]);
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

	if (fleet != NULL && eduai_gateway_fleet_is_current(fleet))
		return;
	fleet = eduai_gateway_fleet_load(TopMemoryContext);
	eduai_gateway_stand_keep(fleet);
	eduai_gateway_health_check_plan(fleet);
	if (old != NULL)
		release_fleet(old);
}

/* the fleet as it is now, and the budgets */
static void
look_around(void)
{
	refresh_fleet();
	eduai_gateway_budget_begin(fleet);
}

/* the claims of a turn, and when to look again */
static void
claim(void)
{
	ClaimLeft left = eduai_gateway_dispatch_claim(fleet);

	next_claim_us = eduai_gateway_dispatch_claim_at_us();
	if (left == CLAIM_HELD)
		next_claim_us = Min(next_claim_us, eduai_core_mono_us() + 20000);
	if (left == CLAIM_MORE)
		next_claim_us = 0;
	eduai_gateway_budget_write();
}

/* everything in one transaction; false when it failed */
static bool
turn_together(Flight **batch, int n, bool *done)
{
	volatile bool committed = false;

	PG_TRY();
	{
		begin();
		look_around();
		eduai_gateway_dispatch_before_recording();
		if (n > 0)
			eduai_gateway_record(fleet, batch, n, done);
		eduai_gateway_dispatch_after_recording();
		eduai_gateway_hedge_claim(fleet);
		claim();
		eduai_gateway_dispatch_after_claiming();
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
		eduai_gateway_hedge_forget();
		eduai_gateway_dispatch_forget_claims();
	}
	PG_END_TRY();
	return committed;
}

/* a lock, a full disk or a key store out of order says nothing against the outcome: it keeps */
static bool
is_outcomes_fault(int sqlstate)
{
	return sqlstate != ERRCODE_LOCK_NOT_AVAILABLE && sqlstate != ERRCODE_T_R_DEADLOCK_DETECTED &&
		   sqlstate != ERRCODE_DISK_FULL && sqlstate != ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
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
		look_around();
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
		dispose_flight(f);
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
		look_around();
		eduai_gateway_dispatch_before_recording();
		eduai_gateway_dispatch_after_recording();
		claim();
		eduai_gateway_dispatch_after_claiming();
		commit();
	}
	PG_CATCH();
	{
		roll_back("claim tasks");
		eduai_gateway_dispatch_forget_claims();
		/* whatever it is, it is not cured by trying at once */
		next_claim_us = eduai_core_mono_us() + 1000000;
		eduai_gateway_dispatch_postpone_upkeep();
	}
	PG_END_TRY();
}

/* in a transaction of its own: what it reads must not be older than the sweep */
static void
check_pools(void)
{
	PG_TRY();
	{
		begin();
		eduai_queue_pools_check();
		commit();
	}
	PG_CATCH();
	{
		roll_back("look at the pools");
	}
	PG_END_TRY();
}

/*
 * What ends elsewhere asks for a turn at each commit.  Turns that only follow
 * that take no more than a small part of the time: the next one waits a little,
 * and then follows all that came meanwhile.  Nobody signals a latch that is set,
 * so this spares those who commit, too.
 */
static void
rest(void)
{
	int64 left_us = rest_until_us - eduai_core_mono_us();

	if (left_us > 0)
		pg_usleep(Min(left_us, REST_MOST_US));
}

static void
turn(void)
{
	static Flight *batch[RECORD_BATCH];
	static bool done[RECORD_BATCH];
	int64 began_us = eduai_core_mono_us();
	int n = take_ended(batch);
	int64 ended_us;

	MemoryContextSwitchTo(turn_context);
	if (eduai_gateway_dispatch_sweep_due())
		check_pools();
	if (turn_together(batch, n, done))
		settle(batch, done, n);
	else
	{
		record_each(batch, n);
		claim_alone();
	}
	n += eduai_gateway_hedge_start() + eduai_gateway_dispatch_start_claims();
	MemoryContextSwitchTo(turn_context);
	MemoryContextReset(turn_context);
	ended_us = eduai_core_mono_us();
	rest_until_us = n > 0 ? 0 : ended_us + Min(REST * (ended_us - began_us), REST_MOST_US);
}

/* ---- the loop ---- */

static long
sleep_ms(void)
{
	int64 next = Min(eduai_gateway_dispatch_next_upkeep_us(), Min(next_ended_us(), next_claim_us));
	int64 left;
	long transfers = eduai_gateway_transfer_timeout_ms();

	next = Min(Min(next, next_forget_us), eduai_gateway_health_check_next_us());
	next = Min(next, eduai_gateway_hedge_next_us());
	left = (next - eduai_core_mono_us() + 999) / 1000;
	left = Max(0, Min(left, 60000));
	return transfers < 0 ? (long) left : Min((long) left, transfers);
}

static bool
turn_is_due(void)
{
	int64 now = eduai_core_mono_us();

	return now >= eduai_gateway_dispatch_next_upkeep_us() || now >= next_claim_us ||
		   now >= next_ended_us() || now >= eduai_gateway_hedge_next_us();
}

/* the only look at all tasks, once after a server start: before the planner is pinned to indexes */
static void
load_running(void)
{
	PG_TRY();
	{
		begin();
		eduai_queue_running_load();
		commit();
	}
	PG_CATCH();
	{
		roll_back("load the running attempts");
	}
	PG_END_TRY();
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

/*
 * A chore of the queue, between turns: short, and a turn that is due comes
 * first; but where one always is, it gets its own in the end.
 */
static void
forget_finished(void)
{
	int64 over_us = eduai_core_mono_us() - next_forget_us;

	if (over_us < 0 || (over_us < FORGET_PATIENCE_US && turn_is_due()))
		return;
	MemoryContextSwitchTo(turn_context);
	next_forget_us = eduai_core_mono_us() + 1000 * (int64) eduai_queue_forget_step();
	MemoryContextReset(turn_context);
}

void
eduai_gateway_dispatch_run(void)
{
	turn_context = AllocSetContextCreate(TopMemoryContext, "eduai turn", ALLOCSET_DEFAULT_SIZES);
	load_running();
	eduai_gateway_stand_reset_flights();
	pin_planner();
	eduai_core_worker_watch(eduai_gateway_transfer_open());

	while (!eduai_core_worker_should_stop())
	{
		bool requested;

		(void) eduai_core_worker_wait(sleep_ms());
		if (eduai_core_worker_reloaded())
		{
			eduai_gateway_fleet_mark_stale();
			next_forget_us = next_claim_us = 0; /* a turn heeds the new settings */
		}
		eduai_gateway_transfer_poll();
		eduai_gateway_hedge_listen();
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
			rest();
			turn();
			report_statistics();
		}
		eduai_gateway_health_check_start_due(fleet);
		forget_finished();
	}
}
