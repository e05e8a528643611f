/*
 * route_sql.c: route(): what the dispatcher would do with a task now.
 *
 * The same functions as its claims use, over the same shared memory; nothing
 * is counted, reserved or moved on.  Each session keeps a fleet of its own,
 * without the providers' keys.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/errors.h"
#include "core/json.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "fmgr.h"
#include "funcapi.h"
#include "gateway/gateway.h"
#include "gateway/route.h"
#include "gateway/stand.h"
#include "queue/enqueue.h"
#include "queue/task.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(eduai_route);

static Fleet *fleet = NULL;

/* The explorer's chance, which a question must not take. */
#define NO_CHANCE 0.5

static void
refresh_fleet(void)
{
	Fleet *old = fleet;
	EduaiPrivilege saved;

	if (fleet != NULL && eduai_gateway_fleet_is_current(fleet))
		return;
	eduai_core_enter(&saved);
	SPI_connect();
	fleet = eduai_gateway_fleet_load(TopMemoryContext);
	eduai_gateway_fleet_forget_keys(fleet);
	SPI_finish();
	eduai_core_leave(&saved);
	if (old != NULL)
		MemoryContextDelete(old->context);
}

static BalanceAlgorithm
read_algorithm(FunctionCallInfo fcinfo)
{
	BalanceAlgorithm algorithm;
	char *name;

	if (PG_ARGISNULL(1))
		return (BalanceAlgorithm) eduai_gateway_balancer;
	name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (!eduai_gateway_balance_algorithm(name, &algorithm))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid algorithm \"%s\"", name),
				 errhint("Use adaptive, round_robin, weighted_round_robin, "
						 "least_connections, least_response_time or cost_optimized.")));
	return algorithm;
}

/* a candidate as the queue would have it, of a request that nobody has enqueued */
static void
read_request(FunctionCallInfo fcinfo, Candidate *candidate)
{
	Jsonb *request;
	char *priority;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("%s must not be null", PG_ARGISNULL(0) ? "task_type" : "request")));
	request = PG_GETARG_JSONB_P(2);
	eduai_queue_check_payload(request);
	priority = eduai_core_json_text(request, "priority");
	candidate->task_type = text_to_cstring(PG_GETARG_TEXT_PP(0));
	candidate->model = eduai_core_json_text(request, "model");
	candidate->priority = eduai_queue_priority(priority ? priority : "normal");
	candidate->attempt = 1;
	candidate->payload = request;
	candidate->metadata = eduai_core_json_child(request, "metadata");
	eduai_gateway_check_model_is_named(candidate->task_type, candidate->model);
}

static void
raise_nobody(const Candidate *c)
{
	ereport(ERROR, (errcode(EDUAI_NO_INSTANCE),
					c->model ? errmsg("no instance serves task type \"%s\" with model \"%s\"",
									  c->task_type, c->model)
							 : errmsg("no instance serves task type \"%s\"", c->task_type),
					errhint("Add one with eduai.add_instance().")));
}

/* those after the choice: its step's, then the instances of later steps, in the fleet's order */
static Datum
fallbacks(const RouteDecision *d)
{
	char **names = palloc(sizeof(char *) * Max(d->noptions, 1));
	int last = 0;
	int n = 0;

	for (int k = 1; k < d->norder; k++)
		names[n++] = d->options[d->order[k]].instance->name;
	for (int i = 0; i < d->noptions; i++)
		last = Max(last, d->options[i].step);
	for (int step = d->step + 1; step <= last; step++)
		for (int i = 0; i < d->noptions; i++)
			if (d->options[i].step == step && d->options[i].out == ROUTE_IN)
				names[n++] = d->options[i].instance->name;
	return eduai_core_text_array(names, n);
}

Datum
eduai_route(PG_FUNCTION_ARGS)
{
	Candidate candidate = {.tenant = eduai_core_tenant()};
	BalanceState state = {0};
	RouteNow now = {.now_us = eduai_core_mono_us(),
					.now = eduai_core_now(),
					.random = NO_CHANCE,
					.algorithm = read_algorithm(fcinfo),
					.state = &state,
					.look = eduai_gateway_stand_look};
	RouteAsk ask;
	RouteDecision d;
	TupleDesc desc;
	Datum values[4];
	bool nulls[4] = {false, false, false, false};

	read_request(fcinfo, &candidate);
	refresh_fleet();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	eduai_gateway_route_ask(&candidate, now.now, &ask);
	eduai_gateway_route(fleet, &ask, &now, &d);
	if (d.end == ROUTE_NOBODY)
		raise_nobody(&candidate);
	nulls[0] = nulls[1] = d.norder == 0;
	if (d.norder > 0)
	{
		values[0] = CStringGetTextDatum(d.options[d.order[0]].instance->name);
		values[1] = Float8GetDatum(d.options[d.order[0]].score);
	}
	values[2] = CStringGetTextDatum(eduai_gateway_route_reason(&d, &ask, now.now_us));
	values[3] = fallbacks(&d);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
