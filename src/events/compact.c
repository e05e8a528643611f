/*
 * compact.c: moving sealed events into blocks.  See compact.h.
 *
 * A segment is whole order rows from the end of the last one on, so that what
 * remains hot still begins with an order row.  It ends before the first row
 * that has an event too young, at 131,072 positions, or at 64 MB of events;
 * but it has one row at least, of up to 1,024 events.
 *
 * A stream that is spread over many segments is dear to read, so the projector
 * makes a segment that is not full only of events that have waited twice as
 * long as they had to.
 *
 * Insertion of blocks, deletion of hot rows and of order rows are one
 * transaction: a snapshot sees each event once.  Appends go on meanwhile:
 * compaction takes none of their locks.
 *
 * A dump may be being restored meanwhile.  Its last data is the sequence of
 * positions, so that the mark stays below all rows until then.  A parallel
 * restore may still fill tables that it began before: of blocks, which the
 * projector sees by their locks, or of events, which are then missing, as they
 * are in partitions without their indexes; and nothing is moved.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/pause.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "events/block.h"
#include "events/block_write.h"
#include "events/compact.h"
#include "events/order.h"
#include "events/position.h"
#include "events/segment.h"
#include "events/store.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define SEGMENT_EVENTS 131072
#define SEGMENT_BYTES  (64 * 1024 * 1024)

#define AT_LEAST        1000 /* events that are worth a segment of the projector's */
#define SEGMENTS_A_CALL 8
#define HOUR_MS         3600000L

PG_FUNCTION_INFO_V1(eduai_compact_events);

/* How old an event must be for the projector to compact it; 30 days, and not at all when 0 or less. */
static int compact_after = 30 * 86400;

/* How long a given event id is remembered. */
static int dedup_window = 90 * 86400;

/* ---- loading ---- */

typedef struct Load
{
	const char *tenant;
	TimestampTz before;
	Snapshot snapshot;
	MemoryContext context;
	EduaiHotReader *hot;
	TimestampTz row_time;
	int64 *row_ends; /* last positions of the order rows */
	int64 *row_starts;
	int nrows;
	int row; /* at hand */
	EduaiRecord *records;
	EduaiHotPlace *places;
	int n;
	int size;
	size_t bytes;
	int64 position; /* of the record to come */
	int complete;   /* records of complete rows */
	int64 through;  /* the end of the last complete row */
	bool stopped;
	bool full; /* there are more order rows than a segment takes */
} Load;

static void
make_room(Load *load)
{
	if (load->n < load->size)
		return;
	load->size = load->size ? load->size * 2 : 1024;
	load->records = load->records ? repalloc_huge(load->records, sizeof(EduaiRecord) * load->size)
								  : palloc(sizeof(EduaiRecord) * load->size);
	load->places = load->places ? repalloc_huge(load->places, sizeof(EduaiHotPlace) * load->size)
								: palloc(sizeof(EduaiHotPlace) * load->size);
}

static bool
take_record(const EduaiRecord *record, void *arg)
{
	Load *load = arg;
	MemoryContext old;
	Size size;

	if (record->recorded_at >= load->before)
	{
		load->stopped = true;
		return false;
	}
	old = MemoryContextSwitchTo(load->context);
	make_room(load);
	(void) eduai_events_record_keep(&load->records[load->n], record, &size);
	load->records[load->n].position = load->position + record->version;
	load->places[load->n++] = eduai_events_hot_place(load->hot);
	load->bytes += size + sizeof(EduaiRecord) + sizeof(EduaiHotPlace);
	MemoryContextSwitchTo(old);
	return true;
}

/* Everything of the row at hand has been taken. */
static void
complete_row(Load *load)
{
	load->complete = load->n;
	load->through = load->row_ends[load->row++];
	if (load->bytes >= SEGMENT_BYTES)
		load->stopped = true;
}

static bool
take_run(const EduaiRun *run, void *arg)
{
	Load *load = arg;
	int64 found;

	CHECK_FOR_INTERRUPTS();
	while (!load->stopped && load->row < load->nrows && run->position > load->row_ends[load->row])
		complete_row(load);
	if (load->stopped)
		return false;
	load->position = run->position - run->version;
	found =
		eduai_events_hot_read(load->hot, load->tenant, run->stream, run->version,
							  run->version + run->count - 1, false, run->count, take_record, load);
	if (!load->stopped && found != run->count)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("event %lld of stream \"%s\" is missing",
							   (long long) (run->version + found), run->stream),
						errhint("While a dump is being restored, wait for its end.")));
	return !load->stopped;
}

static EduaiPlan order_rows = {
	"SELECT last_position, events FROM eduai.event_order"
	" WHERE tenant_id = $1 AND last_position > $2 AND last_position <= $3"
	" ORDER BY last_position LIMIT $4",
	4,
	{TEXTOID, INT8OID, INT8OID, INT8OID}};

/* The order rows that a segment may take; false without any. */
static bool
find_rows(Load *load, int64 after, int64 mark)
{
	Datum args[] = {CStringGetTextDatum(load->tenant), Int64GetDatum(after), Int64GetDatum(mark),
					Int64GetDatum(SEGMENT_EVENTS)};
	uint64 n = eduai_core_run_latest(&order_rows, args, NULL);
	int64 events = 0;

	load->row_ends = palloc(sizeof(int64) * (n + 1));
	load->row_starts = palloc(sizeof(int64) * (n + 1));
	for (uint64 i = 0; i < n; i++)
	{
		int64 end = eduai_core_int64(i, 1, 0);
		int64 count = eduai_core_int64(i, 2, 0);

		events += count;
		load->full = events > SEGMENT_EVENTS && load->nrows > 0;
		if (load->full)
			break;
		load->row_starts[load->nrows] = end - count + 1;
		load->row_ends[load->nrows++] = end;
	}
	SPI_freetuptable(SPI_tuptable);
	return load->nrows > 0;
}

static bool
take_time(const EduaiRecord *record, void *arg)
{
	*(TimestampTz *) arg = record->recorded_at;
	return false;
}

static bool
take_first_time(const EduaiRun *run, void *arg)
{
	Load *load = arg;

	(void) eduai_events_hot_read(load->hot, load->tenant, run->stream, run->version, run->version,
								 false, 1, take_time, &load->row_time);
	return false;
}

/* When the first event from an order row on was recorded: erased ones left nothing. */
static TimestampTz
row_time(Load *load, int row)
{
	load->row_time = DT_NOEND;
	(void) eduai_events_order_read(load->tenant, load->row_starts[row] - 1,
								   load->row_ends[load->nrows - 1], load->snapshot, take_first_time,
								   load);
	return load->row_time;
}

/* Whether the segment is worth making by now, told from two events. */
static bool
is_due(Load *load, TimestampTz overdue)
{
	if (row_time(load, 0) < overdue)
		return true;
	return load->full && row_time(load, load->nrows - 1) < load->before;
}

/* Reads the events of the next segment; false when there is none. */
static bool
load_segment(Load *load, int64 after, int64 mark, TimestampTz overdue)
{
	if (!find_rows(load, after, mark))
		return false;
	load->hot = eduai_events_hot_open(load->snapshot);
	if (!is_due(load, overdue))
	{
		eduai_events_hot_close(load->hot);
		return false;
	}
	(void) eduai_events_order_read(load->tenant, after, load->row_ends[load->nrows - 1],
								   load->snapshot, take_run, load);
	while (!load->stopped && load->row < load->nrows)
		complete_row(load);
	eduai_events_hot_close(load->hot);
	load->n = load->complete;
	return load->row > 0;
}

/* ---- a segment ---- */

static EduaiSlice
slice_of(const text *value)
{
	return (EduaiSlice){VARDATA_ANY(value), (int) VARSIZE_ANY_EXHDR(value)};
}

static int
compare_records(const void *a, const void *b)
{
	const EduaiRecord *x = a;
	const EduaiRecord *y = b;
	EduaiSlice left = slice_of(x->stream);
	EduaiSlice right = slice_of(y->stream);
	int order = eduai_events_slice_compare(&left, &right);

	if (order != 0)
		return order;
	return x->version < y->version ? -1 : x->version > y->version;
}

TimestampTz
eduai_events_remember_after(void)
{
	return eduai_core_now() - (int64) dedup_window * USECS_PER_SEC;
}

static void
move_events(Load *load)
{
	TimestampTz remember = eduai_events_remember_after();

	if (load->n > 0)
	{
		qsort(load->records, load->n, sizeof(EduaiRecord), compare_records);
		eduai_events_segment_write(load->tenant, load->records, load->n, load->row_starts[0],
								   load->through, remember, load->snapshot);
	}
	EDUAI_PAUSE("events-compact-written");
	eduai_events_hot_delete(load->places, load->n);
	eduai_events_order_delete(load->tenant, load->through);
	CommandCounterIncrement();
	EDUAI_PAUSE("events-compact-deleted");
}

/* Somebody else writes blocks: another compaction, or COPY that restores a dump. */
static EduaiPlan block_writers = {
	"SELECT FROM pg_catalog.pg_locks l"
	" WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted"
	" AND l.pid <> pg_catalog.pg_backend_pid()"
	" AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d"
	" WHERE d.datname = pg_catalog.current_database())"
	" AND l.relation IN ('eduai.event_block'::pg_catalog.regclass,"
	" 'eduai.event_stream'::pg_catalog.regclass, 'eduai.event_seen'::pg_catalog.regclass,"
	" 'eduai.event_dictionary'::pg_catalog.regclass) LIMIT 1",
	0};

static int64
compact_as_owner(Load *load, TimestampTz overdue, int at_least, bool nowait)
{
	int64 mark;

	if (!eduai_events_compact_lock(load->tenant, nowait))
		return 0;
	/* the mark first: the snapshot then shows all that will ever be up to it */
	mark = eduai_events_position_mark();
	if (nowait && eduai_core_run_latest(&block_writers, NULL, NULL) > 0)
		return 0;
	load->snapshot = RegisterSnapshot(GetLatestSnapshot());
	if (!load_segment(load, eduai_events_compacted_through(load->tenant, load->snapshot), mark,
					  overdue) ||
		load->n < at_least)
		load->n = 0;
	else
		move_events(load);
	UnregisterSnapshot(load->snapshot);
	return load->n;
}

int64
eduai_events_compact_segment(const char *tenant, TimestampTz before, TimestampTz overdue,
							 int at_least, bool nowait)
{
	MemoryContext old = CurrentMemoryContext;
	Load load = {.tenant = tenant, .before = before};
	EduaiPrivilege saved;
	int64 n;

	eduai_core_enter(&saved);
	SPI_connect();
	load.context =
		AllocSetContextCreate(CurrentMemoryContext, "eduai segment", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(load.context);
	n = compact_as_owner(&load, overdue, at_least, nowait);
	MemoryContextSwitchTo(old);
	SPI_finish();
	eduai_core_leave(&saved);
	MemoryContextSwitchTo(old);
	return n;
}

/* ---- all tenants ---- */

/* A loose scan of the index: a row for each tenant, not for each order row. */
static EduaiPlan all_tenants = {
	"WITH RECURSIVE t (tenant_id) AS ("
	"(SELECT o.tenant_id FROM eduai.event_order o ORDER BY o.tenant_id LIMIT 1)"
	" UNION ALL SELECT (SELECT o.tenant_id FROM eduai.event_order o"
	"  WHERE o.tenant_id > t.tenant_id ORDER BY o.tenant_id LIMIT 1)"
	" FROM t WHERE t.tenant_id IS NOT NULL)"
	" SELECT tenant_id FROM t WHERE tenant_id IS NOT NULL",
	0};

/* The tenants that have hot events, in the current context. */
static char **
list_tenants(int *n)
{
	MemoryContext old = CurrentMemoryContext;
	EduaiPrivilege saved;
	char **tenants;

	eduai_core_enter(&saved);
	SPI_connect();
	*n = (int) eduai_core_run_latest(&all_tenants, NULL, NULL);
	tenants = MemoryContextAlloc(old, sizeof(char *) * (*n + 1));
	for (int i = 0; i < *n; i++)
		tenants[i] = MemoryContextStrdup(old, eduai_core_text(i, 1));
	SPI_finish();
	eduai_core_leave(&saved);
	MemoryContextSwitchTo(old);
	return tenants;
}

/* compact_events(older_than interval) returns bigint */
Datum
eduai_compact_events(PG_FUNCTION_ARGS)
{
	TimestampTz before;
	int64 total = 0;
	int64 moved;
	char **tenants;
	int n;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("older_than must not be null")));
	PreventCommandIfReadOnly("compact_events()");
	before = DatumGetTimestampTz(DirectFunctionCall2(
		timestamptz_mi_interval, TimestampTzGetDatum(eduai_core_now()), PG_GETARG_DATUM(0)));
	tenants = list_tenants(&n);
	for (int i = 0; i < n; i++)
		while ((moved = eduai_events_compact_segment(tenants[i], before, DT_NOEND, 1, false)) > 0)
			total += moved;
	PG_RETURN_INT64(total);
}

/* ---- the projector's chore ---- */

static EduaiPlan forget_seen = {
	"DELETE FROM eduai.event_seen s USING (SELECT b.tenant_id, max(b.segment) AS segment"
	" FROM eduai.event_block b WHERE b.block = 0 AND b.recorded_through < $1"
	" GROUP BY b.tenant_id) AS old"
	" WHERE s.tenant_id = old.tenant_id AND s.segment <= old.segment",
	1,
	{TIMESTAMPTZOID}};

/* A chore's own transaction, with a snapshot: read-only statements take none by themselves. */
static void
begin_own(void)
{
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit_own(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* A segment's ids go together, once its latest event is old enough. */
static void
forget_ids(void)
{
	Datum limit = TimestampTzGetDatum(eduai_events_remember_after());
	EduaiPrivilege saved;

	begin_own();
	eduai_core_enter(&saved);
	SPI_connect();
	eduai_core_run_latest(&forget_seen, &limit, NULL);
	SPI_finish();
	eduai_core_leave(&saved);
	commit_own();
}

/* Returns how many segments were made, at most "limit". */
static int
compact_tenant(const char *tenant, TimestampTz before, int limit)
{
	TimestampTz overdue = before - (int64) compact_after * USECS_PER_SEC;
	int made = 0;
	int64 moved = 1;

	while (made < limit && moved > 0)
	{
		CHECK_FOR_INTERRUPTS();
		begin_own();
		moved = eduai_events_compact_segment(tenant, before, overdue, AT_LEAST, true);
		commit_own();
		made += moved > 0;
	}
	return made;
}

long
eduai_events_compact_due(void)
{
	MemoryContext context;
	TimestampTz before;
	char **tenants;
	int n;
	int left = SEGMENTS_A_CALL;

	if (compact_after <= 0 || RecoveryInProgress())
		return HOUR_MS;
	context = AllocSetContextCreate(TopMemoryContext, "eduai compaction", ALLOCSET_SMALL_SIZES);
	before = eduai_core_now() - (int64) compact_after * USECS_PER_SEC;
	begin_own();
	MemoryContextSwitchTo(context);
	tenants = list_tenants(&n);
	commit_own();
	for (int i = 0; i < n && left > 0; i++)
		left -= compact_tenant(tenants[i], before, left);
	MemoryContextDelete(context);
	forget_ids();
	return left > 0 ? HOUR_MS : 0;
}

void
eduai_events_compact_init(void)
{
	DefineCustomIntVariable("eduai.compact_after",
							"How old an event must be to be compacted by the projector.",
							"0 or -1 compacts nothing by itself.", &compact_after, 30 * 86400, -1,
							PG_INT32_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"eduai.dedup_window", "How long a given event id is remembered after compaction.", NULL,
		&dedup_window, 90 * 86400, 0, PG_INT32_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
}
