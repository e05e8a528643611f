/*
 * dispatch_upkeep.c: what a turn does for the queue besides recording and
 * claiming: following what ended elsewhere, waking what is due, and the sweep.
 *
 * Each part says when it wants to be called again; between those times a turn
 * passes it over without reading anything.
 */
#include "postgres.h"

#include "core/clock.h"
#include "gateway/budget.h"
#include "gateway/dispatch.h"
#include "gateway/record.h"
#include "gateway/transfer.h"
#include "queue/board.h"
#include "queue/dependency.h"
#include "queue/due.h"
#include "queue/fresh.h"
#include "queue/held.h"
#include "queue/lane.h"
#include "queue/lease.h"
#include "queue/quota.h"
#include "queue/running.h"
#include "queue/scale.h"
#include "queue/sweep.h"
#include "utils/guc.h"

#define ORPHANS_AGAIN_US 50000

static int sweep_interval_ms = 5000;

/* monotonic times; 0: at once, INT64_MAX: not by time */
static int64 next_sweep_us = 0;
static int64 next_orphans_us = 0; /* of former dispatchers */
static int64 next_scale_us = 0;
static int64 next_held_us = INT64_MAX;
static int64 next_news_us = 0;
static int64 not_before_us = 0; /* after a failure */

void
eduai_gateway_dispatch_settings(void)
{
	DefineCustomIntVariable(
		"eduai.sweep_interval", "How often the dispatcher looks for what no commit announces.",
		NULL, &sweep_interval_ms, 5000, 100, 3600000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

static int64
in_ms(int64 ms)
{
	return ms < 0 ? INT64_MAX : eduai_core_mono_us() + ms * 1000;
}

/* ---- what ended elsewhere ---- */

/* aborts those of these transfers whose tasks are no longer theirs */
static void
abort_superseded(char *const *tenants, const int64 *ids, const int *attempts, int n)
{
	int *gone;
	int ngone;

	if (n == 0)
		return;
	gone = palloc(sizeof(int) * n);
	ngone = eduai_queue_superseded(tenants, ids, attempts, n, gone);
	for (int i = 0; i < ngone; i++)
		(void) eduai_gateway_transfer_cancel(ids[gone[i]], attempts[gone[i]]);
}

static void
abort_superseded_of_all(void)
{
	char **tenants;
	int64 *ids;
	int *attempts;
	int n = eduai_gateway_transfer_list(&tenants, &ids, &attempts);

	abort_superseded(tenants, ids, attempts, n);
}

/* these tasks ended elsewhere: cancelled ones, as a rule */
static void
calls_ended(const int64 *task_ids, int n)
{
	char **tenants = palloc(sizeof(char *) * Max(n, 1));
	int64 *ids = palloc(sizeof(int64) * Max(n, 1));
	int *attempts = palloc(sizeof(int) * Max(n, 1));
	int found = 0;

	if (task_ids == NULL)
		abort_superseded_of_all();
	for (int i = 0; i < n; i++)
		if (eduai_gateway_transfer_of(task_ids[i], &tenants[found], &attempts[found]))
			ids[found++] = task_ids[i];
	abort_superseded(tenants, ids, attempts, found);
}

/* ---- by time ---- */

static void
orphans(void)
{
	if (eduai_core_mono_us() < next_orphans_us)
		return;
	next_orphans_us =
		eduai_gateway_record_orphans() > 0 ? eduai_core_mono_us() + ORPHANS_AGAIN_US : INT64_MAX;
}

static void
sweep(void)
{
	int forgotten;
	bool all;
	bool more;

	if (eduai_core_mono_us() < next_sweep_us)
		return;
	eduai_queue_quota_settle();
	(void) eduai_queue_expire();
	(void) eduai_queue_release_orphans(false, &all);
	(void) eduai_queue_sweep_held();
	(void) eduai_queue_lane_sweep();
	more = eduai_queue_fresh_sweep();
	eduai_queue_due_recheck();
	forgotten = eduai_gateway_record_forgotten();
	eduai_gateway_budget_settle_forgotten();
	abort_superseded_of_all();
	next_sweep_us = in_ms(forgotten > 0 || more ? 50 : sweep_interval_ms);
}

static void
reap_leases(void)
{
	if (eduai_queue_next_lapse_ms() == 0)
		(void) eduai_queue_reap_leases(0, true);
}

static void
release_held(void)
{
	bool more;

	(void) eduai_queue_release_held(&more);
	next_held_us = more ? 0 : INT64_MAX;
}

void
eduai_gateway_dispatch_before_recording(void)
{
	eduai_queue_running_load();
	next_news_us = in_ms(eduai_queue_follow_board(calls_ended) ? EDUAI_NEWS_MS : -1);
	orphans();
	sweep();
}

void
eduai_gateway_dispatch_after_recording(void)
{
	reap_leases();
	release_held();
	/* a failed attempt may just have been scheduled again */
	(void) eduai_queue_wake_due();
}

void
eduai_gateway_dispatch_after_claiming(void)
{
	next_scale_us = in_ms(eduai_queue_scale_pools());
}

bool
eduai_gateway_dispatch_sweep_due(void)
{
	return eduai_core_mono_us() >= Max(next_sweep_us, not_before_us);
}

void
eduai_gateway_dispatch_postpone_upkeep(void)
{
	not_before_us = eduai_core_mono_us() + 1000000;
	next_sweep_us = Max(next_sweep_us, in_ms(sweep_interval_ms));
}

int64
eduai_gateway_dispatch_next_upkeep_us(void)
{
	int64 next = Min(Min(next_sweep_us, next_orphans_us), Min(next_scale_us, next_held_us));

	next = Min(next, next_news_us);
	next = Min(next, in_ms(eduai_queue_next_due_ms()));
	next = Min(next, in_ms(eduai_queue_next_lapse_ms()));
	return Max(next, not_before_us);
}
