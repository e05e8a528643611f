/*
 * order.c: which events a transaction appended, and the rows that say in
 * which order.  See order.h.
 *
 * An append notes its events in memory; at pre-commit, after every hook that
 * could still take time, the positions are drawn and the rows written.  A
 * savepoint that is rolled back takes its notes along.
 *
 * The stored mark of a row: everything at or below it was visible, or gone,
 * before the row's transaction could become visible.  So a snapshot that
 * shows the row shows all that will ever be at or below its mark.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "core/compat.h"
#include "core/heap.h"
#include "core/pause.h"
#include "core/xact.h"
#include "events/block.h"
#include "events/heads.h"
#include "events/order.h"
#include "events/order_runs.h"
#include "events/position.h"
#include "events/standby.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* Events covered by one row: what a reader that wants one of them has to read. */
#define ROW_EVENTS 1024

enum
{
	ORDER_LAST = 0,
	ORDER_MARK,
	ORDER_EVENTS,
	ORDER_TENANT,
	ORDER_RUNS,
	ORDER_COLUMNS,
};

static EduaiTable order_table = {"event_order", "event_order_pkey"};

/* ---- what this transaction appended ---- */

typedef struct Note
{
	int tenant; /* index in tenants */
	SubTransactionId subid;
	const char *stream;
	int64 version;
	int count;
} Note;

static Note *notes = NULL; /* in TopTransactionContext, as is all they point to */
static int nnotes = 0;
static int notes_size = 0;
static char **tenants = NULL;
static int ntenants = 0;

static void
forget(void)
{
	notes = NULL;
	tenants = NULL;
	nnotes = notes_size = ntenants = 0;
}

static int
tenant_index(const char *tenant)
{
	for (int i = 0; i < ntenants; i++)
		if (strcmp(tenants[i], tenant) == 0)
			return i;
	tenants = tenants ? repalloc(tenants, sizeof(char *) * (ntenants + 1)) : palloc(sizeof(char *));
	tenants[ntenants] = pstrdup(tenant);
	return ntenants++;
}

static bool
continues(const Note *note, int tenant, const EduaiEvent *event)
{
	return note->tenant == tenant && note->subid == GetCurrentSubTransactionId() &&
		   note->version + note->count == event->version &&
		   strcmp(note->stream, event->stream) == 0;
}

bool
eduai_events_order_noted(void)
{
	return nnotes > 0;
}

void
eduai_events_order_note(const EduaiAppendBatch *batch)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	int tenant = tenant_index(batch->tenant);

	if (nnotes + batch->nevents > notes_size)
	{
		notes_size = Max(nnotes + batch->nevents, notes_size * 2);
		notes = notes ? repalloc_huge(notes, sizeof(Note) * notes_size)
					  : MemoryContextAllocHuge(TopTransactionContext, sizeof(Note) * notes_size);
	}
	for (int i = 0; i < batch->nevents; i++)
	{
		const EduaiEvent *event = &batch->events[i];

		if (nnotes > 0 && continues(&notes[nnotes - 1], tenant, event))
			notes[nnotes - 1].count++;
		else
			notes[nnotes++] = (Note){tenant, GetCurrentSubTransactionId(), pstrdup(event->stream),
									 event->version, 1};
	}
	MemoryContextSwitchTo(old);
}

/* Notes are in the order of their subtransactions: those of one stand at the end. */
static void
on_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		while (nnotes > 0 && notes[nnotes - 1].subid == mine)
			nnotes--;
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		for (int i = nnotes - 1; i >= 0 && notes[i].subid == mine; i--)
			notes[i].subid = parent;
}

/* ---- at commit ---- */

typedef struct Writer
{
	Relation rel;
	Relation index;
	IndexInfo *info;
	Datum tenant;
	int64 mark;
	int64 last; /* position given so far */
	EduaiRunsBuilder builder;
} Writer;

static void
flush_row(Writer *w)
{
	Datum values[ORDER_COLUMNS];
	bool nulls[ORDER_COLUMNS] = {false};
	HeapTuple tuple;

	if (w->builder.events == 0)
		return;
	values[ORDER_LAST] = Int64GetDatum(w->last);
	values[ORDER_MARK] = Int64GetDatum(w->mark);
	values[ORDER_EVENTS] = Int32GetDatum(w->builder.events);
	values[ORDER_TENANT] = w->tenant;
	values[ORDER_RUNS] = PointerGetDatum(eduai_events_runs_finish(&w->builder));
	tuple = heap_form_tuple(RelationGetDescr(w->rel), values, nulls);
	eduai_core_heap_insert(w->rel, tuple, &w->index, &w->info, 1, values, nulls);
	heap_freetuple(tuple);
	eduai_events_runs_begin(&w->builder);
}

static void
write_note(Writer *w, const Note *note)
{
	int64 version = note->version;
	int left = note->count;

	while (left > 0)
	{
		int count = Min(left, ROW_EVENTS - w->builder.events);

		eduai_events_runs_add(&w->builder, note->stream, version, count);
		w->last += count;
		version += count;
		left -= count;
		if (w->builder.events == ROW_EVENTS)
			flush_row(w);
	}
}

static void
write_rows(int64 first, int64 mark)
{
	Writer w = {.mark = mark, .last = first - 1};

	eduai_core_table_find(&order_table);
	w.rel = table_open(order_table.relid, RowExclusiveLock);
	w.index = index_open(order_table.index, RowExclusiveLock);
	w.info = BuildIndexInfo(w.index);
	for (int t = 0; t < ntenants; t++)
	{
		w.tenant = CStringGetTextDatum(tenants[t]);
		eduai_events_runs_begin(&w.builder);
		for (int i = 0; i < nnotes; i++)
			if (notes[i].tenant == t)
				write_note(&w, &notes[i]);
		flush_row(&w);
	}
	index_close(w.index, NoLock);
	table_close(w.rel, NoLock);
}

static void
draw(void)
{
	int64 n = 0;
	int64 mark;
	int64 first;

	for (int i = 0; i < nnotes; i++)
		n += notes[i].count;
	if (n == 0)
		return;
	first = eduai_events_position_draw(n, &mark);
	EDUAI_PAUSE("events-drawn");
	write_rows(first, mark);
	EDUAI_PAUSE("events-ordered");
}

static void
refuse_prepare(void)
{
	if (nnotes > 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot prepare a transaction that appended events"),
						errdetail("The order of its events is settled when it commits, and a "
								  "prepared transaction would hold up every reader."),
						errhint("Commit it in one step.")));
}

/* The streams' locks are still held. */
static void
remember_heads(void)
{
	for (int i = 0; i < nnotes; i++)
		eduai_events_head_put(tenants[notes[i].tenant], notes[i].stream,
							  notes[i].version + notes[i].count - 1);
}

static void
on_commit(void)
{
	if (nnotes > 0)
	{
		EDUAI_PAUSE("commit-visible");
		if (eduai_events_position_settle())
			eduai_events_standby_note();
		remember_heads();
	}
	forget();
}

static void
on_abort(void)
{
	/* what others committed meanwhile may have waited for just this range */
	if (eduai_events_position_settle())
		eduai_events_standby_note();
	forget();
}

void
eduai_events_order_init(void)
{
	/* settled before anybody is woken, who would look at the mark */
	static const EduaiXactHooks first = {.name = "events",
										 .rank = EDUAI_RANK_EVENTS,
										 .pre_prepare = refuse_prepare,
										 .commit = on_commit,
										 .abort = on_abort,
										 .subxact = on_subxact};
	/* drawn after all that takes time, as it holds back the readers */
	static const EduaiXactHooks late = {
		.name = "feed", .rank = EDUAI_RANK_FEED, .pre_commit = draw};

	eduai_core_xact_register(&first);
	eduai_core_xact_register(&late);
}

/* ---- reading ---- */

/* Begins with the first row that has a position greater than "after", or with the tenant's last. */
static void
begin(EduaiScan *s, const char *tenant, int64 after, Snapshot snapshot)
{
	ScanKeyData keys[2];

	eduai_core_table_open(s, &order_table, snapshot, 2);
	eduai_core_key_text(&keys[0], 1, CStringGetTextDatum(tenant));
	eduai_core_key_int8(&keys[1], 2, BTGreaterStrategyNumber, after);
	eduai_core_scan_seek(s, keys);
}

typedef struct Cut
{
	int64 after;
	int64 through;
	EduaiRunSink sink;
	void *arg;
} Cut;

/* Hands on the part of a run that lies in the range wanted. */
static bool
cut_run(const EduaiRun *run, void *arg)
{
	const Cut *cut = arg;
	EduaiRun part = *run;
	int64 skip = Max(cut->after + 1 - run->position, 0);
	int64 surplus = Max(run->position + run->count - 1 - cut->through, 0);

	/* positions of erased events */
	if (run->stream[0] == '\0')
		return true;
	if (skip + surplus >= run->count)
		return true;
	part.position += skip;
	part.version += skip;
	part.count -= skip + surplus;
	return cut->sink(&part, cut->arg);
}

bool
eduai_events_order_read(const char *tenant, int64 after, int64 through, Snapshot snapshot,
						EduaiRunSink sink, void *arg)
{
	Cut cut = {after, through, sink, arg};
	EduaiScan s;
	bool more = true;

	begin(&s, tenant, after, snapshot);
	while (more && eduai_core_scan_next(&s, ForwardScanDirection))
	{
		int64 last = DatumGetInt64(s.slot->tts_values[ORDER_LAST]);
		int events = DatumGetInt32(s.slot->tts_values[ORDER_EVENTS]);
		bytea *runs;

		if (last - events >= through)
			break;
		runs = DatumGetByteaPP(s.slot->tts_values[ORDER_RUNS]);
		more = eduai_events_runs_read(runs, last - events + 1, events, cut_run, &cut);
		if (PointerGetDatum(runs) != s.slot->tts_values[ORDER_RUNS])
			pfree(runs);
	}
	eduai_core_scan_close(&s);
	return more;
}

int64
eduai_events_order_count(const char *tenant, int64 after, int64 through, Snapshot snapshot)
{
	EduaiScan s;
	int64 count = 0;

	begin(&s, tenant, after, snapshot);
	while (eduai_core_scan_next(&s, ForwardScanDirection))
	{
		int64 last = DatumGetInt64(s.slot->tts_values[ORDER_LAST]);
		int64 first = last - DatumGetInt32(s.slot->tts_values[ORDER_EVENTS]) + 1;

		if (first > through)
			break;
		count += Min(last, through) - Max(first, after + 1) + 1;
	}
	eduai_core_scan_close(&s);
	return count;
}

/* The mark of the last row that the snapshot shows, 0 without one. */
static int64
stored_mark(const char *tenant, Snapshot snapshot)
{
	EduaiScan s;
	int64 mark = 0;

	begin(&s, tenant, 0, snapshot);
	if (eduai_core_scan_next(&s, BackwardScanDirection))
		mark = DatumGetInt64(s.slot->tts_values[ORDER_MARK]);
	eduai_core_scan_close(&s);
	return mark;
}

/* The position before the first row beyond "safe" that the snapshot does not show; at most bound. */
static int64
first_unseen(const char *tenant, int64 safe, int64 bound, Snapshot snapshot, Snapshot latest)
{
	EduaiScan s;

	begin(&s, tenant, safe, latest);
	while (eduai_core_scan_next(&s, ForwardScanDirection))
	{
		int64 last = DatumGetInt64(s.slot->tts_values[ORDER_LAST]);
		int64 first = last - DatumGetInt32(s.slot->tts_values[ORDER_EVENTS]) + 1;

		if (first > bound)
			break;
		if (!table_tuple_satisfies_snapshot(s.rel, s.slot, snapshot))
		{
			bound = first - 1;
			break;
		}
	}
	eduai_core_scan_close(&s);
	return bound;
}

/*
 * From the stored mark on, row by row in a fresh snapshot, to the first that
 * the old one does not show.  That is exact, where the stored mark alone would
 * hide the last transactions until others follow.  Where compaction has since
 * taken rows away that the old snapshot may not have shown, there is nothing
 * to look at: the reader stops at what is safe.
 */
int64
eduai_events_order_bound(const char *tenant, Snapshot snapshot)
{
	int64 safe = Max(Max(stored_mark(tenant, snapshot), eduai_events_standby_mark(snapshot)),
					 eduai_events_compacted_through(tenant, snapshot));
	int64 bound;
	Snapshot latest;

	if (RecoveryInProgress())
		return safe;
	bound = eduai_events_position_mark();
	EDUAI_PAUSE("feed-after-mark");
	latest = RegisterSnapshot(GetLatestSnapshot());
	if (eduai_events_compacted_through(tenant, latest) > safe)
		bound = safe;
	else
		bound = first_unseen(tenant, safe, bound, snapshot, latest);
	UnregisterSnapshot(latest);
	return bound;
}

int64
eduai_events_order_delete(const char *tenant, int64 through)
{
	Snapshot latest = RegisterSnapshot(GetLatestSnapshot());
	EduaiScan s;
	int64 deleted = 0;

	begin(&s, tenant, 0, latest);
	while (eduai_core_scan_next(&s, ForwardScanDirection) &&
		   DatumGetInt64(s.slot->tts_values[ORDER_LAST]) <= through)
	{
		simple_heap_delete(s.rel, &s.slot->tts_tid);
		deleted++;
	}
	eduai_core_scan_close(&s);
	UnregisterSnapshot(latest);
	return deleted;
}
