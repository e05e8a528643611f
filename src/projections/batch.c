/*
 * batch.c: the next events of the feed that a follower wants.  See batch.h.
 *
 * A record's names are put end to end into a scratch buffer, as C strings, and
 * looked at there; only an event that is wanted gets a chunk of its own, with
 * everything that it points to.
 */
#include "postgres.h"

#include "core/clock.h"
#include "events/event_type.h"
#include "projections/batch.h"
#include "utils/memutils.h"

/* a batch ends with the first of these that is reached */
typedef struct Limits
{
	int events;
	int scanned;
	size_t bytes;
	int64 us;
} Limits;

/* In the projector, where others wait for their turn. */
static const Limits in_turn = {5000, 50000, 8 * 1024 * 1024, 200000};

/*
 * In a process of its own.  Each key is written once a step: in larger ones
 * less often, which counts when a snapshot that somebody holds (who waits for
 * a rebuild has one) keeps every version of every row.
 */
static const Limits alone = {25000, 200000, 32 * 1024 * 1024, 1000000};

#define CLOCK_EVERY 256 /* events, between looks at the clock */

typedef struct Reading
{
	EduaiBatch *batch;
	const EduaiProjection *projection;
	const EduaiFollower *follower;
	char *names; /* scratch */
	size_t names_size;
	int size; /* of batch->events */
	int scanned;
	size_t bytes;
	int64 end_us;
	const Limits *limits;
} Reading;

/* ---- from records to events ---- */

/* Appends a name to the scratch buffer at *end, which has room. */
static char *
put_name(char **end, const text *name)
{
	char *start = *end;
	size_t length;

	if (name == NULL)
		return NULL;
	length = VARSIZE_ANY_EXHDR(name);
	memcpy(start, VARDATA_ANY(name), length);
	start[length] = '\0';
	*end = start + length + 1;
	return start;
}

static size_t
room_of(const text *name)
{
	return name == NULL ? 0 : VARSIZE_ANY_EXHDR(name) + 1;
}

/* The event with its names in the scratch buffer; returns how long they are. */
static size_t
sketch(Reading *r, const EduaiRecord *record, EduaiEvent *event)
{
	size_t room = room_of(record->stream) + room_of(record->event_type) + room_of(record->user_id) +
				  room_of(record->session_id);
	char *end;

	if (room > r->names_size)
	{
		r->names_size = room * 2;
		r->names = MemoryContextAlloc(r->batch->context, r->names_size);
	}
	end = r->names;
	*event = (EduaiEvent){
		.stream = put_name(&end, record->stream),
		.event_type = put_name(&end, record->event_type),
		.user_id = put_name(&end, record->user_id),
		.session_id = put_name(&end, record->session_id),
		.data = record->data,
		.metadata = record->metadata,
		.event_id = record->event_id,
		.own_id = !record->id_given,
		.schema_version = record->schema_version,
		.occurred_at = record->occurred_at,
		.recorded_at = record->recorded_at,
		.version = record->version,
	};
	return room;
}

static Jsonb *
put_json(char **end, const Jsonb *json)
{
	Jsonb *copy = (Jsonb *) *end;

	memcpy(copy, json, VARSIZE(json));
	*end += MAXALIGN(VARSIZE(json));
	return copy;
}

/* A name of the scratch buffer where the buffer was copied to. */
static char *
moved(const Reading *r, char *to, const char *name)
{
	return name == NULL ? NULL : to + (name - r->names);
}

/* Keeps the event: one chunk for it and all that it points to. */
static void
keep(Reading *r, const EduaiEvent *sketched, size_t names, int64 position)
{
	EduaiBatch *batch = r->batch;
	size_t size = MAXALIGN(sizeof(EduaiEvent)) + MAXALIGN(VARSIZE(sketched->data)) +
				  MAXALIGN(VARSIZE(sketched->metadata)) + names;
	EduaiEvent *event = MemoryContextAllocHuge(batch->context, size);
	char *end = (char *) event + MAXALIGN(sizeof(EduaiEvent));

	*event = *sketched;
	event->data = put_json(&end, sketched->data);
	event->metadata = put_json(&end, sketched->metadata);
	memcpy(end, r->names, names);
	event->stream = moved(r, end, sketched->stream);
	event->event_type = moved(r, end, sketched->event_type);
	event->user_id = moved(r, end, sketched->user_id);
	event->session_id = moved(r, end, sketched->session_id);
	if (batch->n == r->size)
	{
		r->size *= 2;
		batch->events = repalloc_array(batch->events, EduaiEvent *, r->size);
		batch->positions = repalloc_array(batch->positions, int64, r->size);
	}
	batch->events[batch->n] = event;
	batch->positions[batch->n++] = position;
	r->bytes += size;
}

static bool
take(const EduaiRecord *record, void *arg)
{
	Reading *r = arg;
	EduaiEvent event;
	size_t names = sketch(r, record, &event);

	r->scanned++;
	if (eduai_projections_wants(r->projection, &event) &&
		eduai_projections_lane(eduai_projections_key(r->projection, &event), r->follower->lanes) ==
			r->follower->lane)
		keep(r, &event, names, record->position);
	return r->batch->n < r->limits->events && r->scanned < r->limits->scanned &&
		   r->bytes < r->limits->bytes &&
		   (r->scanned % CLOCK_EVERY != 0 || eduai_core_mono_us() < r->end_us);
}

/* Not in the sink: an upcaster may run any SQL. */
static void
upcast(EduaiBatch *batch)
{
	MemoryContext old = MemoryContextSwitchTo(batch->context);

	for (int i = 0; i < batch->n; i++)
	{
		EduaiEvent *event = batch->events[i];

		event->data = eduai_events_upcast(event->event_type, strlen(event->event_type),
										  event->schema_version, event->data);
	}
	MemoryContextSwitchTo(old);
}

EduaiBatch *
eduai_projections_batch_read(const EduaiProjection *projection, const EduaiFollower *follower,
							 const EduaiFeedView *view, int64 after)
{
	MemoryContext context = GenerationContextCreate(CurrentMemoryContext, "eduai batch", 8 * 1024,
													64 * 1024, 1024 * 1024);
	MemoryContext old = MemoryContextSwitchTo(context);
	EduaiBatch *batch = palloc0_object(EduaiBatch);
	EduaiFeedFilter everything = {0};
	Reading r = {.batch = batch,
				 .projection = projection,
				 .follower = follower,
				 .size = 64,
				 .limits = follower->alone ? &alone : &in_turn};

	r.end_us = eduai_core_mono_us() + r.limits->us;
	batch->context = context;
	batch->events = palloc_array(EduaiEvent *, r.size);
	batch->positions = palloc_array(int64, r.size);
	/* what reads the feed allocates by itself: not into a context that frees nothing */
	MemoryContextSwitchTo(old);
	eduai_events_feed_read(view, follower->tenant, after, &everything, PG_INT64_MAX, take, &r,
						   &batch->scanned);
	batch->looked = r.scanned;
	upcast(batch);
	return batch;
}

void
eduai_projections_batch_free(EduaiBatch *batch)
{
	MemoryContextDelete(batch->context);
}
