/*
 * append.c: the one way into the log.  See append.h.
 *
 * A stream's lock, held to commit, makes its writers take turns, so that the
 * next version is one more than the last, found by one backward probe of the
 * primary key.  The probe uses the latest snapshot: what the lock waited for
 * may have been committed after a REPEATABLE READ transaction's snapshot.
 *
 * Order within a call: check, room for locks, hooks' before, sealing, locks (ids,
 * streams, hooks'), versions, the rows and their note for the order, hooks'
 * after.  Everything that can be refused or can wait comes before the first
 * write.
 *
 * Caveat: a caller that writes eduai.event by other means takes no lock and
 * can make an append fail with 23505; nobody is granted that.
 */
#include "postgres.h"

#include "core/privilege.h"
#include "core/clock.h"
#include "core/errors.h"
#include "core/json.h"
#include "core/lock.h"
#include "core/pause.h"
#include "core/personal.h"
#include "events/append.h"
#include "events/event_type.h"
#include "events/lock_count.h"
#include "events/order.h"
#include "events/position.h"
#include "events/repeat.h"
#include "events/sensitive.h"
#include "events/store.h"
#include "events/validate.h"
#include "executor/spi.h"
#include "miscadmin.h"

/* A stream of the batch and its events, as a run of an array sorted by stream. */
typedef struct StreamRun
{
	EduaiEvent **events; /* in the order of the batch */
	int nevents;
	int64 version; /* the last stored one, 0 when there is none */
} StreamRun;

typedef struct StreamRuns
{
	StreamRun *runs;
	int nruns;
	EduaiEvent **events; /* all of the batch, sorted by stream */
} StreamRuns;

static Jsonb *
empty_object(void)
{
	EduaiJson j;

	eduai_core_json_begin(&j);
	return eduai_core_json_end(&j);
}

/* Fills what the caller left to eduai; says which events came with a time. */
static bool *
complete_events(EduaiAppendBatch *batch)
{
	bool *time_given = palloc(sizeof(bool) * batch->nevents);
	TimestampTz now = eduai_core_now();
	Jsonb *empty = NULL;

	for (int i = 0; i < batch->nevents; i++)
	{
		EduaiEvent *event = &batch->events[i];

		time_given[i] = event->occurred_at != EDUAI_EVENTS_NOW;
		if (!time_given[i])
			event->occurred_at = now;
		event->recorded_at = now;
		event->version = 0;
		if (empty == NULL && (event->data == NULL || event->metadata == NULL))
			empty = empty_object();
		if (event->data == NULL)
			event->data = empty;
		if (event->metadata == NULL)
			event->metadata = empty;
	}
	return time_given;
}

static int
compare_streams(const void *a, const void *b)
{
	const EduaiEvent *x = *(EduaiEvent *const *) a;
	const EduaiEvent *y = *(EduaiEvent *const *) b;
	int order = strcmp(x->stream, y->stream);

	/* events stand in one array: their addresses tell their order */
	return order != 0 ? order : x < y ? -1 : x > y;
}

static StreamRuns
group_by_stream(const EduaiAppendBatch *batch)
{
	EduaiEvent **events = palloc(sizeof(EduaiEvent *) * batch->nevents);
	StreamRuns streams = {palloc(sizeof(StreamRun) * batch->nevents), 0, events};

	for (int i = 0; i < batch->nevents; i++)
		events[i] = &batch->events[i];
	qsort(events, batch->nevents, sizeof(EduaiEvent *), compare_streams);
	for (int i = 0; i < batch->nevents; i++)
	{
		if (i == 0 || strcmp(events[i]->stream, events[i - 1]->stream) != 0)
			streams.runs[streams.nruns++] = (StreamRun){&events[i], 0, 0};
		streams.runs[streams.nruns - 1].nevents++;
	}
	return streams;
}

static bool
lock_streams(const EduaiAppendBatch *batch, const StreamRuns *streams)
{
	uint64 *keys = palloc(sizeof(uint64) * streams->nruns);

	for (int i = 0; i < streams->nruns; i++)
		keys[i] = eduai_core_lock_key(batch->tenant, streams->runs[i].events[0]->stream);
	return eduai_core_lock_all(EDUAI_LOCK_STREAM, keys, streams->nruns, batch->nowait);
}

static void
find_versions(const EduaiAppendBatch *batch, StreamRuns *streams)
{
	char **names = palloc(sizeof(char *) * streams->nruns);
	int64 *versions = palloc0(sizeof(int64) * streams->nruns);

	for (int i = 0; i < streams->nruns; i++)
		names[i] = streams->runs[i].events[0]->stream;
	eduai_events_last_versions(batch->tenant, names, streams->nruns, versions);
	for (int i = 0; i < streams->nruns; i++)
	{
		streams->runs[i].version = versions[i];
		/* nothing there: perhaps because its learner was erased */
		if (versions[i] == 0)
			eduai_core_personal_check_stream(batch->tenant, names[i]);
	}
}

static void
check_expected(const StreamRun *run, int64 expected)
{
	if (run->version != expected)
		ereport(ERROR, (errcode(EDUAI_VERSION_CONFLICT),
						errmsg("stream \"%s\" is not at version %lld", run->events[0]->stream,
							   (long long) expected),
						errdetail("It is at version %lld.", (long long) run->version),
						errhint("Read the stream's new events and decide again.")));
}

static void
number_events(StreamRuns *streams, const int64 *expected_version)
{
	for (int i = 0; i < streams->nruns; i++)
	{
		StreamRun *run = &streams->runs[i];

		if (expected_version)
			check_expected(run, *expected_version);
		for (int j = 0; j < run->nevents; j++)
			run->events[j]->version = run->version + j + 1;
	}
}

/* Appends events that are all new. */
static bool
append_new(EduaiAppendBatch *batch, const int64 *expected_version, bool hooks)
{
	StreamRuns streams = group_by_stream(batch);

	if (!lock_streams(batch, &streams) || (hooks && !eduai_core_append_lock(batch)))
		return false;
	EDUAI_PAUSE("events_append_locked");
	find_versions(batch, &streams);
	number_events(&streams, expected_version);
	eduai_events_insert(batch, streams.events);
	eduai_events_order_note(batch);
	EDUAI_PAUSE("events_append_inserted");
	if (hooks)
		eduai_core_append_after(batch);
	return true;
}

/* Appends those of the batch that are new; the others take over what is known. */
static bool
append_rest(EduaiAppendBatch *batch, const int *repeat, int nnew, const int64 *expected_version,
			bool hooks)
{
	EduaiAppendBatch rest = *batch;
	int next = 0;

	rest.events = palloc(sizeof(EduaiEvent) * nnew);
	rest.nevents = nnew;
	for (int i = 0; i < batch->nevents; i++)
		if (repeat[i] == EDUAI_EVENTS_NEW)
			rest.events[next++] = batch->events[i];
	if (nnew > 0 && !append_new(&rest, expected_version, hooks))
		return false;
	next = 0;
	for (int i = 0; i < batch->nevents; i++)
	{
		const EduaiEvent *source = NULL;

		if (repeat[i] == EDUAI_EVENTS_NEW)
			source = &rest.events[next++];
		else if (repeat[i] >= 0)
			source = &batch->events[repeat[i]];
		else
			continue;
		batch->events[i].event_id = source->event_id;
		batch->events[i].version = source->version;
		batch->events[i].occurred_at = source->occurred_at;
		batch->events[i].recorded_at = source->recorded_at;
	}
	return true;
}

/*
 * What is stored already was checked when it was new.  clear: the data as they
 * were given, NULL where nothing was sealed.
 */
static void
check_types(EduaiAppendBatch *batch, const int *repeat, Jsonb *const *clear)
{
	EduaiEventsPlace place;

	if (batch->nevents > 1)
		eduai_events_place_push(&place, batch->nevents);
	for (int i = 0; i < batch->nevents; i++)
	{
		EduaiEvent *event = &batch->events[i];

		place.number = i + 1;
		if (repeat[i] == EDUAI_EVENTS_NEW)
			event->schema_version =
				eduai_events_type_check(event->event_type, batch->own ? NULL
														   : clear    ? clear[i]
																	  : event->data);
	}
	if (batch->nevents > 1)
		eduai_events_place_pop(&place);
}

static bool
append_checked(EduaiAppendBatch *batch, const int64 *expected_version, bool hooks, int64 *inserted)
{
	bool *time_given = complete_events(batch);
	int *repeat = palloc(sizeof(int) * batch->nevents);
	Jsonb **clear;
	int nnew = 0;

	if (hooks)
		eduai_core_append_before(batch);
	clear = eduai_events_seal_sensitive(batch);
	if (!eduai_events_find_repeats(batch, time_given, repeat))
		return false;
	check_types(batch, repeat, clear);
	for (int i = 0; i < batch->nevents; i++)
		nnew += repeat[i] == EDUAI_EVENTS_NEW ? 1 : 0;
	*inserted = nnew;
	if (nnew == batch->nevents)
		return append_new(batch, expected_version, hooks);
	return append_rest(batch, repeat, nnew, expected_version, hooks);
}

/* Only hooks that run SQL need a switch to the owner, and SPI. */
static bool
append_with_hooks(EduaiAppendBatch *batch, const int64 *expected_version, int64 *inserted)
{
	EduaiAppendInterest interest;
	EduaiPrivilege saved;
	bool done;

	if (!eduai_core_append_enter(batch))
		return false;
	interest = eduai_core_append_wanted(batch);
	if (interest != EDUAI_APPEND_SQL)
		return append_checked(batch, expected_version, interest != EDUAI_APPEND_NONE, inserted);
	eduai_core_enter(&saved);
	SPI_connect();
	done = append_checked(batch, expected_version, true, inserted);
	SPI_finish();
	eduai_core_leave(&saved);
	return done;
}

/* Nothing more about a learner who was erased, nor in the stream that bears the name. */
static void
check_learners(const EduaiAppendBatch *batch)
{
	for (int i = 0; i < batch->nevents; i++)
	{
		const EduaiEvent *event = &batch->events[i];
		bool named = strncmp(event->stream, "learner-", 8) == 0;

		eduai_core_personal_check(batch->tenant, event->user_id);
		if (named && (event->user_id == NULL || strcmp(event->stream + 8, event->user_id) != 0))
			eduai_core_personal_check_stream(batch->tenant, event->stream);
	}
}

bool
eduai_events_append(EduaiAppendBatch *batch, const int64 *expected_version, int64 *inserted)
{
	int64 nnew = 0;
	bool done = true;

	PreventCommandIfReadOnly("an append of events");
	if (expected_version && *expected_version < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid expected_version %lld", (long long) *expected_version),
						errhint("Use 0 for a stream that must not exist, NULL for any version.")));
	eduai_events_check(batch);
	check_learners(batch);
	eduai_events_position_prepare();
	if (!eduai_events_expect_locks(batch))
		done = false;
	else if (batch->nevents > 0)
		done = append_with_hooks(batch, expected_version, &nnew);
	if (inserted)
		*inserted = done ? nnew : 0;
	return done;
}
