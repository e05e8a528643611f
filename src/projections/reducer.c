/*
 * reducer.c: calling a user's reducer.  See reducer.h.
 *
 * What a call allocates goes into one of two contexts, in turn: a state is
 * made in the one while the state before lives in the other.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/compat.h"
#include "core/privilege.h"
#include "events/record.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "projections/reducer.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#define IMPATIENT_LOCK_TIMEOUT "2ms"

struct EduaiReducer
{
	const EduaiProjection *projection;
	TupleDesc desc; /* of eduai.event_record */
	FmgrInfo function;
	EduaiPrivilege saved;
	MemoryContext turns[2];
	int turn;
	bool snapshot; /* pushed */
};

Oid
eduai_projections_record_type(void)
{
	return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, PointerGetDatum("event_record"),
						   ObjectIdGetDatum(eduai_core_schema()));
}

/* The function, for the role that has been entered. */
static Oid
find_function(const EduaiProjection *projection, Oid record)
{
	Oid types[2] = {JSONBOID, record};
	Oid function = LookupFuncName(eduai_string_to_qualified_name_list(projection->reducer),
								  lengthof(types), types, true);

	if (!OidIsValid(function) || get_func_rettype(function) != JSONBOID)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
						errmsg("reducer %s of projection \"%s\" does not exist",
							   projection->reducer, projection->name),
						errhint("Create it as (jsonb, eduai.event_record) returns jsonb, or give "
								"another one with eduai.alter_projection().")));
	if (eduai_proc_aclcheck(function, GetUserId()) != ACLCHECK_OK)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for function %s", projection->reducer),
						errdetail("Projection \"%s\" calls it as role \"%s\".", projection->name,
								  projection->role),
						errhint("Grant it EXECUTE, or call eduai.alter_projection() as a role that "
								"has it.")));
	return function;
}

EduaiReducer *
eduai_projections_reducer_open(const EduaiProjection *projection, const char *tenant,
							   bool impatient)
{
	EduaiReducer *r = palloc0(sizeof(EduaiReducer));
	Oid record = eduai_projections_record_type();

	r->projection = projection;
	r->snapshot = !ActiveSnapshotSet();
	if (r->snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	eduai_core_enter_role(get_role_oid(projection->role, false), &r->saved);
	eduai_core_set_local("eduai.tenant", tenant);
	if (impatient)
		eduai_core_set_local("lock_timeout", IMPATIENT_LOCK_TIMEOUT);
	fmgr_info(find_function(projection, record), &r->function);
	r->desc = lookup_rowtype_tupdesc_copy(record, -1);
	for (int i = 0; i < lengthof(r->turns); i++)
		r->turns[i] =
			AllocSetContextCreate(CurrentMemoryContext, "eduai reducer", ALLOCSET_DEFAULT_SIZES);
	return r;
}

static Datum
text_or_null(const char *value, bool *isnull)
{
	*isnull = value == NULL;
	return value ? CStringGetTextDatum(value) : (Datum) 0;
}

static Datum
make_record(const EduaiReducer *r, const EduaiEvent *event)
{
	bool nulls[RECORD_COLUMNS] = {[RECORD_POSITION] = true};
	Datum values[RECORD_COLUMNS] = {
		[RECORD_EVENT_ID] = UUIDPGetDatum(&event->event_id),
		[RECORD_STREAM] = CStringGetTextDatum(event->stream),
		[RECORD_VERSION] = Int64GetDatum(event->version),
		[RECORD_EVENT_TYPE] = CStringGetTextDatum(event->event_type),
		[RECORD_USER_ID] = text_or_null(event->user_id, &nulls[RECORD_USER_ID]),
		[RECORD_SESSION_ID] = text_or_null(event->session_id, &nulls[RECORD_SESSION_ID]),
		[RECORD_DATA] = JsonbPGetDatum(event->data),
		[RECORD_METADATA] = JsonbPGetDatum(event->metadata),
		[RECORD_OCCURRED_AT] = TimestampTzGetDatum(event->occurred_at),
		[RECORD_RECORDED_AT] = TimestampTzGetDatum(event->recorded_at),
	};

	return HeapTupleGetDatum(heap_form_tuple(r->desc, values, nulls));
}

static void
add_context(void *arg)
{
	const EduaiReducer *r = arg;

	errcontext("reducer %s of projection \"%s\"", r->projection->reducer, r->projection->name);
}

static Jsonb *
call(EduaiReducer *r, Jsonb *state, const EduaiEvent *event)
{
	LOCAL_FCINFO(fcinfo, 2);
	Datum result;

	InitFunctionCallInfoData(*fcinfo, &r->function, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(state);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = make_record(r, event);
	fcinfo->args[1].isnull = false;
	result = FunctionCallInvoke(fcinfo);
	if (fcinfo->isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("reducer %s returned null", r->projection->reducer),
				 errhint("It returns the new state; to ignore an event, the state that it got.")));
	return DatumGetJsonbP(result);
}

Jsonb *
eduai_projections_reducer_call(EduaiReducer *r, Jsonb *state, const EduaiEvent *event)
{
	ErrorContextCallback callback = {error_context_stack, add_context, r};
	MemoryContext old = MemoryContextSwitchTo(r->turns[r->turn]);
	Jsonb *result;

	CHECK_FOR_INTERRUPTS();
	MemoryContextReset(CurrentMemoryContext);
	error_context_stack = &callback;
	result = call(r, state, event);
	error_context_stack = callback.previous;
	MemoryContextSwitchTo(old);
	/* one that hands back what it was given leaves that where it is */
	if (result != state)
		r->turn = 1 - r->turn;
	return result;
}

void
eduai_projections_reducer_close(EduaiReducer *r)
{
	eduai_core_leave(&r->saved);
	if (r->snapshot)
		PopActiveSnapshot();
}
