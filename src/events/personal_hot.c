/*
 * personal_hot.c: erasing a learner's hot events.  See personal.h.
 *
 * The order rows say where events are: they are gone through by position, and
 * only the runs of streams that are known to hold events of the learner are
 * looked into.  An erased event's place in its order row becomes a nameless run,
 * in the transaction that deletes the event, so that every snapshot finds what
 * the row names.  A row that names nothing any more goes, but for the tenant's
 * last, whose mark readers of a standby need.
 *
 * The tenant's EDUAI_LOCK_COMPACT keeps compaction out meanwhile.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/index.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/compat.h"
#include "core/heap.h"
#include "core/plan.h"
#include "events/columns.h"
#include "events/order.h"
#include "events/order_runs.h"
#include "events/personal.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define ROWS_AT_ONCE 64

typedef struct HotErasure
{
	EduaiPersonalWork *work;
	EduaiTouched *touched;
	EduaiHotReader *hot;
	MemoryContext context;    /* of the call */
	EduaiRunsBuilder builder; /* the row as it is to be */
	int64 version;            /* the next one of the run at hand */
	const char *stream;       /* of the run at hand */
	EduaiHotPlace *places;    /* to be deleted */
	int nplaces;
	int size;
	int kept; /* events that the row still names */
	int64 removed;
	bool changed;
} HotErasure;

/* ---- blanking ---- */

void
eduai_events_hot_blank(const EduaiHotPlace *place)
{
	Relation rel = table_open(place->partition, RowExclusiveLock);
	List *oids = RelationGetIndexList(rel);
	Relation indexes[4];
	IndexInfo *infos[4];
	int n = 0;
	Datum values[EDUAI_EVENT_COLUMNS];
	bool nulls[EDUAI_EVENT_COLUMNS];
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot latest = RegisterSnapshot(GetLatestSnapshot());
	ItemPointerData tid = place->tid;
	EduaiRecord blank = {0};
	ListCell *cell;

	foreach (cell, oids)
	{
		indexes[n] = index_open(lfirst_oid(cell), RowExclusiveLock);
		infos[n] = BuildIndexInfo(indexes[n]);
		n++;
	}
	if (!table_tuple_fetch_row_version(rel, &tid, latest, slot))
		elog(ERROR, "an event to be erased is gone");
	slot_getallattrs(slot);
	memcpy(values, slot->tts_values, sizeof(values));
	memcpy(nulls, slot->tts_isnull, sizeof(nulls));
	blank.recorded_at = DatumGetTimestampTz(values[EDUAI_EVENT_RECORDED_AT]);
	eduai_events_record_blank(&blank);
	values[EDUAI_EVENT_OCCURRED_AT] = TimestampTzGetDatum(blank.occurred_at);
	values[EDUAI_EVENT_SCHEMA_VERSION] = Int32GetDatum(blank.schema_version);
	values[EDUAI_EVENT_ID_GIVEN] = BoolGetDatum(blank.id_given);
	values[EDUAI_EVENT_TYPE] = PointerGetDatum(blank.event_type);
	values[EDUAI_EVENT_DATA] = JsonbPGetDatum(blank.data);
	values[EDUAI_EVENT_METADATA] = JsonbPGetDatum(blank.metadata);
	nulls[EDUAI_EVENT_USER] = nulls[EDUAI_EVENT_SESSION] = true;
	eduai_core_heap_update(rel, &tid, heap_form_tuple(RelationGetDescr(rel), values, nulls),
						   indexes, infos, n, values, nulls);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(latest);
	for (int i = 0; i < n; i++)
		index_close(indexes[i], NoLock);
	table_close(rel, NoLock);
}

/* ---- a row of the order ---- */

static void
keep_events(HotErasure *e, int64 version, int count)
{
	if (count <= 0)
		return;
	eduai_events_runs_add(&e->builder, e->stream, version, count);
	e->kept += count;
}

static void
drop_events(HotErasure *e, int count)
{
	if (count <= 0)
		return;
	eduai_events_runs_add(&e->builder, "", 0, count);
	e->changed = true;
}

static void
delete_later(HotErasure *e)
{
	if (e->nplaces == e->size)
	{
		e->size = e->size ? e->size * 2 : 256;
		e->places = e->places ? repalloc(e->places, sizeof(EduaiHotPlace) * e->size)
							  : palloc(sizeof(EduaiHotPlace) * e->size);
	}
	e->places[e->nplaces++] = eduai_events_hot_place(e->hot);
}

static bool
on_event(const EduaiRecord *record, void *arg)
{
	HotErasure *e = arg;
	MemoryContext old = MemoryContextSwitchTo(e->context);

	/* what an administrator deleted by hand is not there: its place becomes nameless, too */
	drop_events(e, (int) (record->version - e->version));
	e->version = record->version + 1;
	if (!eduai_events_touched_is_theirs(e->touched, record))
		keep_events(e, record->version, 1);
	else
	{
		bool blank = eduai_events_touched_note(e->touched, record);

		e->removed++;
		if (blank)
		{
			EduaiHotPlace place = eduai_events_hot_place(e->hot);

			keep_events(e, record->version, 1);
			eduai_events_hot_blank(&place);
		}
		else
		{
			drop_events(e, 1);
			delete_later(e);
		}
	}
	MemoryContextSwitchTo(old);
	return true;
}

static bool
on_run(const EduaiRun *run, void *arg)
{
	HotErasure *e = arg;

	if (run->stream[0] == '\0')
	{
		eduai_events_runs_add(&e->builder, "", 0, run->count);
		return true;
	}
	e->stream = pstrdup(run->stream);
	if (!eduai_events_touched_knows(e->touched, run->stream))
	{
		keep_events(e, run->version, run->count);
		return true;
	}
	e->version = run->version;
	(void) eduai_events_hot_read(e->hot, e->work->tenant, e->stream, run->version,
								 run->version + run->count - 1, false, run->count, on_event, e);
	drop_events(e, (int) (run->version + run->count - e->version));
	return true;
}

static EduaiPlan update_row = {
	"UPDATE eduai.event_order SET runs = $3 WHERE tenant_id = $1 AND last_position = $2",
	3,
	{TEXTOID, INT8OID, BYTEAOID}};
static EduaiPlan delete_row = {
	"DELETE FROM eduai.event_order o WHERE tenant_id = $1 AND last_position = $2"
	" AND EXISTS (SELECT FROM eduai.event_order l WHERE l.tenant_id = $1 AND l.last_position > $2)",
	2,
	{TEXTOID, INT8OID}};

static void
write_row(HotErasure *e, int64 last)
{
	Datum args[] = {CStringGetTextDatum(e->work->tenant), Int64GetDatum(last),
					PointerGetDatum(eduai_events_runs_finish(&e->builder))};

	if (e->kept == 0 && eduai_core_run_latest(&delete_row, args, NULL) > 0)
		return;
	eduai_core_run_latest(&update_row, args, NULL);
}

static void
erase_row(HotErasure *e, int64 last, int events, const bytea *runs)
{
	eduai_events_runs_begin(&e->builder);
	e->changed = false;
	e->kept = 0;
	(void) eduai_events_runs_read(runs, last - events + 1, events, on_run, e);
	if (e->changed)
		write_row(e, last);
}

static EduaiPlan next_rows = {"SELECT last_position, events, runs FROM eduai.event_order"
							  " WHERE tenant_id = $1 AND last_position > $2"
							  " ORDER BY last_position LIMIT $3",
							  3,
							  {TEXTOID, INT8OID, INT4OID}};

/* False when there is no row after "after". */
static bool
erase_rows(HotErasure *e, int64 *after)
{
	Datum args[] = {CStringGetTextDatum(e->work->tenant), Int64GetDatum(*after),
					Int32GetDatum(ROWS_AT_ONCE)};
	uint64 n = eduai_core_run_latest(&next_rows, args, NULL);
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 i = 0; i < n; i++)
	{
		bool isnull;
		int64 last = DatumGetInt64(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull));
		int events = DatumGetInt32(SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull));
		bytea *runs = DatumGetByteaPP(SPI_getbinval(rows->vals[i], rows->tupdesc, 3, &isnull));

		CHECK_FOR_INTERRUPTS();
		erase_row(e, last, events, runs);
		*after = last;
		if (e->removed >= e->work->limit || eduai_core_mono_us() >= e->work->until_us)
			return true;
	}
	SPI_freetuptable(rows);
	return n == ROWS_AT_ONCE;
}

int64
eduai_events_erase_hot(EduaiPersonalWork *work, EduaiTouched *touched, int64 *after)
{
	HotErasure e = {.work = work, .touched = touched, .context = CurrentMemoryContext};
	Snapshot latest = RegisterSnapshot(GetLatestSnapshot());
	bool more = true;

	e.hot = eduai_events_hot_open(latest);
	while (more && e.removed < work->limit && eduai_core_mono_us() < work->until_us)
		more = erase_rows(&e, after);
	eduai_events_hot_close(e.hot);
	eduai_events_hot_delete(e.places, e.nplaces);
	CommandCounterIncrement();
	UnregisterSnapshot(latest);
	work->more = more;
	return e.removed;
}
