/*
 * validate.c: what an event must look like.  See validate.h.
 *
 * Names end up in index keys, lock keys, log lines and notifications, hence
 * the bound on their length and the refusal of control characters.
 */
#include "postgres.h"

#include "core/json.h"
#include "datatype/timestamp.h"
#include "events/validate.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

/* as much of a bad value as an error message repeats */
#define SHOWN_BYTES 64

static void
add_place(void *arg)
{
	const EduaiEventsPlace *place = arg;

	errcontext("event %d of %d", place->number, place->total);
}

void
eduai_events_place_push(EduaiEventsPlace *place, int total)
{
	place->number = 1;
	place->total = total;
	place->callback.callback = add_place;
	place->callback.arg = place;
	place->callback.previous = error_context_stack;
	error_context_stack = &place->callback;
}

void
eduai_events_place_pop(EduaiEventsPlace *place)
{
	error_context_stack = place->callback.previous;
}

static bool
is_control(char c)
{
	return (unsigned char) c < 0x20 || c == 0x7f;
}

/* The value fit for a message: its start, control characters made visible. */
static char *
shown(const char *value)
{
	int length = strlen(value);
	int clipped = pg_mbcliplen(value, length, SHOWN_BYTES);
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < clipped; i++)
	{
		if (is_control(value[i]))
			appendStringInfo(&text, "\\x%02x", (unsigned char) value[i]);
		else
			appendStringInfoChar(&text, value[i]);
	}
	if (clipped < length)
		appendStringInfoString(&text, "...");
	return text.data;
}

static bool
has_control(const char *value)
{
	for (; *value; value++)
		if (is_control(*value))
			return true;
	return false;
}

bool
eduai_events_legal_name(const char *value)
{
	return value != NULL && value[0] != '\0' && strlen(value) <= EDUAI_EVENTS_NAME_BYTES &&
		   !has_control(value);
}

void
eduai_events_check_name(const char *kind, const char *value, bool required)
{
	if (eduai_events_legal_name(value))
		return;
	if (value == NULL)
	{
		if (!required)
			return;
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", kind)));
	}
	if (value[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid %s \"\"", kind),
				 required ? errhint("Give it a name of 1 to %d bytes.", EDUAI_EVENTS_NAME_BYTES)
						  : errhint("Use NULL for an event without a %s.", kind)));
	if (strlen(value) > EDUAI_EVENTS_NAME_BYTES)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid %s \"%s\"", kind, shown(value)),
						errdetail("It is %zu bytes long.", strlen(value)),
						errhint("At most %d bytes are allowed.", EDUAI_EVENTS_NAME_BYTES)));
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid %s \"%s\"", kind, shown(value)),
					errhint("Control characters are not allowed.")));
}

void
eduai_events_check_object(const char *kind, const Jsonb *value)
{
	if (value == NULL || eduai_core_json_is_object(value))
		return;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("%s must be a JSON object, not \"%s\"", kind,
						   shown(eduai_core_json_cstring(value))),
					errhint("Wrap it in an object, such as {\"value\": ...}.")));
}

TimestampTz
eduai_events_check_time(TimestampTz given)
{
	if (TIMESTAMP_NOT_FINITE(given))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid occurred_at \"%s\"",
							   TIMESTAMP_IS_NOEND(given) ? "infinity" : "-infinity"),
						errhint("Use NULL for the time of recording.")));
	return given;
}

static void
check_event(const EduaiEvent *event)
{
	eduai_events_check_name("stream", event->stream, true);
	eduai_events_check_name("event type", event->event_type, true);
	eduai_events_check_name("user id", event->user_id, false);
	eduai_events_check_name("session id", event->session_id, false);
	eduai_events_check_object("data", event->data);
	eduai_events_check_object("metadata", event->metadata);
}

void
eduai_events_check(const EduaiAppendBatch *batch)
{
	EduaiEventsPlace place;

	if (batch->nevents == 1)
	{
		check_event(&batch->events[0]);
		return;
	}
	eduai_events_place_push(&place, batch->nevents);
	for (int i = 0; i < batch->nevents; i++)
	{
		place.number = i + 1;
		check_event(&batch->events[i]);
	}
	eduai_events_place_pop(&place);
}
