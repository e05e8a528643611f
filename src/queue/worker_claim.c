/*
 * worker_claim.c: claim_tasks().
 *
 * The first look is made without a word to anybody; only a caller who finds
 * nothing and is willing to wait enters the list of those who wait, and looks
 * again, so that nothing that was announced in between is missed.
 *
 * A look may write although it claims nothing: it takes tasks out of their lane
 * whose concurrency key is busy, and makes tasks ready whose lease is over.
 * That helps nobody before it is committed, so such a call returns at once,
 * empty, rather than wait.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/personal.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "core/tenant.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "queue/attempt.h"
#include "queue/catalog.h"
#include "queue/claim.h"
#include "queue/lane_wait.h"
#include "queue/lease.h"
#include "queue/running.h"
#include "queue/task.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MOST_CLAIMED   10000
#define MOST_TYPES     100
#define KEPT_MEMORY    (512 * 1024)
#define REAP_LATE_MS   1000 /* what the dispatcher has not done by then */
#define REAP_SPREAD_MS 500  /* so that not all who wait do it */

PG_FUNCTION_INFO_V1(eduai_claim_tasks);

typedef struct ClaimCall
{
	ClaimOrder order;
	int64 wait_ms;
	char *listed;          /* the types, for worker_status */
	MemoryContext context; /* of what is claimed */
	ClaimedTask *claimed;
	int n;
	bool wrote; /* the look wrote although it claimed nothing */
} ClaimCall;

/* ---- arguments ---- */

static char *
read_worker(FunctionCallInfo fcinfo)
{
	char *worker;

	eduai_queue_require_argument(fcinfo, 0, "worker");
	worker = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (worker[0] == '\0' || strlen(worker) >= NAMEDATALEN)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid worker name of %zu bytes", strlen(worker)),
						errhint("Use 1 to %d bytes, such as the host's name and a number.",
								NAMEDATALEN - 1)));
	return worker;
}

static bool
has(char *const *names, int n, const char *name)
{
	for (int i = 0; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

/* each once, in the order given */
static void
read_types(FunctionCallInfo fcinfo, ClaimCall *call)
{
	Datum *values;
	bool *nulls;
	int n;
	char **names;
	StringInfoData list;

	eduai_queue_require_argument(fcinfo, 1, "task_types");
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls,
					  &n);
	if (n < 1 || n > MOST_TYPES)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%d task types given", n),
						errhint("Name 1 to %d of them.", MOST_TYPES)));
	names = palloc(sizeof(char *) * n);
	initStringInfo(&list);
	for (int i = 0; i < n; i++)
	{
		char *name;

		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("a task type must not be null")));
		name = TextDatumGetCString(values[i]);
		if (has(names, call->order.ntypes, name))
			continue;
		appendStringInfo(&list, "%s%s", call->order.ntypes > 0 ? "," : "", name);
		names[call->order.ntypes++] = name;
	}
	call->order.task_types = names;
	call->listed = list.data;
}

static void
read_call(FunctionCallInfo fcinfo, ClaimCall *call)
{
	memset(call, 0, sizeof(*call));
	call->order.worker_name = read_worker(fcinfo);
	read_types(fcinfo, call);
	eduai_queue_require_argument(fcinfo, 2, "max_count");
	call->order.most = PG_GETARG_INT32(2);
	if (call->order.most < 1 || call->order.most > MOST_CLAIMED)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid max_count %d", call->order.most),
						errhint("Use 1 to %d.", MOST_CLAIMED)));
	eduai_queue_require_argument(fcinfo, 3, "lease");
	call->order.lease_ms = eduai_queue_lease_ms(PG_GETARG_INTERVAL_P(3));
	eduai_queue_require_argument(fcinfo, 4, "wait");
	call->wait_ms = eduai_queue_interval_ms(PG_GETARG_INTERVAL_P(4), "wait", 0, EDUAI_DAY_MS);
	call->order.tenant = eduai_core_tenant();
	call->order.role = GetUserId();
}

static void
check_types(const ClaimOrder *order)
{
	for (int i = 0; i < order->ntypes; i++)
		if (eduai_queue_require_type(order->task_types[i])->by_gateway)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("tasks of type \"%s\" are not for workers to claim",
								   order->task_types[i]),
							errdetail("The gateway serves this type."),
							errhint("Claim types that eduai.define_task_type() made with served_by "
									"\"application\", or \"custom\".")));
}

/* ---- looking ---- */

/* Has any of these pools a slot that somebody else could take? */
static bool
slot_left(uint64 bits)
{
	int n;
	const Pool *pools = eduai_queue_pools(&n);

	for (int i = 0; i < n; i++)
	{
		PoolStand stand;

		if ((eduai_queue_lane_pool_bit(pools[i].name) & bits) == 0)
			continue;
		eduai_queue_pool_stand(&pools[i], &stand);
		if (stand.running < stand.size)
			return true;
	}
	return false;
}

/* What there is now.  Nothing is missed that comes after a look that waits. */
static void
look(ClaimCall *call, bool waits)
{
	ClaimOrder *order = &call->order;
	EduaiPrivilege saved;
	ClaimLeft left;
	uint64 woken_pools;
	int reaped;
	int held;

	eduai_core_enter(&saved);
	SPI_connect();
	eduai_queue_running_load();
	check_types(order);
	reaped = eduai_queue_reap_leases(REAP_LATE_MS, false);
	if (waits && !eduai_queue_lane_waits())
		eduai_queue_lane_wait_begin(order->tenant, order->task_types, order->ntypes);
	held = eduai_queue_keys_held();
	order->worker = eduai_queue_worker_seen(order->tenant, order->worker_name, call->listed);
	call->n = eduai_queue_claim(order, call->context, call->claimed, &left);
	call->wrote = call->n == 0 && (reaped > 0 || eduai_queue_keys_held() > held);
	woken_pools = eduai_queue_lane_woken_pools();
	if (woken_pools != 0 && slot_left(woken_pools))
		eduai_queue_lane_wake_next();
	SPI_finish();
	eduai_core_leave(&saved);
}

/* Sleeps until there may be something, at most to the deadline; false when that is over. */
static bool
sleep_until(int64 deadline_us)
{
	int64 left_ms = (deadline_us - eduai_core_mono_us() + 999) / 1000;
	int64 lapse_ms = eduai_queue_next_lapse_ms();

	if (left_ms <= 0)
		return false;
	if (lapse_ms >= 0)
		left_ms = Min(left_ms, lapse_ms + REAP_LATE_MS +
								   (int64) (eduai_core_random_unit() * REAP_SPREAD_MS));
	(void) eduai_queue_lane_wait((long) Min(left_ms, INT_MAX));
	return true;
}

static void
look_or_wait(ClaimCall *call)
{
	int64 deadline_us = eduai_core_mono_us() + call->wait_ms * 1000;

	look(call, false);
	if (call->n > 0 || call->wrote || call->wait_ms == 0)
		return;
	do
		look(call, true);
	while (call->n == 0 && !call->wrote && sleep_until(deadline_us));
	eduai_queue_lane_wait_end(call->n > 0);
}

/* ---- answering ---- */

/*
 * malloc() gives the end of its heap back to the system when that is 128 kB, and
 * a batch has more, which would be mapped anew page by page for each.  Having seen
 * a larger block come and go, glibc keeps twice as much.
 */
static void
keep_memory(void)
{
	static bool kept = false;

	if (!kept)
		pfree(palloc(KEPT_MEMORY));
	kept = true;
}

static Datum
json_or_null(const Jsonb *json, bool *null)
{
	*null = json == NULL;
	return PointerGetDatum(json);
}

static void
put_task(ReturnSetInfo *rsinfo, const ClaimedTask *t, TimestampTz lease_until)
{
	Datum values[8];
	bool nulls[8] = {0};

	values[0] = Int64GetDatum(t->task_id);
	values[1] = Int32GetDatum(t->attempt);
	values[2] = CStringGetTextDatum(t->task_type);
	values[3] = JsonbPGetDatum(t->payload);
	values[4] = TimestampTzGetDatum(lease_until);
	nulls[5] = t->user_id == NULL;
	values[5] = nulls[5] ? (Datum) 0 : CStringGetTextDatum(t->user_id);
	values[6] = JsonbPGetDatum(t->metadata);
	values[7] = json_or_null(t->parents, &nulls[7]);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
eduai_claim_tasks(PG_FUNCTION_ARGS)
{
	ClaimCall call;
	TimestampTz now;

	eduai_core_require_preload("claim_tasks()");
	PreventCommandIfReadOnly("claim_tasks()");
	PreventCommandDuringRecovery("claim_tasks()");
	read_call(fcinfo, &call);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	keep_memory();
	/* payloads as large as they are, not rounded up to a power of two */
	call.context =
		GenerationContextCreate(CurrentMemoryContext, "eduai claimed", ALLOCSET_DEFAULT_SIZES);
	call.claimed = palloc(sizeof(ClaimedTask) * call.order.most);
	look_or_wait(&call);
	now = eduai_core_now();
	for (int i = 0; i < call.n; i++)
	{
		put_task((ReturnSetInfo *) fcinfo->resultinfo, &call.claimed[i],
				 now + Min(call.order.lease_ms, call.claimed[i].timeout_ms) * 1000);
		if (call.claimed[i].user_id != NULL)
			eduai_core_personal_note(call.order.tenant, call.claimed[i].user_id, "tasks", 1,
									 GetUserId());
	}
	MemoryContextDelete(call.context);
	return (Datum) 0;
}
