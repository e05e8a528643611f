/*
 * segment.c: cutting the events of a segment into blocks.  See segment.h.
 *
 * How many events a block gets: enough that zstd has something to work with,
 * few enough that a read of one stream decodes little, and so that a whole
 * number of blocks fills a heap page, since a row cannot cross pages.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/plan.h"
#include "events/block_write.h"
#include "events/dictionary.h"
#include "events/segment.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#define MOST_EVENTS   32           /* of a block */
#define WANTED_EVENTS 48           /* where they fit */
#define MOST_BYTES    (128 * 1024) /* of a block's events, in memory */
#define TRIES         3

/* Bodies of which seven to one fit on a page of 8 kB, with their rows' headers. */
static const int body_bytes[] = {1070, 1265, 1540, 1945, 2630, 3990, 8050};

/* Dictionaries are looked into again at these counts of segments: 1, 2, 4, 8 ... */
#define LEAST_EVENTS_FOR_DICTIONARY 2000

typedef struct Segment
{
	const char *tenant;
	const EduaiRecord *records;
	int n;
	Snapshot snapshot;
	EduaiBlockRow row;
	EduaiDictionary *dictionary;
	int target; /* bytes of a body */
	MemoryContext per_block;
	EduaiStreamPart *parts;
	int nparts;
	int *block_of; /* per record */
} Segment;

static size_t
record_bytes(const EduaiRecord *record)
{
	return VARSIZE(record->data) + VARSIZE(record->metadata) + VARSIZE_ANY(record->stream) + 64;
}

/* Whether its JSON text may be longer than a string can be here. */
static bool
is_huge(const EduaiRecord *record)
{
	return record_bytes(record) > MaxAllocSize / 64;
}

/* How many events from start on a block may have at most. */
static int
room_from(const Segment *s, int start)
{
	size_t bytes = 0;
	int n = 0;

	if (is_huge(&s->records[start]))
		return 1;
	while (start + n < s->n && n < MOST_EVENTS)
	{
		bytes += record_bytes(&s->records[start + n]);
		if (n > 0 && bytes > MOST_BYTES)
			break;
		n++;
	}
	return n;
}

/* ---- the dictionary ---- */

static void
close_dictionary(void *arg)
{
	eduai_events_dictionary_close(arg);
}

/* zstd's memory is not the context's: it is freed with it, also after an error. */
static void
use_dictionary(Segment *s, EduaiDictionary *dictionary)
{
	MemoryContextCallback *callback;

	if (dictionary == NULL)
		return;
	callback = palloc(sizeof(MemoryContextCallback));
	*callback = (MemoryContextCallback){close_dictionary, dictionary};
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	s->dictionary = dictionary;
}

static EduaiPlan sensitive_fields = {
	"SELECT t.event_type, f.key FROM eduai.event_type t, unnest(t.sensitive_fields) AS f (key)", 0};

static bytea *
make_dictionary(const Segment *s)
{
	uint64 n = eduai_core_run_latest(&sensitive_fields, NULL, NULL);
	EduaiSensitive *sensitive = palloc(sizeof(EduaiSensitive) * (n + 1));

	for (uint64 i = 0; i < n; i++)
		sensitive[i] = (EduaiSensitive){eduai_core_text(i, 1), eduai_core_text(i, 2)};
	return eduai_events_dictionary_make(s->tenant, s->records, s->n, sensitive, (int) n);
}

/* The bytes of all blocks with a dictionary, told from some of them. */
static double
estimate(Segment *s, const EduaiDictionary *dictionary)
{
	double events = 0;
	double bytes = 0;

	for (int i = 0; i < 16; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(s->per_block);
		int start = (int) ((int64) s->n * i / 16);
		int n = Min(room_from(s, start), WANTED_EVENTS);

		if (is_huge(&s->records[start]))
			bytes += record_bytes(&s->records[start]);
		else
			bytes +=
				VARSIZE(eduai_events_block_encode(s->tenant, s->records + start, n, dictionary));
		events += n;
		MemoryContextSwitchTo(old);
		MemoryContextReset(s->per_block);
	}
	return bytes / events * s->n;
}

static bool
is_power_of_two(int n)
{
	return (n & (n - 1)) == 0;
}

/* Uses the tenant's dictionary, or a new one that pays for itself with this segment. */
static void
choose_dictionary(Segment *s)
{
	bytea *candidate;
	EduaiDictionary *opened;
	double now;
	double then;
	bool any_huge = false;

	for (int i = 0; i < s->n; i++)
		any_huge |= is_huge(&s->records[i]);
	use_dictionary(s, eduai_events_dictionary_newest(s->tenant));
	if (s->n < LEAST_EVENTS_FOR_DICTIONARY || any_huge ||
		(s->dictionary != NULL && !is_power_of_two(s->row.segment)))
		return;
	candidate = make_dictionary(s);
	if (candidate == NULL)
		return;
	opened =
		eduai_events_dictionary_open(1, VARDATA(candidate), VARSIZE(candidate) - VARHDRSZ, true);
	now = estimate(s, s->dictionary);
	then = estimate(s, opened);
	eduai_events_dictionary_close(opened);
	if (then + VARSIZE(candidate) < now && then < now * 0.95)
		use_dictionary(s, eduai_events_dictionary_keep(s->tenant, s->row.segment, candidate));
}

/* The smallest body that takes enough events. */
static void
choose_target(Segment *s)
{
	double per_event = estimate(s, s->dictionary) / s->n;

	s->target = body_bytes[lengthof(body_bytes) - 1];
	for (int i = lengthof(body_bytes) - 1; i >= 0; i--)
		if (per_event * WANTED_EVENTS <= body_bytes[i])
			s->target = body_bytes[i];
}

/* ---- blocks ---- */

/* Encodes as many events as fill a body; *n is a guess, and becomes how many. */
static bytea *
encode_columns(Segment *s, int start, int *n)
{
	int room = room_from(s, start);
	int count = Min(*n, room);
	bytea *body = NULL;

	for (int try = 1;; try++)
	{
		double scale;

		body = eduai_events_block_encode(s->tenant, s->records + start, count, s->dictionary);
		scale = 0.97 * s->target / (double) VARSIZE(body);
		if (VARSIZE(body) > s->target && count > 1 && try < 2 * TRIES)
			count = Max((int) (count * scale), 1);
		else if (VARSIZE(body) < 0.92 * s->target && count < room && try < TRIES)
			count = Min(Max((int) (count * scale), count + 1), room);
		else
			break;
	}
	eduai_events_block_verify(s->tenant, s->records + start, count, body, s->dictionary);
	*n = count;
	return body;
}

/* Errors that say nothing about the events. */
static bool
is_circumstance(int sqlstate)
{
	return sqlstate == ERRCODE_OUT_OF_MEMORY || sqlstate == ERRCODE_QUERY_CANCELED ||
		   ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_OPERATOR_INTERVENTION;
}

/*
 * As encode_columns(); one event as it is where that fails, lest one that the
 * columns cannot hold keeps its tenant's events hot for ever.  The codec takes
 * memory only, of the context per_block, so that its errors may be caught.
 */
static bytea *
encode_some(Segment *s, int start, int *n)
{
	MemoryContext context = CurrentMemoryContext;
	bytea *body = NULL;

	PG_TRY();
	{
		body = encode_columns(s, start, n);
	}
	PG_CATCH();
	{
		int sqlstate = geterrcode();

		if (is_circumstance(sqlstate))
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		body = NULL;
	}
	PG_END_TRY();
	if (body == NULL)
	{
		*n = 1;
		body = eduai_events_block_encode_raw(s->records + start, 1);
		eduai_events_block_verify(s->tenant, s->records + start, 1, body, NULL);
	}
	return body;
}

static EduaiSlice
stream_of(const EduaiRecord *record)
{
	return (EduaiSlice){VARDATA_ANY(record->stream), (int) VARSIZE_ANY_EXHDR(record->stream)};
}

/* Notes which streams the block holds, up to which version. */
static void
note_parts(Segment *s, int start, int n)
{
	for (int i = start; i < start + n; i++)
	{
		EduaiSlice stream = stream_of(&s->records[i]);
		EduaiStreamPart *last = s->nparts > 0 ? &s->parts[s->nparts - 1] : NULL;

		if (last == NULL || last->block != s->row.block ||
			eduai_events_slice_compare(&last->stream, &stream) != 0)
		{
			last = &s->parts[s->nparts++];
			*last = (EduaiStreamPart){stream, s->row.segment, s->row.block, 0};
		}
		last->last_version = s->records[i].version;
		s->block_of[i] = s->row.block;
	}
}

static void
write_blocks(Segment *s)
{
	int n = WANTED_EVENTS;

	for (int start = 0; start < s->n; start += n)
	{
		MemoryContext old = MemoryContextSwitchTo(s->per_block);
		bytea *body;

		CHECK_FOR_INTERRUPTS();
		body = encode_some(s, start, &n);
		s->row.events = n;
		eduai_events_block_insert(s->tenant, &s->row, body);
		MemoryContextSwitchTo(old);
		MemoryContextReset(s->per_block);
		note_parts(s, start, n);
		s->row.block++;
	}
}

/* ---- the rest ---- */

static void
remember_ids(Segment *s, TimestampTz remember)
{
	Datum *ids = palloc(sizeof(Datum) * s->n);
	int32 *blocks = palloc(sizeof(int32) * s->n);
	int n = 0;

	for (int i = 0; i < s->n; i++)
		if (s->records[i].id_given && s->records[i].recorded_at > remember)
		{
			ids[n] = UUIDPGetDatum(&s->records[i].event_id);
			blocks[n++] = s->block_of[i];
		}
	eduai_events_seen_add(s->tenant, ids, blocks, n, s->row.segment);
}

static int
next_segment(const char *tenant, Snapshot snapshot)
{
	EduaiBlockReader *reader = eduai_events_blocks_open(tenant, snapshot);
	EduaiBlockRow last;
	int segment = eduai_events_blocks_last(reader, &last) ? last.segment + 1 : 1;

	eduai_events_blocks_close(reader);
	return segment;
}

static void
begin_segment(Segment *s, int64 first_position, int64 last_position)
{
	s->row.first_position = first_position;
	s->row.last_position = last_position;
	for (int i = 0; i < s->n; i++)
		s->row.recorded_through = i == 0 ? s->records[i].recorded_at
										 : Max(s->row.recorded_through, s->records[i].recorded_at);
	s->parts = palloc(sizeof(EduaiStreamPart) * s->n);
	s->block_of = palloc(sizeof(int) * s->n);
	s->per_block =
		AllocSetContextCreate(CurrentMemoryContext, "eduai block", ALLOCSET_DEFAULT_SIZES);
}

void
eduai_events_segment_write(const char *tenant, const EduaiRecord *records, int n,
						   int64 first_position, int64 last_position, TimestampTz remember,
						   Snapshot snapshot)
{
	Segment s = {.tenant = tenant, .records = records, .n = n, .snapshot = snapshot};

	s.row.segment = next_segment(tenant, snapshot);
	begin_segment(&s, first_position, last_position);
	choose_dictionary(&s);
	choose_target(&s);
	write_blocks(&s);
	eduai_events_directory_add(tenant, s.parts, s.nparts, snapshot);
	remember_ids(&s, remember);
}

void
eduai_events_segment_replace(const char *tenant, const EduaiBlockRow *was,
							 const EduaiRecord *records, int n, const EduaiSlices *streams,
							 TimestampTz remember, Snapshot snapshot)
{
	Segment s = {.tenant = tenant, .records = records, .n = n, .snapshot = snapshot};

	s.row.segment = was->segment;
	eduai_events_segment_remove(tenant, was->segment);
	begin_segment(&s, was->first_position, was->last_position);
	/* times may have become coarser: the segment is as old as it was */
	s.row.recorded_through = was->recorded_through;
	use_dictionary(&s, eduai_events_dictionary_newest(tenant));
	choose_target(&s);
	write_blocks(&s);
	eduai_events_directory_replace(tenant, was->segment, streams, s.parts, s.nparts, snapshot);
	remember_ids(&s, remember);
}

/* ---- reading a segment back ---- */

typedef struct Loading
{
	const char *tenant;
	EduaiBlockRow *row;
	EduaiRecord *records;
	int n;
	int room;
	MemoryContext context;
	MemoryContext per_block;
} Loading;

static bool
load_block(EduaiBlockReader *reader, const EduaiBlockRow *row, void *arg)
{
	Loading *l = arg;
	MemoryContext old;
	EduaiBlock *block;

	if (row->segment != l->row->segment)
		return false;
	CHECK_FOR_INTERRUPTS();
	*l->row = *row;
	old = MemoryContextSwitchTo(l->per_block);
	block = eduai_events_blocks_here(reader);
	while (block != NULL && l->n + block->n > l->room)
	{
		l->room *= 2;
		l->records = repalloc_huge(l->records, sizeof(EduaiRecord) * l->room);
	}
	for (int i = 0; block != NULL && i < block->n; i++)
	{
		EduaiRecord record;
		Size size;

		eduai_events_block_record(block, l->tenant, i, &record);
		MemoryContextSwitchTo(l->context);
		(void) eduai_events_record_keep(&l->records[l->n++], &record, &size);
		MemoryContextSwitchTo(l->per_block);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(l->per_block);
	return true;
}

EduaiRecord *
eduai_events_segment_load(EduaiBlockReader *reader, const char *tenant, EduaiBlockRow *row, int *n)
{
	Loading l = {.tenant = tenant, .row = row, .room = 1024, .context = CurrentMemoryContext};

	l.records = palloc(sizeof(EduaiRecord) * l.room);
	l.per_block =
		AllocSetContextCreate(CurrentMemoryContext, "eduai block", ALLOCSET_DEFAULT_SIZES);
	eduai_events_blocks_visit(reader, row->segment, load_block, &l);
	MemoryContextDelete(l.per_block);
	*n = l.n;
	return l.records;
}
