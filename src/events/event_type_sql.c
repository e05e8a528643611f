/*
 * event_type_sql.c: register_event_type() and register_upcaster().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/callee.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "events/event_type_cache.h"
#include "core/json_schema.h"
#include "events/validate.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(eduai_register_event_type);
PG_FUNCTION_INFO_V1(eduai_register_upcaster);

static char *
type_argument(FunctionCallInfo fcinfo)
{
	char *event_type = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));

	eduai_events_check_name("event type", event_type, true);
	return event_type;
}

static int
version_argument(FunctionCallInfo fcinfo, int argument, const char *name, int if_null)
{
	int version = PG_ARGISNULL(argument) ? if_null : PG_GETARG_INT32(argument);

	if (version < 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid %s %d", name, version), errhint("Versions begin at 1.")));
	return version;
}

static void
check_fields(ArrayType *fields)
{
	Datum *values;
	bool *nulls;
	int n;

	if (ARR_NDIM(fields) > 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("sensitive_fields has %d dimensions", ARR_NDIM(fields)),
						errhint("Give an array of one dimension.")));
	deconstruct_array(fields, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (nulls[i] || VARSIZE_ANY_EXHDR(DatumGetPointer(values[i])) == 0)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("sensitive_fields has an element without a name"),
							errhint("Give the names of keys of data.")));
}

/* register_event_type(event_type, sensitive_fields, json_schema, schema_version) */
Datum
eduai_register_event_type(PG_FUNCTION_ARGS)
{
	static EduaiPlan put = {
		"INSERT INTO eduai.event_type_registration AS r"
		" (event_type, sensitive_fields, json_schema, schema_version) VALUES ($1, $2, $3, $4)"
		" ON CONFLICT (event_type) DO UPDATE SET sensitive_fields = excluded.sensitive_fields,"
		" json_schema = excluded.json_schema, schema_version = excluded.schema_version"
		" WHERE r.schema_version <= excluded.schema_version",
		4,
		{TEXTOID, TEXTARRAYOID, JSONBOID, INT4OID}};
	char *event_type = type_argument(fcinfo);
	int version = version_argument(fcinfo, 3, "schema_version", 1);
	ArrayType *fields = PG_ARGISNULL(1) ? construct_empty_array(TEXTOID) : PG_GETARG_ARRAYTYPE_P(1);
	Datum args[4] = {CStringGetTextDatum(event_type), PointerGetDatum(fields), (Datum) 0,
					 Int32GetDatum(version)};
	EduaiPrivilege saved;

	check_fields(fields);
	if (!PG_ARGISNULL(2))
	{
		args[2] = PG_GETARG_DATUM(2);
		eduai_core_schema_require(PG_GETARG_JSONB_P(2));
	}
	eduai_core_enter(&saved);
	SPI_connect();
	if (eduai_core_run(&put, args, PG_ARGISNULL(2) ? "  n " : NULL) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("schema_version %d of event type \"%s\" is lower than the "
							   "registered one",
							   version, event_type),
						errhint("Events with the higher version may be stored; give that version "
								"or a higher one.")));
	SPI_finish();
	eduai_events_type_forget();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

/* register_upcaster(event_type, from_version, upcaster) */
Datum
eduai_register_upcaster(PG_FUNCTION_ARGS)
{
	static EduaiPlan put = {
		"INSERT INTO eduai.event_upcaster (event_type, from_version, upcaster, registrant)"
		" VALUES ($1, $2, $3, $4) ON CONFLICT (event_type, from_version)"
		" DO UPDATE SET upcaster = excluded.upcaster, registrant = excluded.registrant",
		4,
		{TEXTOID, INT4OID, TEXTOID, NAMEOID}};
	char *event_type = type_argument(fcinfo);
	EduaiPrivilege saved;
	Datum args[4];
	Oid argument = JSONBOID;
	char *name;
	int version;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", PG_ARGISNULL(1) ? "from_version" : "upcaster")));
	version = version_argument(fcinfo, 1, "from_version", 1);
	name = eduai_core_callee_name(PG_GETARG_OID(2), &argument, 1, JSONBOID, "an upcaster",
								  "(jsonb) that returns jsonb");
	args[0] = CStringGetTextDatum(event_type);
	args[1] = Int32GetDatum(version);
	args[2] = CStringGetTextDatum(psprintf("%s(jsonb)", name));
	args[3] = DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetUserId(), false)));
	eduai_core_enter(&saved);
	SPI_connect();
	eduai_core_run(&put, args, NULL);
	SPI_finish();
	eduai_events_type_forget();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}
