/*
 * adapter_openai.c: OpenAI's API, and every server that speaks it.
 *
 * Payloads are already in this shape: the model is replaced by the instance's,
 * and whether the answer streams is the instance's matter, not the payload's.
 * Reading is in openai_read.c.
 */
#include "postgres.h"

#include "gateway/analysis.h"
#include "gateway/wire.h"

/* ---- chat ---- */

/*
 * The instance's bound on the output goes along where the payload has none:
 * what a budget reserved must be what the provider may use.
 */
static void
put_limit(EduaiJson *j, const GatewayCall *call, const char *limit_name)
{
	/* a null, or a word, bounds nothing */
	if (call->instance->max_output_tokens > 0 &&
		eduai_core_json_numeric(call->payload, "max_tokens") == NULL &&
		eduai_core_json_numeric(call->payload, "max_completion_tokens") == NULL)
		eduai_core_json_put_int(j, limit_name, call->instance->max_output_tokens);
}

/* Usage comes with a stream only where it is asked for. */
static void
put_stream(EduaiJson *j, WireRequest *request)
{
	request->stream = STREAM_OPENAI;
	eduai_core_json_put_bool(j, "stream", true);
	eduai_core_json_open_object(j, "stream_options");
	eduai_core_json_put_bool(j, "include_usage", true);
	eduai_core_json_close_object(j);
}

/*
 * For models that know no schemas (the instance's option json_schema): any
 * JSON, and the schema in words.
 */
static void
put_schema_in_words(EduaiJson *j, const Jsonb *messages, const Jsonb *schema)
{
	JsonbIterator *it = JsonbIteratorInit((JsonbContainer *) &messages->root);
	JsonbIteratorToken token;
	JsonbValue value;

	eduai_core_json_open_array(j, "messages");
	eduai_core_json_open_object(j, NULL);
	eduai_core_json_put_text(j, "role", "system");
	eduai_core_json_put_text(j, "content",
							 psprintf("Answer with one JSON object and nothing else. It must match "
									  "this JSON schema: %s",
									  eduai_core_json_cstring(schema)));
	eduai_core_json_close_object(j);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
		if (token == WJB_ELEM)
			eduai_core_json_put_value(j, NULL, &value);
	eduai_core_json_close_array(j);
	eduai_core_json_open_object(j, "response_format");
	eduai_core_json_put_text(j, "type", "json_object");
	eduai_core_json_close_object(j);
}

bool
eduai_gateway_openai_chat(const GatewayCall *call, const char *url, const char *limit_name,
						  WireRequest *request, CallOutcome *outcome)
{
	/* the last one only where the schema is said in words */
	static const char *const except[] = {
		"model", "stream", "stream_options", "messages", "prompt", "response_format", NULL};
	const char *kept[lengthof(except)];
	Jsonb *messages = eduai_gateway_messages(call->payload, outcome);
	Jsonb *schema = eduai_gateway_response_schema(call->payload);
	bool in_words = schema != NULL && !eduai_gateway_knows_schemas(call->instance);
	EduaiJson j;

	if (messages == NULL)
		return false;
	memcpy(kept, except, sizeof(except));
	if (!in_words)
		kept[lengthof(except) - 2] = NULL;
	eduai_core_json_begin(&j);
	eduai_gateway_copy_pairs(&j, call->payload, kept);
	eduai_core_json_put_text(&j, "model", call->instance->model);
	if (in_words)
		put_schema_in_words(&j, messages, schema);
	else
		eduai_core_json_put_json(&j, "messages", messages);
	put_limit(&j, call, limit_name);
	if (call->instance->stream)
		put_stream(&j, request);
	request->url = pstrdup(url);
	return eduai_gateway_set_body(request, eduai_core_json_end(&j), outcome);
}

/* OpenAI's newer models refuse max_tokens, compatible servers know nothing else. */
static const char *
limit_name(const Provider *provider)
{
	return strncmp(provider->base_url, "https://api.openai.com/", 23) == 0 ? "max_completion_tokens"
																		   : "max_tokens";
}

/* ---- embeddings ---- */

static bool
has_input(const Jsonb *payload)
{
	JsonbValue value;

	return eduai_core_json_get(payload, "input", &value) &&
		   (value.type == jbvString ||
			(value.type == jbvBinary && JsonContainerIsArray(value.val.binary.data) &&
			 JsonContainerSize(value.val.binary.data) > 0));
}

bool
eduai_gateway_openai_embeddings(const GatewayCall *call, const char *url, WireRequest *request,
								CallOutcome *outcome)
{
	static const char *const except[] = {"model", "stream", "stream_options", NULL};
	EduaiJson j;

	if (!has_input(call->payload))
		return eduai_gateway_bad_payload(outcome,
										 "payload.input must be a string or an array that is "
										 "not empty");
	eduai_core_json_begin(&j);
	eduai_gateway_copy_pairs(&j, call->payload, except);
	eduai_core_json_put_text(&j, "model", call->instance->model);
	request->url = pstrdup(url);
	return eduai_gateway_set_body(request, eduai_core_json_end(&j), outcome);
}

/* ---- the adapter ---- */

static bool
build(const GatewayCall *call, WireRequest *request, CallOutcome *outcome)
{
	const Provider *provider = call->instance->provider;

	eduai_gateway_add_bearer(request, provider);
	if (call->idempotency_key != NULL)
		eduai_gateway_add_header(request, "Idempotency-Key",
								 eduai_gateway_url_escape(call->idempotency_key));
	if (strcmp(call->task_type, "embeddings") == 0)
		return eduai_gateway_openai_embeddings(call, psprintf("%s/embeddings", provider->base_url),
											   request, outcome);
	if (strcmp(call->task_type, "image_generation") == 0)
		return eduai_gateway_openai_images(
			call, psprintf("%s/images/generations", provider->base_url), request, outcome);
	if (strcmp(call->task_type, "transcription") == 0)
		return eduai_gateway_openai_transcription(
			call, psprintf("%s/audio/transcriptions", provider->base_url), request, outcome);
	return eduai_gateway_openai_chat(call, psprintf("%s/chat/completions", provider->base_url),
									 limit_name(provider), request, outcome);
}

const Adapter eduai_gateway_openai_adapter = {
	.kind = "openai",
	.build = build,
	.read = eduai_gateway_openai_read,
	.health_path = "/models",
};
