/*
 * pictures.c: pictures of answers become attachments; see attachments.h.
 *
 * A result is read by everybody who asks for the task's state: megabytes of
 * base64 do not belong there.  on_result handlers see the attachment too, so
 * it is written before the task's end, and taken back when the attempt turns
 * out to be superseded.
 */
#include "postgres.h"

#include "core/compat.h"
#include "core/clock.h"
#include "gateway/attachments.h"
#include "gateway/wire.h"
#include "queue/attachment.h"

static const struct
{
	const char *type;
	const char *start;
	int length;
} formats[] = {
	{"image/png", "\x89PNG", 4},
	{"image/jpeg", "\xff\xd8\xff", 3},
	{"image/gif", "GIF8", 4},
	{"image/webp", "RIFF", 4},
};

/* By what the bytes begin with, else what the provider says it is. */
static char *
type_of(const char *bytes, size_t length, const Jsonb *image)
{
	char *said = eduai_gateway_string(image, "media_type");

	for (size_t i = 0; i < lengthof(formats); i++)
		if (length > formats[i].length && memcmp(bytes, formats[i].start, formats[i].length) == 0)
			return pstrdup(formats[i].type);
	if (said != NULL && strcmp(said, "image/svg+xml") == 0)
		return said;
	return pstrdup("application/octet-stream");
}

/* The picture's bytes; false when it is a link. */
static bool
take(const Jsonb *image, CallPicture *picture)
{
	char *base64 = eduai_gateway_string(image, "b64_json");
	char *bytes;
	size_t length;
	char *type;

	if (base64 == NULL || !eduai_gateway_base64(base64, &bytes, &length, &type))
		return false;
	picture->data = palloc(VARHDRSZ + length);
	SET_VARSIZE(picture->data, VARHDRSZ + length);
	memcpy(VARDATA(picture->data), bytes, length);
	picture->content_type = type_of(bytes, length, image);
	eduai_core_uuid7(picture->id.data);
	pfree(bytes);
	return true;
}

static char *
id_text(const pg_uuid_t *id)
{
	char *text = palloc(37);
	char *at = text;

	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*at++ = '-';
		at += sprintf(at, "%02x", id->data[i]);
	}
	return text;
}

static void
put_image(EduaiJson *j, const Jsonb *image, CallOutcome *outcome)
{
	static const char *const replaced[] = {"b64_json", "media_type", NULL};
	CallPicture *picture = &outcome->pictures[outcome->npictures];

	if (!take(image, picture))
	{
		eduai_core_json_put_json(j, NULL, image);
		return;
	}
	outcome->npictures++;
	eduai_core_json_open_object(j, NULL);
	eduai_core_json_put_text(j, "attachment", id_text(&picture->id));
	eduai_core_json_put_text(j, "content_type", picture->content_type);
	eduai_gateway_copy_pairs(j, image, replaced);
	eduai_core_json_close_object(j);
}

/* Once for each outcome: afterwards the result has no base64. */
static void
take_all(CallOutcome *outcome, const Jsonb *images, int n)
{
	static const char *const changed[] = {"images", NULL};
	EduaiJson j;

	outcome->pictures = palloc0(sizeof(CallPicture) * n);
	eduai_core_json_begin(&j);
	eduai_gateway_copy_pairs(&j, outcome->result, changed);
	eduai_core_json_open_array(&j, "images");
	for (int i = 0; i < n; i++)
		put_image(&j, eduai_core_json_element(images, i), outcome);
	eduai_core_json_close_array(&j);
	outcome->result = eduai_core_json_end(&j);
}

void
eduai_gateway_pictures_keep(const GatewayCall *call, CallOutcome *outcome)
{
	MemoryContext caller;
	Jsonb *images;
	int n;

	if (outcome->images == 0 || outcome->result == NULL)
		return;
	if (outcome->pictures == NULL)
	{
		caller = MemoryContextSwitchTo(call->context);
		images = eduai_core_json_child(outcome->result, "images");
		n = eduai_core_json_length(images);
		if (n > 0)
			take_all(outcome, images, n);
		MemoryContextSwitchTo(caller);
	}
	for (int i = 0; i < outcome->npictures; i++)
		eduai_queue_attachment_keep(call->tenant, call->task_id, &outcome->pictures[i].id,
									call->user_id, outcome->pictures[i].content_type,
									outcome->pictures[i].data);
}

void
eduai_gateway_pictures_unkeep(const GatewayCall *call, const CallOutcome *outcome)
{
	for (int i = 0; i < outcome->npictures; i++)
		eduai_queue_attachment_unkeep(call->tenant, call->task_id, &outcome->pictures[i].id);
}
