/*
 * admin.c: create_projection(), alter_projection() and drop_projection().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/callee.h"
#include "core/clock.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "events/feed.h"
#include "events/validate.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "projections/admin.h"
#include "projections/catalog.h"
#include "projections/generation.h"
#include "projections/reducer.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#define MAX_LANES 64

PG_FUNCTION_INFO_V1(eduai_create_projection);
PG_FUNCTION_INFO_V1(eduai_alter_projection);
PG_FUNCTION_INFO_V1(eduai_drop_projection);

/* ---- arguments ---- */

static void
require(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", name)));
}

static char *
name_arg(FunctionCallInfo fcinfo, int arg)
{
	char *name = PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));

	eduai_events_check_name("projection", name, true);
	return name;
}

/* A word of a few that are allowed. */
static char *
word_arg(FunctionCallInfo fcinfo, int arg, const char *name, const char *const *words, int n,
		 const char *hint)
{
	char *given;

	require(fcinfo, arg, name);
	given = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	for (int i = 0; i < n; i++)
		if (strcmp(given, words[i]) == 0)
			return given;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid %s \"%s\"", name, given), errhint("%s", hint)));
}

static char *
key_arg(FunctionCallInfo fcinfo, int arg)
{
	static const char *const keys[] = {"user_id", "stream", "session_id"};

	return word_arg(fcinfo, arg, "key", keys, lengthof(keys),
					"A key is user_id, stream or session_id.");
}

static char *
mode_arg(FunctionCallInfo fcinfo, int arg)
{
	static const char *const modes[] = {"inline", "async"};

	return word_arg(fcinfo, arg, "mode", modes, lengthof(modes), "A mode is inline or async.");
}

static char *
on_error_arg(FunctionCallInfo fcinfo, int arg, const char *mode)
{
	static const char *const ways[] = {"park", "raise"};
	char *given = word_arg(fcinfo, arg, "on_error", ways, lengthof(ways),
						   "Use park to set the event aside, raise to fail the append.");

	if (strcmp(given, "raise") == 0 && strcmp(mode, "inline") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("on_error \"raise\" is for inline projections"),
				 errhint("An async projection is folded after the append: it can only park.")));
	return given;
}

static int
lanes_arg(FunctionCallInfo fcinfo, int arg, const char *mode)
{
	int lanes;

	require(fcinfo, arg, "lanes");
	lanes = PG_GETARG_INT32(arg);
	if (lanes < 1 || lanes > MAX_LANES)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid lanes %d", lanes),
						errhint("Use 1 to %d.", MAX_LANES)));
	if (lanes > 1 && strcmp(mode, "inline") == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid lanes %d", lanes),
						errdetail("Lanes are for async projections."), errhint("Use 1.")));
	return lanes;
}

static int
schema_version_arg(FunctionCallInfo fcinfo, int arg)
{
	int version;

	require(fcinfo, arg, "schema_version");
	version = PG_GETARG_INT32(arg);
	if (version < 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid schema_version %d", version),
						errhint("Schema versions are 1 and up.")));
	return version;
}

/* The number of types in an array that is not NULL. */
static int
check_types(FunctionCallInfo fcinfo, int arg)
{
	int n;

	(void) eduai_events_type_names(PG_GETARG_ARRAYTYPE_P(arg), &n);
	return n;
}

static char *
reducer_arg(FunctionCallInfo fcinfo, int arg)
{
	Oid arguments[2] = {JSONBOID, eduai_projections_record_type()};

	require(fcinfo, arg, "reducer");
	return eduai_core_callee_name(PG_GETARG_OID(arg), arguments, lengthof(arguments), JSONBOID,
								  "a reducer", "(jsonb, eduai.event_record) that returns jsonb");
}

static Datum
caller_name(void)
{
	return DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetUserId(), false)));
}

const EduaiProjection *
eduai_projections_named(FunctionCallInfo fcinfo, int arg, bool own)
{
	char *name = name_arg(fcinfo, arg);
	const EduaiProjection *projection = eduai_projections_find(name);

	if (projection == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("projection \"%s\" does not exist", name)));
	if (!own && projection->reducer == NULL)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("projection \"%s\" is eduai's own", name)));
	return projection;
}

/* ---- create ---- */

static void
raise_exists(const char *name, bool own)
{
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("projection \"%s\" already exists", name),
			 own ? errdetail("It is eduai's own.") : 0,
			 own ? errhint("Choose another name.")
				 : errhint("Change it with eduai.alter_projection(), or drop it first.")));
}

/* In SPI, as the owner: the new projection's id. */
static int
insert_projection(Datum *args, const char *nulls, const char *name)
{
	static EduaiPlan insert = {
		"INSERT INTO eduai.projection (name, key, mode, on_error, lanes, schema_version, initial,"
		" event_types, reducer, role, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,"
		" $11) ON CONFLICT (name) DO NOTHING RETURNING projection",
		11,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, INT4OID, JSONBOID, TEXTARRAYOID, TEXTOID,
		 NAMEOID, TIMESTAMPTZOID}};

	if (eduai_core_run_latest(&insert, args, nulls) == 0)
		raise_exists(name, false);
	return (int) eduai_core_int64(0, 1, 0);
}

/* An async one follows the log from its start; an inline one is built first, and goes live then. */
static void
insert_generation(int id, bool is_inline)
{
	static EduaiPlan insert = {"INSERT INTO eduai.projection_generation (projection, live, next)"
							   " VALUES ($1, $2, $3)",
							   3,
							   {INT4OID, INT4OID, INT4OID}};
	Datum args[3] = {Int32GetDatum(id), Int32GetDatum(is_inline ? 0 : 1),
					 Int32GetDatum(is_inline ? 1 : 0)};

	eduai_core_run_latest(&insert, args, NULL);
}

/* The arguments as insert_projection() takes them; raises for bad ones. */
static void
read_arguments(FunctionCallInfo fcinfo, Datum *args)
{
	char *mode = mode_arg(fcinfo, 3);

	require(fcinfo, 5, "initial");
	if (!PG_ARGISNULL(4) && check_types(fcinfo, 4) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("event_types is empty"),
						errhint("Use NULL for events of all types.")));
	args[1] = CStringGetTextDatum(key_arg(fcinfo, 2));
	args[2] = CStringGetTextDatum(mode);
	args[3] = CStringGetTextDatum(on_error_arg(fcinfo, 8, mode));
	args[4] = Int32GetDatum(lanes_arg(fcinfo, 7, mode));
	args[5] = Int32GetDatum(schema_version_arg(fcinfo, 6));
	args[6] = PG_GETARG_DATUM(5);
	args[7] = PG_GETARG_DATUM(4);
	args[9] = caller_name();
	args[10] = TimestampTzGetDatum(eduai_core_now());
}

/*
 * create_projection(name, reducer, key, mode, event_types, initial,
 * schema_version, lanes, on_error) returns void
 */
Datum
eduai_create_projection(PG_FUNCTION_ARGS)
{
	char *name = name_arg(fcinfo, 0);
	char *reducer = reducer_arg(fcinfo, 1);
	bool own = eduai_projections_is_own(name);
	EduaiPrivilege saved;
	Datum args[11] = {CStringGetTextDatum(name)};
	bool is_inline;
	int id;

	read_arguments(fcinfo, args);
	args[8] = CStringGetTextDatum(reducer);
	is_inline = strcmp(TextDatumGetCString(args[2]), "inline") == 0;
	PreventCommandIfReadOnly("create_projection()");
	if (own || eduai_projections_find(name) != NULL)
		raise_exists(name, own);
	eduai_core_enter(&saved);
	SPI_connect();
	id = insert_projection(args, PG_ARGISNULL(4) ? "       n   " : NULL, name);
	insert_generation(id, is_inline);
	SPI_finish();
	eduai_core_leave(&saved);
	eduai_projections_created(id);
	PG_RETURN_VOID();
}

/* ---- alter ---- */

/* In SPI, as the owner: another next generation, whether one is being built or not. */
static void
start_generation(int id)
{
	static EduaiPlan start = {
		"UPDATE eduai.projection_generation SET"
		" retired = CASE next WHEN 0 THEN retired ELSE retired || next END,"
		" next = greatest(live, next, (SELECT max(r) FROM unnest(retired) AS r)) + 1"
		" WHERE projection = $1",
		1,
		{INT4OID}};
	Datum args[1] = {Int32GetDatum(id)};

	if (eduai_core_run_latest(&start, args, NULL) == 0)
		elog(ERROR, "projection %d has no generation", id);
}

/* In SPI, as the owner: an alteration that is live becomes the projection's own definition. */
static void
settle_alteration(int id)
{
	static EduaiPlan settle = {
		"WITH live AS (DELETE FROM eduai.projection_altered AS a"
		" USING eduai.projection_generation AS g"
		" WHERE a.projection = $1 AND g.projection = $1 AND g.live >= a.generation RETURNING a.*)"
		" UPDATE eduai.projection AS p SET schema_version = live.schema_version,"
		" event_types = live.event_types, initial = live.initial, reducer = live.reducer,"
		" role = live.role FROM live WHERE p.projection = live.projection",
		1,
		{INT4OID}};
	Datum args[1] = {Int32GetDatum(id)};

	eduai_core_run_latest(&settle, args, NULL);
}

/* In SPI, as the owner: what is not given (NULL) stays as it was last altered to. */
static void
put_alteration(Datum *args, const char *nulls)
{
	static EduaiPlan put = {
		"INSERT INTO eduai.projection_altered AS a (projection, generation, schema_version,"
		" event_types, initial, reducer, role)"
		" SELECT p.projection, g.next, coalesce($2, o.schema_version, p.schema_version),"
		" CASE WHEN $3 = '{}' THEN NULL WHEN $3 IS NOT NULL THEN $3"
		"  WHEN o.projection IS NOT NULL THEN o.event_types ELSE p.event_types END,"
		" coalesce($4, o.initial, p.initial), coalesce($5, o.reducer, p.reducer),"
		" coalesce($6, o.role, p.role)"
		" FROM eduai.projection AS p JOIN eduai.projection_generation AS g USING (projection)"
		" LEFT JOIN eduai.projection_altered AS o USING (projection)"
		" WHERE p.projection = $1"
		" ON CONFLICT (projection) DO UPDATE SET generation = excluded.generation,"
		" schema_version = excluded.schema_version, event_types = excluded.event_types,"
		" initial = excluded.initial, reducer = excluded.reducer, role = excluded.role",
		6,
		{INT4OID, INT4OID, TEXTARRAYOID, JSONBOID, TEXTOID, NAMEOID}};

	eduai_core_run_latest(&put, args, nulls);
}

/* In SPI, as the owner: nobody else alters or drops it meanwhile. */
static void
lock_projection(const EduaiProjection *projection)
{
	static EduaiPlan lock = {
		"SELECT FROM eduai.projection WHERE projection = $1 FOR UPDATE", 1, {INT4OID}};
	Datum args[1] = {Int32GetDatum(projection->id)};

	if (eduai_core_run_latest(&lock, args, NULL) == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("projection \"%s\" does not exist", projection->name)));
}

/* alter_projection(name, reducer, schema_version, initial, event_types) returns void */
Datum
eduai_alter_projection(PG_FUNCTION_ARGS)
{
	const EduaiProjection *projection = eduai_projections_named(fcinfo, 0, false);
	bool any = false;
	char nulls[] = "      ";
	EduaiPrivilege saved;
	Datum args[6] = {Int32GetDatum(projection->id)};

	for (int i = 1; i < PG_NARGS(); i++)
		any = any || !PG_ARGISNULL(i);
	if (!any)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("projection \"%s\" would stay as it is", projection->name),
						errhint("Give a reducer, schema_version, initial or event_types; to fold "
								"the log again, call eduai.rebuild_projection().")));
	PreventCommandIfReadOnly("alter_projection()");
	args[1] = PG_ARGISNULL(2) ? (Datum) 0 : Int32GetDatum(schema_version_arg(fcinfo, 2));
	args[2] = PG_GETARG_DATUM(4);
	args[3] = PG_GETARG_DATUM(3);
	args[4] = PG_ARGISNULL(1) ? (Datum) 0 : CStringGetTextDatum(reducer_arg(fcinfo, 1));
	args[5] = PG_ARGISNULL(1) ? (Datum) 0 : caller_name();
	if (!PG_ARGISNULL(4))
		(void) check_types(fcinfo, 4);
	nulls[1] = PG_ARGISNULL(2) ? 'n' : ' ';
	nulls[2] = PG_ARGISNULL(4) ? 'n' : ' ';
	nulls[3] = PG_ARGISNULL(3) ? 'n' : ' ';
	nulls[4] = nulls[5] = PG_ARGISNULL(1) ? 'n' : ' ';
	eduai_core_enter(&saved);
	SPI_connect();
	lock_projection(projection);
	start_generation(projection->id);
	settle_alteration(projection->id);
	put_alteration(args, nulls);
	SPI_finish();
	eduai_core_leave(&saved);
	eduai_projections_rebuild_wanted(projection->id);
	PG_RETURN_VOID();
}

/* ---- drop ---- */

/* In SPI, as the owner. */
static void
run_with_id(EduaiPlan *plan, int id)
{
	Datum args[1] = {Int32GetDatum(id)};

	eduai_core_run_latest(plan, args, NULL);
}

/*
 * drop_projection(name) returns void: the states, and what transactions that
 * have not ended still fold, are the projector's to delete (generation.c).
 */
Datum
eduai_drop_projection(PG_FUNCTION_ARGS)
{
	static EduaiPlan drop = {"DELETE FROM eduai.projection WHERE projection = $1", 1, {INT4OID}};
	static EduaiPlan drop_altered = {
		"DELETE FROM eduai.projection_altered WHERE projection = $1", 1, {INT4OID}};
	static EduaiPlan drop_skipped = {
		"DELETE FROM eduai.projection_skipped WHERE projection = $1", 1, {INT4OID}};
	static EduaiPlan retire = {
		"UPDATE eduai.projection_generation SET live = 0, next = 0, retired ="
		" array_remove(retired || live || next, 0) WHERE projection = $1",
		1,
		{INT4OID}};
	const EduaiProjection *projection = eduai_projections_named(fcinfo, 0, false);
	int id = projection->id;
	EduaiPrivilege saved;

	PreventCommandIfReadOnly("drop_projection()");
	eduai_core_enter(&saved);
	SPI_connect();
	lock_projection(projection);
	run_with_id(&drop, id);
	run_with_id(&drop_altered, id);
	run_with_id(&drop_skipped, id);
	run_with_id(&retire, id);
	SPI_finish();
	eduai_projections_forget();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}
