/*
 * schedule_testing.c: SQL functions by which tests reach the scheduler and the
 * attempts that run.
 *
 * Superusers only, and only with eduai.test_mode.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/json.h"
#include "core/pause.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "queue/running.h"
#include "queue/schedule.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(eduai_test_schedule);
PG_FUNCTION_INFO_V1(eduai_test_scale);
PG_FUNCTION_INFO_V1(eduai_test_attempt);

static int64
number(const Jsonb *json, const char *key, int64 otherwise)
{
	int64 value;

	return eduai_core_json_int64(json, key, &value) ? value : otherwise;
}

static bool
flag(const Jsonb *json, const char *key)
{
	bool value;

	return eduai_core_json_bool(json, key, &value) && value;
}

/* ---- the scheduler over a simulated pool ---- */

/* Tasks that arrive every so often. */
typedef struct SimLane
{
	int64 next_us; /* arrival of the oldest that has not started */
	int64 every_us;
	int64 left;
} SimLane;

typedef struct SimPool
{
	int slots;
	int reserved;
	int64 service_us;
	int64 *ends; /* of each slot; 0: free */
	bool *critical;
	SimLane *lanes;
	ScheduleLane *open; /* the same lanes for the scheduler */
	int nlanes;
	uint64 stamp;
	ScheduleState state;
	int64 now_us;
} SimPool;

static void
read_sim(SimPool *sim, const Jsonb *lanes, const Jsonb *pool)
{
	memset(sim, 0, sizeof(*sim));
	sim->slots = (int) number(pool, "slots", 1);
	sim->reserved = (int) number(pool, "reserved", 0);
	sim->service_us = number(pool, "service_us", 1000);
	sim->ends = palloc0(sizeof(int64) * sim->slots);
	sim->critical = palloc0(sizeof(bool) * sim->slots);
	sim->nlanes = eduai_core_json_length(lanes);
	sim->lanes = palloc0(sizeof(SimLane) * sim->nlanes);
	sim->open = palloc0(sizeof(ScheduleLane) * sim->nlanes);
	for (int i = 0; i < sim->nlanes; i++)
	{
		Jsonb *lane = eduai_core_json_element(lanes, i);

		sim->open[i].priority = eduai_queue_priority(eduai_core_json_text(lane, "priority"));
		sim->lanes[i].next_us = number(lane, "first_us", 0);
		sim->lanes[i].every_us = number(lane, "every_us", 0);
		sim->lanes[i].left = number(lane, "count", PG_INT64_MAX);
	}
}

/* Frees slots whose task is over; how many are free, and how many of those are kept. */
static int
free_slots(SimPool *sim, int *kept)
{
	int slots = 0;
	int critical = 0;

	for (int i = 0; i < sim->slots; i++)
	{
		if (sim->ends[i] <= sim->now_us)
			sim->ends[i] = 0;
		slots += sim->ends[i] == 0;
		critical += sim->ends[i] != 0 && sim->critical[i];
	}
	*kept = Max(sim->reserved - critical, 0);
	return slots;
}

static void
open_lanes(SimPool *sim)
{
	for (int i = 0; i < sim->nlanes; i++)
	{
		sim->open[i].open = sim->lanes[i].left > 0 && sim->lanes[i].next_us <= sim->now_us;
		sim->open[i].ready_us = sim->lanes[i].next_us;
	}
}

/* The next end or arrival; false when nothing is to come. */
static bool
pass_time(SimPool *sim)
{
	int64 next = PG_INT64_MAX;

	for (int i = 0; i < sim->slots; i++)
		if (sim->ends[i] > sim->now_us)
			next = Min(next, sim->ends[i]);
	for (int i = 0; i < sim->nlanes; i++)
		if (sim->lanes[i].left > 0 && sim->lanes[i].next_us > sim->now_us)
			next = Min(next, sim->lanes[i].next_us);
	sim->now_us = next;
	return next != PG_INT64_MAX;
}

static void
start_task(SimPool *sim, int lane)
{
	int slot = 0;

	while (sim->ends[slot] != 0)
		slot++;
	sim->ends[slot] = sim->now_us + sim->service_us;
	sim->critical[slot] = sim->open[lane].priority == 0;
	sim->open[lane].served = ++sim->stamp;
	sim->lanes[lane].next_us += sim->lanes[lane].every_us;
	sim->lanes[lane].left--;
}

/* test_schedule(lanes jsonb, pool jsonb, choices int) returns jsonb: [lane, at_us, waited_us] each */
Datum
eduai_test_schedule(PG_FUNCTION_ARGS)
{
	int choices = PG_GETARG_INT32(2);
	SimPool sim;
	EduaiJson j;

	eduai_core_require_test_mode();
	read_sim(&sim, PG_GETARG_JSONB_P(0), PG_GETARG_JSONB_P(1));
	eduai_core_json_begin(&j);
	eduai_core_json_open_array(&j, "starts");
	for (int i = 0; i < choices;)
	{
		int reserved;
		int slots = free_slots(&sim, &reserved);
		int lane;

		CHECK_FOR_INTERRUPTS();
		open_lanes(&sim);
		sim.state.now_us = sim.now_us;
		lane = eduai_queue_schedule_next(&sim.state, sim.open, sim.nlanes, slots, reserved);
		if (lane >= 0)
		{
			eduai_core_json_open_array(&j, NULL);
			eduai_core_json_put_int(&j, NULL, lane);
			eduai_core_json_put_int(&j, NULL, sim.now_us);
			eduai_core_json_put_int(&j, NULL, sim.now_us - sim.lanes[lane].next_us);
			eduai_core_json_close_array(&j);
			start_task(&sim, lane);
			i++;
		}
		else if (!pass_time(&sim))
			break;
	}
	eduai_core_json_close_array(&j);
	PG_RETURN_JSONB_P(eduai_core_json_child(eduai_core_json_end(&j), "starts"));
}

/* test_scale(inputs jsonb) returns int[]: the size after each */
Datum
eduai_test_scale(PG_FUNCTION_ARGS)
{
	Jsonb *inputs = PG_GETARG_JSONB_P(0);
	int n = eduai_core_json_length(inputs);
	Datum *sizes = palloc(sizeof(Datum) * Max(n, 1));
	ScaleState state = {0};

	eduai_core_require_test_mode();
	for (int i = 0; i < n; i++)
	{
		Jsonb *step = eduai_core_json_element(inputs, i);
		ScaleInput input = {.now_us = number(step, "at_ms", 0) * 1000,
							.least = (int) number(step, "least", 1),
							.most = (int) number(step, "most", 1),
							.running = (int) number(step, "running", 0),
							.waiting = flag(step, "waiting"),
							.pushback = flag(step, "pushback")};

		eduai_queue_scale(&state, &input);
		sizes[i] = Int32GetDatum(state.size);
	}
	PG_RETURN_ARRAYTYPE_P(construct_array(sizes, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

/* ---- attempts ---- */

typedef struct AttemptCall
{
	const char *action;
	int64 task_id;
	int attempt;
	const char *tenant;
	const char *key;
	const Jsonb *options;
} AttemptCall;

static const char *
start_attempt(const AttemptCall *call)
{
	static const char *const verdicts[] = {[START_OK] = "ok",
										   [START_NO_SLOT] = "no slot",
										   [START_KEY_BUSY] = "key busy",
										   [START_TAKEN] = "taken",
										   [START_FULL] = "full"};
	char *pool_name = eduai_core_json_text(call->options, "pool");
	char *priority = eduai_core_json_text(call->options, "priority");
	char *worker = eduai_core_json_text(call->options, "worker");
	Attempt attempt = {.task_id = call->task_id,
					   .attempt = call->attempt,
					   .tenant = call->tenant,
					   .priority = priority == NULL ? 2 : eduai_queue_priority(priority),
					   .concurrency_key = call->key,
					   .lease_ms = number(call->options, "lease_ms", 0),
					   .worker = -1};

	eduai_queue_running_load();
	if (worker != NULL)
		attempt.worker = eduai_queue_worker_seen(call->tenant, worker,
												 eduai_core_json_text(call->options, "task_types"));
	attempt.pool = eduai_queue_pool(pool_name == NULL ? "custom" : pool_name);
	if (attempt.pool == NULL)
		elog(ERROR, "no such pool");
	return verdicts[eduai_queue_running_start(&attempt)];
}

static const char *
lapsed_attempts(int most)
{
	Lapsed *lapsed = palloc(sizeof(Lapsed) * most);
	int n = eduai_queue_leases_lapsed(lapsed, most, 0);
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < n; i++)
		appendStringInfo(&list, "%s%s %lld/%d", i == 0 ? "" : ", ", lapsed[i].tenant,
						 (long long) lapsed[i].task_id, lapsed[i].attempt);
	return list.data;
}

/* Takes all; whether the key is among them. */
static const char *
freed_key(const AttemptCall *call)
{
	uint64 hashes[16];
	uint64 wanted = eduai_queue_key_hash(call->tenant, call->key);
	bool found = false;
	bool lost = false;
	int n;

	do
	{
		bool overflow;

		n = eduai_queue_keys_freed(hashes, lengthof(hashes), &overflow);
		lost = lost || overflow;
		for (int i = 0; i < n; i++)
			found = found || hashes[i] == wanted;
	} while (n > 0);
	return lost ? "overflow" : found ? "freed" : "not freed";
}

static const char *
yes_no(bool yes)
{
	return yes ? "yes" : "no";
}

static const char *
do_action(const AttemptCall *call)
{
	if (strcmp(call->action, "start") == 0)
		return start_attempt(call);
	if (strcmp(call->action, "take back") == 0)
		eduai_queue_running_take_back(call->task_id, call->attempt);
	else if (strcmp(call->action, "end") == 0)
		eduai_queue_running_end(call->task_id, call->attempt);
	else if (strcmp(call->action, "runs") == 0)
		return yes_no(eduai_queue_attempt_runs(call->tenant, call->task_id, call->attempt));
	else if (strcmp(call->action, "extend") == 0)
		return yes_no(eduai_queue_lease_extend(call->task_id, call->attempt,
											   number(call->options, "lease_ms", 0)));
	else if (strcmp(call->action, "unlapse") == 0)
		eduai_queue_lease_unlapse(call->task_id, call->attempt);
	else if (strcmp(call->action, "lapsed") == 0)
		return lapsed_attempts((int) number(call->options, "most", 100));
	else if (strcmp(call->action, "next lapse") == 0)
		return psprintf("%lld", (long long) eduai_queue_next_lapse_ms());
	else if (strcmp(call->action, "key busy") == 0)
		return yes_no(eduai_queue_key_busy(call->tenant, call->key));
	else if (strcmp(call->action, "key held") == 0)
		eduai_queue_key_held(call->tenant, call->key);
	else if (strcmp(call->action, "key freed") == 0)
		return freed_key(call);
	else if (strcmp(call->action, "check pools") == 0)
		eduai_queue_pools_check();
	else
		elog(ERROR, "no such action");
	return "";
}

/* test_attempt(action text, task_id bigint, attempt int, options jsonb) returns text */
Datum
eduai_test_attempt(PG_FUNCTION_ARGS)
{
	AttemptCall call = {.action = text_to_cstring(PG_GETARG_TEXT_PP(0)),
						.task_id = PG_GETARG_INT64(1),
						.attempt = PG_GETARG_INT32(2),
						.options = PG_GETARG_JSONB_P(3),
						.tenant = eduai_core_tenant()};
	MemoryContext caller = CurrentMemoryContext;
	EduaiPrivilege saved;
	char *answer;

	eduai_core_require_test_mode();
	call.key = eduai_core_json_text(call.options, "concurrency_key");
	eduai_core_enter(&saved);
	SPI_connect();
	answer = MemoryContextStrdup(caller, do_action(&call));
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_TEXT_P(cstring_to_text(answer));
}
