/*
 * anonymise_segment.c: a segment of compacted events written anew without whom
 * its old events were about.  See anonymise.c.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/pause.h"
#include "core/plan.h"
#include "events/block.h"
#include "events/compact.h"
#include "events/heads.h"
#include "events/segment.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "privacy/anonymise_internal.h"
#include "privacy/pseudonym.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

static TimestampTz
age_of(const EduaiRecord *record)
{
	return Min(record->occurred_at, record->recorded_at);
}

/* The day (UTC) of a time. */
static TimestampTz
day_of(TimestampTz time)
{
	int64 rest = time % USECS_PER_DAY;

	return time - (rest < 0 ? rest + USECS_PER_DAY : rest);
}

static text *
pseudonym(const EduaiAnonymiseStep *s, char kind, const char *bytes, int length)
{
	char name[EDUAI_PSEUDONYM_BYTES];

	eduai_privacy_pseudonym(s->tenant, kind, bytes, length, name);
	return cstring_to_text(name);
}

/* Of the stream's name alone, so that its events stay together. */
static text *
stream_pseudonym(const EduaiAnonymiseStep *s, const text *stream)
{
	EduaiSlice name = eduai_privacy_slice(stream);
	int length = eduai_privacy_category_length(&name);
	bool common = eduai_privacy_category_is_common(&s->rules, name.bytes, length);
	char given[EDUAI_PSEUDONYM_BYTES];
	StringInfoData result;

	initStringInfo(&result);
	/* a learner's stream keeps saying whose it is */
	if (length == 7 && name.length > 8 && memcmp(name.bytes, "learner", 7) == 0)
	{
		eduai_privacy_pseudonym(s->tenant, 'u', name.bytes + 8, name.length - 8, given);
		common = true;
	}
	else
		eduai_privacy_pseudonym(s->tenant, 's', name.bytes, name.length, given);
	appendBinaryStringInfo(&result, common ? name.bytes : "other", common ? length : 5);
	appendStringInfo(&result, "-%s", given);
	return cstring_to_text_with_len(result.data, Min(result.len, 512));
}

#define DRAWN 256

/* Random bits come by the page: asking for 16 bytes at a time costs ten times as much. */
typedef struct Draw
{
	pg_uuid_t ids[DRAWN];
	int left;
} Draw;

/* A version 7 id with the day's time. */
static void
draw_id(Draw *draw, pg_uuid_t *id, TimestampTz day)
{
	int64 ms = (day + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY) / 1000;

	if (draw->left == 0)
	{
		if (!pg_strong_random(draw->ids, sizeof(draw->ids)))
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate an id")));
		draw->left = DRAWN;
	}
	*id = draw->ids[--draw->left];
	for (int i = 0; i < 6; i++)
		id->data[i] = (unsigned char) (ms >> (40 - 8 * i));
	id->data[6] = (id->data[6] & 0x0f) | 0x70;
	id->data[8] = (id->data[8] & 0x3f) | 0x80;
}

static void
change_record(EduaiAnonymiseStep *s, EduaiRecord *record, text *stream, Draw *draw)
{
	eduai_privacy_sensitive_of(s, record);
	record->stream = stream;
	if (record->user_id)
		record->user_id = pseudonym(s, 'u', VARDATA_ANY(record->user_id),
									(int) VARSIZE_ANY_EXHDR(record->user_id));
	if (record->session_id)
		record->session_id = pseudonym(s, 'n', VARDATA_ANY(record->session_id),
									   (int) VARSIZE_ANY_EXHDR(record->session_id));
	record->data = eduai_privacy_anonymise_data(&s->rules, record->data);
	record->metadata = eduai_privacy_anonymise_metadata(s->listed_metadata, record->metadata);
	record->occurred_at = day_of(record->occurred_at);
	record->recorded_at = day_of(record->recorded_at);
	draw_id(draw, &record->event_id, record->recorded_at);
	record->id_given = false;
}

static bool
same_text(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		   memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

/* Finds what is due, and when the next of the rest is. */
static void
find_due(EduaiAnonymiseStep *s)
{
	s->due = palloc_extended(sizeof(int) * (s->n + 1), MCXT_ALLOC_HUGE);
	s->ndue = 0;
	s->next_due = DT_NOEND;
	for (int i = 0; i < s->n; i++)
	{
		TimestampTz age = age_of(&s->records[i]);

		if (age < s->through)
			continue;
		if (age < s->limit)
			s->due[s->ndue++] = i;
		else
			s->next_due = Min(s->next_due, age);
	}
}

/* The streams of the segment as they are, sorted. */
static EduaiSlices
streams_of(const EduaiAnonymiseStep *s)
{
	EduaiSlices streams = {0};

	for (int i = 0; i < s->n; i++)
		if (i == 0 || !same_text(s->records[i].stream, s->records[i - 1].stream))
			eduai_events_slices_add(&streams, VARDATA_ANY(s->records[i].stream),
									(int) VARSIZE_ANY_EXHDR(s->records[i].stream));
	return streams;
}

/* A snapshot of what is now nobody's; one of versions that stay is a learner's present state. */
static EduaiPlan drop_snapshots = {
	"DELETE FROM eduai.event_snapshot n USING unnest($2::text[], $3::bigint[])"
	" AS u (stream, version) WHERE n.tenant_id = $1 AND n.stream = u.stream"
	" AND n.version <= u.version",
	3,
	{TEXTOID, TEXTARRAYOID, INT8ARRAYOID}};

static EduaiPlan drop_failures = {
	"DELETE FROM eduai.snapshot_failure n USING unnest($2::text[], $3::bigint[])"
	" AS u (stream, version) WHERE n.tenant_id = $1 AND n.stream = u.stream"
	" AND n.version <= u.version",
	3,
	{TEXTOID, TEXTARRAYOID, INT8ARRAYOID}};

static void
forget_snapshots(const EduaiAnonymiseStep *s)
{
	char **streams = palloc(sizeof(char *) * (s->ndue + 1));
	int64 *versions = palloc(sizeof(int64) * (s->ndue + 1));
	Datum args[3] = {CStringGetTextDatum(s->tenant)};
	int n = 0;

	for (int i = 0; i < s->ndue; i++)
	{
		const EduaiRecord *record = &s->records[s->due[i]];

		if (i == 0 || !same_text(record->stream, s->records[s->due[i - 1]].stream))
			streams[n++] = text_to_cstring(record->stream);
		versions[n - 1] = record->version;
	}
	args[1] = eduai_core_text_array(streams, n);
	args[2] = eduai_core_int8_array(versions, NULL, n);
	eduai_core_run_latest(&drop_snapshots, args, NULL);
	eduai_core_run_latest(&drop_failures, args, NULL);
}

/* ---- names ---- */

/* A stream with due events: some of these, one after the other. */
typedef struct Renamed
{
	text *stream; /* its new name */
	int first;    /* of its due events */
	int n;
} Renamed;

static int
compare_renamed(const void *a, const void *b)
{
	EduaiSlice left = eduai_privacy_slice(((const Renamed *) a)->stream);
	EduaiSlice right = eduai_privacy_slice(((const Renamed *) b)->stream);

	return eduai_events_slice_compare(&left, &right);
}

/* The streams with due events by their new names. */
static Renamed *
rename_streams(const EduaiAnonymiseStep *s, int *n)
{
	Renamed *renamed = palloc_extended(sizeof(Renamed) * s->ndue, MCXT_ALLOC_HUGE);
	const text *was = NULL;

	*n = 0;
	for (int i = 0; i < s->ndue; i++)
	{
		const text *stream = s->records[s->due[i]].stream;

		if (was == NULL || !same_text(stream, was))
			renamed[(*n)++] = (Renamed){stream_pseudonym(s, stream), i, 0};
		was = stream;
		renamed[*n - 1].n++;
	}
	qsort(renamed, *n, sizeof(Renamed), compare_renamed);
	return renamed;
}

/* Names, times, data, versions of what is due; a name's events go on where they end elsewhere. */
static void
change_due(EduaiAnonymiseStep *s)
{
	int n;
	Renamed *renamed = rename_streams(s, &n);
	EduaiSlice *names = palloc_extended(sizeof(EduaiSlice) * n, MCXT_ALLOC_HUGE);
	int64 *versions = palloc_extended(sizeof(int64) * n, MCXT_ALLOC_HUGE);
	Draw draw = {.left = 0};

	for (int i = 0; i < n; i++)
		names[i] = eduai_privacy_slice(renamed[i].stream);
	eduai_events_block_versions(s->tenant, names, n, s->snapshot, versions);
	for (int i = 0; i < n; i++)
		for (int j = 0; j < renamed[i].n; j++)
		{
			EduaiRecord *record = &s->records[s->due[renamed[i].first + j]];

			CHECK_FOR_INTERRUPTS();
			change_record(s, record, renamed[i].stream, &draw);
			record->version = versions[i] + j + 1;
		}
	explicit_bzero(&draw, sizeof(draw));
}

/* ---- positions ---- */

typedef struct Deal
{
	TimestampTz day;
	uint64 order; /* of the stream */
	int64 version;
	int record;
} Deal;

static int
compare_deals(const void *a, const void *b)
{
	const Deal *x = a;
	const Deal *y = b;

	if (x->day != y->day)
		return x->day < y->day ? -1 : 1;
	if (x->order != y->order)
		return x->order < y->order ? -1 : 1;
	return x->version < y->version ? -1 : x->version > y->version;
}

static int
compare_int64(const void *a, const void *b)
{
	int64 x = *(const int64 *) a;
	int64 y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

static void
deal_positions(EduaiAnonymiseStep *s)
{
	Deal *deals = palloc_extended(sizeof(Deal) * (s->ndue + 1), MCXT_ALLOC_HUGE);
	int64 *positions = palloc_extended(sizeof(int64) * (s->ndue + 1), MCXT_ALLOC_HUGE);
	const text *was = NULL;
	uint64 order = 0;

	for (int i = 0; i < s->ndue; i++)
	{
		const EduaiRecord *record = &s->records[s->due[i]];

		if (record->stream != was)
		{
			was = record->stream;
			order = eduai_privacy_shuffle(text_to_cstring(was));
		}
		deals[i] = (Deal){record->recorded_at, order, record->version, s->due[i]};
		positions[i] = record->position;
	}
	qsort(deals, s->ndue, sizeof(Deal), compare_deals);
	qsort(positions, s->ndue, sizeof(int64), compare_int64);
	for (int i = 0; i < s->ndue; i++)
		s->records[deals[i].record].position = positions[i];
}

static int
compare_records(const void *a, const void *b)
{
	const EduaiRecord *x = a;
	const EduaiRecord *y = b;
	EduaiSlice left = eduai_privacy_slice(x->stream);
	EduaiSlice right = eduai_privacy_slice(y->stream);
	int order = eduai_events_slice_compare(&left, &right);

	if (order != 0)
		return order;
	return x->version < y->version ? -1 : x->version > y->version;
}

static EduaiPlan mark_segment = {
	"INSERT INTO eduai.anonymised_segment (tenant_id, segment, last_position, through, next_due)"
	" VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant_id, segment) DO UPDATE"
	" SET last_position = EXCLUDED.last_position, through = EXCLUDED.through,"
	" next_due = EXCLUDED.next_due",
	5,
	{TEXTOID, INT4OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID}};

static void
mark(const EduaiAnonymiseStep *s)
{
	Datum args[] = {CStringGetTextDatum(s->tenant), Int32GetDatum(s->row.segment),
					Int64GetDatum(s->row.last_position), TimestampTzGetDatum(s->limit),
					TimestampTzGetDatum(s->next_due)};

	eduai_core_run_latest(&mark_segment, args, NULL);
}

void
eduai_privacy_anonymise_segment(EduaiAnonymiseStep *s)
{
	EduaiSlices streams;

	find_due(s);
	if (s->ndue > 0)
	{
		streams = streams_of(s);
		forget_snapshots(s);
		change_due(s);
		deal_positions(s);
		qsort(s->records, s->n, sizeof(EduaiRecord), compare_records);
		eduai_events_segment_replace(s->tenant, &s->row, s->records, s->n, &streams,
									 eduai_events_remember_after(), s->snapshot);
		eduai_events_heads_forget();
		EDUAI_PAUSE("privacy-anonymise-written");
	}
	mark(s);
}
