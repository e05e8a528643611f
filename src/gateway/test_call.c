/*
 * test_call.c: eduai.test_call(), provider calls from a test's own session.
 *
 * Runs the dispatcher's transfers in this backend: no task, no claim, nothing
 * recorded.  Superusers only, and only with eduai.test_mode.  Whatever ends
 * it, every transfer is taken back before its memory goes.
 */
#include "postgres.h"

#include "core/clock.h"
#include "core/json.h"
#include "core/pause.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "gateway/fleet.h"
#include "gateway/testing.h"
#include "gateway/transfer.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

PG_FUNCTION_INFO_V1(eduai_test_call);

#define MAX_CODES 32

typedef struct Tally
{
	const char *codes[MAX_CODES];
	int counts[MAX_CODES];
	int n;
	Jsonb *first;   /* the first outcome that came back */
	int64 first_us; /* its duration */
} Tally;

typedef struct Trial
{
	Fleet *fleet;
	Instance *instance;
	const char *task_type;
	Jsonb *payload;
	int calls;
	int at_once;
	int64 timeout_ms;
	int64 cancel_after_ms; /* -1: never */
} Trial;

static Instance *
find_instance(const Fleet *fleet, const char *name)
{
	for (int i = 0; i < fleet->ninstances; i++)
		if (strcmp(fleet->instances[i].name, name) == 0)
			return &fleet->instances[i];
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("instance \"%s\" does not exist", name)));
}

static void
start_call(const Trial *trial, int number)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "eduai test call", ALLOCSET_SMALL_SIZES);
	GatewayCall *call = MemoryContextAllocZero(context, sizeof(GatewayCall));

	call->context = context;
	call->task_id = -1 - number;
	call->attempt = 1;
	call->tenant = "default";
	call->task_type = (char *) trial->task_type;
	call->payload = trial->payload;
	call->timeout_ms = trial->timeout_ms;
	call->instance = trial->instance;
	eduai_gateway_transfer_start(call);
}

static void
count(Tally *tally, const CallOutcome *outcome)
{
	int i = 0;

	while (i < tally->n && strcmp(tally->codes[i], outcome->code) != 0)
		i++;
	if (i == MAX_CODES)
		return;
	if (i == tally->n)
	{
		tally->codes[i] = pstrdup(outcome->code);
		tally->counts[i] = 0;
		tally->n++;
	}
	tally->counts[i]++;
	if (tally->first == NULL)
	{
		tally->first = eduai_gateway_outcome_json(outcome);
		tally->first_us = outcome->duration_us;
	}
}

static int
collect(Tally *tally)
{
	GatewayCall *call;
	CallOutcome *outcome;
	int n = 0;

	while ((call = eduai_gateway_transfer_next(&outcome)) != NULL)
	{
		count(tally, outcome);
		MemoryContextDelete(call->context);
		n++;
	}
	return n;
}

static void
cancel_all(void)
{
	char **tenants;
	int64 *task_ids;
	int *attempts;
	int n = eduai_gateway_transfer_list(&tenants, &task_ids, &attempts);

	for (int i = 0; i < n; i++)
		(void) eduai_gateway_transfer_cancel(task_ids[i], attempts[i]);
}

static void
wait_for_more(int fd, long timeout_ms)
{
	int events = WL_LATCH_SET | WL_SOCKET_READABLE | WL_EXIT_ON_PM_DEATH;

	if (timeout_ms >= 0)
		events |= WL_TIMEOUT;
	(void) WaitLatchOrSocket(MyLatch, events, fd, timeout_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static void
run(const Trial *trial, int fd, Tally *tally)
{
	int64 begun_us = eduai_core_mono_us();
	bool cancelled = trial->cancel_after_ms < 0;
	int started = 0;
	int ended = 0;

	while (ended < trial->calls)
	{
		long timeout_ms;

		while (started < trial->calls && started - ended < trial->at_once)
			start_call(trial, started++);
		timeout_ms = eduai_gateway_transfer_timeout_ms();
		if (!cancelled)
			timeout_ms = timeout_ms < 0 ? 10 : Min(timeout_ms, 10);
		if (timeout_ms != 0)
			wait_for_more(fd, timeout_ms);
		eduai_gateway_transfer_poll();
		if (!cancelled &&
			eduai_core_mono_us() - begun_us >= trial->cancel_after_ms * INT64CONST(1000))
		{
			cancel_all();
			cancelled = true;
		}
		ended += collect(tally);
	}
}

static Jsonb *
report(const Tally *tally, int64 elapsed_us)
{
	EduaiJson j;

	eduai_core_json_begin(&j);
	eduai_core_json_open_object(&j, "outcomes");
	for (int i = 0; i < tally->n; i++)
		eduai_core_json_put_int(&j, tally->codes[i], tally->counts[i]);
	eduai_core_json_close_object(&j);
	eduai_core_json_put_json(&j, "first", tally->first);
	eduai_core_json_put_int(&j, "first_us", tally->first_us);
	eduai_core_json_put_int(&j, "elapsed_us", elapsed_us);
	return eduai_core_json_end(&j);
}

static void
load(Trial *trial, const char *instance)
{
	SPI_connect();
	trial->fleet = eduai_gateway_fleet_load(TopMemoryContext);
	SPI_finish();
	trial->instance = find_instance(trial->fleet, instance);
}

Datum
eduai_test_call(PG_FUNCTION_ARGS)
{
	Trial trial = {0};
	Tally tally = {0};
	int64 begun_us;
	int fd;

	eduai_core_require_test_mode();
	load(&trial, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	trial.task_type = text_to_cstring(PG_GETARG_TEXT_PP(1));
	trial.payload = PG_GETARG_JSONB_P(2);
	trial.calls = PG_GETARG_INT32(3);
	trial.at_once = Max(PG_GETARG_INT32(4), 1);
	trial.timeout_ms = PG_GETARG_INT32(5);
	trial.cancel_after_ms = PG_ARGISNULL(6) ? -1 : PG_GETARG_INT32(6);
	fd = eduai_gateway_transfer_open();
	begun_us = eduai_core_mono_us();
	PG_TRY();
	{
		run(&trial, fd, &tally);
	}
	PG_FINALLY();
	{
		cancel_all();
		(void) collect(&tally);
		MemoryContextDelete(trial.fleet->context);
	}
	PG_END_TRY();
	PG_RETURN_JSONB_P(report(&tally, eduai_core_mono_us() - begun_us));
}
