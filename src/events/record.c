/*
 * record.c: an event as the functions return it.  See record.h.
 */
#include "postgres.h"

#include "core/personal.h"
#include "events/event_type.h"
#include "events/record.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

static Size
room_of(const void *value)
{
	return value == NULL ? 0 : MAXALIGN(VARSIZE_ANY(value));
}

/* Copies a value to where *room points, and moves that on. */
static void *
place(char **room, const void *value)
{
	char *copy = *room;

	if (value == NULL)
		return NULL;
	memcpy(copy, value, VARSIZE_ANY(value));
	*room += room_of(value);
	return copy;
}

void *
eduai_events_record_keep(EduaiRecord *copy, const EduaiRecord *record, Size *size)
{
	char *chunk;
	char *room;

	*size = room_of(record->stream) + room_of(record->event_type) + room_of(record->user_id) +
			room_of(record->session_id) + room_of(record->data) + room_of(record->metadata);
	chunk = room = MemoryContextAllocHuge(CurrentMemoryContext, *size);
	*copy = *record;
	copy->stream = place(&room, record->stream);
	copy->event_type = place(&room, record->event_type);
	copy->user_id = place(&room, record->user_id);
	copy->session_id = place(&room, record->session_id);
	copy->data = place(&room, record->data);
	copy->metadata = place(&room, record->metadata);
	return chunk;
}

static Jsonb *
current_data(const EduaiRecord *record)
{
	return eduai_events_upcast(VARDATA_ANY(record->event_type),
							   VARSIZE_ANY_EXHDR(record->event_type), record->schema_version,
							   record->data);
}

static void
put(Tuplestorestate *store, TupleDesc desc, const EduaiRecord *record, const Jsonb *data)
{
	Datum values[RECORD_COLUMNS] = {
		[RECORD_POSITION] = Int64GetDatum(record->position),
		[RECORD_EVENT_ID] = UUIDPGetDatum(&record->event_id),
		[RECORD_STREAM] = PointerGetDatum(record->stream),
		[RECORD_VERSION] = Int64GetDatum(record->version),
		[RECORD_EVENT_TYPE] = PointerGetDatum(record->event_type),
		[RECORD_USER_ID] = PointerGetDatum(record->user_id),
		[RECORD_SESSION_ID] = PointerGetDatum(record->session_id),
		[RECORD_DATA] = JsonbPGetDatum(data),
		[RECORD_METADATA] = JsonbPGetDatum(record->metadata),
		[RECORD_OCCURRED_AT] = TimestampTzGetDatum(record->occurred_at),
		[RECORD_RECORDED_AT] = TimestampTzGetDatum(record->recorded_at),
	};
	bool nulls[RECORD_COLUMNS] = {
		[RECORD_POSITION] = record->position == 0,
		[RECORD_USER_ID] = record->user_id == NULL,
		[RECORD_SESSION_ID] = record->session_id == NULL,
	};

	tuplestore_putvalues(store, desc, values, nulls);
}

void
eduai_events_put_record(Tuplestorestate *store, TupleDesc desc, const EduaiRecord *record)
{
	put(store, desc, record, current_data(record));
}

bool
eduai_events_put_for_reader(const EduaiRecord *record, void *arg)
{
	const EduaiReader *reader = arg;
	const Jsonb *data = current_data(record);

	if (record->user_id != NULL && eduai_core_personal_sealed(data))
		data = eduai_core_personal_reveal(reader->tenant, text_to_cstring(record->user_id), data,
										  psprintf("event:%s", text_to_cstring(record->event_type)),
										  reader->role);
	put(reader->store, reader->desc, record, data);
	return true;
}
