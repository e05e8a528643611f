/*
 * admin_instance.c: add_instance(), its state and its end; see admin.c.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/json.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "gateway/adapter.h"
#include "gateway/admin.h"
#include "gateway/options.h"
#include "mb/pg_wchar.h"
#include "queue/catalog.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

PG_FUNCTION_INFO_V1(eduai_add_instance);
PG_FUNCTION_INFO_V1(eduai_set_instance_state);
PG_FUNCTION_INFO_V1(eduai_remove_instance);

#define MAX_TASK_TYPES 100

static EduaiPlan kind_of_provider = {
	"SELECT kind FROM eduai.provider WHERE name = $1", 1, {TEXTOID}};

static EduaiPlan upsert_instance = {
	"INSERT INTO eduai.instance (name, provider, model, task_types, weight, max_concurrent, "
	"price_input, price_output, options) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) "
	"ON CONFLICT (name) DO UPDATE SET provider = excluded.provider, model = excluded.model, "
	"task_types = excluded.task_types, weight = excluded.weight, "
	"max_concurrent = excluded.max_concurrent, price_input = excluded.price_input, "
	"price_output = excluded.price_output, options = excluded.options",
	9,
	{TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID, INT4OID, INT4OID, NUMERICOID, NUMERICOID, JSONBOID}};

static EduaiPlan update_state = {
	"UPDATE eduai.instance SET state = $2 WHERE name = $1", 2, {TEXTOID, TEXTOID}};

static EduaiPlan delete_instance = {"DELETE FROM eduai.instance WHERE name = $1", 1, {TEXTOID}};

void
eduai_gateway_check_name(const char *what, const char *name)
{
	size_t length = strlen(name);
	bool printable = true;

	for (const unsigned char *p = (const unsigned char *) name; *p; p++)
		printable = printable && *p >= 0x20 && *p != 0x7F;
	if (length < 1 || length > 63 || !printable)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid name of %s %s: \"%s\"", what[0] == 'i' ? "an" : "a", what,
							   pnstrdup(name, pg_mbcliplen(name, length, 80))),
						errhint("A name has 1 to 63 bytes and no control characters.")));
}

void
eduai_gateway_lock_fleet(void)
{
	LockRelationOid(get_relname_relid("provider", eduai_core_schema()), ShareRowExclusiveLock);
}

static Datum
arg(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" cannot be null", name)));
	return PG_GETARG_DATUM(n);
}

static void
check_model(const char *model)
{
	bool printable = true;

	for (const unsigned char *p = (const unsigned char *) model; *p; p++)
		printable = printable && *p >= 0x20 && *p != 0x7F;
	if (*model == '\0' || strlen(model) > 256 || !printable)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid model \"%s\"",
							   pnstrdup(model, pg_mbcliplen(model, strlen(model), 80))),
						errhint("A model's name has 1 to 256 bytes and no control characters.")));
}

static void
check_at_least_one(Datum value, const char *name)
{
	if (DatumGetInt32(value) < 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"%s\" must be at least 1, not %d", name, DatumGetInt32(value))));
}

static void
check_price(Datum value, const char *name)
{
	Numeric price = DatumGetNumeric(value);
	Datum zero = DirectFunctionCall1(int4_numeric, Int32GetDatum(0));

	if (numeric_is_nan(price) || numeric_is_inf(price) ||
		DatumGetBool(DirectFunctionCall2(numeric_lt, value, zero)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"%s\" cannot be %s", name,
							   DatumGetCString(DirectFunctionCall1(numeric_out, value))),
						errhint("A price is in USD per million tokens, 0 or more.")));
}

static void
check_task_types(ArrayType *array, const char *kind)
{
	Datum *types;
	bool *nulls;
	int n;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &types, &nulls, &n);
	if (n < 1 || n > MAX_TASK_TYPES || ARR_NDIM(array) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"task_types\" must be an array of 1 to %d task types", MAX_TASK_TYPES)));
	for (int i = 0; i < n; i++)
	{
		char *type;

		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("a task type cannot be null")));
		type = TextDatumGetCString(types[i]);
		if (!eduai_queue_require_type(type)->by_gateway)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("task type \"%s\" is served by applications", type),
							errhint("Define a type of your own with eduai.define_task_type().")));
		if (!eduai_gateway_kind_serves(kind, type))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("provider kind \"%s\" does not serve task type \"%s\"", kind, type)));
	}
}

static char *
provider_kind(Datum provider)
{
	if (eduai_core_run(&kind_of_provider, &provider, NULL) == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("provider \"%s\" does not exist", TextDatumGetCString(provider)),
						errhint("Add it with eduai.add_provider() first.")));
	return eduai_core_text(0, 1);
}

Datum
eduai_add_instance(PG_FUNCTION_ARGS)
{
	static const char *const names[9] = {"name",        "provider",     "model",
										 "task_types",  "weight",       "max_concurrent",
										 "price_input", "price_output", "options"};
	Datum args[9];
	EduaiPrivilege saved;

	for (int i = 0; i < 9; i++)
		args[i] = arg(fcinfo, i, names[i]);
	eduai_gateway_check_name("instance", TextDatumGetCString(args[0]));
	check_model(TextDatumGetCString(args[2]));
	check_at_least_one(args[4], "weight");
	check_at_least_one(args[5], "max_concurrent");
	check_price(args[6], "price_input");
	check_price(args[7], "price_output");
	eduai_gateway_check_instance_options(DatumGetJsonbP(args[8]));

	eduai_core_enter(&saved);
	SPI_connect();
	eduai_gateway_lock_fleet();
	check_task_types(DatumGetArrayTypeP(args[3]), provider_kind(args[1]));
	(void) eduai_core_run(&upsert_instance, args, NULL);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

static void
change_instance(EduaiPlan *plan, Datum *args)
{
	EduaiPrivilege saved;

	eduai_core_enter(&saved);
	SPI_connect();
	eduai_gateway_lock_fleet();
	if (eduai_core_run(plan, args, NULL) == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("instance \"%s\" does not exist", TextDatumGetCString(args[0]))));
	SPI_finish();
	eduai_core_leave(&saved);
}

Datum
eduai_set_instance_state(PG_FUNCTION_ARGS)
{
	Datum args[2] = {arg(fcinfo, 0, "name"), arg(fcinfo, 1, "state")};
	char *state = TextDatumGetCString(args[1]);

	if (strcmp(state, "active") != 0 && strcmp(state, "draining") != 0 &&
		strcmp(state, "disabled") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an instance cannot be \"%s\"", state),
						errhint("The states are active, draining and disabled.")));
	change_instance(&update_state, args);
	PG_RETURN_VOID();
}

Datum
eduai_remove_instance(PG_FUNCTION_ARGS)
{
	Datum args[1] = {arg(fcinfo, 0, "name")};

	change_instance(&delete_instance, args);
	PG_RETURN_VOID();
}
