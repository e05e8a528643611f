/*
 * personal_table.c: the application's own tables: register_personal_data(),
 * and what an erasure and an export do with them.
 *
 * A table is registered for a tenant, whose learners its user column names; one
 * that holds several tenants' rows has a tenant column, too.  Its rows are read
 * and written as the role that registered it, with that role's rights, in a
 * restricted operation: triggers, foreign keys and row security do what they
 * do for that role.  What it cannot see or may not remove is told by the
 * erasure's step, never passed over: the table's owner looks afterwards.
 *
 * A table can hold code of whoever owns it (domains, casts, expressions of
 * indexes) and can have become something else since it was registered: no
 * statement on it runs as eduai's owner, but for ANALYZE, which switches by
 * itself.
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
#include "privacy/statistics.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

PG_FUNCTION_INFO_V1(eduai_register_personal_data);
PG_FUNCTION_INFO_V1(eduai_unregister_personal_data);

/* ---- registering ---- */

static AttrNumber
check_column(Oid relid, const char *column, bool nullable)
{
	AttrNumber number = get_attnum(relid, column);
	Form_pg_attribute form;
	HeapTuple tuple;
	bool refused;

	if (number <= 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("column \"%s\" of table \"%s\" does not exist", column,
							   get_rel_name(relid))));
	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum(number));
	form = (Form_pg_attribute) GETSTRUCT(tuple);
	refused = nullable && (form->attnotnull || form->attgenerated || form->attidentity);
	ReleaseSysCache(tuple);
	if (refused)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("column \"%s\" of table \"%s\" cannot be set to null", column,
							   get_rel_name(relid)),
						errhint("Drop its NOT NULL or that it is generated, leave it out, or use "
								"on_erase => 'delete'.")));
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

/* Learners who are being erased meanwhile are erased here, too. */
static EduaiPlan add_steps = {
	"INSERT INTO eduai.erasure_step (tenant_id, user_ref, source, rank, expected, exact)"
	" SELECT e.tenant_id, e.user_ref, 'table:' || $2 || '.' || $3, 30, 0, false"
	" FROM eduai.erasure e WHERE e.tenant_id = $1 AND e.completed_at IS NULL"
	" ON CONFLICT DO NOTHING",
	3,
	{TEXTOID, TEXTOID, NAMEOID}};

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
	/* none begins that does not see the table, none ends that the table does not see */
	eduai_privacy_erasures_hold("SHARE ROW EXCLUSIVE");
	eduai_core_run_latest(&keep, args, nulls);
	eduai_core_run_latest(&add_steps, args, NULL);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

/* As register_personal_data() wrote it; as it is given where there is no such table any more. */
static char *
registered_name(text *given)
{
	char *name = text_to_cstring(given);
	Oid relid =
		RangeVarGetRelid(makeRangeVarFromNameList(textToQualifiedNameList(given)), NoLock, true);

	return OidIsValid(relid) ? table_name(relid) : name;
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
	args[1] = CStringGetTextDatum(registered_name(PG_GETARG_TEXT_PP(0)));
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
	char *user_type; /* without a length: a cast must not cut an id short */
	bool plain;      /* not partitioned */
	bool there;      /* the table and its column */
	Oid relid;
	Oid owner;
} PersonalTable;

static EduaiPlan one_table = {
	"SELECT t.tbl, t.user_column, t.tenant_column, t.on_erase, (SELECT string_agg(format('%I ="
	" NULL', c), ', ') FROM unnest(t.user_column || t.columns) c), t.role,"
	" (SELECT format_type(a.atttypid, -1) FROM pg_attribute a WHERE a.attrelid ="
	" c.oid AND a.attname = t.user_column AND NOT a.attisdropped),"
	" c.relkind = 'r', t.tenant_id, c.oid::bigint, c.relowner::bigint"
	" FROM eduai.personal_table t LEFT JOIN pg_class c ON c.oid = to_regclass(t.tbl)"
	" AND c.relkind IN ('r', 'p') WHERE ($1 IS NULL OR t.tenant_id = $1)"
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
	if (t.there)
	{
		bool isnull;

		t.relid = (Oid) DatumGetInt64(SPI_getbinval(row, desc, 10, &isnull));
		t.owner = (Oid) DatumGetInt64(SPI_getbinval(row, desc, 11, &isnull));
	}
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

/* Does the id stay what it is in the column's type? */
static bool
is_unchanged(const PersonalTable *t, const char *user_id)
{
	bool isnull;

	(void) run_sql(psprintf("SELECT t.c::pg_catalog.text = $1 OR y.typcategory NOT IN ('S', 'Z'),"
							" $2"
							" FROM (SELECT CAST($1 AS %s) AS c) t, pg_catalog.pg_type y"
							" WHERE y.oid = pg_catalog.pg_typeof(t.c)",
							t->user_type),
				   "", user_id, true);
	return DatumGetBool(eduai_core_value(0, 1, &isnull));
}

/*
 * Is the id one of the column's type?  "abc" is nobody in a column of numbers,
 * nor where only two characters have room: a cast would make "ab" of it.  The
 * type's input function runs, and what its owner wrote for a domain.
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
		EduaiPrivilege saved;

		eduai_core_enter_role(t->role, &saved);
		legal = is_unchanged(t, user_id);
		eduai_core_leave(&saved);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;
		int category;

		MemoryContextSwitchTo(old);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		category = ERRCODE_TO_CATEGORY(error->sqlerrcode);
		/* a domain's constraint is of the second kind */
		if (category != ERRCODE_DATA_EXCEPTION &&
			category != ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION)
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
	/* a place is one row's only within one table: others may inherit from it */
	return psprintf("%s WHERE ctid = ANY (ARRAY(SELECT ctid FROM %s WHERE %s LIMIT %d)) AND %s",
					verb, t->tbl, condition(t), limit, condition(t));
}

static void
raise_gone(const PersonalTable *t)
{
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("table %s, its column \"%s\" or the role that registered it is gone",
						   t->tbl, t->user_column),
					errhint("Register it anew, or call eduai.unregister_personal_data().")));
}

/* Constraints are checked at once: a restricted operation may leave nothing for the commit. */
static int64
remove_rows(const PersonalTable *t, const char *tenant, const char *user_id, int limit)
{
	EduaiPrivilege saved;
	int64 removed;

	if (SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0) < 0)
		elog(ERROR, "could not set constraints");
	eduai_core_enter_role(t->role, &saved);
	removed = (int64) run_sql(removal(t, limit), tenant, user_id, false);
	eduai_core_leave(&saved);
	return removed;
}

static void
check_nothing_left(const PersonalTable *t, const char *tenant, const char *user_id)
{
	EduaiPrivilege saved;
	uint64 left;

	eduai_core_enter_table_owner(t->owner, &saved);
	left = run_sql(psprintf("SELECT FROM %s WHERE %s LIMIT 1", t->tbl, condition(t)), tenant,
				   user_id, true);
	eduai_core_leave(&saved);
	if (left > 0)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("rows remain in table %s that role \"%s\" cannot remove", t->tbl,
							   GetUserNameFromId(t->role, true))));
}

int64
eduai_privacy_table_erase(EduaiPersonalWork *work, const char *source)
{
	Datum args[] = {CStringGetTextDatum(work->tenant), CStringGetTextDatum(source)};
	PersonalTable t;
	int64 removed;

	work->more = false;
	/* it is registered no more */
	if (eduai_core_run_latest(&one_table, args, NULL) == 0)
		return 0;
	t = read_table(SPI_tuptable, 0);
	if (!t.there || !OidIsValid(t.role))
		raise_gone(&t);
	if (!is_of_type(&t, work->user_id))
		return 0;
	removed = remove_rows(&t, work->tenant, work->user_id, work->limit);
	if (removed > 0)
	{
		work->more = true;
		work->cursor = pstrdup("removed");
		return removed;
	}
	check_nothing_left(&t, work->tenant, work->user_id);
	if (work->cursor != NULL)
		eduai_privacy_statistics_renew(t.relid, t.tbl);
	return 0;
}

/* ---- exporting ---- */

typedef struct Shown
{
	EduaiPersonalRow row;
	void *arg;
	uint64 count;
} Shown;

static void
count_row(void *arg, const char *source, const Jsonb *row)
{
	Shown *shown = arg;

	shown->count++;
	shown->row(shown->arg, source, row);
}

/* What the role cannot see must not be passed over in silence. */
static void
check_all_shown(const PersonalTable *t, const char *tenant, const char *user_id, uint64 shown)
{
	EduaiPrivilege saved;
	uint64 there;

	eduai_core_enter_table_owner(t->owner, &saved);
	(void) run_sql(psprintf("SELECT pg_catalog.count(*) FROM %s WHERE %s", t->tbl, condition(t)),
				   tenant, user_id, true);
	there = (uint64) eduai_core_int64(0, 1, 0);
	eduai_core_leave(&saved);
	if (there > shown)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("there are rows in table %s that role \"%s\" cannot see", t->tbl,
							   GetUserNameFromId(t->role, true)),
						errhint("Register it with a role that sees all of them.")));
}

static void
export_table(const PersonalTable *t, const char *tenant, const char *user_id, EduaiPersonalRow row,
			 void *arg)
{
	const char *user = quote_identifier(t->user_column);
	char *mine = t->tenant_column
					 ? psprintf("t.%s::pg_catalog.text = $1", quote_identifier(t->tenant_column))
					 : pstrdup("$1 IS NOT NULL");
	Shown shown = {row, arg, 0};
	EduaiPrivilege saved;

	eduai_core_enter_role(t->role, &saved);
	eduai_core_personal_export_rows(
		psprintf("table:%s", t->tbl),
		psprintf("SELECT pg_catalog.to_jsonb(t) FROM %s t WHERE t.%s = CAST($2 AS %s) AND %s",
				 t->tbl, user, t->user_type, mine),
		tenant, user_id, count_row, &shown);
	eduai_core_leave(&saved);
	check_all_shown(t, tenant, user_id, shown.count);
}

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

		if (!t.there || !OidIsValid(t.role))
			raise_gone(&t);
		if (is_of_type(&t, user_id))
			export_table(&t, tenant, user_id, row, arg);
	}
}

typedef struct TableLearners
{
	EduaiPersonalLearner learner;
	void *arg;
} TableLearners;

/* As eduai's owner again, amid a query of the table's. */
static void
tell(void *arg, const char *tenant, const char *user_id)
{
	TableLearners *l = arg;
	EduaiPrivilege saved;

	eduai_core_enter(&saved);
	l->learner(l->arg, tenant, user_id);
	eduai_core_leave(&saved);
}

void
eduai_privacy_tables_learners(EduaiPersonalLearner learner, void *arg)
{
	Datum args[] = {(Datum) 0, (Datum) 0};
	uint64 n = eduai_core_run_latest(&one_table, args, "nn");
	SPITupleTable *rows = SPI_tuptable;
	TableLearners l = {learner, arg};

	for (uint64 i = 0; i < n; i++)
	{
		PersonalTable t = read_table(rows, i);
		char *tenant = SPI_getvalue(rows->vals[i], rows->tupdesc, 9);
		EduaiPrivilege saved;

		if (!t.there)
			continue;
		eduai_core_enter_table_owner(t.owner, &saved);
		eduai_core_personal_tell_learners(
			psprintf("SELECT DISTINCT %s, %s::pg_catalog.text FROM %s WHERE %s IS NOT NULL",
					 t.tenant_column
						 ? psprintf("%s::pg_catalog.text", quote_identifier(t.tenant_column))
						 : quote_literal_cstr(tenant),
					 quote_identifier(t.user_column), t.tbl, quote_identifier(t.user_column)),
			tell, &l);
		eduai_core_leave(&saved);
	}
}
