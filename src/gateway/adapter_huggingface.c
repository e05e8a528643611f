/*
 * adapter_huggingface.c: Hugging Face's router.
 *
 * Chat goes to the router's OpenAI-compatible path; embeddings and speech to
 * the hf-inference provider, whose requests and answers are its own: {inputs}
 * answered by bare vectors or a picture's bytes, and raw audio by {text}.  X-HF-Bill-To is
 * an option header.  Usage may be absent and is then 0.
 */
#include "postgres.h"

#include "gateway/wire.h"

/* The base URL may or may not end with the chat API's /v1. */
static char *
root_url(const char *base_url)
{
	size_t length = strlen(base_url);

	if (length > 3 && strcmp(base_url + length - 3, "/v1") == 0)
		length -= 3;
	return pnstrdup(base_url, length);
}

/* Models are "owner/name": the slash stays. */
static char *
model_path(const char *model)
{
	const char *slash = strchr(model, '/');

	if (slash == NULL)
		return eduai_gateway_url_escape(model);
	return psprintf("%s/%s", eduai_gateway_url_escape(pnstrdup(model, slash - model)),
					eduai_gateway_url_escape(slash + 1));
}

static char *
inference_url(const GatewayCall *call, const char *pipeline)
{
	return psprintf("%s/hf-inference/models/%s%s", root_url(call->instance->provider->base_url),
					model_path(call->instance->model), pipeline);
}

static bool
build_embeddings(const GatewayCall *call, WireRequest *request, CallOutcome *outcome)
{
	static const char *const except[] = {"model",      "input", "stream", "encoding_format",
										 "dimensions", "user",  NULL};
	JsonbValue input;
	EduaiJson j;

	/* the same check as for OpenAI's shape, whose request is thrown away */
	if (!eduai_gateway_openai_embeddings(call, "", request, outcome))
		return false;
	(void) eduai_core_json_get(call->payload, "input", &input);
	eduai_core_json_begin(&j);
	eduai_gateway_copy_pairs(&j, call->payload, except);
	eduai_core_json_put_value(&j, "inputs", &input);
	request->url = inference_url(call, "/pipeline/feature-extraction");
	return eduai_gateway_set_body(request, eduai_core_json_end(&j), outcome);
}

static bool
build(const GatewayCall *call, WireRequest *request, CallOutcome *outcome)
{
	eduai_gateway_add_bearer(request, call->instance->provider);
	if (strcmp(call->task_type, "embeddings") == 0)
		return build_embeddings(call, request, outcome);
	if (strcmp(call->task_type, "transcription") == 0)
		return eduai_gateway_huggingface_transcription(call, inference_url(call, ""), request,
													   outcome);
	if (strcmp(call->task_type, "image_generation") == 0)
		return eduai_gateway_huggingface_images(call, inference_url(call, ""), request, outcome);
	return eduai_gateway_openai_chat(
		call, psprintf("%s/v1/chat/completions", root_url(call->instance->provider->base_url)),
		"max_tokens", request, outcome);
}

/* A bare vector answers a single input; an array of them, several. */
static Jsonb *
vectors_of(const Jsonb *body)
{
	JsonbValue *first;
	EduaiJson j;

	if (eduai_core_json_length(body) == 0)
		return NULL;
	first = getIthJsonbValueFromContainer((JsonbContainer *) &body->root, 0);
	if (first == NULL || first->type != jbvNumeric)
		return (Jsonb *) body;
	eduai_core_json_begin(&j);
	eduai_core_json_open_array(&j, "data");
	eduai_core_json_put_json(&j, NULL, body);
	eduai_core_json_close_array(&j);
	return eduai_core_json_child(eduai_core_json_end(&j), "data");
}

static bool
is_picture(const WireResponse *response)
{
	return response->http_status >= 200 && response->http_status <= 299 &&
		   response->content_type != NULL &&
		   pg_strncasecmp(response->content_type, "image/", 6) == 0;
}

static void
read_answer(const GatewayCall *call, const WireResponse *response, int64 now_unix,
			CallOutcome *outcome)
{
	Jsonb *body;

	if (strcmp(call->task_type, "image_generation") == 0 && is_picture(response))
	{
		outcome->verdict = CALL_COMPLETED;
		outcome->code = "ok";
		outcome->model = call->instance->model;
		eduai_gateway_read_image_bytes(call, response, outcome);
		return;
	}
	if (strcmp(call->task_type, "embeddings") != 0 &&
		strcmp(call->task_type, "transcription") != 0 &&
		strcmp(call->task_type, "image_generation") != 0)
	{
		eduai_gateway_openai_read(call, response, now_unix, outcome);
		return;
	}
	body = eduai_gateway_open_answer(response, now_unix, outcome);
	if (body == NULL)
		return;
	outcome->verdict = CALL_COMPLETED;
	outcome->code = "ok";
	outcome->model = call->instance->model;
	if (strcmp(call->task_type, "embeddings") == 0)
		eduai_gateway_read_embeddings(call, vectors_of(body), outcome);
	else if (strcmp(call->task_type, "image_generation") == 0)
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "invalid_answer",
								   "the answer is not an image");
	else
		eduai_gateway_read_transcript(body, outcome);
}

const Adapter eduai_gateway_huggingface_adapter = {
	.kind = "huggingface",
	.build = build,
	.read = read_answer,
	.health_path = "/v1/models",
};
