/*
 * anonymise.c: anonymise_events(): making unknown whom old events are about.
 *
 * Terms
 *
 *   age      the earlier of an event's occurred_at and recorded_at.
 *   due      an event older than the limit that is not anonymised yet.
 *   run      from the first step to the one that finds nothing due; it has the
 *            key of the names (pseudonym.h).
 *
 * A step is one transaction and one of these:
 *
 *   1. hot events that are due, with all before them, are compacted: one segment
 *   2. the run begins: what keys and values are common is counted and kept
 *   3. one segment with due events is written anew, under its number
 *
 * Steps take the tenant's compaction lock, which appends do not: writers wait
 * for nothing.  A step that a crash ends did not happen, and the next process
 * goes on with the same key.  eduai.anonymised_segment says up to which age a
 * segment is done and when the next of its events is due.
 *
 * Versions and positions would tell who somebody was to whom has a copy of the
 * log: a stream's versions begin anew at 1, and the positions of a segment's
 * due events are dealt among them, by day, stream and version.  Event ids are
 * drawn anew, with the day in them.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "core/clock.h"
#include "core/lock.h"
#include "core/pause.h"
#include "core/plan.h"
#include "core/tenant.h"
#include "events/block_write.h"
#include "events/compact.h"
#include "events/segment.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "privacy/anonymise.h"
#include "privacy/anonymise_data.h"
#include "privacy/anonymise_internal.h"
#include "privacy/pseudonym.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(eduai_anonymise_events);
PG_FUNCTION_INFO_V1(eduai_call_anonymise_events);

#define COUNTED_SEGMENTS 64 /* at most, spread over those that may be due */

static int least_learners = 5;
static char *kept_keys = NULL;
static char *kept_metadata = NULL;

static const char *const default_keys =
	"skill,skill_name,skills,item,exercise,exercise_id,course,course_id,content_id,content_type,"
	"unit,lesson,subject,topic,grade,level,old_level,new_level,difficulty,emotion,achievement,"
	"correct,score,time_spent,attempts,time_efficiency,confidence,mastery,interaction_type,"
	"task_type,state,finish_reason,role,kind,language";

/* ---- 1: hot events ---- */

static EduaiPlan due_hot = {
	"SELECT max(e.recorded_at) FROM eduai.event e"
	" WHERE e.tenant_id = $1 AND (e.occurred_at < $2 OR e.recorded_at < $2)",
	2,
	{TEXTOID, TIMESTAMPTZOID}};

/* Compacts a segment with what is due and what came before it; false when there is none. */
static bool
compact_due(const EduaiAnonymiseStep *s)
{
	Datum args[] = {CStringGetTextDatum(s->tenant), TimestampTzGetDatum(s->limit)};
	bool isnull = true;
	TimestampTz last = 0;

	if (eduai_core_run_latest(&due_hot, args, NULL) > 0)
		last = DatumGetTimestampTz(eduai_core_value(0, 1, &isnull));
	return !isnull && eduai_events_compact_segment(s->tenant, last + 1, DT_NOEND, 1, false) > 0;
}

/* ---- segments ---- */

/* A probe of the index for each segment; with what is known of it. */
#define SEGMENTS                                                                           \
	"WITH RECURSIVE s AS ("                                                                \
	"(SELECT b.segment, b.last_position FROM eduai.event_block b WHERE b.tenant_id = $1"   \
	"  ORDER BY b.segment, b.block LIMIT 1)"                                               \
	" UNION ALL SELECT n.segment, n.last_position FROM s, LATERAL"                         \
	" (SELECT b.segment, b.last_position FROM eduai.event_block b WHERE b.tenant_id = $1"  \
	"  AND b.segment > s.segment ORDER BY b.segment, b.block LIMIT 1) n)"                  \
	" SELECT s.segment, a.through FROM s LEFT JOIN eduai.anonymised_segment a"             \
	" ON a.tenant_id = $1 AND a.segment = s.segment AND a.last_position = s.last_position" \
	" WHERE a.segment IS NULL OR a.next_due < $2 ORDER BY s.segment"

static EduaiPlan next_segment = {SEGMENTS " LIMIT 1", 2, {TEXTOID, TIMESTAMPTZOID}};
static EduaiPlan all_segments = {SEGMENTS, 2, {TEXTOID, TIMESTAMPTZOID}};

static void
load(EduaiAnonymiseStep *s, int segment)
{
	EduaiBlockReader *reader = eduai_events_blocks_open(s->tenant, s->snapshot);

	memset(&s->row, 0, sizeof(s->row));
	s->row.segment = segment;
	s->records = eduai_events_segment_load(reader, s->tenant, &s->row, &s->n);
	eduai_events_blocks_close(reader);
}

/* ---- 2: what is common ---- */

static EduaiPlan read_common = {
	"SELECT c.hash FROM eduai.anonymise_common c WHERE c.tenant_id = $1", 1, {TEXTOID}};

static EduaiPlan add_common = {
	"INSERT INTO eduai.anonymise_common (tenant_id, hash) SELECT $1, u.hash"
	" FROM unnest($2::bigint[]) AS u (hash) ON CONFLICT DO NOTHING",
	2,
	{TEXTOID, INT8ARRAYOID}};

static EduaiPlan begin_run = {
	"INSERT INTO eduai.anonymise_run (tenant_id, started_at) VALUES ($1, $2)"
	" ON CONFLICT (tenant_id) DO UPDATE SET started_at = EXCLUDED.started_at",
	2,
	{TEXTOID, TIMESTAMPTZOID}};

static EduaiPlan find_run = {"SELECT FROM eduai.anonymise_run WHERE tenant_id = $1", 1, {TEXTOID}};

static EduaiPlan end_run = {"DELETE FROM eduai.anonymise_run WHERE tenant_id = $1", 1, {TEXTOID}};

static void
open_common(EduaiAnonymiseStep *s)
{
	Datum arg = CStringGetTextDatum(s->tenant);
	uint64 n = eduai_core_run_latest(&read_common, &arg, NULL);
	int64 *known = palloc_extended(sizeof(int64) * (n + 1), MCXT_ALLOC_HUGE);

	for (uint64 i = 0; i < n; i++)
		known[i] = eduai_core_int64(i, 1, 0);
	SPI_freetuptable(SPI_tuptable);
	s->rules.common = eduai_privacy_common_make(least_learners, known, (int) n);
}

static uint64
hash_text(const text *value)
{
	return DatumGetUInt64(hash_any_extended((const unsigned char *) VARDATA_ANY(value),
											(int) VARSIZE_ANY_EXHDR(value), 0));
}

static void
count_records(EduaiAnonymiseStep *s)
{
	for (int i = 0; i < s->n; i++)
	{
		const EduaiRecord *record = &s->records[i];
		EduaiSlice stream = eduai_privacy_slice(record->stream);
		uint64 learner = hash_text(record->user_id      ? record->user_id
								   : record->session_id ? record->session_id
														: record->stream);

		eduai_privacy_sensitive_of(s, record);
		eduai_privacy_anonymise_count(&s->rules, record->data, learner);
		eduai_privacy_anonymise_count_category(&s->rules, stream.bytes,
											   eduai_privacy_category_length(&stream), learner);
	}
}

static void
count_all(EduaiAnonymiseStep *s)
{
	Datum args[] = {CStringGetTextDatum(s->tenant), TimestampTzGetDatum(s->limit)};
	int n = (int) eduai_core_run_latest(&all_segments, args, NULL);
	int *segments = palloc(sizeof(int) * (n + 1));
	int looks = Min(n, COUNTED_SEGMENTS);
	MemoryContext each =
		AllocSetContextCreate(CurrentMemoryContext, "eduai counting", ALLOCSET_DEFAULT_SIZES);

	for (int i = 0; i < n; i++)
		segments[i] = (int) eduai_core_int64(i, 1, 0);
	SPI_freetuptable(SPI_tuptable);
	for (int i = 0; i < looks; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(each);

		CHECK_FOR_INTERRUPTS();
		load(s, segments[(int64) n * i / looks]);
		count_records(s);
		MemoryContextSwitchTo(old);
		MemoryContextReset(each);
	}
}

/* Counts, unless this run has done so; true when it did now. */
static bool
begin(EduaiAnonymiseStep *s)
{
	Datum args[] = {CStringGetTextDatum(s->tenant), TimestampTzGetDatum(eduai_core_now())};
	bool begun;
	int n;
	int64 *hashes;

	eduai_privacy_run_open(s->tenant, &begun);
	if (!begun && eduai_core_run_latest(&find_run, args, NULL) > 0)
		return false;
	count_all(s);
	hashes = eduai_privacy_common_new(s->rules.common, &n);
	eduai_core_run_latest(&begin_run, args, NULL);
	args[1] = eduai_core_int8_array(hashes, NULL, n);
	eduai_core_run_latest(&add_common, args, NULL);
	EDUAI_PAUSE("privacy-anonymise-counted");
	return true;
}

/* ---- what a type says of its fields ---- */

static EduaiPlan read_types = {"SELECT t.event_type, t.sensitive_fields FROM eduai.event_type t"
							   " WHERE cardinality(t.sensitive_fields) > 0",
							   0};

static void
open_types(EduaiAnonymiseStep *s)
{
	s->ntypes = (int) eduai_core_run_latest(&read_types, NULL, NULL);
	s->types = palloc(sizeof(char *) * (s->ntypes + 1));
	s->fields = palloc(sizeof(char **) * (s->ntypes + 1));
	s->nfields = palloc(sizeof(int) * (s->ntypes + 1));
	for (int i = 0; i < s->ntypes; i++)
	{
		bool isnull;
		Datum *fields;

		s->types[i] = eduai_core_text(i, 1);
		deconstruct_array(DatumGetArrayTypePCopy(eduai_core_value(i, 2, &isnull)), TEXTOID, -1,
						  false, TYPALIGN_INT, &fields, NULL, &s->nfields[i]);
		s->fields[i] = palloc(sizeof(char *) * (s->nfields[i] + 1));
		for (int j = 0; j < s->nfields[i]; j++)
			s->fields[i][j] = TextDatumGetCString(fields[j]);
	}
	SPI_freetuptable(SPI_tuptable);
}

void
eduai_privacy_sensitive_of(EduaiAnonymiseStep *s, const EduaiRecord *record)
{
	EduaiSlice type = eduai_privacy_slice(record->event_type);

	s->rules.sensitive = NULL;
	s->rules.nsensitive = 0;
	for (int i = 0; i < s->ntypes; i++)
		if ((int) strlen(s->types[i]) == type.length &&
			memcmp(s->types[i], type.bytes, type.length) == 0)
		{
			s->rules.sensitive = s->fields[i];
			s->rules.nsensitive = s->nfields[i];
		}
}

/* ---- the job ---- */

static void
open_step(EduaiAnonymiseStep *s)
{
	s->rules.listed =
		eduai_privacy_listed_keys(kept_keys && kept_keys[0] ? kept_keys : default_keys);
	s->listed_metadata = eduai_privacy_listed_keys(kept_metadata);
	open_types(s);
	open_common(s);
}

static bool
do_step(EduaiAnonymiseStep *s, int64 *rows)
{
	Datum args[] = {CStringGetTextDatum(s->tenant), TimestampTzGetDatum(s->limit)};
	bool isnull;
	Datum through;

	if (compact_due(s))
		return true;
	if (eduai_core_run_latest(&next_segment, args, NULL) == 0)
	{
		eduai_core_run_latest(&end_run, args, NULL);
		return false;
	}
	through = eduai_core_value(0, 2, &isnull);
	s->through = isnull ? DT_NOBEGIN : DatumGetTimestampTz(through);
	s->row.segment = (int) eduai_core_int64(0, 1, 0);
	s->snapshot = RegisterSnapshot(GetLatestSnapshot());
	if (!begin(s))
	{
		EDUAI_PAUSE("privacy-anonymise-segment");
		load(s, s->row.segment);
		eduai_privacy_anonymise_segment(s);
		*rows += s->ndue;
	}
	UnregisterSnapshot(s->snapshot);
	return true;
}

static bool
step(const EduaiJobCall *call, int64 *rows)
{
	MemoryContext old = CurrentMemoryContext;
	EduaiAnonymiseStep s = {0};
	bool more;
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "eduai anonymisation", ALLOCSET_DEFAULT_SIZES);

	/* one process at a time, by whichever job; and no compaction or erasure meanwhile */
	(void) eduai_core_lock(EDUAI_LOCK_ANONYMISE, eduai_core_lock_key(call->tenant, ""), false);
	(void) eduai_events_compact_lock(call->tenant, false);
	MemoryContextSwitchTo(context);
	s.tenant = call->tenant;
	s.limit = call->before;
	open_step(&s);
	more = do_step(&s, rows);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return more;
}

/* Under the job's lock: nobody else is in this run. */
static void
end(const EduaiJobCall *call)
{
	EDUAI_PAUSE("privacy-anonymise-ended");
	eduai_privacy_run_close(call->tenant);
}

static int64
anonymise_events(FunctionCallInfo fcinfo, bool commits)
{
	EduaiJobCall call = {.job = EDUAI_JOB_ANONYMISE};
	EduaiJobResult result;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("older_than must not be null")));
	PreventCommandIfReadOnly("anonymise_events()");
	PreventCommandDuringRecovery("anonymise_events()");
	strlcpy(call.tenant, eduai_core_tenant(), sizeof(call.tenant));
	call.before = DatumGetTimestampTz(DirectFunctionCall2(
		timestamptz_mi_interval, TimestampTzGetDatum(eduai_core_now()), PG_GETARG_DATUM(0)));
	if (call.before > eduai_core_now())
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("older_than must not be negative")));
	eduai_privacy_job_run(&call, commits, &result);
	eduai_privacy_job_raise(&result);
	return result.rows;
}

/* anonymise_events(older_than interval) returns bigint */
Datum
eduai_anonymise_events(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(anonymise_events(fcinfo, false));
}

/* CALL anonymise_events(older_than interval, INOUT events bigint) */
Datum
eduai_call_anonymise_events(PG_FUNCTION_ARGS)
{
	Datum value = Int64GetDatum(anonymise_events(fcinfo, eduai_privacy_job_may_commit(fcinfo)));
	bool isnull = false;
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "anonymise_events() must return a row");
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), &value, &isnull)));
}

void
eduai_privacy_anonymise_init(void)
{
	static const EduaiJob job = {EDUAI_JOB_ANONYMISE, step, end};

	DefineCustomIntVariable("eduai.anonymise_k",
							"How many learners must have a key or a value for it to stay in "
							"anonymised events.",
							NULL, &least_learners, 5, 1, 1000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("eduai.anonymise_keys",
							   "The keys of data whose values stay in anonymised events if they "
							   "are common, and whose numbers stay.",
							   "Separated by commas. Empty: skills, exercises, levels, results.",
							   &kept_keys, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("eduai.anonymise_metadata",
							   "The keys of metadata that stay, as they are, in anonymised events.",
							   "Separated by commas.", &kept_metadata, "", PGC_SIGHUP, 0, NULL,
							   NULL, NULL);
	eduai_privacy_job_register(&job);
}
