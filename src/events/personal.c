/*
 * personal.c: the log as a store of personal data.  See personal.h.
 *
 * An erasure goes through five parts, which its cursor names: "names" finds the
 * streams and sessions, "hot N" goes through the order of the hot events from
 * position N, "blocks N B" through the segments from block B of segment N, "forget N"
 * through the directory's names of the streams met, "rest"
 * takes what is kept beside the events.  Compaction moves events from hot to blocks only, so that
 * what it takes away from the second part is met by the third.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/json.h"
#include "core/plan.h"
#include "core/shmem.h"
#include "events/block_write.h"
#include "events/compact.h"
#include "events/feed.h"
#include "events/heads.h"
#include "events/personal.h"
#include "events/read.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define NAMES_AT_ONCE 1000

/* ---- erasing ---- */

static EduaiPlan drop_snapshots = {
	"DELETE FROM eduai.event_snapshot s WHERE s.tenant_id = $1 AND (s.stream = $3"
	" OR s.stream IN (SELECT n.name FROM eduai.erasure_name n WHERE n.tenant_id = $1"
	" AND n.user_ref = $2 AND n.kind <> 'session'))",
	3,
	{TEXTOID, TEXTOID, TEXTOID}};
static EduaiPlan drop_failures = {
	"DELETE FROM eduai.snapshot_failure s WHERE s.tenant_id = $1 AND (s.stream = $3"
	" OR s.stream IN (SELECT n.name FROM eduai.erasure_name n WHERE n.tenant_id = $1"
	" AND n.user_ref = $2 AND n.kind <> 'session'))",
	3,
	{TEXTOID, TEXTOID, TEXTOID}};

/* Snapshots folded the learner's events in; the next ones are made from what is left. */
static int64
erase_rest(EduaiPersonalWork *work)
{
	Datum args[] = {CStringGetTextDatum(work->tenant), CStringGetTextDatum(work->user_ref),
					CStringGetTextDatum(psprintf("learner-%s", work->user_id))};
	int64 removed = (int64) eduai_core_run_latest(&drop_snapshots, args, NULL);

	removed += (int64) eduai_core_run_latest(&drop_failures, args, NULL);
	if (eduai_core_preloaded())
		eduai_events_heads_forget();
	eduai_events_touched_drop();
	work->more = false;
	return removed;
}

static int64
erase_names(EduaiPersonalWork *work, EduaiTouched *touched)
{
	eduai_events_touched_find(touched);
	work->cursor = pstrdup("hot 0");
	work->more = true;
	return 0;
}

static int64
erase_hot(EduaiPersonalWork *work, EduaiTouched *touched)
{
	int64 after = strtoll(work->cursor + strlen("hot "), NULL, 10);
	int64 removed = eduai_events_erase_hot(work, touched, &after);

	work->cursor = work->more ? psprintf("hot " INT64_FORMAT, after) : pstrdup("blocks 0");
	work->more = true;
	return removed;
}

static int64
erase_blocks(EduaiPersonalWork *work, EduaiTouched *touched)
{
	int segment = 0;
	int block = 0;
	int64 removed;

	(void) sscanf(work->cursor, "blocks %d %d", &segment, &block);
	removed = eduai_events_block_erase_part(work, touched, &segment, &block);
	work->cursor = work->more ? psprintf("blocks %d %d", segment, block) : pstrdup("forget 0");
	work->more = true;
	return removed;
}

static int64
forget_names(EduaiPersonalWork *work, EduaiTouched *touched)
{
	int next = atoi(work->cursor + strlen("forget "));
	int n;
	char **streams = eduai_events_touched_streams(touched, &n);

	eduai_events_block_forget_part(work, streams, n, &next);
	work->cursor = work->more ? psprintf("forget %d", next) : pstrdup("rest");
	work->more = true;
	return 0;
}

static int64
erase_part(EduaiPersonalWork *work)
{
	EduaiTouched *touched = eduai_events_touched_open(work);

	(void) eduai_events_compact_lock(work->tenant, false);
	if (work->cursor == NULL)
		return erase_names(work, touched);
	if (strncmp(work->cursor, "hot ", 4) == 0)
		return erase_hot(work, touched);
	if (strncmp(work->cursor, "blocks ", 7) == 0)
		return erase_blocks(work, touched);
	if (strncmp(work->cursor, "forget ", 7) == 0)
		return forget_names(work, touched);
	return erase_rest(work);
}

/* ---- accounting and exporting ---- */

/* At least so many: those of the learner's own stream. */
static int64
remaining(const char *tenant, const char *user_id)
{
	Snapshot latest = RegisterSnapshot(GetLatestSnapshot());
	int64 version = eduai_events_version(tenant, psprintf("learner-%s", user_id), latest);

	UnregisterSnapshot(latest);
	return version;
}

typedef struct Export
{
	const char *user_id;
	const char *stream;
	EduaiPersonalRow row;
	void *arg;
	MemoryContext context; /* of one row */
} Export;

static void
put_text(EduaiJson *j, const char *key, const text *value)
{
	if (value != NULL)
		eduai_core_json_put_textn(j, key, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
}

static Jsonb *
event_json(const EduaiRecord *record)
{
	EduaiJson j;

	eduai_core_json_begin(&j);
	eduai_core_json_put_int(&j, "position", record->position);
	eduai_core_json_put_text(
		&j, "event_id",
		DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&record->event_id))));
	put_text(&j, "stream", record->stream);
	eduai_core_json_put_int(&j, "version", record->version);
	put_text(&j, "event_type", record->event_type);
	put_text(&j, "user_id", record->user_id);
	put_text(&j, "session_id", record->session_id);
	eduai_core_json_put_json(&j, "data", record->data);
	eduai_core_json_put_json(&j, "metadata", record->metadata);
	eduai_core_json_put_time(&j, "occurred_at", record->occurred_at);
	eduai_core_json_put_time(&j, "recorded_at", record->recorded_at);
	return eduai_core_json_end(&j);
}

static bool
is_text(const text *value, const char *name)
{
	return value != NULL && VARSIZE_ANY_EXHDR(value) == strlen(name) &&
		   memcmp(VARDATA_ANY(value), name, strlen(name)) == 0;
}

static bool
export_event(const EduaiRecord *record, void *arg)
{
	Export *export = arg;
	MemoryContext old;

	if (!is_text(record->user_id, export->user_id) && !is_text(record->stream, export->stream))
		return true;
	old = MemoryContextSwitchTo(export->context);
	export->row(export->arg, "events", event_json(record));
	MemoryContextSwitchTo(old);
	MemoryContextReset(export->context);
	return true;
}

static EduaiPlan snapshots = {"SELECT to_jsonb(s) - 'tenant_id' FROM eduai.event_snapshot s"
							  " WHERE s.tenant_id = $1 AND s.stream = $2",
							  2,
							  {TEXTOID, TEXTOID}};

static void
export_all(const char *tenant, const char *user_id, EduaiPersonalRow row, void *arg)
{
	char *stream = psprintf("learner-%s", user_id);
	Export export = {user_id, stream, row, arg, NULL};
	EduaiFeedFilter all = {0};
	EduaiFeedView view = eduai_events_feed_open(tenant);
	Datum args[] = {CStringGetTextDatum(tenant), CStringGetTextDatum(stream)};
	int64 scanned;
	uint64 n;

	export.context =
		AllocSetContextCreate(CurrentMemoryContext, "eduai export", ALLOCSET_DEFAULT_SIZES);
	(void) eduai_events_feed_read(&view, tenant, 0, &all, PG_INT64_MAX, export_event, &export,
								  &scanned);
	eduai_events_feed_close(&view);
	MemoryContextDelete(export.context);
	n = eduai_core_run_latest(&snapshots, args, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		bool isnull;

		row(arg, "snapshots", DatumGetJsonbP(eduai_core_value(i, 1, &isnull)));
	}
}

/* ---- who is there ---- */

typedef struct Learners
{
	const char *tenant;
	EduaiPersonalLearner learner;
	void *arg;
	char *last; /* the one told last: events of one come in a row */
	MemoryContext context;
} Learners;

static bool
tell(const EduaiRecord *record, void *arg)
{
	Learners *l = arg;
	MemoryContext old;

	if (record->user_id == NULL || (l->last != NULL && is_text(record->user_id, l->last)))
		return true;
	old = MemoryContextSwitchTo(l->context);
	if (l->last != NULL)
		pfree(l->last);
	l->last = text_to_cstring(record->user_id);
	l->learner(l->arg, l->tenant, l->last);
	MemoryContextSwitchTo(old);
	return true;
}

static EduaiPlan tenants = {
	"SELECT DISTINCT tenant_id FROM (SELECT tenant_id FROM eduai.event_order"
	" UNION ALL SELECT tenant_id FROM eduai.event_block) t",
	0};

static void
learners(EduaiPersonalLearner learner, void *arg)
{
	uint64 n = eduai_core_run_latest(&tenants, NULL, NULL);
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 i = 0; i < n; i++)
	{
		Learners l = {SPI_getvalue(rows->vals[i], rows->tupdesc, 1), learner, arg, NULL,
					  CurrentMemoryContext};
		EduaiFeedFilter all = {0};
		EduaiFeedView view = eduai_events_feed_open(l.tenant);
		int64 scanned;

		(void) eduai_events_feed_read(&view, l.tenant, 0, &all, PG_INT64_MAX, tell, &l, &scanned);
		eduai_events_feed_close(&view);
	}
}

void
eduai_events_personal_init(void)
{
	static const EduaiPersonalStore events = {.name = "events",
											  .rank = 20,
											  .erase_part = erase_part,
											  .remaining = remaining,
											  .export = export_all,
											  .learners = learners};

	eduai_core_personal_register_store(&events);
	eduai_events_touched_init();
}
