/*
 * personal_table.c: the application's own tables: register_personal_data(),
 * and what an erasure and an export do with them.
 *
 * A table is registered for a tenant, whose learners its user column names; one
 * that holds several tenants' rows has a tenant column, too.  Its rows are read
 * and written as the role that registered it, with that role's rights, in a
 * restricted operation: triggers, foreign keys and row security do what they
 * do for that role.  What it cannot see or may not remove is told by the
 * erasure's step, never passed over: eduai's owner looks afterwards.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "core/compat.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "privacy/erase.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(eduai_register_personal_data);
PG_FUNCTION_INFO_V1(eduai_unregister_personal_data);

/* ---- registering ---- */

static AttrNumber
check_column(Oid relid, const char *column, bool nullable)
{
	AttrNumber number = get_attnum(relid, column);
	HeapTuple tuple;
	bool refused;

	if (number <= 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("column \"%s\" of table \"%s\" does not exist", column,
							   get_rel_name(relid))));
	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum(number));
	refused = nullable && ((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;
	ReleaseSysCache(tuple);
	if (refused)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("column \"%s\" of table \"%s\" cannot be null", column,
							   get_rel_name(relid)),
						errhint("Drop its NOT NULL, leave it out, or use on_erase => 'delete'.")));
	return number;
}

static void
check_table(Oid relid, bool deletes)
{
	char kind = get_rel_relkind(relid);
	AclMode mode = ACL_SELECT | (deletes ? ACL_DELETE : ACL_UPDATE);

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s\" is not a table", get_rel_name(relid))));
	if (get_rel_namespace(relid) == eduai_core_schema() || IsCatalogRelationOid(relid) ||
		get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("table \"%s\" cannot be registered", get_rel_name(relid)),
						errhint("Register tables of the application; eduai knows its own.")));
	/* all of these rights */
	if (pg_class_aclmask(relid, GetUserId(), mode, ACLMASK_ALL) != mode)
		aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(kind), get_rel_name(relid));
}

static void
check_columns(Oid relid, ArrayType *columns)
{
	Datum *values;
	bool *nulls;
	int n;

	deconstruct_array(columns, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR, &values, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("columns must not contain nulls")));
		(void) check_column(relid, NameStr(*DatumGetName(values[i])), true);
	}
}

static EduaiPlan keep = {
	"INSERT INTO eduai.personal_table AS t (tenant_id, tbl, user_column, on_erase, columns, role,"
	" tenant_column, registered_at) VALUES ($1, $2, $3, $4, $5, $6, $7, pg_catalog.now())"
	" ON CONFLICT (tenant_id, tbl, user_column) DO UPDATE SET on_erase = excluded.on_erase,"
	" columns = excluded.columns, role = excluded.role, tenant_column = excluded.tenant_column,"
	" registered_at = excluded.registered_at",
	7,
	{TEXTOID, TEXTOID, NAMEOID, TEXTOID, NAMEARRAYOID, NAMEOID, NAMEOID}};

static char *
table_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

/* register_personal_data(tbl, user_column, on_erase, columns, tenant_column) returns void */
Datum
eduai_register_personal_data(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"tbl", "user_column", "on_erase", "columns"};
	Datum args[7];
	char nulls[] = "       ";
	NameData role;
	EduaiPrivilege saved;
	char *on_erase;
	Oid relid;

	for (int i = 0; i < 4; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("%s must not be null", names[i])));
	relid = PG_GETARG_OID(0);
	on_erase = text_to_cstring(PG_GETARG_TEXT_PP(2));
	if (strcmp(on_erase, "delete") != 0 && strcmp(on_erase, "null") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid on_erase \"%s\"", on_erase), errhint("It is delete or null.")));
	check_table(relid, strcmp(on_erase, "delete") == 0);
	(void) check_column(relid, NameStr(*PG_GETARG_NAME(1)), strcmp(on_erase, "null") == 0);
	check_columns(relid, PG_GETARG_ARRAYTYPE_P(3));
	if (!PG_ARGISNULL(4))
		(void) check_column(relid, NameStr(*PG_GETARG_NAME(4)), false);
	namestrcpy(&role, GetUserNameFromId(GetUserId(), false));
	args[0] = CStringGetTextDatum(eduai_core_tenant());
	args[1] = CStringGetTextDatum(table_name(relid));
	args[2] = PG_GETARG_DATUM(1);
	args[3] = PG_GETARG_DATUM(2);
	args[4] = PG_GETARG_DATUM(3);
	args[5] = NameGetDatum(&role);
	args[6] = PG_ARGISNULL(4) ? (Datum) 0 : PG_GETARG_DATUM(4);
	nulls[6] = PG_ARGISNULL(4) ? 'n' : ' ';
	eduai_core_enter(&saved);
	SPI_connect();
	eduai_core_run_latest(&keep, args, nulls);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

/* unregister_personal_data(tbl, user_column) returns boolean */
Datum
eduai_unregister_personal_data(PG_FUNCTION_ARGS)
{
	static EduaiPlan drop = {"DELETE FROM eduai.personal_table WHERE tenant_id = $1 AND tbl = $2"
							 " AND user_column = $3",
							 3,
							 {TEXTOID, TEXTOID, NAMEOID}};
	Datum args[3];
	EduaiPrivilege saved;
	bool dropped;

	args[0] = CStringGetTextDatum(eduai_core_tenant());
	args[1] = CStringGetTextDatum(table_name(PG_GETARG_OID(0)));
	args[2] = PG_GETARG_DATUM(1);
	eduai_core_enter(&saved);
	SPI_connect();
	dropped = eduai_core_run_latest(&drop, args, NULL) > 0;
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_BOOL(dropped);
}

/* ---- the registered tables ---- */

typedef struct PersonalTable
{
	char *tbl;
	char *user_column;
	char *tenant_column; /* NULL: all rows are the tenant's */
	bool deletes;
	char *sets; /* "a = NULL, b = NULL" */
	Oid role;
	char *user_type;
	bool plain; /* not partitioned: a place is one row's */
	bool there; /* the table and its columns */
} PersonalTable;

static EduaiPlan one_table = {
	"SELECT t.tbl, t.user_column, t.tenant_column, t.on_erase, (SELECT string_agg(format('%I ="
	" NULL', c), ', ') FROM unnest(t.user_column || t.columns) c), t.role,"
	" (SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a WHERE a.attrelid ="
	" to_regclass(t.tbl) AND a.attname = t.user_column AND NOT a.attisdropped),"
	" (SELECT c.relkind = 'r' FROM pg_class c WHERE c.oid = to_regclass(t.tbl)), t.tenant_id"
	" FROM eduai.personal_table t WHERE ($1 IS NULL OR t.tenant_id = $1)"
	" AND ($2 IS NULL OR t.tbl || '.' || t.user_column = $2) ORDER BY t.tbl, t.user_column",
	2,
	{TEXTOID, TEXTOID}};

static PersonalTable
read_table(SPITupleTable *rows, uint64 i)
{
	HeapTuple row = rows->vals[i];
	TupleDesc desc = rows->tupdesc;
	char *plain = SPI_getvalue(row, desc, 8);
	PersonalTable t = {.tbl = SPI_getvalue(row, desc, 1),
					   .user_column = SPI_getvalue(row, desc, 2),
					   .tenant_column = SPI_getvalue(row, desc, 3),
					   .deletes = strcmp(SPI_getvalue(row, desc, 4), "delete") == 0,
					   .sets = SPI_getvalue(row, desc, 5),
					   .role = get_role_oid(SPI_getvalue(row, desc, 6), true),
					   .user_type = SPI_getvalue(row, desc, 7),
					   .plain = plain && plain[0] == 't'};

	t.there = t.user_type != NULL;
	return t;
}

/* "column = $1 [AND tenant = $2]", the learner's id brought to the column's type. */
static char *
condition(const PersonalTable *t)
{
	char *user = psprintf("%s = CAST($1 AS %s)", quote_identifier(t->user_column), t->user_type);

	if (t->tenant_column == NULL)
		return user;
	return psprintf("%s AND %s::pg_catalog.text = $2", user, quote_identifier(t->tenant_column));
}

static uint64
run_sql(const char *sql, const char *tenant, const char *user_id, bool read_only)
{
	Oid types[] = {TEXTOID, TEXTOID};
	Datum values[] = {CStringGetTextDatum(user_id), CStringGetTextDatum(tenant)};
	int result = SPI_execute_with_args(sql, 2, types, values, NULL, read_only, 0);

	if (result < 0)
		elog(ERROR, "a statement on a registered table failed: %s", SPI_result_code_string(result));
	return SPI_processed;
}

/*
 * Is the id one of the column's type?  "abc" is nobody in a column of numbers.
 * Only the input function of the type runs.
 */
static bool
is_of_type(const PersonalTable *t, const char *user_id)
{
	volatile bool legal = true;
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(old);
	PG_TRY();
	{
		(void) run_sql(psprintf("SELECT CAST($1 AS %s), $2", t->user_type), "", user_id, true);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(old);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_DATA_EXCEPTION)
			ReThrowError(error);
		legal = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	return legal;
}

static char *
removal(const PersonalTable *t, int limit)
{
	char *verb = t->deletes ? psprintf("DELETE FROM %s", t->tbl)
							: psprintf("UPDATE %s SET %s", t->tbl, t->sets);

	if (!t->plain)
		return psprintf("%s WHERE %s", verb, condition(t));
	return psprintf("%s WHERE ctid = ANY (ARRAY(SELECT ctid FROM %s WHERE %s LIMIT %d))", verb,
					t->tbl, condition(t), limit);
}

static void
raise_gone(const PersonalTable *t)
{
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("table %s, its column \"%s\" or the role that registered it is gone",
						   t->tbl, t->user_column),
					errhint("Register it anew, or call eduai.unregister_personal_data().")));
}

int64
eduai_privacy_table_erase(const char *tenant, const char *user_id, const char *source, int limit,
						  bool *more)
{
	Datum args[] = {CStringGetTextDatum(tenant), CStringGetTextDatum(source)};
	EduaiPrivilege saved;
	PersonalTable t;
	int64 removed;

	*more = false;
	/* it is registered no more */
	if (eduai_core_run_latest(&one_table, args, NULL) == 0)
		return 0;
	t = read_table(SPI_tuptable, 0);
	if (!t.there || !OidIsValid(t.role))
		raise_gone(&t);
	if (!is_of_type(&t, user_id))
		return 0;
	eduai_core_enter_role(t.role, &saved);
	removed = (int64) run_sql(removal(&t, limit), tenant, user_id, false);
	eduai_core_leave(&saved);
	*more = removed > 0;
	if (removed == 0 && run_sql(psprintf("SELECT FROM %s WHERE %s LIMIT 1", t.tbl, condition(&t)),
								tenant, user_id, true) > 0)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("rows remain in table %s that role \"%s\" cannot remove", t.tbl,
							   GetUserNameFromId(t.role, true))));
	return removed;
}

/* ---- exporting ---- */

void
eduai_privacy_tables_export(const char *tenant, const char *user_id, EduaiPersonalRow row,
							void *arg)
{
	Datum args[] = {CStringGetTextDatum(tenant), (Datum) 0};
	uint64 n = eduai_core_run_latest(&one_table, args, " n");
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 i = 0; i < n; i++)
	{
		PersonalTable t = read_table(rows, i);
		EduaiPrivilege saved;

		if (!t.there || !OidIsValid(t.role))
			raise_gone(&t);
		if (!is_of_type(&t, user_id))
			continue;
		eduai_core_enter_role(t.role, &saved);
		eduai_core_personal_export_rows(
			psprintf("table:%s", t.tbl),
			psprintf("SELECT pg_catalog.to_jsonb(t) FROM %s t WHERE %s", t.tbl,
					 t.tenant_column
						 ? psprintf("t.%s = CAST($2 AS %s) AND t.%s::pg_catalog.text = $1",
									quote_identifier(t.user_column), t.user_type,
									quote_identifier(t.tenant_column))
						 : psprintf("t.%s = CAST($2 AS %s) AND $1 IS NOT NULL",
									quote_identifier(t.user_column), t.user_type)),
			tenant, user_id, row, arg);
		eduai_core_leave(&saved);
	}
}

typedef struct TableLearners
{
	EduaiPersonalLearner learner;
	void *arg;
} TableLearners;

void
eduai_privacy_tables_learners(EduaiPersonalLearner learner, void *arg)
{
	Datum args[] = {(Datum) 0, (Datum) 0};
	uint64 n = eduai_core_run_latest(&one_table, args, "nn");
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 i = 0; i < n; i++)
	{
		PersonalTable t = read_table(rows, i);
		char *tenant = SPI_getvalue(rows->vals[i], rows->tupdesc, 9);

		if (!t.there)
			continue;
		eduai_core_personal_tell_learners(
			psprintf("SELECT DISTINCT %s, %s::pg_catalog.text FROM %s WHERE %s IS NOT NULL",
					 t.tenant_column
						 ? psprintf("%s::pg_catalog.text", quote_identifier(t.tenant_column))
						 : quote_literal_cstr(tenant),
					 quote_identifier(t.user_column), t.tbl, quote_identifier(t.user_column)),
			learner, arg);
	}
}

void
eduai_privacy_tables_analyze(const char *tenant)
{
	Datum args[] = {CStringGetTextDatum(tenant), (Datum) 0};
	uint64 n = eduai_core_run_latest(&one_table, args, " n");
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 i = 0; i < n; i++)
	{
		PersonalTable t = read_table(rows, i);

		if (t.there && SPI_execute(psprintf("ANALYZE %s", t.tbl), false, 0) < 0)
			elog(ERROR, "could not analyze a registered table");
	}
}
