/*
 * snapshot_rule.c: which streams get snapshots by themselves, and waking the
 * projector, which takes them (snapshot_fold.c), when one is due.
 *
 * Every backend keeps the rules it needs for that.  A change of them
 * invalidates the table's relcache entry, which clears what is kept
 * everywhere at its commit.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/callee.h"
#include "core/clock.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/relcache.h"
#include "core/tenant.h"
#include "core/xact.h"
#include "core/hooks.h"
#include "events/projector.h"
#include "events/snapshot.h"
#include "events/validate.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#define MAX_EVERY 1000000

PG_FUNCTION_INFO_V1(eduai_snapshot_streams);
PG_FUNCTION_INFO_V1(eduai_unsnapshot_streams);

/* ---- waking the projector ---- */

typedef struct Rule
{
	char *tenant;
	char *category;
	size_t length; /* of the category */
	int every;
} Rule;

static Rule *rules = NULL;
static int nrules = 0;
static bool known = false;
static Oid rule_table = InvalidOid;
static MemoryContext rule_context = NULL;

static void
forget_rules(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == rule_table)
		known = false;
}

static void
load_rules(void)
{
	static EduaiPlan read = {"SELECT tenant_id, category, every FROM eduai.snapshot_rule", 0};
	EduaiPrivilege saved;
	uint64 n;

	if (rule_context == NULL)
		rule_context =
			AllocSetContextCreate(CacheMemoryContext, "eduai snapshot rules", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(rule_context);
	nrules = 0;
	rule_table = get_relname_relid("snapshot_rule", eduai_core_schema());
	/* before the query: an invalidation that comes with it must count */
	known = true;
	eduai_core_enter(&saved);
	SPI_connect();
	n = eduai_core_run_latest(&read, NULL, NULL);
	rules = MemoryContextAlloc(rule_context, sizeof(Rule) * Max(n, 1));
	for (uint64 row = 0; row < n; row++)
	{
		Rule *rule = &rules[row];

		rule->tenant = MemoryContextStrdup(rule_context, eduai_core_text(row, 1));
		rule->category = MemoryContextStrdup(rule_context, eduai_core_text(row, 2));
		rule->length = strlen(rule->category);
		rule->every = (int) eduai_core_int64(row, 3, 1);
	}
	nrules = (int) n;
	SPI_finish();
	eduai_core_leave(&saved);
}

static bool
is_due(const EduaiEvent *event, const Rule *rule)
{
	return event->version % rule->every == 0 &&
		   strncmp(event->stream, rule->category, rule->length) == 0 &&
		   (event->stream[rule->length] == '-' || event->stream[rule->length] == '\0');
}

/* Asked before every append: one of a tenant without rules must not cost SQL. */
static EduaiAppendInterest
wants(const EduaiAppendBatch *batch)
{
	if (!known)
		return EDUAI_APPEND_DIRECT;
	for (int r = 0; r < nrules; r++)
		if (strcmp(rules[r].tenant, batch->tenant) == 0)
			return EDUAI_APPEND_DIRECT;
	return EDUAI_APPEND_NONE;
}

static void
wake_when_due(EduaiAppendBatch *batch)
{
	if (!known)
		load_rules();
	for (int r = 0; r < nrules; r++)
	{
		if (strcmp(rules[r].tenant, batch->tenant) != 0)
			continue;
		for (int i = 0; i < batch->nevents; i++)
			if (is_due(&batch->events[i], &rules[r]))
			{
				eduai_events_projector_wake_at_commit();
				return;
			}
	}
}

void
eduai_events_snapshot_init(void)
{
	static const EduaiAppendHooks hooks = {
		.name = "snapshots", .rank = EDUAI_RANK_EVENTS, .wants = wants, .after = wake_when_due};

	eduai_core_append_hooks_register(&hooks);
	eduai_core_relcache_register(forget_rules);
	eduai_events_snapshot_fold_init();
}

/* In SPI, as the extension's owner; args begin with the tenant and the category. */
static void
forget_failures(Datum *args)
{
	static EduaiPlan forget = {
		"DELETE FROM eduai.snapshot_failure WHERE tenant_id = $1 AND category = $2",
		2,
		{TEXTOID, TEXTOID}};

	eduai_core_run_latest(&forget, args, NULL);
}

/* In SPI, as the extension's owner: all backends read the rules again. */
static void
announce_change(void)
{
	CacheInvalidateRelcacheByRelid(get_relname_relid("snapshot_rule", eduai_core_schema()));
	eduai_events_projector_wake_at_commit();
}

/* ---- arguments ---- */

static char *
category_arg(FunctionCallInfo fcinfo)
{
	char *category = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (category && category[0] != '\0')
		eduai_events_check_name("category", category, true);
	if (category == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("category must not be null")));
	if (category[0] == '\0' || strchr(category, '-'))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid category \"%s\"", category),
						errhint("A category is a stream's name up to the first \"-\".")));
	return category;
}

static void
check_arguments(FunctionCallInfo fcinfo)
{
	static const char *const names[] = {"category", "reducer", "every", "initial",
										"schema_version"};

	for (int i = 1; i < PG_NARGS(); i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("%s must not be null", names[i])));
	if (PG_GETARG_INT32(2) < 1 || PG_GETARG_INT32(2) > MAX_EVERY)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid every %d", PG_GETARG_INT32(2)),
						errhint("Take a snapshot every 1 to %d events.", MAX_EVERY)));
	if (PG_GETARG_INT32(4) < 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid schema_version %d", PG_GETARG_INT32(4)),
						errhint("Schema versions are 1 and up.")));
}

/* The reducer's name, once the caller was found to be allowed to execute it. */
static char *
check_reducer(Oid function)
{
	Oid record = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, PointerGetDatum("event_record"),
								 ObjectIdGetDatum(eduai_core_schema()));
	Oid arguments[] = {JSONBOID, record};

	return eduai_core_callee_name(function, arguments, lengthof(arguments), JSONBOID, "a reducer",
								  "(jsonb, eduai.event_record) that returns jsonb");
}

/* ---- the functions ---- */

/* snapshot_streams(category, reducer, every, initial, schema_version) returns void */
Datum
eduai_snapshot_streams(PG_FUNCTION_ARGS)
{
	static EduaiPlan write = {
		"INSERT INTO eduai.snapshot_rule (tenant_id, category, reducer, role, every, initial,"
		" schema_version, generation, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
		" ON CONFLICT (tenant_id, category) DO UPDATE SET reducer = excluded.reducer,"
		" role = excluded.role, every = excluded.every, initial = excluded.initial,"
		" schema_version = excluded.schema_version, generation = excluded.generation,"
		" created_at = excluded.created_at, position = 0, error = NULL",
		9,
		{TEXTOID, TEXTOID, TEXTOID, NAMEOID, INT4OID, JSONBOID, INT4OID, INT8OID, TIMESTAMPTZOID}};
	char *category = category_arg(fcinfo);
	EduaiPrivilege saved;
	Datum args[9];

	check_arguments(fcinfo);
	PreventCommandIfReadOnly("snapshot_streams()");
	args[0] = CStringGetTextDatum(eduai_core_tenant());
	args[1] = CStringGetTextDatum(category);
	args[2] = CStringGetTextDatum(check_reducer(PG_GETARG_OID(1)));
	args[3] = DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetUserId(), false)));
	args[4] = PG_GETARG_DATUM(2);
	args[5] = PG_GETARG_DATUM(3);
	args[6] = PG_GETARG_DATUM(4);
	args[7] = Int64GetDatum((int64) eduai_core_random());
	args[8] = TimestampTzGetDatum(eduai_core_now());
	eduai_core_enter(&saved);
	SPI_connect();
	eduai_core_run_latest(&write, args, NULL);
	forget_failures(args);
	announce_change();
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

/* unsnapshot_streams(category) returns void */
Datum
eduai_unsnapshot_streams(PG_FUNCTION_ARGS)
{
	static EduaiPlan drop = {
		"DELETE FROM eduai.snapshot_rule WHERE tenant_id = $1 AND category = $2",
		2,
		{TEXTOID, TEXTOID}};
	char *category = category_arg(fcinfo);
	EduaiPrivilege saved;
	Datum args[2];

	PreventCommandIfReadOnly("unsnapshot_streams()");
	args[0] = CStringGetTextDatum(eduai_core_tenant());
	args[1] = CStringGetTextDatum(category);
	eduai_core_enter(&saved);
	SPI_connect();
	if (eduai_core_run_latest(&drop, args, NULL) == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("streams of category \"%s\" get no automatic snapshots", category)));
	forget_failures(args);
	announce_change();
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}
