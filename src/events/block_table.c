/*
 * block_table.c: reading the tables of compacted events.  See block_table.h.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_collation.h"
#include "core/compat.h"
#include "core/heap.h"
#include "core/privilege.h"
#include "events/block_table.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

static EduaiTable block_table = {"event_block", "event_block_pkey"};
static EduaiTable stream_table = {"event_stream", "event_stream_pkey"};
static EduaiTable dictionary_table = {"event_dictionary", "event_dictionary_pkey"};
static EduaiTable seen_table = {"event_seen", "event_seen_pkey"};

enum
{
	STREAM_FIRST = 1, /* of eduai.event_stream */
	STREAM_BODY = 2,
	DICTIONARY_BODY = 3, /* of eduai.event_dictionary */
	SEEN_SEGMENT = 0,    /* of eduai.event_seen */
	SEEN_BLOCK = 1,
};

/* ---- scans ---- */

/* The first row with the keys, in the direction. */
static bool
seek_row(EduaiScan *s, ScanKey keys, ScanDirection direction)
{
	eduai_core_scan_seek(s, keys);
	return eduai_core_scan_next(s, direction);
}

static void
key_int4(ScanKey key, AttrNumber column, StrategyNumber strategy, int value)
{
	ScanKeyInit(key, column, strategy, strategy == BTEqualStrategyNumber ? F_INT4EQ : F_INT4GE,
				Int32GetDatum(value));
}

/* ---- blocks ---- */

struct EduaiBlockReader
{
	MemoryContext context; /* of what is kept between calls */
	Datum tenant;
	const char *tenant_name;
	Snapshot snapshot;
	EduaiScan from; /* (tenant, segment or later) */
	EduaiScan one;  /* (tenant, segment, block); opened when first needed */
};

EduaiBlockReader *
eduai_events_blocks_open(const char *tenant, Snapshot snapshot)
{
	EduaiBlockReader *reader = palloc0(sizeof(EduaiBlockReader));

	reader->context = CurrentMemoryContext;
	reader->tenant = CStringGetTextDatum(tenant);
	reader->tenant_name = tenant;
	reader->snapshot = snapshot;
	return reader;
}

void
eduai_events_blocks_close(EduaiBlockReader *reader)
{
	eduai_core_scan_close(&reader->from);
	eduai_core_scan_close(&reader->one);
	pfree(reader);
}

static void
open_kept(EduaiBlockReader *reader, EduaiScan *s, int nkeys)
{
	MemoryContext old;

	if (s->rel != NULL)
		return;
	old = MemoryContextSwitchTo(reader->context);
	eduai_core_table_open(s, &block_table, reader->snapshot, nkeys);
	MemoryContextSwitchTo(old);
}

static bool
seek_segment(EduaiBlockReader *reader, int segment, ScanDirection direction)
{
	ScanKeyData keys[2];

	open_kept(reader, &reader->from, 2);
	eduai_core_key_text(&keys[0], 1, reader->tenant);
	key_int4(&keys[1], 2, BTGreaterEqualStrategyNumber, segment);
	return seek_row(&reader->from, keys, direction);
}

static EduaiBlockStamp
read_stamp(const EduaiScan *s)
{
	bool isnull;
	Datum xmin = slot_getsysattr(s->slot, MinTransactionIdAttributeNumber, &isnull);

	return (EduaiBlockStamp){RelationGetRelid(s->rel), s->rel->rd_rel->relfilenode,
							 DatumGetTransactionId(xmin), s->slot->tts_tid};
}

bool
eduai_events_same_stamp(const EduaiBlockStamp *a, const EduaiBlockStamp *b)
{
	return a->relid == b->relid && a->file == b->file && a->xmin == b->xmin &&
		   ItemPointerCompare((ItemPointer) &a->tid, (ItemPointer) &b->tid) == 0;
}

static void
read_row(const EduaiScan *s, EduaiBlockRow *row)
{
	const Datum *values = s->slot->tts_values;

	*row = (EduaiBlockRow){
		.stamp = read_stamp(s),
		.first_position = DatumGetInt64(values[EDUAI_BLOCK_FIRST]),
		.last_position = DatumGetInt64(values[EDUAI_BLOCK_LAST]),
		.recorded_through = DatumGetTimestampTz(values[EDUAI_BLOCK_RECORDED]),
		.segment = DatumGetInt32(values[EDUAI_BLOCK_SEGMENT]),
		.block = DatumGetInt32(values[EDUAI_BLOCK_NUMBER]),
		.events = DatumGetInt32(values[EDUAI_BLOCK_COUNT]),
	};
}

bool
eduai_events_blocks_last(EduaiBlockReader *reader, EduaiBlockRow *row)
{
	if (!seek_segment(reader, 0, BackwardScanDirection))
		return false;
	read_row(&reader->from, row);
	return true;
}

bool
eduai_events_blocks_first(EduaiBlockReader *reader, int segment, EduaiBlockRow *row)
{
	if (!seek_segment(reader, segment, ForwardScanDirection))
		return false;
	read_row(&reader->from, row);
	return true;
}

/* By bisection: segments are in order. */
bool
eduai_events_blocks_find(EduaiBlockReader *reader, int64 after, EduaiBlockRow *found)
{
	EduaiBlockRow row;
	int low = 1; /* no earlier segment will do */
	int high;

	if (!eduai_events_blocks_last(reader, found) || found->last_position <= after)
		return false;
	high = found->segment; /* this one will do */
	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (!eduai_events_blocks_first(reader, middle, &row))
			break;
		if (row.last_position > after)
			high = middle;
		else
			low = row.segment + 1;
	}
	return eduai_events_blocks_first(reader, high, found);
}

static EduaiBlock *
begin_row(EduaiBlockReader *reader, EduaiScan *s)
{
	bytea *body = DatumGetByteaPP(s->slot->tts_values[EDUAI_BLOCK_BODY]);
	EduaiBlock *block = eduai_events_block_begin(VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body),
												 eduai_events_blocks_dictionary, reader);

	if (PointerGetDatum(body) != s->slot->tts_values[EDUAI_BLOCK_BODY])
		pfree(body);
	return block;
}

EduaiBlock *
eduai_events_blocks_get(EduaiBlockReader *reader, int segment, int block)
{
	ScanKeyData keys[3];

	open_kept(reader, &reader->one, 3);
	eduai_core_key_text(&keys[0], 1, reader->tenant);
	key_int4(&keys[1], 2, BTEqualStrategyNumber, segment);
	key_int4(&keys[2], 3, BTEqualStrategyNumber, block);
	if (!seek_row(&reader->one, keys, ForwardScanDirection))
		return NULL;
	return eduai_events_block_finish(begin_row(reader, &reader->one));
}

EduaiBlock *
eduai_events_blocks_begin(EduaiBlockReader *reader)
{
	return begin_row(reader, &reader->from);
}

EduaiBlock *
eduai_events_blocks_here(EduaiBlockReader *reader)
{
	return eduai_events_block_finish(begin_row(reader, &reader->from));
}

void
eduai_events_blocks_visit(EduaiBlockReader *reader, int segment, EduaiBlockVisit visit, void *arg)
{
	EduaiBlockRow row;
	bool more = seek_segment(reader, segment, ForwardScanDirection);

	while (more)
	{
		read_row(&reader->from, &row);
		more =
			visit(reader, &row, arg) && eduai_core_scan_next(&reader->from, ForwardScanDirection);
	}
}

/* ---- dictionaries ---- */

/*
 * The last dictionaries used.  A number is a hash of the bytes (see
 * dictionary.c), so that one which a rolled back transaction wrote cannot be
 * taken for another.
 */
#define CACHED 8

typedef struct Cached
{
	EduaiDictionary *dictionary;
	Oid installation;
	char tenant[NAMEDATALEN];
} Cached;

static Cached cache[CACHED];
static int cache_next = 0;

static bytea *
fetch_dictionary(const EduaiBlockReader *reader, int id)
{
	ScanKeyData keys[2];
	EduaiScan s;
	bytea *body = NULL;

	eduai_core_table_open(&s, &dictionary_table, reader->snapshot, 2);
	eduai_core_key_text(&keys[0], 1, reader->tenant);
	key_int4(&keys[1], 2, BTEqualStrategyNumber, id);
	if (seek_row(&s, keys, ForwardScanDirection))
		body = DatumGetByteaPCopy(s.slot->tts_values[DICTIONARY_BODY]);
	eduai_core_scan_close(&s);
	return body;
}

const EduaiDictionary *
eduai_events_blocks_dictionary(int id, void *arg)
{
	EduaiBlockReader *reader = arg;
	Cached *entry;
	bytea *body;

	for (int i = 0; i < CACHED; i++)
		if (cache[i].dictionary != NULL && cache[i].dictionary->id == id &&
			cache[i].installation == eduai_core_installation() &&
			strcmp(cache[i].tenant, reader->tenant_name) == 0)
			return cache[i].dictionary;
	body = fetch_dictionary(reader, id);
	if (body == NULL)
		return NULL;
	entry = &cache[cache_next];
	cache_next = (cache_next + 1) % CACHED;
	if (entry->dictionary != NULL)
		eduai_events_dictionary_close(entry->dictionary);
	entry->dictionary = NULL;
	entry->dictionary =
		eduai_events_dictionary_open(id, VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body), false);
	entry->installation = eduai_core_installation();
	strlcpy(entry->tenant, reader->tenant_name, NAMEDATALEN);
	pfree(body);
	return entry->dictionary;
}

/* ---- the directory ---- */

/* The page that begins at the stream or before it, the nearest. */
static bool
seek_page(EduaiScan *s, const char *tenant, text *stream)
{
	ScanKeyData keys[2];

	eduai_core_key_text(&keys[0], 1, CStringGetTextDatum(tenant));
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTLessEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXT_LE, PointerGetDatum(stream));
	return seek_row(s, keys, BackwardScanDirection);
}

static text *
text_of(const EduaiSlice *slice)
{
	return cstring_to_text_with_len(slice->bytes, slice->length);
}

EduaiStreamRef *
eduai_events_directory_refs(const char *tenant, const EduaiSlice *stream, Snapshot snapshot, int *n)
{
	EduaiScan s;
	EduaiStreamEntry entry;
	EduaiStreamRef *refs = NULL;

	*n = 0;
	eduai_core_table_open(&s, &stream_table, snapshot, 2);
	if (seek_page(&s, tenant, text_of(stream)))
	{
		bytea *page = DatumGetByteaPP(s.slot->tts_values[STREAM_BODY]);

		if (eduai_events_page_find(page, stream, &entry))
			refs = eduai_events_page_refs(&entry.refs, n);
	}
	eduai_core_scan_close(&s);
	return refs;
}

/* The first stream of the page after this one. */
static text *
next_first(EduaiScan *s, const char *tenant, text *first)
{
	ScanKeyData keys[2];

	eduai_core_key_text(&keys[0], 1, CStringGetTextDatum(tenant));
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTGreaterStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXT_GT, PointerGetDatum(first));
	if (!seek_row(s, keys, ForwardScanDirection))
		return NULL;
	return DatumGetTextPCopy(s->slot->tts_values[STREAM_FIRST]);
}

EduaiDirectoryPage
eduai_events_directory_page(const char *tenant, const EduaiSlice *stream, Snapshot snapshot)
{
	EduaiDirectoryPage page = {0};
	EduaiScan s;

	eduai_core_table_open(&s, &stream_table, snapshot, 2);
	if (seek_page(&s, tenant, text_of(stream)))
	{
		page.first = DatumGetTextPCopy(s.slot->tts_values[STREAM_FIRST]);
		page.body = DatumGetByteaPCopy(s.slot->tts_values[STREAM_BODY]);
		page.next = next_first(&s, tenant, page.first);
	}
	eduai_core_scan_close(&s);
	return page;
}

/* ---- given ids ---- */

bool
eduai_events_seen_find(const char *tenant, const pg_uuid_t *id, Snapshot snapshot, int *segment,
					   int *block)
{
	ScanKeyData keys[2];
	EduaiScan s;
	bool found;

	eduai_core_table_open(&s, &seen_table, snapshot, 2);
	eduai_core_key_text(&keys[0], 1, CStringGetTextDatum(tenant));
	eduai_core_key_uuid(&keys[1], 2, UUIDPGetDatum(id));
	found = seek_row(&s, keys, ForwardScanDirection);
	if (found)
	{
		*segment = DatumGetInt32(s.slot->tts_values[SEEN_SEGMENT]);
		*block = DatumGetInt32(s.slot->tts_values[SEEN_BLOCK]);
	}
	eduai_core_scan_close(&s);
	return found;
}
