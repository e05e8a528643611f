/*
 * retry.c: folding parked events again.  See retry.h.
 *
 * A key is taken up from its first parked event, page by page, until one fails
 * or none is left; its row is written once.  What waited behind is folded in
 * the order of "place", so the state becomes what it would be without the
 * failure.  An event that is gone from the log is passed over.
 *
 * Nobody's key is locked for this, only the parked events: rows with "parked"
 * set are touched under that lock alone (park.h).  The gate keeps an inline
 * cut-over away, as it does from appends.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/guard.h"
#include "core/plan.h"
#include "events/event_type.h"
#include "events/projector.h"
#include "events/read.h"
#include "projections/park.h"
#include "projections/reduce.h"
#include "projections/retry.h"
#include "projections/state_table.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* events of a key held in memory at a time */
#define PAGE 500

/* A parked event, and the event itself, NULL when it is to be passed over. */
typedef struct Parked
{
	int64 place;
	int64 version;
	char *stream;
	pg_uuid_t event_id;
	int schema_version;
	EduaiEvent *event;
} Parked;

typedef struct ParkedPage
{
	const EduaiFold *fold; /* its events are not used */
	const char *key;
	MemoryContext context;
	Parked *parked;
	int n;
	int failed;       /* number of the one that failed; n: none */
	ErrorData *error; /* of that */
} ParkedPage;

/* ---- a page ---- */

/* In SPI, as the owner: the key's first parked events, but for skipped ones. */
static void
read_page(ParkedPage *page)
{
	static EduaiPlan read = {
		"SELECT p.place, p.version, p.stream, p.event_id,"
		" EXISTS (SELECT FROM eduai.projection_skipped AS s WHERE s.tenant_id = p.tenant_id"
		"  AND s.projection = p.projection AND s.event_id = p.event_id)"
		" FROM eduai.projection_parked AS p WHERE p.tenant_id = $1 AND p.projection = $2"
		" AND p.generation = $3 AND p.key = $4 ORDER BY p.place LIMIT $5",
		5,
		{TEXTOID, INT4OID, INT4OID, TEXTOID, INT8OID}};
	Datum args[5] = {
		CStringGetTextDatum(page->fold->tenant), Int32GetDatum(page->fold->projection->id),
		Int32GetDatum(page->fold->generation), CStringGetTextDatum(page->key), Int64GetDatum(PAGE)};
	bool isnull;

	page->n = (int) eduai_core_run_latest(&read, args, NULL);
	page->parked = palloc0(sizeof(Parked) * Max(page->n, 1));
	for (int i = 0; i < page->n; i++)
	{
		Parked *p = &page->parked[i];

		p->place = eduai_core_int64(i, 1, 0);
		p->stream = eduai_core_text(i, 3);
		p->event_id = *DatumGetUUIDP(eduai_core_value(i, 4, &isnull));
		/* version 0 is none of a stream */
		if (!DatumGetBool(eduai_core_value(i, 5, &isnull)))
			p->version = eduai_core_int64(i, 2, 0);
	}
}

static char *
text_of(const text *value)
{
	return value ? text_to_cstring(value) : NULL;
}

static Jsonb *
copy_json(const Jsonb *json)
{
	return memcpy(palloc(VARSIZE(json)), json, VARSIZE(json));
}

/* A sink: the event belongs to one of the page, if it is the same one still. */
static bool
take_event(const EduaiRecord *record, void *arg)
{
	ParkedPage *page = arg;
	MemoryContext old = MemoryContextSwitchTo(page->context);

	for (int i = 0; i < page->n; i++)
	{
		Parked *p = &page->parked[i];

		if (p->event != NULL || memcmp(&p->event_id, &record->event_id, sizeof(pg_uuid_t)) != 0)
			continue;
		p->schema_version = record->schema_version;
		p->event = palloc0(sizeof(EduaiEvent));
		*p->event = (EduaiEvent){.stream = text_of(record->stream),
								 .event_type = text_of(record->event_type),
								 .user_id = text_of(record->user_id),
								 .session_id = text_of(record->session_id),
								 .data = copy_json(record->data),
								 .metadata = copy_json(record->metadata),
								 .event_id = record->event_id,
								 .schema_version = record->schema_version,
								 .occurred_at = record->occurred_at,
								 .recorded_at = record->recorded_at,
								 .version = record->version};
		break;
	}
	MemoryContextSwitchTo(old);
	return true;
}

/* Reads the page's events, a read for each row of successive versions of a stream. */
static void
fetch_events(ParkedPage *page)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());

	for (int i = 0, next; i < page->n; i = next)
	{
		const Parked *first = &page->parked[i];

		next = i + 1;
		if (first->version == 0)
			continue;
		while (next < page->n && page->parked[next].version == first->version + (next - i) &&
			   strcmp(page->parked[next].stream, first->stream) == 0)
			next++;
		eduai_events_read_stream(page->fold->tenant, first->stream, first->version,
								 first->version + (next - i) - 1, false, next - i, snapshot,
								 take_event, page);
	}
	UnregisterSnapshot(snapshot);
}

/* For the guard: upcasters are users' functions, too. */
static void
upcast_events(void *arg)
{
	ParkedPage *page = arg;

	for (int i = 0; i < page->n; i++)
	{
		Parked *p = &page->parked[i];

		page->failed = i;
		if (p->event != NULL)
			p->event->data = eduai_events_upcast(p->event->event_type, strlen(p->event->event_type),
												 p->schema_version, p->event->data);
	}
	page->failed = page->n;
}

/* Folds the page's events onto the row, up to one that fails; returns how many. */
static int
fold_page(ParkedPage *page, EduaiStateRow *row)
{
	EduaiReduction r = {.row = *row};
	int *numbers = palloc_array(int, Max(page->n, 1));

	page->error = eduai_core_guard(upcast_events, page, eduai_projections_reducer_timeout());
	r.run = (EduaiKeyRun){.key = page->key, .events = palloc_array(EduaiEvent *, Max(page->n, 1))};
	for (int i = 0; i < page->failed; i++)
		if (page->parked[i].event != NULL)
		{
			numbers[r.run.nevents] = i;
			r.run.events[r.run.nevents++] = page->parked[i].event;
		}
	if (r.run.nevents == 0)
		return 0;
	eduai_projections_reduce(page->fold, &r, 1);
	if (r.error != NULL)
	{
		page->error = r.error;
		page->failed = numbers[r.folded];
	}
	*row = r.after;
	return r.folded;
}

/* ---- what came of a page ---- */

/* In SPI, as the owner: those that were folded, or passed over, are parked no more. */
static void
delete_done(const ParkedPage *page)
{
	static EduaiPlan delete = {
		"DELETE FROM eduai.projection_parked WHERE tenant_id = $1 AND projection = $2"
		" AND generation = $3 AND key = $4 AND place <= $5",
		5,
		{TEXTOID, INT4OID, INT4OID, TEXTOID, INT8OID}};
	Datum args[5] = {CStringGetTextDatum(page->fold->tenant),
					 Int32GetDatum(page->fold->projection->id),
					 Int32GetDatum(page->fold->generation), CStringGetTextDatum(page->key)};

	if (page->failed == 0)
		return;
	args[4] = Int64GetDatum(page->parked[page->failed - 1].place);
	eduai_core_run_latest(&delete, args, NULL);
}

/* In SPI, as the owner: how often the event was tried, with this time. */
static int
count_try(const ParkedPage *page, Datum *args)
{
	static EduaiPlan count = {
		"SELECT tries + 1 FROM eduai.projection_parked WHERE tenant_id = $1 AND projection = $2"
		" AND generation = $3 AND key = $4 AND place = $5",
		5,
		{TEXTOID, INT4OID, INT4OID, TEXTOID, INT8OID}};

	return eduai_core_run_latest(&count, args, NULL) > 0 ? (int) eduai_core_int64(0, 1, 1) : 1;
}

static void
record_failure(const ParkedPage *page)
{
	static EduaiPlan record = {
		"UPDATE eduai.projection_parked SET error = $6, sqlstate = $7, tries = $8,"
		" next_try_at = $9 WHERE tenant_id = $1 AND projection = $2"
		" AND generation = $3 AND key = $4 AND place = $5",
		9,
		{TEXTOID, INT4OID, INT4OID, TEXTOID, INT8OID, TEXTOID, TEXTOID, INT4OID, TIMESTAMPTZOID}};
	TimestampTz next_try;
	int tries;
	Datum args[9] = {CStringGetTextDatum(page->fold->tenant),
					 Int32GetDatum(page->fold->projection->id),
					 Int32GetDatum(page->fold->generation),
					 CStringGetTextDatum(page->key),
					 Int64GetDatum(page->parked[page->failed].place),
					 CStringGetTextDatum(page->error->message),
					 CStringGetTextDatum(unpack_sql_state(page->error->sqlerrcode))};

	tries = count_try(page, args);
	next_try = eduai_projections_next_try(tries);
	args[7] = Int32GetDatum(tries);
	args[8] = TimestampTzGetDatum(next_try);
	eduai_core_run_latest(&record, args, next_try == 0 ? "        n" : NULL);
	eduai_events_projector_wake_at_commit();
}

/* ---- a key ---- */

/* In SPI, as the owner: a key without folded events has no row, as in a rebuild. */
static void
delete_row(const EduaiFold *fold, const char *key)
{
	static EduaiPlan delete = {
		"DELETE FROM eduai.projection_state WHERE tenant_id = $1 AND projection = $2"
		" AND generation = $3 AND key = $4",
		4,
		{TEXTOID, INT4OID, INT4OID, TEXTOID}};
	Datum args[4] = {CStringGetTextDatum(fold->tenant), Int32GetDatum(fold->projection->id),
					 Int32GetDatum(fold->generation), CStringGetTextDatum(key)};

	eduai_core_run_latest(&delete, args, NULL);
}

static void
write_row(const EduaiFold *fold, const char *key, const EduaiStateRow *row)
{
	EduaiStateTable *table =
		eduai_projections_states_open(fold->tenant, fold->projection->id, fold->generation);

	eduai_projections_states_write(table, key, row);
	eduai_projections_states_close(table);
	if (!row->parked && row->version == 0)
		delete_row(fold, key);
}

static bool
read_row(const EduaiFold *fold, const char *key, EduaiStateRow *row)
{
	EduaiStateTable *table =
		eduai_projections_states_open(fold->tenant, fold->projection->id, fold->generation);

	eduai_projections_states_read(table, key, row);
	eduai_projections_states_close(table);
	return row->found && row->parked;
}

/* One page; true when all of it went well and there may be more. */
static bool
try_page(const EduaiFold *fold, const char *key, MemoryContext context, EduaiStateRow *row,
		 int64 *folded)
{
	ParkedPage page = {.fold = fold, .key = key, .context = context};

	read_page(&page);
	fetch_events(&page);
	*folded += fold_page(&page, row);
	delete_done(&page);
	if (page.error != NULL)
		record_failure(&page);
	row->parked = page.error != NULL;
	return page.error == NULL && page.n == PAGE;
}

int64
eduai_projections_retry_key(const EduaiFold *fold, const char *key)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext outer = AllocSetContextCreate(caller, "eduai retried key", ALLOCSET_SMALL_SIZES);
	MemoryContext context = AllocSetContextCreate(caller, "eduai retry", ALLOCSET_DEFAULT_SIZES);
	EduaiStateRow row;
	int64 folded = 0;
	bool more = true;

	MemoryContextSwitchTo(outer);
	if (!read_row(fold, key, &row))
		more = false;
	else
		while (more)
		{
			Jsonb *before = row.state;

			MemoryContextReset(context);
			MemoryContextSwitchTo(context);
			more = try_page(fold, key, context, &row, &folded);
			MemoryContextSwitchTo(outer);
			if (row.state != before)
				row.state = copy_json(row.state);
			if (!more)
				write_row(fold, key, &row);
		}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	MemoryContextDelete(outer);
	return folded;
}

EduaiFold
eduai_projections_refold(const EduaiProjection *projection, int generation, const char *tenant)
{
	return (EduaiFold){.projection = eduai_projections_as_of(projection, generation),
					   .generation = generation,
					   .tenant = tenant};
}
