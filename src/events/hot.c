/*
 * hot.c: reading the partitions of eduai.event.  See store.h.
 *
 * A stream's versions grow with its partitions (see partition.c), so a reader
 * goes through them in order and an append's search for the last version
 * stops at the first hit from the newest.  Events that follow one another in
 * the feed mostly lie in one partition, and many side by side: the reader looks
 * at the next place of the heap, which costs a tenth of a probe, then probes
 * the partition where it last found something.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "core/compat.h"
#include "core/heap.h"
#include "events/columns.h"
#include "events/partition.h"
#include "events/shared.h"
#include "events/store.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* of the conditions of a probe: tenant, stream, from and to version */
#define KEY_COLUMNS 4
/* looks beside the last place in vain, after which few are tried */
#define MANY_MISSES 32

/* A partition as the reader uses it; opened when first needed. */
typedef struct HotPart
{
	Oid relid;
	Oid key_index;
	Oid id_index;
	bool gone;
	BlockNumber blocks; /* when opened */
	EduaiScan keys;     /* of the key index */
} HotPart;

struct EduaiHotReader
{
	Snapshot snapshot;
	MemoryContext context; /* of all that lives as long as the reader */
	MemoryContext per_record;
	EduaiHotPlace current; /* of the record at hand */
	int hint;              /* the part that last had something */
	int misses;            /* in a row, of looks beside the last place */
	int n;
	HotPart parts[FLEXIBLE_ARRAY_MEMBER];
};

/* How many of the partitions may hold something: those made ahead do not yet. */
static int
count_used(const EduaiPartitionList *all)
{
	EduaiEventsSlot *slot = eduai_events_slot_if_any();
	TimestampTz newest = slot ? (TimestampTz) pg_atomic_read_u64(&slot->newest_started) : 0;
	int n = all->n;

	while (newest != 0 && n > 0 && all->parts[n - 1].lower > newest)
		n--;
	return n;
}

EduaiHotReader *
eduai_events_hot_open(Snapshot snapshot)
{
	const EduaiPartitionList *all = eduai_events_partitions();
	int n = count_used(all);
	EduaiHotReader *reader = palloc0(offsetof(EduaiHotReader, parts) + sizeof(HotPart) * n);

	reader->snapshot = snapshot;
	reader->context = CurrentMemoryContext;
	reader->n = n;
	reader->hint = n - 1;
	for (int i = 0; i < n; i++)
	{
		reader->parts[i].relid = all->parts[i].relid;
		reader->parts[i].key_index = all->parts[i].key_index;
		reader->parts[i].id_index = all->parts[i].id_index;
	}
	return reader;
}

void
eduai_events_hot_close(EduaiHotReader *reader)
{
	for (int i = 0; i < reader->n; i++)
		eduai_core_scan_close(&reader->parts[i].keys);
	if (reader->per_record)
		MemoryContextDelete(reader->per_record);
	pfree(reader);
}

/* False when the partition was dropped since it was listed: it was empty. */
static bool
open_part(EduaiHotReader *reader, HotPart *part)
{
	MemoryContext old;

	if (part->keys.rel != NULL || part->gone)
		return !part->gone;
	old = MemoryContextSwitchTo(reader->context);
	part->gone = !eduai_core_scan_open(&part->keys, part->relid, part->key_index, reader->snapshot,
									   KEY_COLUMNS);
	if (!part->gone)
		part->blocks = RelationGetNumberOfBlocks(part->keys.rel);
	MemoryContextSwitchTo(old);
	return !part->gone;
}

/* Goes to a stream's versions in a partition; false when that is gone. */
static bool
seek(EduaiHotReader *reader, HotPart *part, Datum tenant, Datum stream, int64 from, int64 to)
{
	ScanKeyData keys[KEY_COLUMNS];

	if (!open_part(reader, part))
		return false;
	eduai_core_key_text(&keys[0], 1, tenant);
	eduai_core_key_text(&keys[1], 2, stream);
	eduai_core_key_int8(&keys[2], 3, BTGreaterEqualStrategyNumber, from);
	eduai_core_key_int8(&keys[3], 3, BTLessEqualStrategyNumber, to);
	eduai_core_scan_seek(&part->keys, keys);
	return true;
}

static text *
text_of(TupleTableSlot *slot, int column)
{
	return slot->tts_isnull[column] ? NULL : DatumGetTextPP(slot->tts_values[column]);
}

/* Hands the scan's row to the sink; false when it has had enough. */
static bool
feed(EduaiHotReader *reader, const EduaiScan *scan, EduaiRecordSink sink, void *arg)
{
	TupleTableSlot *slot = scan->slot;
	EduaiRecord record = {0};
	MemoryContext old;
	bool more;

	if (reader->per_record == NULL)
		reader->per_record =
			AllocSetContextCreate(reader->context, "eduai record", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(reader->per_record);
	record.version = DatumGetInt64(slot->tts_values[EDUAI_EVENT_VERSION]);
	record.event_id = *DatumGetUUIDP(slot->tts_values[EDUAI_EVENT_ID]);
	record.id_given = DatumGetBool(slot->tts_values[EDUAI_EVENT_ID_GIVEN]);
	record.schema_version = DatumGetInt32(slot->tts_values[EDUAI_EVENT_SCHEMA_VERSION]);
	record.stream = text_of(slot, EDUAI_EVENT_STREAM);
	record.event_type = text_of(slot, EDUAI_EVENT_TYPE);
	record.user_id = text_of(slot, EDUAI_EVENT_USER);
	record.session_id = text_of(slot, EDUAI_EVENT_SESSION);
	record.data = DatumGetJsonbP(slot->tts_values[EDUAI_EVENT_DATA]);
	record.metadata = DatumGetJsonbP(slot->tts_values[EDUAI_EVENT_METADATA]);
	record.occurred_at = DatumGetTimestampTz(slot->tts_values[EDUAI_EVENT_OCCURRED_AT]);
	record.recorded_at = DatumGetTimestampTz(slot->tts_values[EDUAI_EVENT_RECORDED_AT]);
	reader->current = (EduaiHotPlace){RelationGetRelid(scan->rel), slot->tts_tid};
	more = sink(&record, arg);
	MemoryContextSwitchTo(old);
	MemoryContextReset(reader->per_record);
	return more;
}

typedef struct HotRange
{
	Datum tenant;
	Datum stream;
	int64 from;
	int64 to;
	int64 limit;
	bool backward;
	EduaiRecordSink sink;
	void *arg;
	int64 fed;
	bool stopped;
} HotRange;

static void
read_part(EduaiHotReader *reader, HotPart *part, HotRange *range)
{
	ScanDirection direction = range->backward ? BackwardScanDirection : ForwardScanDirection;

	if (!seek(reader, part, range->tenant, range->stream, range->from, range->to))
		return;
	while (!range->stopped && range->fed < range->limit &&
		   eduai_core_scan_next(&part->keys, direction))
	{
		range->fed++;
		range->stopped = !feed(reader, &part->keys, range->sink, range->arg);
	}
}

static bool
same_text(TupleTableSlot *slot, int column, Datum value)
{
	text *a = text_of(slot, column);
	text *b = DatumGetTextPP(value);

	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		   memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(b)) == 0;
}

/* Whether the row in the slot is the wanted event, the only such that the snapshot shows. */
static bool
is_wanted(TupleTableSlot *slot, const HotRange *range)
{
	slot_getallattrs(slot);
	return DatumGetInt64(slot->tts_values[EDUAI_EVENT_VERSION]) == range->from &&
		   same_text(slot, EDUAI_EVENT_STREAM, range->stream) &&
		   same_text(slot, EDUAI_EVENT_TENANT, range->tenant);
}

/*
 * Transactions mostly put their events side by side.  False when the one that
 * is wanted does not follow on the last one.
 */
static bool
read_beside(EduaiHotReader *reader, HotRange *range)
{
	HotPart *part = &reader->parts[reader->hint];
	ItemPointerData next = reader->current.tid;
	BlockNumber block = ItemPointerGetBlockNumberNoCheck(&next);
	bool there;

	if (reader->current.partition != part->relid || !open_part(reader, part))
		return false;
	/* where events of many transactions are mixed it is tried now and then */
	if (reader->misses >= MANY_MISSES && reader->misses++ % MANY_MISSES != 0)
		return false;
	CHECK_FOR_INTERRUPTS();
	ItemPointerSet(&next, block, OffsetNumberNext(ItemPointerGetOffsetNumberNoCheck(&next)));
	there = table_tuple_fetch_row_version(part->keys.rel, &next, reader->snapshot, part->keys.slot);
	if (!there && block + 1 < part->blocks)
	{
		ItemPointerSet(&next, block + 1, FirstOffsetNumber);
		there =
			table_tuple_fetch_row_version(part->keys.rel, &next, reader->snapshot, part->keys.slot);
	}
	if (!there || !is_wanted(part->keys.slot, range))
	{
		reader->misses++;
		return false;
	}
	reader->misses = 0;
	range->fed++;
	feed(reader, &part->keys, range->sink, range->arg);
	return true;
}

/*
 * The feed wants one event, mostly from the partition of the one before.
 * False when it is not there.
 */
static bool
read_hinted(EduaiHotReader *reader, HotRange *range)
{
	HotPart *part = &reader->parts[reader->hint];

	if (!seek(reader, part, range->tenant, range->stream, range->from, range->to) ||
		!eduai_core_scan_next(&part->keys, ForwardScanDirection))
		return false;
	range->fed++;
	feed(reader, &part->keys, range->sink, range->arg);
	return true;
}

int64
eduai_events_hot_read(EduaiHotReader *reader, const char *tenant, const char *stream, int64 from,
					  int64 to, bool backward, int64 limit, EduaiRecordSink sink, void *arg)
{
	HotRange range = {.tenant = CStringGetTextDatum(tenant),
					  .stream = CStringGetTextDatum(stream),
					  .from = from,
					  .to = to,
					  .limit = limit,
					  .backward = backward,
					  .sink = sink,
					  .arg = arg};

	bool found = reader->n > 0 && from == to && limit > 0 &&
				 (read_beside(reader, &range) || read_hinted(reader, &range));

	for (int i = 0; i < reader->n && !found && !range.stopped && range.fed < limit; i++)
	{
		int part = backward ? reader->n - 1 - i : i;
		int64 before = range.fed;

		if (from == to && part == reader->hint)
			continue;
		read_part(reader, &reader->parts[part], &range);
		if (range.fed > before)
			reader->hint = part;
	}
	pfree(DatumGetPointer(range.tenant));
	pfree(DatumGetPointer(range.stream));
	return range.fed;
}

int64
eduai_events_hot_version(EduaiHotReader *reader, const char *tenant, const char *stream)
{
	Datum tenant_text = CStringGetTextDatum(tenant);
	Datum stream_text = CStringGetTextDatum(stream);

	for (int i = reader->n - 1; i >= 0; i--)
	{
		HotPart *part = &reader->parts[i];

		if (seek(reader, part, tenant_text, stream_text, 1, PG_INT64_MAX) &&
			eduai_core_scan_next(&part->keys, BackwardScanDirection))
			return DatumGetInt64(part->keys.slot->tts_values[EDUAI_EVENT_VERSION]);
	}
	return 0;
}

static void
find_in_part(EduaiHotReader *reader, const HotPart *part, Datum tenant, const pg_uuid_t *ids, int n,
			 EduaiRecordSink sink, void *arg)
{
	EduaiScan scan;
	ScanKeyData keys[2];
	bool more = true;

	if (!eduai_core_scan_open(&scan, part->relid, part->id_index, reader->snapshot, lengthof(keys)))
		return;
	for (int i = 0; i < n && more; i++)
	{
		eduai_core_key_uuid(&keys[0], 1, UUIDPGetDatum(&ids[i]));
		eduai_core_key_text(&keys[1], 2, tenant);
		eduai_core_scan_seek(&scan, keys);
		if (eduai_core_scan_next(&scan, ForwardScanDirection))
			more = feed(reader, &scan, sink, arg);
	}
	eduai_core_scan_close(&scan);
}

void
eduai_events_hot_find(EduaiHotReader *reader, const char *tenant, const pg_uuid_t *ids, int n,
					  EduaiRecordSink sink, void *arg)
{
	Datum tenant_text = CStringGetTextDatum(tenant);

	for (int i = reader->n - 1; i >= 0; i--)
		find_in_part(reader, &reader->parts[i], tenant_text, ids, n, sink, arg);
}

EduaiHotPlace
eduai_events_hot_place(const EduaiHotReader *reader)
{
	return reader->current;
}
