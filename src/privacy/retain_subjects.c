/*
 * retain_subjects.c: what retention does to events, snapshots, the ledger of
 * provider calls, the access log and the history of consents.
 *
 * Old events go by whole segments: a segment whose last event is old enough is
 * removed with its entries in the directory, and the partitions that compaction
 * has emptied are dropped as they are.  So nothing is deleted event by event,
 * and what is younger than its segment's last event waits for it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/plan.h"
#include "core/retention.h"
#include "events/block_write.h"
#include "events/compact.h"
#include "events/heads.h"
#include "events/segment.h"
#include "privacy/access_log.h"
#include "privacy/retain.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define BATCH 1000

/* ---- events ---- */

static EduaiPlan forget_marks = {
	"DELETE FROM eduai.anonymised_segment WHERE tenant_id = $1 AND segment = $2",
	2,
	{TEXTOID, INT4OID}};

static EduaiPlan forget_snapshots = {
	"DELETE FROM eduai.event_snapshot n USING unnest($2::text[], $3::bigint[])"
	" AS u (stream, version) WHERE n.tenant_id = $1 AND n.stream = u.stream"
	" AND n.version <= u.version",
	3,
	{TEXTOID, TEXTARRAYOID, INT8ARRAYOID}};

/* Snapshots up to the last version that each stream has in the segment. */
static void
remove_snapshots(const char *tenant, const EduaiSlices *streams, const int64 *versions)
{
	char **names = palloc(sizeof(char *) * (streams->n + 1));
	Datum args[3] = {CStringGetTextDatum(tenant)};

	for (int i = 0; i < streams->n; i++)
		names[i] = pnstrdup(streams->values[i].bytes, streams->values[i].length);
	args[1] = eduai_core_text_array(names, streams->n);
	args[2] = eduai_core_int8_array(versions, NULL, streams->n);
	eduai_core_run_latest(&forget_snapshots, args, NULL);
}

static int64
remove_segment(const char *tenant, EduaiBlockReader *reader, EduaiBlockRow *row, Snapshot snapshot)
{
	Datum args[] = {CStringGetTextDatum(tenant), Int32GetDatum(row->segment)};
	int n;
	int segment = row->segment;
	EduaiRecord *records = eduai_events_segment_load(reader, tenant, row, &n);
	EduaiSlices streams = {0};
	int64 *versions = palloc_extended(sizeof(int64) * (n + 1), MCXT_ALLOC_HUGE);
	int64 removed;

	for (int i = 0; i < n; i++)
	{
		const text *name = records[i].stream;
		EduaiSlice stream = {VARDATA_ANY(name), (int) VARSIZE_ANY_EXHDR(name)};

		if (i == 0 || eduai_events_slice_compare(&streams.values[streams.n - 1], &stream) != 0)
			eduai_events_slices_add(&streams, stream.bytes, stream.length);
		versions[streams.n - 1] = records[i].version;
	}
	removed = eduai_events_segment_remove(tenant, segment);
	eduai_events_directory_replace(tenant, segment, &streams, NULL, 0, snapshot);
	remove_snapshots(tenant, &streams, versions);
	eduai_core_run_latest(&forget_marks, args, NULL);
	eduai_events_heads_forget();
	return removed;
}

static int64
delete_events(const char *tenant, TimestampTz before, bool *more)
{
	Snapshot snapshot;
	EduaiBlockReader *reader;
	EduaiBlockRow row;
	int64 removed = 0;

	(void) eduai_events_compact_lock(tenant, false);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	reader = eduai_events_blocks_open(tenant, snapshot);
	if (eduai_events_blocks_first(reader, 0, &row) && row.recorded_through < before)
	{
		removed = remove_segment(tenant, reader, &row, snapshot);
		*more = true;
	}
	eduai_events_blocks_close(reader);
	UnregisterSnapshot(snapshot);
	return removed;
}

/* To anonymise them is a job of its own (anonymise.h). */
static int64
retain_events(const char *tenant, const char *action, TimestampTz before, bool *more)
{
	int64 n;

	*more = false;
	/* what is hot and old enough is compacted, whichever the action is */
	n = eduai_events_compact_segment(tenant, before, DT_NOEND, 1, false);
	if (n > 0)
	{
		*more = true;
		return strcmp(action, "compact") == 0 ? n : 0;
	}
	return strcmp(action, "delete") == 0 ? delete_events(tenant, before, more) : 0;
}

/* ---- rows ---- */

static EduaiPlan delete_snapshots = {
	"DELETE FROM eduai.event_snapshot WHERE ctid = ANY (ARRAY(SELECT n.ctid"
	" FROM eduai.event_snapshot n WHERE n.tenant_id = $1 AND n.saved_at < $2 LIMIT $3"
	" FOR UPDATE SKIP LOCKED))",
	3,
	{TEXTOID, TIMESTAMPTZOID, INT4OID}};

/*
 * From the lowest ids on: calls of low ids are old.  The current month stays,
 * and a day before: budgets are counted from it.
 */
static EduaiPlan delete_usage = {
	"DELETE FROM eduai.provider_call WHERE ctid = ANY (ARRAY(SELECT o.ctid FROM (SELECT c.ctid,"
	" c.started_at FROM eduai.provider_call c WHERE c.tenant_id = $1 ORDER BY c.task_id, c.attempt"
	" LIMIT $3) o WHERE o.started_at < least($2, date_trunc('month', now()) - interval '1 day')))",
	3,
	{TEXTOID, TIMESTAMPTZOID, INT4OID}};

/*
 * The history of consents, never what holds now: what a later answer replaced,
 * and a withdrawal once nothing older is left that it withdraws.
 */
static EduaiPlan delete_consents = {
	"DELETE FROM eduai.consent WHERE ctid = ANY (ARRAY(SELECT c.ctid FROM eduai.consent c"
	" WHERE c.tenant_id = $1 AND c.at < $2 AND (EXISTS (SELECT FROM eduai.consent n"
	"  WHERE n.tenant_id = $1 AND n.user_id = c.user_id AND n.purpose = c.purpose"
	"  AND n.consent_id > c.consent_id)"
	" OR NOT c.granted AND NOT EXISTS (SELECT FROM eduai.consent o"
	"  WHERE o.tenant_id = $1 AND o.user_id = c.user_id AND o.purpose = c.purpose"
	"  AND o.consent_id < c.consent_id)) LIMIT $3))",
	3,
	{TEXTOID, TIMESTAMPTZOID, INT4OID}};

static int64
delete_rows(EduaiPlan *plan, const char *tenant, TimestampTz before, bool *more)
{
	Datum args[] = {CStringGetTextDatum(tenant), TimestampTzGetDatum(before), Int32GetDatum(BATCH)};
	int64 n = (int64) eduai_core_run_latest(plan, args, NULL);

	*more = n > 0;
	return n;
}

static int64
retain_snapshots(const char *tenant, const char *action, TimestampTz before, bool *more)
{
	return delete_rows(&delete_snapshots, tenant, before, more);
}

static int64
retain_usage(const char *tenant, const char *action, TimestampTz before, bool *more)
{
	return delete_rows(&delete_usage, tenant, before, more);
}

static int64
retain_consents(const char *tenant, const char *action, TimestampTz before, bool *more)
{
	return delete_rows(&delete_consents, tenant, before, more);
}

static int64
retain_access_log(const char *tenant, const char *action, TimestampTz before, bool *more)
{
	int64 n = eduai_privacy_access_prune(tenant, before, BATCH);

	*more = n == BATCH;
	return n;
}

void
eduai_privacy_retain_subjects_init(void)
{
	static const EduaiRetentionSubject subjects[] = {
		{"events", "delete anonymise compact", retain_events},
		{"snapshots", "delete", retain_snapshots},
		{"usage", "delete", retain_usage},
		{"access_log", "delete", retain_access_log},
		{"consents", "delete", retain_consents},
	};

	for (size_t i = 0; i < lengthof(subjects); i++)
		eduai_core_retention_register(&subjects[i]);
}
