/*
 * images.c: pictures, for all kinds: requests, answers, and what one costs.
 *
 * A picture is a link or base64.  Base64 is checked here and kept in the
 * result; attachments.c takes it out when the outcome is recorded.  Hugging
 * Face answers with the picture's own bytes.
 */
#include "postgres.h"

#include "common/base64.h"
#include "gateway/wire.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

static const char *const never_sent[] = {"model", "stream", "stream_options", NULL};
static const char *const never_sent_to_gpt_image[] = {"model", "stream", "stream_options",
													  "response_format", NULL};

/* ---- requests ---- */

static bool
has_prompt(const Jsonb *payload, CallOutcome *outcome)
{
	return eduai_gateway_string(payload, "prompt") != NULL ||
		   eduai_gateway_bad_payload(outcome, "payload.prompt must be a string");
}

/* These always answer with base64, and refuse to be asked for it. */
static bool
is_gpt_image(const char *model)
{
	return strncmp(model, "gpt-image", 9) == 0 || strncmp(model, "chatgpt-image", 13) == 0;
}

bool
eduai_gateway_openai_images(const GatewayCall *call, const char *url, WireRequest *request,
							CallOutcome *outcome)
{
	EduaiJson j;

	if (!has_prompt(call->payload, outcome))
		return false;
	eduai_core_json_begin(&j);
	eduai_gateway_copy_pairs(&j, call->payload,
							 is_gpt_image(call->instance->model) ? never_sent_to_gpt_image
																 : never_sent);
	eduai_core_json_put_text(&j, "model", call->instance->model);
	request->url = pstrdup(url);
	return eduai_gateway_set_body(request, eduai_core_json_end(&j), outcome);
}

/* "1024x768" */
static bool
parse_size(const char *text, int *width, int *height)
{
	char end;

	return text != NULL && sscanf(text, "%5dx%5d%c", width, height, &end) == 2 && *width > 0 &&
		   *height > 0;
}

/* {inputs, parameters}: the size as width and height, the rest as it is. */
bool
eduai_gateway_huggingface_images(const GatewayCall *call, const char *url, WireRequest *request,
								 CallOutcome *outcome)
{
	Jsonb *parameters = eduai_core_json_child(call->payload, "parameters");
	char *size = eduai_gateway_string(call->payload, "size");
	int width;
	int height;
	EduaiJson j;

	if (!has_prompt(call->payload, outcome))
		return false;
	eduai_core_json_begin(&j);
	eduai_core_json_put_text(&j, "inputs", eduai_gateway_string(call->payload, "prompt"));
	eduai_core_json_open_object(&j, "parameters");
	eduai_gateway_copy_pairs(&j, parameters, NULL);
	if (parse_size(size, &width, &height))
	{
		eduai_core_json_put_int(&j, "width", width);
		eduai_core_json_put_int(&j, "height", height);
	}
	eduai_core_json_close_object(&j);
	request->url = pstrdup(url);
	request->accept = "image/png";
	return eduai_gateway_set_body(request, eduai_core_json_end(&j), outcome);
}

/* ---- prices ---- */

static Numeric
price_named(const Jsonb *prices, const char *name)
{
	return name != NULL ? eduai_core_json_numeric(prices, name) : NULL;
}

/* What the answer says it is, else what was asked for. */
static char *
trait(const Jsonb *body, const Jsonb *payload, const char *name)
{
	char *said = eduai_gateway_string(body, name);

	return said != NULL ? said : eduai_gateway_string(payload, name);
}

/*
 * The option price_image is a number, or an object: the most exact of
 * "quality/size", the size, the quality and "default" counts.  NULL: the
 * instance's own, which is the dearest of them.
 */
static Numeric
price_of(const GatewayCall *call, const Jsonb *body)
{
	Jsonb *prices = eduai_core_json_child(call->instance->options, "price_image");
	char *size = trait(body, call->payload, "size");
	char *quality = trait(body, call->payload, "quality");
	Numeric price = NULL;

	if (!eduai_core_json_is_object(prices))
		return NULL;
	if (size != NULL && quality != NULL)
		price = price_named(prices, psprintf("%s/%s", quality, size));
	if (price == NULL)
		price = price_named(prices, size);
	if (price == NULL)
		price = price_named(prices, quality);
	return price != NULL ? price : price_named(prices, "default");
}

Numeric
eduai_gateway_dearest_image(const Jsonb *options)
{
	Jsonb *prices = eduai_core_json_child(options, "price_image");
	Numeric dearest = NULL;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue value;

	if (!eduai_core_json_is_object(prices))
		return eduai_core_json_numeric(options, "price_image");
	it = JsonbIteratorInit(&prices->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
		if (token == WJB_VALUE && value.type == jbvNumeric &&
			(dearest == NULL ||
			 DatumGetBool(DirectFunctionCall2(numeric_gt, NumericGetDatum(value.val.numeric),
											  NumericGetDatum(dearest)))))
			dearest = value.val.numeric;
	return dearest;
}

/* ---- answers ---- */

static bool
is_base64(const char *text)
{
	char *bytes;
	size_t length;
	char *type;

	return eduai_gateway_base64(text, &bytes, &length, &type);
}

/* Puts a picture; false when it is none. */
static bool
put_image(EduaiJson *j, const Jsonb *image)
{
	static const char *const keys[] = {"url", "b64_json", "media_type", "revised_prompt"};
	char *base64 = eduai_gateway_string(image, "b64_json");

	if (base64 == NULL ? eduai_gateway_string(image, "url") == NULL : !is_base64(base64))
		return false;
	eduai_core_json_open_object(j, NULL);
	for (size_t k = 0; k < lengthof(keys); k++)
	{
		char *value = eduai_gateway_string(image, keys[k]);

		if (value != NULL)
			eduai_core_json_put_text(j, keys[k], value);
	}
	eduai_core_json_close_object(j);
	return true;
}

void
eduai_gateway_read_images(const GatewayCall *call, const Jsonb *body, CallOutcome *outcome)
{
	Jsonb *data = eduai_core_json_child(body, "data");
	int n = eduai_core_json_length(data);
	bool whole = n > 0;
	EduaiJson j;

	outcome->price_image = price_of(call, body);
	eduai_core_json_begin(&j);
	eduai_core_json_open_array(&j, "images");
	for (int i = 0; i < n; i++)
		whole = put_image(&j, eduai_core_json_element(data, i)) && whole;
	eduai_core_json_close_array(&j);
	eduai_core_json_put_text(&j, "finish_reason", "stop");
	eduai_gateway_put_usage(&j, outcome);
	outcome->images = n; /* paid for, whatever became of them */
	if (whole)
		outcome->result = eduai_core_json_end(&j);
	else
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, n == 0 ? "empty_answer" : "invalid_answer",
								   n == 0 ? "the answer has no images"
										  : "an image of the answer is neither a URL nor base64");
}

/* Bytes that end where their format says that they do. */
static bool
is_whole(const char *bytes, size_t length)
{
	const char *tail = bytes + length - Min(length, 4096);

	if (length > 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0)
		return memmem(tail, bytes + length - tail, "IEND", 4) != NULL;
	if (length > 2 && memcmp(bytes, "\xff\xd8", 2) == 0)
		return memmem(tail, bytes + length - tail, "\xff\xd9", 2) != NULL;
	return length > 0;
}

static char *
base64_of(const char *bytes, size_t length)
{
	int room = pg_b64_enc_len((int) length);
	char *text = palloc(room + 1);
	int written = pg_b64_encode((const void *) bytes, (int) length, text, room);

	text[Max(written, 0)] = '\0';
	return text;
}

/* The body is the picture. */
void
eduai_gateway_read_image_bytes(const GatewayCall *call, const WireResponse *response,
							   CallOutcome *outcome)
{
	char *type = pnstrdup(response->content_type, strcspn(response->content_type, "; "));
	EduaiJson j;

	outcome->price_image = price_of(call, NULL);
	if (response->body_length > MaxAllocSize / 2 ||
		!is_whole(response->body, response->body_length))
	{
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "invalid_answer",
								   "the answer's image is not complete");
		return;
	}
	outcome->images = 1;
	eduai_core_json_begin(&j);
	eduai_core_json_open_array(&j, "images");
	eduai_core_json_open_object(&j, NULL);
	eduai_core_json_put_text(&j, "b64_json", base64_of(response->body, response->body_length));
	eduai_core_json_put_text(&j, "media_type", eduai_gateway_clip(type, 100));
	eduai_core_json_close_object(&j);
	eduai_core_json_close_array(&j);
	eduai_core_json_put_text(&j, "finish_reason", "stop");
	eduai_gateway_put_usage(&j, outcome);
	outcome->result = eduai_core_json_end(&j);
}

/* Pictures beside a chat's text: [{image_url: {url}}], the bytes in data: URLs. */
int
eduai_gateway_put_chat_images(EduaiJson *j, const Jsonb *images)
{
	int n = eduai_core_json_length(images);
	int put = 0;

	for (int i = 0; i < n; i++)
	{
		char *url = eduai_gateway_string(
			eduai_core_json_child(eduai_core_json_element(images, i), "image_url"), "url");
		bool inlined = url != NULL && strncmp(url, "data:", 5) == 0;

		if (url == NULL || (inlined && !is_base64(url)))
			return -1;
		if (put++ == 0)
			eduai_core_json_open_array(j, "images");
		eduai_core_json_open_object(j, NULL);
		if (inlined)
		{
			eduai_core_json_put_text(j, "b64_json", strchr(url, ',') + 1);
			eduai_core_json_put_textn(j, "media_type", url + 5, strcspn(url + 5, ";,"));
		}
		else
			eduai_core_json_put_text(j, "url", url);
		eduai_core_json_close_object(j);
	}
	if (put > 0)
		eduai_core_json_close_array(j);
	return put;
}
