/*
 * attachments.c: see attachments.h.
 *
 * {"attachment": "<id>"} stands for bytes in four places: a transcription's
 * audio, and in the content parts of a chat's messages image_url, input_audio
 * and file.  Elsewhere it is sent as it is, and nothing is read for it.
 *
 * eduai.max_upload_size bounds what one call may carry; how many calls carry
 * something at once is bounded by their pools and instances.
 */
#include "postgres.h"

#include "core/compat.h"
#include "gateway/adapter.h"
#include "gateway/attachments.h"
#include "gateway/gateway.h"
#include "gateway/wire.h"
#include "common/base64.h"
#include "queue/attachment.h"
#include "utils/guc.h"

#define WORD "attachment"

static int max_upload_kb = 25 * 1024;

void
eduai_gateway_attachments_init(void)
{
	DefineCustomIntVariable(
		"eduai.max_upload_size", "The most bytes of attachments that one provider call carries.",
		"Tasks that refer to more end with the code payload_too_large.", &max_upload_kb, 25 * 1024,
		1, 128 * 1024, PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
}

/* ---- the places ---- */

typedef struct Place
{
	const char *type; /* of the content part, and the key of its object */
	bool data_url;    /* else base64 and a format */
	const char *key;  /* of what stands for the attachment */
} Place;

static const Place places[] = {
	{"image_url", true, "url"},
	{"input_audio", false, "data"},
	{"file", true, "file_data"},
};

/* The place of a content part that refers to an attachment, and the id; NULL for another part. */
static const Place *
place_of(const Jsonb *part, char **id)
{
	char *type = eduai_gateway_string(part, "type");

	for (size_t i = 0; type != NULL && i < lengthof(places); i++)
		if (strcmp(type, places[i].type) == 0)
		{
			*id = eduai_gateway_string(eduai_core_json_child(part, type), WORD);
			return *id != NULL ? &places[i] : NULL;
		}
	return NULL;
}

/* ---- reading ---- */

typedef struct Reading
{
	GatewayCall *call;
	size_t left; /* bytes that the call may still carry */
} Reading;

static bool
is_read(const GatewayCall *call, const char *id)
{
	for (int i = 0; i < call->nfiles; i++)
		if (strcmp(call->files[i].id, id) == 0)
			return true;
	return false;
}

static void
read_file(Reading *r, char *id)
{
	GatewayCall *call = r->call;
	CallFile *file;

	if (is_read(call, id))
		return;
	if (call->nfiles == 0)
		call->files = palloc(sizeof(CallFile));
	else
		call->files = repalloc(call->files, sizeof(CallFile) * (call->nfiles + 1));
	file = &call->files[call->nfiles++];
	memset(file, 0, sizeof(*file));
	file->id = id;
	switch (
		eduai_queue_attachment_read(call->tenant, id, r->left, &file->content_type, &file->data))
	{
		case ATTACHMENT_READ:
			r->left -= VARSIZE_ANY_EXHDR(file->data);
			break;
		case ATTACHMENT_MISSING:
			file->missing = "bad_payload";
			break;
		case ATTACHMENT_TOO_LARGE:
			file->missing = "payload_too_large";
			break;
		case ATTACHMENT_LOCKED:
			file->missing = "key_store_unusable";
			break;
	}
}

static void
read_message(Reading *r, const Jsonb *message)
{
	Jsonb *parts = eduai_core_json_child(message, "content");
	char *id;

	for (int i = 0; i < eduai_core_json_length(parts); i++)
		if (place_of(eduai_core_json_element(parts, i), &id) != NULL)
			read_file(r, id);
}

bool
eduai_gateway_mentions_attachments(const Jsonb *json)
{
	/* a string stands in jsonb as it is */
	return json != NULL && memmem(json, VARSIZE(json), WORD, strlen(WORD)) != NULL;
}

/*
 * A parent's result may be what refers to one: it has to be filled in to be
 * seen.  What cannot be is left for the call's start to say.
 */
static void
fill_in_parents(GatewayCall *call)
{
	if (eduai_gateway_mentions_attachments(call->parents))
		(void) eduai_gateway_parents_render(call, eduai_gateway_outcome_new(call));
}

void
eduai_gateway_attachments_load(GatewayCall *call)
{
	MemoryContext caller;
	Reading r = {.call = call, .left = (size_t) max_upload_kb * 1024};
	Jsonb *messages;
	char *id;

	/* the receiver of a webhook gets the task as it is */
	if (call->instance->provider->webhook || (!eduai_gateway_mentions_attachments(call->payload) &&
											  !eduai_gateway_mentions_attachments(call->parents)))
		return;
	caller = MemoryContextSwitchTo(call->context);
	fill_in_parents(call);
	id = eduai_gateway_string(eduai_core_json_child(call->payload, "audio"), WORD);
	if (id != NULL)
		read_file(&r, id);
	messages = eduai_core_json_child(call->payload, "messages");
	for (int i = 0; i < eduai_core_json_length(messages); i++)
		read_message(&r, eduai_core_json_element(messages, i));
	MemoryContextSwitchTo(caller);
}

const CallFile *
eduai_gateway_attachment(const GatewayCall *call, const char *id, CallOutcome *outcome)
{
	for (int i = 0; i < call->nfiles; i++)
	{
		const CallFile *file = &call->files[i];

		if (strcmp(file->id, id) != 0)
			continue;
		if (file->data != NULL)
			return file;
		if (strcmp(file->missing, "payload_too_large") == 0)
		{
			eduai_gateway_outcome_fail(outcome, CALL_FATAL, "payload_too_large",
									   "the attachments are larger than eduai.max_upload_size "
									   "allows (%d kB)",
									   max_upload_kb);
			return NULL;
		}
		if (strcmp(file->missing, "key_store_unusable") == 0)
		{
			eduai_gateway_outcome_fail(outcome, CALL_RETRY, "key_store_unusable",
									   "an attachment is sealed and cannot be opened now");
			return NULL;
		}
		break;
	}
	(void) eduai_gateway_bad_payload(outcome, "attachment \"%s\" does not exist",
									 eduai_gateway_clip(id, 40));
	return NULL;
}

/* ---- into messages ---- */

/* "audio/mpeg; codecs=x" without what follows the type. */
static char *
bare_type(const char *content_type)
{
	return pnstrdup(content_type, strcspn(content_type, "; "));
}

static char *
base64_of(const CallFile *file, const char *before)
{
	int length = (int) VARSIZE_ANY_EXHDR(file->data);
	size_t skip = strlen(before);
	int room = pg_b64_enc_len(length);
	char *text = palloc(skip + room + 1);
	int written;

	memcpy(text, before, skip);
	written = pg_b64_encode((const void *) VARDATA_ANY(file->data), length, text + skip, room);
	text[skip + Max(written, 0)] = '\0';
	return text;
}

/* {"type": T, T: {"attachment": id, ...}} as {"type": T, T: {key: bytes, ...}}. */
static bool
put_part(EduaiJson *j, const GatewayCall *call, const Jsonb *part, const Place *place,
		 const char *id, CallOutcome *outcome)
{
	const char *const of_part[] = {place->type, NULL};
	/* the type is there when a parent's picture was filled in */
	static const char *const of_object[] = {WORD, "content_type", NULL};
	const CallFile *file = eduai_gateway_attachment(call, id, outcome);
	Jsonb *object = eduai_core_json_child(part, place->type);
	char *type;

	if (file == NULL)
		return false;
	type = bare_type(file->content_type);
	eduai_core_json_open_object(j, NULL);
	eduai_gateway_copy_pairs(j, part, of_part);
	eduai_core_json_open_object(j, place->type);
	eduai_gateway_copy_pairs(j, object, of_object);
	eduai_core_json_put_text(
		j, place->key, base64_of(file, place->data_url ? psprintf("data:%s;base64,", type) : ""));
	if (!place->data_url && eduai_gateway_string(object, "format") == NULL)
		eduai_core_json_put_text(j, "format", eduai_gateway_audio_extension(type));
	eduai_core_json_close_object(j);
	eduai_core_json_close_object(j);
	return true;
}

static bool
put_message(EduaiJson *j, const GatewayCall *call, const Jsonb *message, CallOutcome *outcome)
{
	static const char *const content[] = {"content", NULL};
	Jsonb *parts = eduai_core_json_child(message, "content");
	JsonbIterator *it = JsonbIteratorInit(&parts->root);
	JsonbIteratorToken token;
	JsonbValue value;
	int i = 0;

	eduai_core_json_open_object(j, NULL);
	eduai_gateway_copy_pairs(j, message, content);
	eduai_core_json_open_array(j, "content");
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		Jsonb *part;
		const Place *place;
		char *id;

		if (token != WJB_ELEM)
			continue;
		part = eduai_core_json_element(parts, i++);
		place = place_of(part, &id);
		if (place == NULL)
			eduai_core_json_put_value(j, NULL, &value);
		else if (!put_part(j, call, part, place, id, outcome))
			return false;
	}
	eduai_core_json_close_array(j);
	eduai_core_json_close_object(j);
	return true;
}

/* An object whose content is an array that is not empty. */
static bool
has_parts(const Jsonb *message)
{
	return eduai_core_json_is_object(message) &&
		   eduai_core_json_length(eduai_core_json_child(message, "content")) > 0;
}

static bool
put_messages(EduaiJson *j, const GatewayCall *call, const Jsonb *messages, CallOutcome *outcome)
{
	JsonbIterator *it = JsonbIteratorInit((JsonbContainer *) &messages->root);
	JsonbIteratorToken token;
	JsonbValue value;
	int i = 0;

	eduai_core_json_open_array(j, "messages");
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		Jsonb *message;

		if (token != WJB_ELEM)
			continue;
		message = eduai_core_json_element(messages, i++);
		if (!has_parts(message))
			eduai_core_json_put_value(j, NULL, &value);
		else if (!put_message(j, call, message, outcome))
			return false;
	}
	eduai_core_json_close_array(j);
	return true;
}

Jsonb *
eduai_gateway_attachments_inline(const GatewayCall *call, Jsonb *payload, CallOutcome *outcome)
{
	static const char *const changed[] = {"messages", NULL};
	Jsonb *messages = eduai_core_json_child(payload, "messages");
	EduaiJson j;

	if (eduai_core_json_length(messages) == 0 || !eduai_gateway_mentions_attachments(payload))
		return payload;
	eduai_core_json_begin(&j);
	eduai_gateway_copy_pairs(&j, payload, changed);
	if (!put_messages(&j, call, messages, outcome))
		return NULL;
	return eduai_core_json_end(&j);
}
