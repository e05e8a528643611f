/*
 * watch.c: cache_watch(): tags made of the rows of a table.
 *
 * A row trigger, ENABLE ALWAYS so that logical replication fires it, reports
 * the tags of the old and of the new row.  PostgreSQL clones it to the
 * partitions there are and will be, so rows written to a partition directly
 * are seen.  A transaction with many tags reports their families instead
 * (writes.c).  TRUNCATE has no rows: it is seen at commit, and the table's
 * trigger then says which families it is about.  So it does when rows come and
 * go with a partition, or change by ALTER TABLE: these, too, old snapshots see.
 *
 * A column that is NULL makes no tag: no condition column = value finds it.
 * A column that is gone makes the family.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "cache/validity.h"
#include "cache/watch.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "core/compat.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/reltrigger.h"

#define TRIGGER_NAME "eduai_cache_watch"
#define LONGEST_TAG  256
#define MAX_FORMATS  16

static object_access_hook_type prev_object_access = NULL;

PG_FUNCTION_INFO_V1(eduai_cache_watch);
PG_FUNCTION_INFO_V1(eduai_cache_watch_trigger);

/* ---- formats ---- */

static void
refuse_format(const char *format, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid tag format \"%s\": %s", format, why),
			 errhint("Write a family, a colon and columns in braces: student:{student_id}.")));
}

List *
eduai_cache_format_parse(const char *format)
{
	List *parts = NIL;
	const char *at = format;

	for (;;)
	{
		FormatPart *part = palloc0(sizeof(FormatPart));
		size_t length = strcspn(at, "{}");
		const char *end;

		part->text = pnstrdup(at, length);
		parts = lappend(parts, part);
		at += length;
		if (*at == '\0')
			break;
		end = strchr(at, '}');
		if (*at == '}' || end == NULL || end == at + 1)
			refuse_format(format, "braces do not match");
		if (memchr(format, ':', at - format) == NULL)
			refuse_format(format, "no colon before the first column");
		part->column = pnstrdup(at + 1, end - at - 1);
		if (strchr(part->column, '{') != NULL)
			refuse_format(format, "braces do not match");
		at = end + 1;
	}
	return parts;
}

static uint64
format_family(const char *format)
{
	return eduai_cache_dep_family(MyDatabaseId, format, strchr(format, ':') - format + 1);
}

/* ---- rows ---- */

/* The tag of a row, as a dependency; 0 when a column is NULL. */
static uint64
row_dep(HeapTuple row, TupleDesc desc, const char *format)
{
	StringInfoData tag;
	const char *at = format;

	initStringInfo(&tag);
	for (;;)
	{
		size_t length = strcspn(at, "{");
		const char *end;
		char column[NAMEDATALEN];
		char *value;
		int number;

		appendBinaryStringInfo(&tag, at, length);
		at += length;
		if (*at == '\0')
			return eduai_cache_dep_tag(MyDatabaseId, NULL, tag.data);
		end = strchr(at, '}');
		strlcpy(column, at + 1, Min((size_t) (end - at), sizeof(column)));
		number = SPI_fnumber(desc, column);
		if (number <= 0)
			return format_family(format);
		value = SPI_getvalue(row, desc, number);
		if (value == NULL)
			return 0;
		appendStringInfoString(&tag, value);
		at = end + 1;
	}
}

static void
report(HeapTuple row, const TriggerData *trigger)
{
	for (int i = 0; row != NULL && i < trigger->tg_trigger->tgnargs; i++)
	{
		uint64 dep =
			row_dep(row, RelationGetDescr(trigger->tg_relation), trigger->tg_trigger->tgargs[i]);

		if (dep != 0)
			eduai_cache_wrote(dep);
	}
}

/* The trigger of each row. */
Datum
eduai_cache_watch_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("eduai.cache_watch_trigger() is for the triggers of cache_watch()")));
	report(trigger->tg_trigtuple, trigger);
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		report(trigger->tg_newtuple, trigger);
	return PointerGetDatum(NULL);
}

/* ---- what is watched ---- */

static bool
is_watch(const Trigger *t, Oid function)
{
	return t->tgfoid == function && t->tgenabled == TRIGGER_FIRES_ALWAYS &&
		   TRIGGER_FOR_ROW(t->tgtype) && TRIGGER_FOR_AFTER(t->tgtype) &&
		   TRIGGER_FOR_INSERT(t->tgtype) && TRIGGER_FOR_UPDATE(t->tgtype) &&
		   TRIGGER_FOR_DELETE(t->tgtype) && t->tgqual == NULL && t->tgnattr == 0;
}

List *
eduai_cache_watch_formats(Oid relid)
{
	Relation rel = RelationIdGetRelation(relid);
	List *formats = NIL;
	Oid function;

	if (!RelationIsValid(rel))
		return NIL;
	if (rel->trigdesc != NULL)
	{
		function = LookupFuncName(
			list_make2(makeString("eduai"), makeString("cache_watch_trigger")), 0, NULL, true);
		for (int i = 0; i < rel->trigdesc->numtriggers; i++)
		{
			Trigger *t = &rel->trigdesc->triggers[i];

			for (int j = 0; is_watch(t, function) && j < t->tgnargs; j++)
				formats = lappend(formats, pstrdup(t->tgargs[j]));
		}
	}
	RelationClose(rel);
	return formats;
}

void
eduai_cache_watch_truncated(Oid relid, void (*found)(uint64 dep, void *arg), void *arg)
{
	List *formats = eduai_cache_watch_formats(relid);
	ListCell *cell;

	foreach (cell, formats)
	{
		/* what is in braces matters not: a family is what comes before */
		found(eduai_cache_dep_truncated(eduai_cache_dep_tag(MyDatabaseId, NULL, lfirst(cell))),
			  arg);
	}
	list_free_deep(formats);
}

static void
wrote(uint64 dep, void *arg)
{
	eduai_cache_wrote(dep);
}

void
eduai_cache_watch_changed(Oid relid)
{
	eduai_cache_watch_truncated(relid, wrote, NULL);
}

/* The table of a trigger of cache_watch(); InvalidOid of another one. */
static Oid
watched_by(Oid trigger)
{
	Relation rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid relid = InvalidOid;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(trigger));
	scan = systable_beginscan(rel, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		if (strcmp(NameStr(form->tgname), TRIGGER_NAME) == 0)
			relid = form->tgrelid;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return relid;
}

/* The trigger goes before its table or partition, and before rows go unreported. */
static void
on_object_access(ObjectAccessType access, Oid class, Oid object, int column, void *arg)
{
	Oid relid;

	if (prev_object_access)
		prev_object_access(access, class, object, column, arg);
	if (access != OAT_DROP || class != TriggerRelationId)
		return;
	relid = watched_by(object);
	if (OidIsValid(relid))
		eduai_cache_watch_changed(relid);
}

void
eduai_cache_watch_init(void)
{
	prev_object_access = object_access_hook;
	object_access_hook = on_object_access;
}

/* ---- cache_watch() ---- */

/* The name to use in commands; raises what keeps the table from being watched. */
static char *
watchable(Oid relid)
{
	char *name = get_rel_name(relid);
	char kind = get_rel_relkind(relid);

	if (name == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("table with OID %u does not exist", relid)));
	if ((kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE) ||
		get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("cannot watch \"%s\"", name),
						errdetail("Only tables and partitioned tables can be watched, and no "
								  "temporary ones.")));
	if (!eduai_owns_table(relid, GetUserId()))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of table \"%s\"", name),
						errhint("cached_query() watches the tables it reads by itself; row tags "
								"need a trigger, which the table's owner makes.")));
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name);
}

static void
check_format(Oid relid, const char *format)
{
	List *parts = eduai_cache_format_parse(format);
	ListCell *cell;

	if (*format == '\0' || strlen(format) > LONGEST_TAG)
		refuse_format(format, "it must have 1 to 256 bytes");
	foreach (cell, parts)
	{
		FormatPart *part = lfirst(cell);

		if (part->column != NULL && get_attnum(relid, part->column) <= 0)
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
							errmsg("column \"%s\" of tag format \"%s\" does not exist",
								   part->column, format)));
	}
}

static void
execute(const char *command)
{
	if (SPI_execute(command, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not execute: %s", command);
}

static char *
trigger_arguments(Oid relid, ArrayType *formats, int *n)
{
	StringInfoData list;
	Datum *values;
	bool *nulls;

	deconstruct_array(formats, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, n);
	if (*n > MAX_FORMATS)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("a table has at most %d tags", MAX_FORMATS)));
	initStringInfo(&list);
	for (int i = 0; i < *n; i++)
	{
		char *format;

		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("tags must not contain nulls")));
		format = TextDatumGetCString(values[i]);
		check_format(relid, format);
		appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", quote_literal_cstr(format));
		/* nobody reported what was written until now */
		eduai_cache_wrote(
			eduai_cache_dep_truncated(eduai_cache_dep_tag(MyDatabaseId, NULL, format)));
	}
	return list.data;
}

/* cache_watch(tbl, tags): in place of the tags it had; '{}' takes the watch away */
Datum
eduai_cache_watch(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(0);
	char *table = watchable(relid);
	int n;
	char *arguments = trigger_arguments(relid, PG_GETARG_ARRAYTYPE_P(1), &n);

	SPI_connect();
	if (OidIsValid(get_trigger_oid(relid, TRIGGER_NAME, true)))
		execute(psprintf("DROP TRIGGER " TRIGGER_NAME " ON %s", table));
	if (n > 0)
	{
		execute(psprintf("CREATE TRIGGER " TRIGGER_NAME " AFTER INSERT OR UPDATE OR DELETE ON %s "
						 "FOR EACH ROW EXECUTE FUNCTION eduai.cache_watch_trigger(%s)",
						 table, arguments));
		execute(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER " TRIGGER_NAME, table));
	}
	SPI_finish();
	PG_RETURN_VOID();
}
