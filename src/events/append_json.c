/*
 * append_json.c: append_events(), which reads an array of JSON objects.
 *
 * A key that is null counts as absent.  A key that is not known is refused by
 * name: a misspelt "user_id" must not become an event about nobody.
 */
#include "postgres.h"

#include "core/tenant.h"
#include "events/append.h"
#include "events/validate.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

PG_FUNCTION_INFO_V1(eduai_append_events);

static const char *
kind_of(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			return "null";
		case jbvString:
			return "a string";
		case jbvNumeric:
			return "a number";
		case jbvBool:
			return "a boolean";
		default:
			return "an array or object";
	}
}

static char *
string_of(const char *key, const JsonbValue *value)
{
	if (value->type != jbvString)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"%s\" must be a string, not %s", key, kind_of(value))));
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static TimestampTz
time_of(const char *key, const JsonbValue *value)
{
	Datum text = CStringGetDatum(string_of(key, value));

	return eduai_events_check_time(DatumGetTimestampTz(DirectFunctionCall3(
		timestamptz_in, text, ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))));
}

static void
refuse_key(const char *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown key \"%s\" in an event", key),
			 errhint("An event has the keys type, data, user_id, session_id, metadata, event_id "
					 "and occurred_at.")));
}

static void
set_key(EduaiEvent *event, const char *key, JsonbValue *value)
{
	if (strcmp(key, "type") == 0)
		event->event_type = string_of(key, value);
	else if (strcmp(key, "data") == 0)
		event->data = JsonbValueToJsonb(value);
	else if (strcmp(key, "metadata") == 0)
		event->metadata = JsonbValueToJsonb(value);
	else if (strcmp(key, "user_id") == 0)
		event->user_id = string_of(key, value);
	else if (strcmp(key, "session_id") == 0)
		event->session_id = string_of(key, value);
	else if (strcmp(key, "event_id") == 0)
	{
		Datum text = CStringGetDatum(string_of(key, value));

		event->event_id = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, text));
		event->own_id = false;
	}
	else if (strcmp(key, "occurred_at") == 0)
		event->occurred_at = time_of(key, value);
	else
		refuse_key(key);
}

static bool
is_known_key(const char *key)
{
	static const char *const known[] = {"type",       "data",     "metadata",   "user_id",
										"session_id", "event_id", "occurred_at"};

	for (int i = 0; i < lengthof(known); i++)
		if (strcmp(key, known[i]) == 0)
			return true;
	return false;
}

static void
read_object(JsonbContainer *object, EduaiEvent *event)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbValue value;

	(void) JsonbIteratorNext(&it, &value, true); /* WJB_BEGIN_OBJECT */
	while (JsonbIteratorNext(&it, &value, true) == WJB_KEY)
	{
		char *key = pnstrdup(value.val.string.val, value.val.string.len);

		(void) JsonbIteratorNext(&it, &value, true);
		if (value.type != jbvNull)
			set_key(event, key, &value);
		else if (!is_known_key(key))
			refuse_key(key);
	}
	if (event->event_type == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("no \"type\" in an event"),
				 errhint("Every event has a type, such as {\"type\": \"content_viewed\"}.")));
}

static void
read_element(char *stream, const JsonbValue *element, EduaiEvent *event)
{
	*event = (EduaiEvent){.stream = stream, .own_id = true, .occurred_at = EDUAI_EVENTS_NOW};
	if (element->type != jbvBinary || !JsonContainerIsObject(element->val.binary.data))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an event must be a JSON object, not %s",
							   element->type == jbvBinary ? "an array" : kind_of(element))));
	read_object(element->val.binary.data, event);
}

static void
read_events(char *stream, Jsonb *json, EduaiAppendBatch *batch)
{
	EduaiEventsPlace place;
	JsonbIterator *it;
	JsonbValue value;

	if (!JB_ROOT_IS_ARRAY(json) || JB_ROOT_IS_SCALAR(json))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("events must be a JSON array"),
				 errhint("Such as [{\"type\": \"content_viewed\", \"data\": {}}].")));
	batch->events = palloc(sizeof(EduaiEvent) * Max(JB_ROOT_COUNT(json), 1));
	it = JsonbIteratorInit(&json->root);
	(void) JsonbIteratorNext(&it, &value, false); /* WJB_BEGIN_ARRAY */
	eduai_events_place_push(&place, JB_ROOT_COUNT(json));
	while (JsonbIteratorNext(&it, &value, true) == WJB_ELEM)
	{
		place.number = batch->nevents + 1;
		read_element(stream, &value, &batch->events[batch->nevents]);
		batch->nevents++;
	}
	eduai_events_place_pop(&place);
}

/* append_events(stream, events, expected_version) returns setof appended */
Datum
eduai_append_events(PG_FUNCTION_ARGS)
{
	EduaiAppendBatch batch = {.tenant = eduai_core_tenant()};
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int64 expected = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT64(2);
	char *stream = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));

	eduai_events_check_name("stream", stream, true);
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("events must not be null")));
	read_events(stream, PG_GETARG_JSONB_P(1), &batch);
	InitMaterializedSRF(fcinfo, 0);
	eduai_events_append(&batch, PG_ARGISNULL(2) ? NULL : &expected, NULL);
	for (int i = 0; i < batch.nevents; i++)
	{
		const EduaiEvent *event = &batch.events[i];
		Datum values[3] = {UUIDPGetDatum(&event->event_id), CStringGetTextDatum(event->stream),
						   Int64GetDatum(event->version)};
		bool nulls[3] = {false, false, false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
