/*
 * repeat.c: events that were appended before.  See repeat.h.
 *
 * The lock on an id makes two calls with the same id take turns, so that the
 * second finds what the first committed; the unique index is the second wall.
 * The search uses the latest snapshot: under REPEATABLE READ the first append
 * may have been committed after this transaction's snapshot was taken.
 */
#include "postgres.h"

#include "core/errors.h"
#include "core/lock.h"
#include "events/block.h"
#include "events/repeat.h"
#include "events/sensitive.h"
#include "events/store.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

/* An event with a given id: its place in the batch. */
typedef struct Given
{
	const pg_uuid_t *id;
	int index;
} Given;

/* What matching a batch with the log needs. */
typedef struct Search
{
	EduaiAppendBatch *batch;
	const bool *time_given;
	const Given *given;
	int n;
	int *repeat;
} Search;

static int
compare_given(const void *a, const void *b)
{
	const Given *x = a;
	const Given *y = b;
	int order = memcmp(x->id, y->id, UUID_LEN);

	return order != 0 ? order : x->index - y->index;
}

static char *
uuid_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

static bool
same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool
same_json(const Jsonb *a, const Jsonb *b)
{
	return compareJsonbContainers((JsonbContainer *) &a->root, (JsonbContainer *) &b->root) == 0;
}

/*
 * Sealed twice, the same data give the same bytes; what was stored before its
 * field became sensitive, or under a key that is gone, is compared in clear.
 */
static bool
same_data(const char *tenant, const EduaiEvent *event, const EduaiEvent *first)
{
	if (same_json(event->data, first->data))
		return true;
	return same_json(eduai_events_in_clear(tenant, event->user_id, event->event_type, event->data),
					 eduai_events_in_clear(tenant, event->user_id, event->event_type, first->data));
}

/* The first column in which two events differ, or NULL. */
static const char *
difference(const char *tenant, const EduaiEvent *event, bool time_given, const EduaiEvent *first)
{
	if (!same_text(event->stream, first->stream))
		return "stream";
	if (!same_text(event->event_type, first->event_type))
		return "event_type";
	if (!same_data(tenant, event, first))
		return "data";
	if (!same_text(event->user_id, first->user_id))
		return "user_id";
	if (!same_text(event->session_id, first->session_id))
		return "session_id";
	if (!same_json(event->metadata, first->metadata))
		return "metadata";
	if (time_given && event->occurred_at != first->occurred_at)
		return "occurred_at";
	return NULL;
}

static void
require_same(const char *tenant, const EduaiEvent *event, bool time_given, const EduaiEvent *first)
{
	const char *column = difference(tenant, event, time_given, first);

	if (column == NULL)
		return;
	ereport(ERROR,
			(errcode(EDUAI_IDEMPOTENCY_CONFLICT),
			 errmsg("event id \"%s\" exists with other content", uuid_text(&event->event_id)),
			 first->version > 0
				 ? errdetail("Version %lld of stream \"%s\" has it and differs in \"%s\".",
							 (long long) first->version, first->stream, column)
				 : errdetail("Two events of this call have it and differ in \"%s\".", column),
			 errhint("Repeat an append with the same content, or give another id.")));
}

static char *
optional_cstring(text *value)
{
	return value ? text_to_cstring(value) : NULL;
}

static EduaiEvent
stored_event(const EduaiRecord *record)
{
	return (EduaiEvent){
		.event_id = record->event_id,
		.stream = text_to_cstring(record->stream),
		.version = record->version,
		.event_type = text_to_cstring(record->event_type),
		.user_id = optional_cstring(record->user_id),
		.session_id = optional_cstring(record->session_id),
		.data = record->data,
		.metadata = record->metadata,
		.occurred_at = record->occurred_at,
		.recorded_at = record->recorded_at,
	};
}

/* The events with given ids, sorted by id and place; n is their number. */
static Given *
collect_given(const EduaiAppendBatch *batch, int *n)
{
	Given *given = palloc(sizeof(Given) * batch->nevents);

	*n = 0;
	for (int i = 0; i < batch->nevents; i++)
		if (!batch->events[i].own_id)
			given[(*n)++] = (Given){&batch->events[i].event_id, i};
	qsort(given, *n, sizeof(Given), compare_given);
	return given;
}

static bool
lock_given(const EduaiAppendBatch *batch, const Given *given, int n)
{
	uint64 *keys = palloc(sizeof(uint64) * n);

	for (int i = 0; i < n; i++)
		keys[i] = eduai_core_lock_key(batch->tenant, uuid_text(given[i].id));
	return eduai_core_lock_all(EDUAI_LOCK_EVENT_ID, keys, n, batch->nowait);
}

/* Within the batch, the second event with an id is a repeat of the first. */
static void
match_each_other(EduaiAppendBatch *batch, const bool *time_given, const Given *given, int n,
				 int *repeat)
{
	int first = 0;

	for (int i = 1; i < n; i++)
	{
		if (memcmp(given[first].id, given[i].id, UUID_LEN) != 0)
			first = i;
		else
		{
			require_same(batch->tenant, &batch->events[given[i].index], time_given[given[i].index],
						 &batch->events[given[first].index]);
			repeat[given[i].index] = given[first].index;
		}
	}
}

/* The first of the events with this id; there is one. */
static int
find_given(const Given *given, int n, const pg_uuid_t *id)
{
	int low = 0;
	int high = n - 1;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (memcmp(given[middle].id, id, UUID_LEN) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return given[low].index;
}

/* An event that is stored under one of the ids. */
static bool
match_record(const EduaiRecord *record, void *arg)
{
	const Search *search = arg;
	EduaiEvent stored = stored_event(record);
	int index = find_given(search->given, search->n, &stored.event_id);
	EduaiEvent *event = &search->batch->events[index];

	require_same(search->batch->tenant, event, search->time_given[index], &stored);
	event->version = stored.version;
	event->occurred_at = stored.occurred_at;
	event->recorded_at = stored.recorded_at;
	search->repeat[index] = EDUAI_EVENTS_STORED;
	return true;
}

static void
match_stored(Search *search)
{
	Snapshot latest = RegisterSnapshot(GetLatestSnapshot());
	EduaiHotReader *reader = eduai_events_hot_open(latest);
	pg_uuid_t *ids = palloc(sizeof(pg_uuid_t) * search->n);

	for (int i = 0; i < search->n; i++)
		ids[i] = *search->given[i].id;
	eduai_events_hot_find(reader, search->batch->tenant, ids, search->n, match_record, search);
	eduai_events_block_find(search->batch->tenant, ids, search->n, latest, match_record, search);
	eduai_events_hot_close(reader);
	UnregisterSnapshot(latest);
	pfree(ids);
}

bool
eduai_events_find_repeats(EduaiAppendBatch *batch, const bool *time_given, int *repeat)
{
	int n;
	Given *given = collect_given(batch, &n);

	for (int i = 0; i < batch->nevents; i++)
		repeat[i] = EDUAI_EVENTS_NEW;
	if (n == 0)
		return true;
	match_each_other(batch, time_given, given, n, repeat);
	if (!lock_given(batch, given, n))
		return false;
	match_stored(&(Search){batch, time_given, given, n, repeat});
	return true;
}
