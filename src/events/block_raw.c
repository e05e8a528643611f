/*
 * block_raw.c: blocks of events as they are.  See block_codec.h.
 *
 * For events that the columns cannot hold: a value whose JSON text is longer
 * than memory chunks may be, or nested deeper than this process may parse.
 * Nothing is interpreted, so nothing can fail but for want of memory.
 *
 * The text has for each event: position, version, schema version, flags,
 * recorded_at, occurred_at, event id, then each with its length: stream,
 * event type, user id, session id, data, metadata (jsonb as on disk).  zstd
 * adds a checksum here: a damaged jsonb must not reach anybody.
 */
#include "postgres.h"

#include "events/block_codec.h"
#include "events/validate.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* ---- writing ---- */

static void
put_bytes(StringInfo out, const char *bytes, int length)
{
	eduai_events_put_varint(out, length);
	appendBinaryStringInfo(out, bytes, length);
}

static void
put_text(StringInfo out, const text *value)
{
	if (value == NULL)
		put_bytes(out, "", 0);
	else
		put_bytes(out, VARDATA_ANY(value), (int) VARSIZE_ANY_EXHDR(value));
}

static void
put_number(StringInfo out, int64 value)
{
	eduai_events_put_varint(out, eduai_events_zigzag(value));
}

static void
put_record(StringInfo out, const EduaiRecord *record)
{
	int flags = EDUAI_SHAPE_ID_STORED;

	if (record->user_id != NULL)
		flags |= EDUAI_USER_GIVEN;
	if (record->session_id != NULL)
		flags |= EDUAI_SHAPE_SESSION;
	if (record->id_given)
		flags |= EDUAI_SHAPE_ID_GIVEN;
	put_number(out, record->position);
	put_number(out, record->version);
	put_number(out, record->schema_version);
	put_number(out, flags);
	put_number(out, record->recorded_at);
	put_number(out, record->occurred_at);
	appendBinaryStringInfo(out, (const char *) record->event_id.data, UUID_LEN);
	put_text(out, record->stream);
	put_text(out, record->event_type);
	put_text(out, record->user_id);
	put_text(out, record->session_id);
	put_bytes(out, VARDATA(record->data), VARSIZE(record->data) - VARHDRSZ);
	put_bytes(out, VARDATA(record->metadata), VARSIZE(record->metadata) - VARHDRSZ);
}

bytea *
eduai_events_block_encode_raw(const EduaiRecord *records, int n)
{
	EduaiColumnWriter w;

	eduai_events_column_writer_init(&w);
	eduai_events_put_varint(&w.text, n);
	for (int i = 0; i < n; i++)
		put_record(&w.text, &records[i]);
	return eduai_events_block_pack(&w, NULL, EDUAI_BLOCK_RAW);
}

/* ---- reading ---- */

static int64
get_number(EduaiColumnReader *r)
{
	return eduai_events_unzigzag(eduai_events_get_varint(r));
}

/* A new varlena; the header is a whole one. */
static void *
get_varlena(EduaiColumnReader *r)
{
	int length = (int) eduai_events_get_count(r, MaxAllocSize - VARHDRSZ);
	const char *bytes = eduai_events_get_bytes(r, length);
	char *value = palloc(VARHDRSZ + length);

	SET_VARSIZE(value, VARHDRSZ + length);
	memcpy(VARDATA(value), bytes, length);
	return value;
}

static Jsonb *
get_json(EduaiColumnReader *r)
{
	Jsonb *json = get_varlena(r);

	if (VARSIZE(json) < sizeof(Jsonb))
		eduai_events_corrupted("value");
	return json;
}

static void
get_record(EduaiColumnReader *r, EduaiBlock *b, int row)
{
	EduaiRecord *record = &b->raw[row];
	int flags;

	record->position = b->positions[row] = get_number(r);
	record->version = b->versions[row] = get_number(r);
	record->schema_version = (int) get_number(r);
	flags = b->flags[row] = (unsigned char) get_number(r);
	record->recorded_at = b->recorded[row] = get_number(r);
	record->occurred_at = get_number(r);
	memcpy(record->event_id.data, eduai_events_get_bytes(r, UUID_LEN), UUID_LEN);
	b->ids[row] = record->event_id;
	record->id_given = (flags & EDUAI_SHAPE_ID_GIVEN) != 0;
	record->stream = get_varlena(r);
	record->event_type = get_varlena(r);
	record->user_id = get_varlena(r);
	record->session_id = get_varlena(r);
	b->users[row] =
		(EduaiSlice){VARDATA(record->user_id), (int) VARSIZE(record->user_id) - VARHDRSZ};
	if ((flags & EDUAI_SHAPE_USER) != EDUAI_USER_GIVEN)
		record->user_id = NULL;
	if (!(flags & EDUAI_SHAPE_SESSION))
		record->session_id = NULL;
	record->data = get_json(r);
	record->metadata = get_json(r);
}

/* The runs of equal streams, which follow from the rows. */
static void
find_runs(EduaiBlock *b)
{
	for (int row = 0; row < b->n; row++)
	{
		text *stream = b->raw[row].stream;

		if (row == 0 || VARSIZE(stream) != VARSIZE(b->raw[row - 1].stream) ||
			memcmp(stream, b->raw[row - 1].stream, VARSIZE(stream)) != 0)
			b->runs[b->nruns++] = (EduaiBlockRun){stream, row, 0};
		b->runs[b->nruns - 1].count++;
		b->run_of[row] = b->nruns - 1;
	}
}

void
eduai_events_block_begin_raw(EduaiBlock *b)
{
	EduaiColumnReader *r = &b->rest;

	b->n = (int) eduai_events_get_count(r, EDUAI_BLOCK_EVENTS);
	if (b->n == 0)
		eduai_events_corrupted("count of events");
	b->raw = palloc0(sizeof(EduaiRecord) * b->n);
	b->runs = palloc(sizeof(EduaiBlockRun) * b->n);
	b->run_of = palloc(sizeof(int) * b->n);
	b->versions = palloc(sizeof(int64) * b->n);
	b->positions = palloc(sizeof(int64) * b->n);
	b->recorded = palloc(sizeof(TimestampTz) * b->n);
	b->flags = palloc(b->n);
	b->users = palloc(sizeof(EduaiSlice) * b->n);
	b->ids = palloc(sizeof(pg_uuid_t) * b->n);
	for (int row = 0; row < b->n; row++)
		get_record(r, b, row);
	find_runs(b);
	if (r->text != r->text_end)
		eduai_events_corrupted("length");
}
