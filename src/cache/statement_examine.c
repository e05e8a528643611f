/*
 * statement_examine.c: what a statement of cached_query() depends on, and what
 * cannot be cached.
 *
 * It looks at the rewritten query: views are replaced by what they select,
 * row-security policies are part of the conditions.  Whatever may give another
 * result without a write to one of the tables is refused, so that nothing is
 * ever served on trust, with three exceptions: immutable functions of users are
 * believed to be immutable, stable ones are believed to read what
 * cache_allow_function() says they read, and types' own functions to behave.
 *
 * What a session can change is in the key: roles, settings that data types
 * look at, and the settings that current_setting() names.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "cache/query.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

typedef struct Examination
{
	CachedStatement *statement;
	const char *text;
} Examination;

/*
 * PostgreSQL's own stable functions that read their arguments, definitions,
 * the roles and the settings of the key, and nothing else.  Not among them:
 * the time, sizes, other catalogs' rows, input functions that know 'now'.
 */
static const char *const harmless[] = {
	"array_out",
	"array_to_json",
	"array_to_string",
	"cash_in",
	"cash_out",
	"concat",
	"concat_ws",
	"convert",
	"convert_from",
	"convert_to",
	"current_database",
	"current_user",
	"date",
	"date_cmp_timestamptz",
	"date_eq_timestamptz",
	"date_ge_timestamptz",
	"date_gt_timestamptz",
	"date_le_timestamptz",
	"date_lt_timestamptz",
	"date_ne_timestamptz",
	"date_out",
	"date_part",
	"date_trunc",
	"enum_first",
	"enum_in",
	"enum_last",
	"enum_out",
	"enum_range",
	"extract",
	"format",
	"generate_series",
	"getdatabaseencoding",
	"in_range",
	"interval_in",
	"interval_out",
	"interval_pl_timestamptz",
	"json_agg",
	"json_build_array",
	"json_build_object",
	"json_object_agg",
	"json_to_tsvector",
	"jsonb_agg",
	"jsonb_build_array",
	"jsonb_build_object",
	"jsonb_object_agg",
	"jsonb_path_exists_tz",
	"jsonb_path_match_tz",
	"jsonb_path_query_array_tz",
	"jsonb_path_query_first_tz",
	"jsonb_path_query_tz",
	"jsonb_to_tsvector",
	"length",
	"make_timestamptz",
	"money",
	"multirange_out",
	"numeric",
	"overlaps",
	"pg_has_role",
	"phraseto_tsquery",
	"plainto_tsquery",
	"quote_literal",
	"quote_nullable",
	"range_out",
	"record_out",
	"row_to_json",
	"session_user",
	"time",
	"timestamp",
	"timestamp_cmp_timestamptz",
	"timestamp_eq_timestamptz",
	"timestamp_ge_timestamptz",
	"timestamp_gt_timestamptz",
	"timestamp_le_timestamptz",
	"timestamp_lt_timestamptz",
	"timestamp_ne_timestamptz",
	"timestamp_out",
	"timestamptz",
	"timestamptz_cmp_date",
	"timestamptz_cmp_timestamp",
	"timestamptz_eq_date",
	"timestamptz_eq_timestamp",
	"timestamptz_ge_date",
	"timestamptz_ge_timestamp",
	"timestamptz_gt_date",
	"timestamptz_gt_timestamp",
	"timestamptz_le_date",
	"timestamptz_le_timestamp",
	"timestamptz_lt_date",
	"timestamptz_lt_timestamp",
	"timestamptz_mi_interval",
	"timestamptz_ne_date",
	"timestamptz_ne_timestamp",
	"timestamptz_out",
	"timestamptz_pl_interval",
	"timezone",
	"to_char",
	"to_date",
	"to_json",
	"to_jsonb",
	"to_number",
	"to_timestamp",
	"to_tsquery",
	"to_tsvector",
	"ts_headline",
	"ts_match_tq",
	"ts_match_tt",
	"websearch_to_tsquery",
	"xml",
};

static bool walk(Node *node, Examination *x);

static void
refuse(const char *what, const char *name, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					name ? errmsg("cannot cache a query that %s \"%s\"", what, name)
						 : errmsg("cannot cache a query that %s", what),
					errhint("%s", hint)));
}

/* ---- functions ---- */

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static bool
is_harmless(const char *name)
{
	return bsearch(&name, harmless, lengthof(harmless), sizeof(char *), compare_names) != NULL;
}

/* For check_functions_in_node(); it never finds any, it raises. */
static bool
examine_function(Oid function, void *context)
{
	Examination *x = context;
	char kind = func_volatile(function);
	bool aggregate = get_func_prokind(function) == PROKIND_AGGREGATE;
	char *name;

	if (function < FirstNormalObjectId && kind == PROVOLATILE_IMMUTABLE)
		return false;
	if (function >= FirstNormalObjectId && kind == PROVOLATILE_IMMUTABLE && !aggregate)
		return false;
	name = get_func_name(function);
	if (kind == PROVOLATILE_VOLATILE)
		refuse("calls the volatile function", name,
			   "Call volatile functions outside of the cached query.");
	if (function >= FirstNormalObjectId)
	{
		if (!eduai_cache_function_allowed(function, x->statement))
			refuse(aggregate ? "calls the aggregate" : "calls the stable function", name,
				   "Say which tables it reads with eduai.cache_allow_function(), or make it "
				   "immutable.");
		return false;
	}
	if (!is_harmless(name))
		refuse("calls the function", name,
			   "Its result can change while no table does; pass what it gives as a parameter.");
	return false;
}

/* current_setting() of a name that is known: its value enters the key. */
static bool
is_known_setting(FuncExpr *call, Examination *x)
{
	Const *name;
	char *setting;

	if (call->funcid != F_CURRENT_SETTING_TEXT && call->funcid != F_CURRENT_SETTING_TEXT_BOOL)
		return false;
	name = linitial(call->args);
	if (!IsA(name, Const) || name->constisnull)
		refuse("calls current_setting() with a name that is no constant", NULL,
			   "Write the setting's name as a literal.");
	setting = TextDatumGetCString(name->constvalue);
	x->statement->settings = lappend(x->statement->settings, setting);
	return true;
}

static void
examine_value_function(SQLValueFunction *value)
{
	switch (value->op)
	{
		case SVFOP_CURRENT_ROLE:
		case SVFOP_CURRENT_USER:
		case SVFOP_USER:
		case SVFOP_SESSION_USER:
		case SVFOP_CURRENT_CATALOG:
			return;
		case SVFOP_CURRENT_SCHEMA:
			refuse("uses current_schema", NULL, "Pass the schema's name as a parameter.");
			return;
		default:
			refuse("uses the current time", NULL,
				   "Pass the time as a parameter, rounded to what the result needs.");
	}
}

/* 'now' and 'today' as literals of a date or time, which became what they mean at once. */
static void
examine_literal(Const *value, Examination *x)
{
	static const char *const words[] = {"now", "today", "tomorrow", "yesterday"};
	const char *at, *end;

	if (value->location < 0 || value->location >= (int) strlen(x->text) || value->constisnull)
		return;
	switch (getBaseType(value->consttype))
	{
		case DATEOID:
		case TIMEOID:
		case TIMETZOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			break;
		default:
			if (!type_is_array(value->consttype) && !type_is_range(value->consttype))
				return;
	}
	at = x->text + value->location;
	end = strpbrk(at + strcspn(at, "'$") + (strpbrk(at, "'$") != NULL), "'$");
	for (; *at != '\0' && (end == NULL || at < end); at++)
		for (int i = 0; i < (int) lengthof(words); i++)
			if (pg_strncasecmp(at, words[i], strlen(words[i])) == 0)
				refuse("has the time-dependent literal", words[i], "Pass the time as a parameter.");
}

/* ---- relations ---- */

static void
add_table(CachedStatement *s, Oid relid)
{
	if (!eduai_cache_deps_add(&s->tables, eduai_cache_dep_table(MyDatabaseId, relid)))
		s->too_wide = true;
}

static char
examine_relation(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	FormData_pg_class class;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	class = *(Form_pg_class) GETSTRUCT(tuple);
	ReleaseSysCache(tuple);
	if (class.relpersistence == RELPERSISTENCE_TEMP)
		refuse("reads the temporary table", NameStr(class.relname),
			   "Other sessions do not see it.");
	if (class.relkind == RELKIND_FOREIGN_TABLE)
		refuse("reads the foreign table", NameStr(class.relname), "Its writes are not seen here.");
	if (class.relkind == RELKIND_SEQUENCE)
		refuse("reads the sequence", NameStr(class.relname), "Sequences are outside transactions.");
	if (class.relkind == RELKIND_VIEW)
		return class.relkind;
	if (relid < FirstNormalObjectId)
		refuse("reads the system catalog", NameStr(class.relname),
			   "Catalogs change in place, outside transactions.");
	if (class.relkind != RELKIND_PARTITIONED_TABLE && class.relam != HEAP_TABLE_AM_OID)
		refuse("reads a table of another access method,", NameStr(class.relname),
			   "Only the access method heap is known to count what is written.");
	return class.relkind;
}

/* Its own writes are published for it, those of partitions too; children need a look. */
static void
examine_range(CachedStatement *s, Query *query, int rtindex)
{
	RangeTblEntry *rte = rt_fetch(rtindex, query->rtable);
	char kind = examine_relation(rte->relid);
	List *all;
	ListCell *cell;

	if (kind == RELKIND_VIEW)
		return;
	if (rte->tablesample != NULL)
		refuse("has TABLESAMPLE", NULL, "A sample is another one each time.");
	add_table(s, rte->relid);
	all = rte->inh ? find_all_inheritors(rte->relid, AccessShareLock, NULL) : NIL;
	foreach (cell, all)
	{
		if (lfirst_oid(cell) == rte->relid)
			continue;
		examine_relation(lfirst_oid(cell));
		if (kind != RELKIND_PARTITIONED_TABLE)
			add_table(s, lfirst_oid(cell));
	}
	if (eduai_cache_statement_narrow(s, query, rtindex))
		return;
	if (!eduai_cache_deps_add(&s->deps, eduai_cache_dep_table(MyDatabaseId, rte->relid)))
		s->too_wide = true;
	if (kind == RELKIND_PARTITIONED_TABLE)
		return;
	foreach (cell, all)
		if (!eduai_cache_deps_add(&s->deps, eduai_cache_dep_table(MyDatabaseId, lfirst_oid(cell))))
			s->too_wide = true;
}

static bool
examine_query(Query *query, Examination *x)
{
	if (query->commandType != CMD_SELECT || query->hasModifyingCTE || query->utilityStmt != NULL)
		refuse("writes", NULL, "Only a single SELECT can be cached.");
	if (query->rowMarks != NIL)
		refuse("locks rows", NULL, "Leave FOR UPDATE, FOR SHARE and the like out.");
	for (int i = 1; i <= list_length(query->rtable); i++)
		if (rt_fetch(i, query->rtable)->rtekind == RTE_RELATION)
			examine_range(x->statement, query, i);
	return query_tree_walker(query, walk, x, 0);
}

static bool
walk(Node *node, Examination *x)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_Query:
			return examine_query((Query *) node, x);
		case T_FuncExpr:
			if (is_known_setting((FuncExpr *) node, x))
				return expression_tree_walker(node, walk, x);
			break;
		case T_SQLValueFunction:
			examine_value_function((SQLValueFunction *) node);
			break;
		case T_NextValueExpr:
			refuse("draws from a sequence", NULL, "Only a single SELECT can be cached.");
			break;
		case T_Const:
			examine_literal((Const *) node, x);
			break;
		default:
			break;
	}
	check_functions_in_node(node, examine_function, x);
	return expression_tree_walker(node, walk, x);
}

void
eduai_cache_statement_examine(CachedStatement *s, List *queries, const char *text)
{
	Examination x = {s, text};
	ListCell *cell;

	eduai_cache_deps_add(&s->deps, eduai_cache_dep_catalog(MyDatabaseId));
	eduai_cache_deps_add(&s->deps, eduai_cache_dep_catalog(InvalidOid));
	eduai_cache_deps_add(&s->deps, eduai_cache_dep_anything(MyDatabaseId));
	foreach (cell, queries)
		walk(lfirst(cell), &x);
}
