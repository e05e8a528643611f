/*
 * snapshot_fold.c: the projector's chore that takes the snapshots.
 *
 * For each rule it follows the feed of the rule's category and looks for
 * versions that are multiples of "every".  The streams that have one in a
 * batch are folded up to the last of them, from the snapshot that is kept or
 * from the initial state; the states and the rule's position are committed
 * together.  A batch with nothing due writes nothing: what was passed over is
 * remembered in shared memory (passed.h).
 *
 * The reducer is a user's: it runs as the role that registered it, under
 * SECURITY_RESTRICTED_OPERATION, guarded (core/guard.h) for each stream, for at
 * most FOLD_LIMIT_MS.
 *
 * The chore never waits for an application: a rule or a stream that is locked
 * is left for the next time one is due.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/guard.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "events/feed.h"
#include "events/passed.h"
#include "events/projector.h"
#include "events/read.h"
#include "events/snapshot.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

/* events looked at, and snapshots due, in one transaction */
#define BATCH   5000
#define MAX_DUE 64
/* how long one run may take before the other chores get their turn */
#define RUN_MS 200
/* events of a stream held in memory at a time */
#define PAGE 500
/* for one stream */
#define FOLD_LIMIT_MS 10000
/* positions without anything due, after which the rule's position is written */
#define STORE_AFTER 10000

/* A rule, as its row says; in SPI's memory. */
typedef struct Rule
{
	const char *tenant;
	const char *category;
	EduaiPassedKey key;
	int64 position;
	int every;
	int schema_version;
	char *reducer;
	char *role;
	Jsonb *initial;
	bool failed; /* its last step could not call the reducer at all */
} Rule;

/* A stream with a snapshot due. */
typedef struct Due
{
	char *stream;
	int64 version;
} Due;

typedef struct DueList
{
	const Rule *rule;
	Due due[MAX_DUE];
	int n;
	MemoryContext context;
} DueList;

/* A stream being folded. */
typedef struct Fold
{
	const Rule *rule;
	const char *stream;
	Snapshot snapshot;
	int64 target;
	int64 version; /* the state is that of this version */
	pg_uuid_t event_id;
	Jsonb *state;
	TupleDesc desc;        /* of eduai.event_record */
	Tuplestorestate *page; /* the next events */
	MemoryContext context; /* of the state */
	SPIPlanPtr call;
} Fold;

/* ---- what is due ---- */

static bool
note_due(const EduaiRecord *record, void *arg)
{
	DueList *list = arg;
	MemoryContext old;

	if (record->version % list->rule->every != 0)
		return true;
	old = MemoryContextSwitchTo(list->context);
	list->due[list->n++] = (Due){text_to_cstring(record->stream), record->version};
	MemoryContextSwitchTo(old);
	return list->n < MAX_DUE;
}

static int
compare_due(const void *a, const void *b)
{
	const Due *x = a;
	const Due *y = b;
	int order = strcmp(x->stream, y->stream);

	return order != 0 ? order : x->version > y->version ? -1 : x->version < y->version;
}

/* ---- folding a stream ---- */

static bool
take_record(const EduaiRecord *record, void *arg)
{
	Fold *fold = arg;

	eduai_events_put_record(fold->page, fold->desc, record);
	fold->event_id = record->event_id;
	fold->version = record->version;
	return true;
}

/* Reads the next events of the stream into the page. */
static void
read_page(Fold *fold)
{
	int64 from = fold->version + 1;

	tuplestore_clear(fold->page);
	eduai_events_read_stream(fold->rule->tenant, fold->stream, from, fold->target, false, PAGE,
							 fold->snapshot, take_record, fold);
	if (fold->version < from)
		ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND), errmsg("stream \"%s\" has no version %lld",
															   fold->stream, (long long) from)));
}

/* Calls the reducer for one event; the state becomes what it returns. */
static void
call_reducer(Fold *fold, Datum event)
{
	Datum args[2] = {JsonbPGetDatum(fold->state), event};
	Jsonb *before = fold->state;
	MemoryContext old;
	bool isnull = true;
	Datum state = (Datum) 0;
	int code = SPI_execute_plan(fold->call, args, NULL, false, 1);

	if (code != SPI_OK_SELECT)
		elog(ERROR, "could not call a reducer: %s", SPI_result_code_string(code));
	if (SPI_processed == 1)
		state = eduai_core_value(0, 1, &isnull);
	if (isnull)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("reducer %s returned null", fold->rule->reducer)));
	old = MemoryContextSwitchTo(fold->context);
	fold->state = DatumGetJsonbPCopy(state);
	MemoryContextSwitchTo(old);
	SPI_freetuptable(SPI_tuptable);
	pfree(before);
}

/* Folds the events of the page, as the reducer's role. */
static void
fold_page(Fold *fold, TupleTableSlot *slot)
{
	EduaiPrivilege saved;

	eduai_core_enter_role(get_role_oid(fold->rule->role, false), &saved);
	eduai_core_set_local("eduai.tenant", fold->rule->tenant);
	while (tuplestore_gettupleslot(fold->page, true, false, slot))
	{
		Datum event = ExecFetchSlotHeapTupleDatum(slot);

		call_reducer(fold, event);
		pfree(DatumGetPointer(event));
		CHECK_FOR_INTERRUPTS();
	}
	eduai_core_leave(&saved);
}

static Oid
record_type(void)
{
	return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, PointerGetDatum("event_record"),
						   ObjectIdGetDatum(eduai_core_schema()));
}

static void
prepare_call(Fold *fold)
{
	EduaiPrivilege saved;
	Oid types[2] = {JSONBOID, record_type()};

	eduai_core_enter_role(get_role_oid(fold->rule->role, false), &saved);
	fold->call = SPI_prepare(psprintf("SELECT %s($1, $2)", fold->rule->reducer), 2, types);
	eduai_core_leave(&saved);
	if (fold->call == NULL)
		elog(ERROR, "could not prepare a reducer: %s", SPI_result_code_string(SPI_result));
	fold->desc = lookup_rowtype_tupdesc_copy(types[1], -1);
}

/* The state to go on from; its version in fold->version. */
static void
start_fold(Fold *fold)
{
	EduaiSnapshot kept;
	MemoryContext old;

	if (!eduai_events_snapshot_get(fold->rule->tenant, fold->stream, fold->rule->schema_version,
								   fold->snapshot, &kept))
		kept = (EduaiSnapshot){0, fold->rule->initial};
	fold->version = kept.version;
	fold->context =
		AllocSetContextCreate(CurrentMemoryContext, "eduai fold", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(fold->context);
	fold->state = DatumGetJsonbPCopy(JsonbPGetDatum(kept.state));
	MemoryContextSwitchTo(old);
}

static void
forget_failure(const Rule *rule, const char *stream)
{
	static EduaiPlan forget = {"DELETE FROM eduai.snapshot_failure"
							   " WHERE tenant_id = $1 AND category = $2 AND stream = $3",
							   3,
							   {TEXTOID, TEXTOID, TEXTOID}};
	Datum args[3] = {CStringGetTextDatum(rule->tenant), CStringGetTextDatum(rule->category),
					 CStringGetTextDatum(stream)};

	eduai_core_run(&forget, args, NULL);
}

/* Folds a stream up to a version and keeps the state. */
static void
fold_stream(const Rule *rule, const Due *due, Snapshot snapshot)
{
	Fold fold = {.rule = rule, .stream = due->stream, .snapshot = snapshot, .target = due->version};
	TupleTableSlot *slot;

	start_fold(&fold);
	if (fold.version >= fold.target)
		return;
	prepare_call(&fold);
	fold.page = tuplestore_begin_heap(false, false, work_mem);
	slot = MakeSingleTupleTableSlot(fold.desc, &TTSOpsMinimalTuple);
	while (fold.version < fold.target)
	{
		read_page(&fold);
		fold_page(&fold, slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(fold.page);
	(void) eduai_events_snapshot_put(rule->tenant, due->stream, rule->schema_version, fold.target,
									 &fold.event_id, fold.state, true);
	forget_failure(rule, due->stream);
}

static void
record_failure(const Rule *rule, const Due *due, const ErrorData *error)
{
	static EduaiPlan record = {
		"INSERT INTO eduai.snapshot_failure"
		" (tenant_id, category, stream, version, failed_at, error) VALUES ($1, $2, $3, $4, $5, $6)"
		" ON CONFLICT (tenant_id, category, stream) DO UPDATE SET version = excluded.version,"
		" failed_at = excluded.failed_at, error = excluded.error",
		6,
		{TEXTOID, TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID, TEXTOID}};
	Datum args[6] = {CStringGetTextDatum(rule->tenant),     CStringGetTextDatum(rule->category),
					 CStringGetTextDatum(due->stream),      Int64GetDatum(due->version),
					 TimestampTzGetDatum(eduai_core_now()), CStringGetTextDatum(error->message)};

	eduai_core_run(&record, args, NULL);
	ereport(WARNING, (errcode(error->sqlerrcode),
					  errmsg("could not take a snapshot of stream \"%s\" at version %lld",
							 due->stream, (long long) due->version),
					  errdetail("Reducer %s: %s", rule->reducer, error->message)));
}

/* A stream to fold, for the guard. */
typedef struct Try
{
	const Rule *rule;
	const Due *due;
	Snapshot snapshot;
} Try;

static void
fold_tried(void *arg)
{
	const Try *t = arg;

	fold_stream(t->rule, t->due, t->snapshot);
}

/* What goes wrong is recorded. */
static void
try_stream(const Rule *rule, const Due *due, Snapshot snapshot)
{
	Try t = {rule, due, snapshot};
	ErrorData *error = eduai_core_guard(fold_tried, &t, FOLD_LIMIT_MS);

	if (error)
		record_failure(rule, due, error);
}

/* ---- a rule ---- */

static bool
read_rule(Rule *rule)
{
	static EduaiPlan read = {
		"SELECT tableoid, generation, position, every, schema_version, reducer, role::text,"
		" initial, error IS NOT NULL FROM eduai.snapshot_rule"
		" WHERE tenant_id = $1 AND category = $2 FOR UPDATE SKIP LOCKED",
		2,
		{TEXTOID, TEXTOID}};
	Datum args[2] = {CStringGetTextDatum(rule->tenant), CStringGetTextDatum(rule->category)};
	bool isnull;

	if (eduai_core_run(&read, args, NULL) == 0)
		return false;
	rule->key.database = MyDatabaseId;
	rule->key.table = DatumGetObjectId(eduai_core_value(0, 1, &isnull));
	rule->key.generation = eduai_core_int64(0, 2, 0);
	rule->key.member = 0;
	rule->position = eduai_core_int64(0, 3, 0);
	rule->every = (int) eduai_core_int64(0, 4, 1);
	rule->schema_version = (int) eduai_core_int64(0, 5, 1);
	rule->reducer = eduai_core_text(0, 6);
	rule->role = eduai_core_text(0, 7);
	rule->initial = DatumGetJsonbPCopy(eduai_core_value(0, 8, &isnull));
	rule->failed = DatumGetBool(eduai_core_value(0, 9, &isnull));
	return true;
}

static void
write_rule(const Rule *rule, int64 position, const char *error)
{
	static EduaiPlan write = {"UPDATE eduai.snapshot_rule SET position = $3, error = $4"
							  " WHERE tenant_id = $1 AND category = $2",
							  4,
							  {TEXTOID, TEXTOID, INT8OID, TEXTOID}};
	Datum args[4] = {CStringGetTextDatum(rule->tenant), CStringGetTextDatum(rule->category),
					 Int64GetDatum(position), error ? CStringGetTextDatum(error) : (Datum) 0};
	char nulls[4] = {' ', ' ', ' ', error ? ' ' : 'n'};

	eduai_core_run(&write, args, nulls);
}

/* A rule whose role is gone stays where it is until it is registered again. */
static bool
can_be_called(const Rule *rule)
{
	char *error;

	if (OidIsValid(get_role_oid(rule->role, true)))
		return true;
	if (rule->failed)
		return false;
	error = psprintf("role \"%s\" does not exist", rule->role);
	write_rule(rule, rule->position, error);
	ereport(WARNING, (errcode(ERRCODE_UNDEFINED_OBJECT),
					  errmsg("streams of category \"%s\" get no snapshots", rule->category),
					  errdetail("The reducer's %s.", error)));
	return false;
}

/* Folds what is due, each stream once. */
static void
fold_due(const Rule *rule, DueList *list, Snapshot snapshot)
{
	qsort(list->due, list->n, sizeof(Due), compare_due);
	for (int i = 0; i < list->n; i++)
		if (i == 0 || strcmp(list->due[i].stream, list->due[i - 1].stream) != 0)
			try_stream(rule, &list->due[i], snapshot);
}

/* One batch; true when there may be more. */
static bool
step(Rule *rule)
{
	EduaiFeedFilter filter = {.category = rule->category};
	EduaiFeedView view;
	EduaiPassed passed;
	DueList list = {.rule = rule, .context = CurrentMemoryContext};
	int64 scanned;
	int64 found = 0;

	if (!read_rule(rule) || !can_be_called(rule))
		return false;
	view = eduai_events_feed_open(rule->tenant);
	passed = eduai_events_passed_get(&rule->key);
	scanned = eduai_events_passed_from(&passed, rule->position);
	if (scanned < view.through)
		found = eduai_events_feed_read(&view, rule->tenant, scanned, &filter, BATCH, note_due,
									   &list, &scanned);
	fold_due(rule, &list, view.snapshot);
	eduai_events_feed_close(&view);
	if (list.n > 0 || rule->failed || scanned - rule->position >= STORE_AFTER)
		write_rule(rule, scanned, NULL);
	passed.lead = (EduaiFact){rule->position, list.n > 0 ? rule->position : scanned};
	eduai_events_passed_put(&rule->key, &passed);
	return found == BATCH || list.n == MAX_DUE;
}

/* The same as a transaction of its own. */
static bool
run_step(const char *tenant, const char *category)
{
	Rule rule = {.tenant = tenant, .category = category};
	EduaiPrivilege saved;
	bool more;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	eduai_core_enter(&saved);
	SPI_connect();
	more = step(&rule);
	SPI_finish();
	eduai_core_leave(&saved);
	PopActiveSnapshot();
	CommitTransactionCommand();
	return more;
}

/* The rules' tenants and categories, in turn; in the given context. */
static List *
list_rules(MemoryContext context)
{
	static EduaiPlan read = {"SELECT tenant_id, category FROM eduai.snapshot_rule", 0};
	List *names = NIL;
	EduaiPrivilege saved;
	uint64 n;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	eduai_core_enter(&saved);
	SPI_connect();
	n = eduai_core_run(&read, NULL, NULL);
	for (uint64 row = 0; row < n; row++)
	{
		char *tenant = eduai_core_text(row, 1);
		char *category = eduai_core_text(row, 2);
		MemoryContext old = MemoryContextSwitchTo(context);

		names = lappend(lappend(names, pstrdup(tenant)), pstrdup(category));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	eduai_core_leave(&saved);
	PopActiveSnapshot();
	CommitTransactionCommand();
	return names;
}

static long
take_snapshots(void)
{
	static MemoryContext context = NULL;
	static int turn = 0; /* whose turn is first, so that none waits for ever */
	int64 end_us = eduai_core_mono_us() + RUN_MS * 1000;
	List *names;
	int nrules;

	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "eduai snapshots", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(context);
	names = list_rules(context);
	nrules = list_length(names) / 2;
	for (int i = 0; i < nrules; i++)
	{
		int rule = (turn + i) % nrules;

		while (run_step(list_nth(names, rule * 2), list_nth(names, rule * 2 + 1)))
			if (eduai_core_mono_us() > end_us)
			{
				turn = rule + 1;
				return 0;
			}
	}
	return -1;
}

void
eduai_events_snapshot_fold_init(void)
{
	static const EduaiChore chore = {"snapshots", take_snapshots};

	eduai_events_chore_register(&chore);
}
