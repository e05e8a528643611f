/*
 * personal_streams.c: the streams that an erasure meets.  See personal.h.
 *
 * What is found out about a stream is written to eduai.erasure_name in the
 * transaction that removes the first of its events, and holds for the rest of
 * the erasure: 'stream' for an own one and 'session' for sessions; a mixed one
 * is noted as 'mixed'.
 *
 * An erasure is many short transactions of one backend, so what is known is kept
 * in it from one to the next, unless one is rolled back.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "core/json.h"
#include "core/plan.h"
#include "core/xact.h"
#include "events/personal.h"
#include "events/read.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

typedef struct TouchedName
{
	char *name; /* the key: a kind's letter and the name */
	bool own;   /* of streams */
	int64 last; /* of mixed streams: the last version when it was asked for, or -1 */
} TouchedName;

struct EduaiTouched
{
	const EduaiPersonalWork *work;
	const char *learner_stream;
	MemoryContext context;
	HTAB *names;
	TouchedName *recent; /* the stream of the event noted last: they come in runs */
	char *tenant;        /* whose erasure it is */
	char *user_ref;
};

static EduaiTouched *kept = NULL;
static bool aborted = false; /* something that is kept was not written */

static uint32
hash_name(const void *key, Size size)
{
	const char *name = *(char *const *) key;

	return hash_bytes((const unsigned char *) name, strlen(name));
}

static int
compare_names(const void *a, const void *b, Size size)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static TouchedName *
find_name(const EduaiTouched *touched, char kind, const char *name)
{
	char *key = psprintf("%c%s", kind, name);
	TouchedName *found = hash_search(touched->names, &key, HASH_FIND, NULL);

	pfree(key);
	return found;
}

static TouchedName *
add_name(EduaiTouched *touched, char kind, const char *name)
{
	MemoryContext old = MemoryContextSwitchTo(touched->context);
	char *key = psprintf("%c%s", kind, name);
	TouchedName *added = hash_search(touched->names, &key, HASH_ENTER, NULL);

	added->own = false;
	added->last = -1;
	MemoryContextSwitchTo(old);
	return added;
}

void
eduai_events_touched_drop(void)
{
	if (kept != NULL)
		MemoryContextDelete(kept->context);
	kept = NULL;
}

static void
on_abort(void)
{
	aborted = true;
}

void
eduai_events_touched_init(void)
{
	static const EduaiXactHooks hooks = {
		.name = "erased streams", .rank = EDUAI_RANK_EVENTS, .abort = on_abort};

	eduai_core_xact_register(&hooks);
}

static EduaiTouched *
make_touched(const EduaiPersonalWork *work)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "eduai erased streams", ALLOCSET_DEFAULT_SIZES);
	HASHCTL info = {.keysize = sizeof(char *),
					.entrysize = sizeof(TouchedName),
					.hash = hash_name,
					.match = compare_names,
					.hcxt = context};
	EduaiTouched *touched = MemoryContextAllocZero(context, sizeof(EduaiTouched));

	kept = touched;
	touched->context = context;
	touched->tenant = MemoryContextStrdup(context, work->tenant);
	touched->user_ref = MemoryContextStrdup(context, work->user_ref);
	touched->learner_stream = MemoryContextStrdup(context, psprintf("learner-%s", work->user_id));
	touched->names = hash_create("eduai erased streams", 64, &info,
								 HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	return touched;
}

EduaiTouched *
eduai_events_touched_open(const EduaiPersonalWork *work)
{
	static EduaiPlan noted = {"SELECT kind, name FROM eduai.erasure_name"
							  " WHERE tenant_id = $1 AND user_ref = $2",
							  2,
							  {TEXTOID, TEXTOID}};
	EduaiTouched *touched;
	Datum args[] = {CStringGetTextDatum(work->tenant), CStringGetTextDatum(work->user_ref)};
	uint64 n;

	if (kept != NULL && !aborted && work->cursor != NULL &&
		strcmp(kept->tenant, work->tenant) == 0 && strcmp(kept->user_ref, work->user_ref) == 0)
	{
		kept->work = work;
		return kept;
	}
	eduai_events_touched_drop();
	aborted = false;
	touched = make_touched(work);
	touched->work = work;
	n = eduai_core_run_latest(&noted, args, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		char *kind = eduai_core_text(i, 1);
		bool stream = strcmp(kind, "session") != 0;

		add_name(touched, stream ? 's' : 'e', eduai_core_text(i, 2))->own =
			strcmp(kind, "stream") == 0;
	}
	return touched;
}

static char *
text_of(const text *value)
{
	return text_to_cstring(value);
}

static bool
equals(const text *value, const char *name)
{
	return VARSIZE_ANY_EXHDR(value) == strlen(name) &&
		   memcmp(VARDATA_ANY(value), name, strlen(name)) == 0;
}

bool
eduai_events_touched_is_theirs(const EduaiTouched *touched, const EduaiRecord *record)
{
	if (record->user_id && equals(record->user_id, touched->work->user_id))
		return true;
	return equals(record->stream, touched->learner_stream);
}

bool
eduai_events_touched_knows(const EduaiTouched *touched, const char *stream)
{
	return strcmp(stream, touched->learner_stream) == 0 || find_name(touched, 's', stream) != NULL;
}

/* ---- whose stream it is ---- */

typedef struct Look
{
	const EduaiTouched *touched;
	bool others;
} Look;

static bool
look_at(const EduaiRecord *record, void *arg)
{
	Look *look = arg;

	look->others = !eduai_events_touched_is_theirs(look->touched, record) &&
				   !equals(record->event_type, EDUAI_EVENT_ERASED);
	return !look->others;
}

static bool
is_own(const EduaiTouched *touched, const char *stream)
{
	Look look = {touched, false};
	Snapshot latest;

	if (strcmp(stream, touched->learner_stream) == 0)
		return true;
	latest = RegisterSnapshot(GetLatestSnapshot());
	eduai_events_read_stream(touched->work->tenant, stream, 1, PG_INT64_MAX, false, PG_INT64_MAX,
							 latest, look_at, &look);
	UnregisterSnapshot(latest);
	return !look.others;
}

static EduaiPlan note_name = {"INSERT INTO eduai.erasure_name (tenant_id, user_ref, kind, name)"
							  " VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
							  4,
							  {TEXTOID, TEXTOID, TEXTOID, TEXTOID}};

static void
keep_name(const EduaiTouched *touched, const char *kind, const char *name)
{
	Datum args[] = {CStringGetTextDatum(touched->work->tenant),
					CStringGetTextDatum(touched->work->user_ref), CStringGetTextDatum(kind),
					CStringGetTextDatum(name)};

	eduai_core_run_latest(&note_name, args, NULL);
}

static TouchedName *
note_stream(EduaiTouched *touched, const char *stream)
{
	TouchedName *known = find_name(touched, 's', stream);

	if (known != NULL)
		return known;
	known = add_name(touched, 's', stream);
	known->own = is_own(touched, stream);
	keep_name(touched, known->own ? "stream" : "mixed", stream);
	if (known->own && strcmp(stream, touched->learner_stream) != 0)
		eduai_core_personal_erase_stream(touched->work->tenant, stream);
	return known;
}

static void
note_session(EduaiTouched *touched, const char *session)
{
	if (find_name(touched, 'e', session) != NULL)
		return;
	(void) add_name(touched, 'e', session);
	keep_name(touched, "session", session);
}

/*
 * Whether an event is the last of a mixed stream.  A stream only grows, so an
 * old answer tells that it is not.
 */
static bool
is_last(EduaiTouched *touched, TouchedName *known, int64 version)
{
	Snapshot latest;

	if (version < known->last)
		return false;
	latest = RegisterSnapshot(GetLatestSnapshot());
	known->last = eduai_events_version(touched->work->tenant, known->name + 1, latest);
	UnregisterSnapshot(latest);
	return version == known->last;
}

bool
eduai_events_touched_note(EduaiTouched *touched, const EduaiRecord *record)
{
	MemoryContext old = CurrentMemoryContext;
	bool last;

	if (record->session_id)
		note_session(touched, text_of(record->session_id));
	if (touched->recent == NULL || !equals(record->stream, touched->recent->name + 1))
		touched->recent = note_stream(touched, text_of(record->stream));
	last = !touched->recent->own && is_last(touched, touched->recent, record->version);
	MemoryContextSwitchTo(old);
	return last;
}

static int
compare_streams(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

char **
eduai_events_touched_streams(const EduaiTouched *touched, int *n)
{
	char **streams = palloc(sizeof(char *) * (hash_get_num_entries(touched->names) + 1));
	HASH_SEQ_STATUS all;
	TouchedName *each;

	*n = 0;
	hash_seq_init(&all, touched->names);
	while ((each = hash_seq_search(&all)) != NULL)
		if (each->name[0] == 's')
			streams[(*n)++] = each->name + 1;
	qsort(streams, *n, sizeof(char *), compare_streams);
	return streams;
}

void
eduai_events_touched_find(EduaiTouched *touched)
{
	static EduaiPlan find = {"SELECT DISTINCT stream, session_id FROM eduai.event"
							 " WHERE tenant_id = $1 AND user_id = $2",
							 2,
							 {TEXTOID, TEXTOID}};
	Datum args[] = {CStringGetTextDatum(touched->work->tenant),
					CStringGetTextDatum(touched->work->user_id)};
	uint64 n = eduai_core_run_latest(&find, args, NULL);
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 i = 0; i < n; i++)
	{
		char *session = SPI_getvalue(rows->vals[i], rows->tupdesc, 2);

		(void) note_stream(touched, SPI_getvalue(rows->vals[i], rows->tupdesc, 1));
		if (session != NULL)
			note_session(touched, session);
	}
}

/* ---- blank events ---- */

static Jsonb *
empty_object(void)
{
	EduaiJson j;

	eduai_core_json_begin(&j);
	return eduai_core_json_end(&j);
}

void
eduai_events_record_blank(EduaiRecord *record)
{
	record->event_type = cstring_to_text(EDUAI_EVENT_ERASED);
	record->user_id = NULL;
	record->session_id = NULL;
	record->schema_version = 1;
	record->id_given = false;
	record->occurred_at = record->recorded_at;
	record->data = empty_object();
	record->metadata = empty_object();
}
