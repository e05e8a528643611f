/*
 * function.c: functions that cached queries may call although they read
 * tables: their owner says which.
 *
 * They are kept by name, because of dumps and pg_upgrade.  A mark given or
 * taken counts as a changed definition.
 */
#include "postgres.h"

#include "cache/query.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(eduai_cache_allow_function);

bool
eduai_cache_function_allowed(Oid function, CachedStatement *s)
{
	static EduaiPlan plan = {
		.sql = "SELECT pg_catalog.to_regclass(t.name)::oid FROM eduai.cache_function f "
			   "LEFT JOIN LATERAL unnest(f.tables) AS t (name) ON true WHERE f.function = $1",
		.nargs = 1,
		.types = {TEXTOID}};
	char *name = format_procedure_qualified(function);
	Datum args[1] = {CStringGetTextDatum(name)};
	EduaiPrivilege saved;
	uint64 n;
	bool known = true;

	eduai_core_enter(&saved);
	n = eduai_core_run(&plan, args, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		bool isnull;
		Oid relid = DatumGetObjectId(eduai_core_value(i, 1, &isnull));
		uint64 dep = eduai_cache_dep_table(MyDatabaseId, relid);

		/* a marked function that reads nothing has one row of null; a dropped table one, too */
		if (isnull)
			continue;
		known =
			eduai_cache_deps_add(&s->deps, dep) && eduai_cache_deps_add(&s->tables, dep) && known;
	}
	eduai_core_leave(&saved);
	if (n == 0)
		return false;
	s->too_wide = s->too_wide || !known;
	return true;
}

/* The name of the function, which the caller owns and which is no volatile one. */
static char *
own_function(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
						errmsg("function with OID %u does not exist", function)));
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (!has_privs_of_role(GetUserId(), proc->proowner))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of function \"%s\"", NameStr(proc->proname))));
	if (proc->provolatile == PROVOLATILE_VOLATILE)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("function \"%s\" is volatile", NameStr(proc->proname)),
						errhint("Declare it STABLE if it only reads.")));
	ReleaseSysCache(tuple);
	return format_procedure_qualified(function);
}

static Datum
table_names(ArrayType *tables)
{
	Datum *oids;
	bool *nulls;
	int n;
	char **names;

	deconstruct_array(tables, REGCLASSOID, sizeof(Oid), true, TYPALIGN_INT, &oids, &nulls, &n);
	names = palloc(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		Oid relid = nulls[i] ? InvalidOid : DatumGetObjectId(oids[i]);
		char *name = get_rel_name(relid);
		char kind = get_rel_relkind(relid);

		if (name == NULL)
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table does not exist")));
		if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE &&
			kind != RELKIND_MATVIEW)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a table", name),
					 errhint("Name the tables that the function reads, not views.")));
		names[i] = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name);
	}
	return eduai_core_text_array(names, n);
}

/* cache_allow_function(function, tables); NULL tables take it back */
Datum
eduai_cache_allow_function(PG_FUNCTION_ARGS)
{
	static EduaiPlan insert = {
		.sql = "INSERT INTO eduai.cache_function (function, tables) VALUES ($1, $2) "
			   "ON CONFLICT (function) DO UPDATE SET tables = excluded.tables",
		.nargs = 2,
		.types = {TEXTOID, TEXTARRAYOID}};
	static EduaiPlan delete = {.sql = "DELETE FROM eduai.cache_function WHERE function = $1",
							   .nargs = 1,
							   .types = {TEXTOID}};
	Datum args[2];
	EduaiPrivilege saved;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("function must not be null")));
	args[0] = CStringGetTextDatum(own_function(PG_GETARG_OID(0)));
	args[1] = PG_ARGISNULL(1) ? (Datum) 0 : table_names(PG_GETARG_ARRAYTYPE_P(1));
	SPI_connect();
	eduai_core_enter(&saved);
	eduai_core_run(PG_ARGISNULL(1) ? &delete : &insert, args, NULL);
	/* sessions look anew at what they cached, as after any change of a definition */
	eduai_cache_wrote(eduai_cache_dep_catalog(MyDatabaseId));
	eduai_core_leave(&saved);
	SPI_finish();
	PG_RETURN_VOID();
}
