/*
 * lane_testing.c: lanes and claims as tests see them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/json.h"
#include "core/pause.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "fmgr.h"
#include "queue/claim.h"
#include "queue/held.h"
#include "queue/lane_internal.h"
#include "queue/lane_wait.h"
#include "queue/task.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(eduai_test_claim);
PG_FUNCTION_INFO_V1(eduai_test_await_claim);
PG_FUNCTION_INFO_V1(eduai_test_lane);
PG_FUNCTION_INFO_V1(eduai_test_lane_sweep);

static void
require_testing(void)
{
	eduai_core_require_test_mode();
	eduai_core_require_preload("claiming tasks");
}

static char **
read_types(ArrayType *array, int *n)
{
	Datum *values;
	bool *nulls;
	char **types;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, n);
	types = palloc(sizeof(char *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		types[i] = nulls[i] ? "" : TextDatumGetCString(values[i]);
	return types;
}

/* the ids of what was claimed */
static Datum
claim(const ClaimOrder *order)
{
	ClaimedTask *claimed = palloc(sizeof(ClaimedTask) * Max(order->most, 1));
	int64 *ids = palloc(sizeof(int64) * Max(order->most, 1));
	ClaimLeft left;
	int n = eduai_queue_claim(order, CurrentMemoryContext, claimed, &left);

	for (int i = 0; i < n; i++)
		ids[i] = claimed[i].task_id;
	return eduai_core_int8_array(ids, NULL, n);
}

static void
read_order(FunctionCallInfo fcinfo, ClaimOrder *order)
{
	memset(order, 0, sizeof(*order));
	order->tenant = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (order->tenant[0] == '\0')
		order->tenant = NULL;
	order->task_types = read_types(PG_GETARG_ARRAYTYPE_P(1), &order->ntypes);
	order->most = PG_GETARG_INT32(2);
	order->worker = -1;
	order->worker_name = "test";
	order->lease_ms = 3600000;
}

/* test_claim(tenant text, task_types text[], most int) returns bigint[] */
Datum
eduai_test_claim(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	EduaiPrivilege saved;
	ClaimOrder order;
	Datum ids;

	require_testing();
	read_order(fcinfo, &order);
	eduai_core_enter(&saved);
	SPI_connect();
	ids = claim(&order);
	MemoryContextSwitchTo(caller);
	ids = PointerGetDatum(DatumGetArrayTypePCopy(ids));
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_DATUM(ids);
}

/* test_await_claim(tenant text, task_types text[], most int): waits until there is something */
Datum
eduai_test_await_claim(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	EduaiPrivilege saved;
	ClaimOrder order;
	Datum ids;

	require_testing();
	read_order(fcinfo, &order);
	eduai_core_enter(&saved);
	SPI_connect();
	eduai_queue_lane_wait_begin(order.tenant, order.task_types, order.ntypes);
	while (ARR_NDIM(DatumGetArrayTypeP(ids = claim(&order))) == 0)
		(void) eduai_queue_lane_wait(600000);
	eduai_queue_lane_wait_end(true);
	MemoryContextSwitchTo(caller);
	ids = PointerGetDatum(DatumGetArrayTypePCopy(ids));
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_DATUM(ids);
}

/* test_lane(tenant text, task_type text, model text, priority text) returns jsonb */
Datum
eduai_test_lane(PG_FUNCTION_ARGS)
{
	LaneIdentity identity;
	LaneName name = {0};
	EduaiJson j;
	int strays = 0;
	int lane;
	Lane l;

	require_testing();
	name.tenant = text_to_cstring(PG_GETARG_TEXT_PP(0));
	name.task_type = text_to_cstring(PG_GETARG_TEXT_PP(1));
	name.model = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	name.priority = eduai_queue_priority(text_to_cstring(PG_GETARG_TEXT_PP(3)));
	eduai_queue_lane_identity(&name, &identity);
	lane = eduai_queue_lane_find(identity.hash);
	if (lane == LANE_NONE)
		PG_RETURN_NULL();
	l = eduai_queue_lanes->lanes[lane];
	/* a hint, as for anybody who does not hold the mutex: tests look when nothing moves */
	for (int at = l.stray; at != LANE_NONE; at = eduai_queue_lanes->strays[at].next)
		strays++;
	eduai_queue_lane_unpin(lane);
	eduai_core_json_begin(&j);
	eduai_core_json_put_bool(&j, "marked", l.mark != LANE_NO_KEY);
	eduai_core_json_put_int(&j, "strays", strays);
	eduai_core_json_put_int(&j, "pins", l.pins - 1);
	eduai_core_json_put_int(&j, "scans", l.scans);
	PG_RETURN_JSONB_P(eduai_core_json_end(&j));
}

/* test_lane_sweep() returns boolean: as the dispatcher's, whether it found something */
Datum
eduai_test_lane_sweep(PG_FUNCTION_ARGS)
{
	EduaiPrivilege saved;
	bool found;

	require_testing();
	eduai_core_enter(&saved);
	SPI_connect();
	found = eduai_queue_lane_sweep();
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_BOOL(found);
}
