/*
 * upcast.c: bringing stored data to the current schema version of its type.
 * See event_type.h.
 *
 * Each step is "SELECT function($1)", planned once per session, so that a
 * simple SQL function is inlined, and run as the role that registered it.
 * The plan follows the function when it is replaced or dropped.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/privilege.h"
#include "events/event_type.h"
#include "events/event_type_cache.h"
#include "executor/spi.h"
#include "utils/acl.h"
#include "utils/snapmgr.h"

/* What the step's errors are about. */
typedef struct StepPlace
{
	const EventType *type;
	const UpcastStep *step;
} StepPlace;

static void
add_context(void *arg)
{
	const StepPlace *place = arg;

	errcontext("upcaster %s of event type \"%.*s\", from schema version %d", place->step->function,
			   (int) place->type->name.length, place->type->name.text, place->step->from_version);
}

static void
prepare(UpcastStep *step)
{
	/* the signature ends in "(jsonb)"; the call needs the name */
	int name_length = strlen(step->function) - strlen("(jsonb)");
	char *sql = psprintf("SELECT %.*s($1)", name_length, step->function);
	Oid argument = JSONBOID;
	SPIPlanPtr plan = SPI_prepare(sql, 1, &argument);

	if (plan == NULL)
		elog(ERROR, "could not prepare an upcaster: %s", SPI_result_code_string(SPI_result));
	SPI_keepplan(plan);
	step->plan = plan;
}

/* The one value of the result, in the caller's memory context. */
static Jsonb *
take_result(MemoryContext caller)
{
	bool isnull = true;
	Datum value = (Datum) 0;
	Jsonb *json;

	if (SPI_processed == 1 && SPI_gettypeid(SPI_tuptable->tupdesc, 1) != JSONBOID)
		ereport(ERROR, (errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
						errmsg("an upcaster must return jsonb")));
	if (SPI_processed == 1)
		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (isnull)
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_NULL_VALUE_NOT_ALLOWED),
						errmsg("an upcaster must not return null"),
						errhint("It returns the new data, a JSON object.")));
	MemoryContextSwitchTo(caller);
	json = DatumGetJsonbPCopy(value);
	if (!JB_ROOT_IS_OBJECT(json))
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION),
						errmsg("an upcaster must return a JSON object"),
						errhint("It returns the new data.")));
	return json;
}

static Jsonb *
run_step(UpcastStep *step, Jsonb *data)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum args[1] = {JsonbPGetDatum(data)};
	EduaiPrivilege saved;
	Jsonb *result;
	int code;

	eduai_core_enter_role(get_role_oid(step->registrant, false), &saved);
	SPI_connect();
	if (step->plan == NULL)
		prepare(step);
	code = SPI_execute_plan(step->plan, args, NULL, true, 0);
	if (code != SPI_OK_SELECT)
		elog(ERROR, "could not call an upcaster: %s", SPI_result_code_string(code));
	result = take_result(caller);
	SPI_finish();
	eduai_core_leave(&saved);
	MemoryContextSwitchTo(caller);
	return result;
}

static Jsonb *
run_steps(EventType *type, int schema_version, Jsonb *data)
{
	StepPlace place = {.type = type};
	ErrorContextCallback callback = {error_context_stack, add_context, &place};

	error_context_stack = &callback;
	for (int i = 0; i < type->nsteps; i++)
	{
		if (type->steps[i].from_version < schema_version)
			continue;
		place.step = &type->steps[i];
		data = run_step(&type->steps[i], data);
	}
	error_context_stack = callback.previous;
	return data;
}

Jsonb *
eduai_events_upcast(const char *event_type, size_t length, int schema_version, Jsonb *data)
{
	EventType *type = eduai_events_type_find(event_type, length);
	Jsonb *volatile result = data;
	bool snapshot = !ActiveSnapshotSet();

	if (type == NULL || type->nsteps == 0 ||
		type->steps[type->nsteps - 1].from_version < schema_version)
		return data;
	/* a step may call what loads the types again */
	eduai_events_type_pin();
	PG_TRY();
	{
		if (snapshot)
			PushActiveSnapshot(GetTransactionSnapshot());
		result = run_steps(type, schema_version, result);
		if (snapshot)
			PopActiveSnapshot();
	}
	PG_FINALLY();
	{
		eduai_events_type_unpin();
	}
	PG_END_TRY();
	return result;
}
