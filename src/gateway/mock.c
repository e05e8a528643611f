/*
 * mock.c: providers of kind mock, which answer inside the dispatcher.
 *
 * For applications' own tests: a payload is checked as for OpenAI, the answer
 * is written in OpenAI's shape from the provider's options and read by the
 * same code as a real one.  Nothing here is random but error_rate.
 */
#include "postgres.h"

#include <math.h>

#include "common/hashfn.h"
#include "gateway/exchange.h"
#include "gateway/wire.h"

#define DEFAULT_DIMENSIONS 8
#define MAX_IMAGES         10

/* A PNG of one transparent pixel. */
#define PIXEL                                                                                  \
	"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5E" \
	"rkJggg=="

static const Jsonb *
options_of(const GatewayCall *call)
{
	return call->instance->provider->options;
}

static int64
option(const GatewayCall *call, const char *name, int64 default_value)
{
	int64 value;

	return eduai_core_json_int64(options_of(call), name, &value) ? value : default_value;
}

/* ---- texts ---- */

static char *
last_user_text(const GatewayCall *call)
{
	Jsonb *messages = eduai_core_json_child(call->payload, "messages");

	for (int i = eduai_core_json_length(messages) - 1; i >= 0; i--)
	{
		Jsonb *message = eduai_core_json_element(messages, i);
		char *role = eduai_gateway_string(message, "role");
		char *content = eduai_gateway_string(message, "content");

		if (role != NULL && strcmp(role, "user") == 0 && content != NULL)
			return content;
	}
	return eduai_gateway_string(call->payload, "prompt");
}

static char *
answer_text(const GatewayCall *call)
{
	char *text = eduai_gateway_string(options_of(call), "text");
	bool echo = false;

	(void) eduai_core_json_bool(options_of(call), "echo", &echo);
	if (echo)
	{
		char *asked = last_user_text(call);

		if (asked != NULL)
			return asked;
	}
	if (text != NULL)
		return text;
	if (strcmp(call->task_type, "transcription") == 0)
		return "This is a mock transcript.";
	if (eduai_gateway_wants_json(call->payload))
		return "{\"answer\": \"mock\"}";
	return "This is a mock answer.";
}

static int64
tokens_of(const char *text)
{
	return (int64) strlen(text) / 4 + 1;
}

static void
put_usage(EduaiJson *j, const GatewayCall *call, const char *text)
{
	eduai_core_json_open_object(j, "usage");
	eduai_core_json_put_int(
		j, "prompt_tokens",
		option(call, "tokens_in", tokens_of(eduai_core_json_cstring(call->payload))));
	eduai_core_json_put_int(j, "completion_tokens",
							option(call, "tokens_out", text != NULL ? tokens_of(text) : 0));
	eduai_core_json_open_object(j, "prompt_tokens_details");
	eduai_core_json_put_int(j, "cached_tokens", option(call, "tokens_cached", 0));
	eduai_core_json_close_object(j);
	eduai_core_json_close_object(j);
}

/* ---- answers by type ---- */

static void
put_chat(EduaiJson *j, const GatewayCall *call)
{
	char *reason = eduai_gateway_string(options_of(call), "finish_reason");
	char *text = answer_text(call);

	eduai_core_json_open_array(j, "choices");
	eduai_core_json_open_object(j, NULL);
	eduai_core_json_open_object(j, "message");
	eduai_core_json_put_text(j, "content", text);
	eduai_core_json_close_object(j);
	eduai_core_json_put_text(j, "finish_reason", reason != NULL ? reason : "stop");
	eduai_core_json_close_object(j);
	eduai_core_json_close_array(j);
	put_usage(j, call, text);
}

/* A unit vector that depends on the text alone. */
static void
put_vector(EduaiJson *j, const GatewayCall *call, const char *text)
{
	int n = (int) option(call, "dimensions", DEFAULT_DIMENSIONS);
	double *vector = palloc(n * sizeof(double));
	double length = 0;

	for (int i = 0; i < n; i++)
	{
		uint64 hash = hash_bytes_extended((const unsigned char *) text, strlen(text), i + 1);

		vector[i] = (double) (hash >> 11) / (double) (UINT64CONST(1) << 52) - 1.0;
		length += vector[i] * vector[i];
	}
	eduai_core_json_open_object(j, NULL);
	eduai_core_json_open_array(j, "embedding");
	for (int i = 0; i < n; i++)
		eduai_core_json_put_double(j, NULL, length > 0 ? vector[i] / sqrt(length) : 0);
	eduai_core_json_close_array(j);
	eduai_core_json_close_object(j);
}

static void
put_embeddings(EduaiJson *j, const GatewayCall *call)
{
	Jsonb *inputs = eduai_core_json_child(call->payload, "input");
	JsonbValue *first = inputs != NULL ? getIthJsonbValueFromContainer(&inputs->root, 0) : NULL;

	eduai_core_json_open_array(j, "data");
	if (inputs == NULL)
		put_vector(j, call, eduai_gateway_string(call->payload, "input"));
	else if (first != NULL && first->type == jbvNumeric)
		put_vector(j, call, eduai_core_json_cstring(inputs));
	else
		for (int i = 0; i < eduai_core_json_length(inputs); i++)
		{
			char *text = eduai_core_json_element_text(inputs, i);
			Jsonb *tokens = eduai_core_json_element(inputs, i);

			if (text == NULL)
				text = tokens != NULL ? eduai_core_json_cstring(tokens) : "";
			put_vector(j, call, text);
		}
	eduai_core_json_close_array(j);
	put_usage(j, call, NULL);
}

static void
put_images(EduaiJson *j, const GatewayCall *call)
{
	char *format = eduai_gateway_string(call->payload, "response_format");
	bool by_url = format != NULL && strcmp(format, "url") == 0;
	int64 n;

	if (!eduai_core_json_int64(call->payload, "n", &n) || n < 1 || n > MAX_IMAGES)
		n = 1;
	eduai_core_json_open_array(j, "data");
	for (int64 i = 0; i < n; i++)
	{
		eduai_core_json_open_object(j, NULL);
		eduai_core_json_put_text(j, by_url ? "url" : "b64_json",
								 by_url ? "https://mock.invalid/image.png" : PIXEL);
		eduai_core_json_close_object(j);
	}
	eduai_core_json_close_array(j);
	put_usage(j, call, NULL);
}

static void
put_error(EduaiJson *j, const GatewayCall *call)
{
	char *message = eduai_gateway_string(options_of(call), "message");
	char *code = eduai_gateway_string(options_of(call), "code");

	eduai_core_json_open_object(j, "error");
	eduai_core_json_put_text(j, "message", message != NULL ? message : "mock error");
	eduai_core_json_put_text(j, "code", code);
	eduai_core_json_close_object(j);
}

static void
put_answer(EduaiJson *j, const GatewayCall *call)
{
	eduai_core_json_put_text(j, "model", call->instance->model);
	if (strcmp(call->task_type, "embeddings") == 0)
		put_embeddings(j, call);
	else if (strcmp(call->task_type, "image_generation") == 0)
		put_images(j, call);
	else if (strcmp(call->task_type, "transcription") == 0)
	{
		char *text = answer_text(call);

		eduai_core_json_put_text(j, "text", text);
		put_usage(j, call, text);
	}
	else
		put_chat(j, call);
}

/* Called with the status alone: the body is made here. */
static void
mock_read(const GatewayCall *call, const WireResponse *status, int64 now_unix, CallOutcome *outcome)
{
	WireResponse response = *status;
	WireRequest ignored = {0};
	EduaiJson j;

	/* a payload that could not be sent is answered by nobody */
	outcome->http_status = 0;
	if (!eduai_core_json_is_object(call->payload))
	{
		(void) eduai_gateway_bad_payload(outcome, "the payload must be a JSON object");
		return;
	}
	if (!eduai_gateway_openai_adapter.build(call, &ignored, outcome))
		return;
	outcome->http_status = status->http_status;
	eduai_core_json_begin(&j);
	if (status->http_status >= 400)
		put_error(&j, call);
	else
		put_answer(&j, call);
	response.body = eduai_gateway_to_utf8(eduai_core_json_cstring(eduai_core_json_end(&j)));
	response.body_length = response.body != NULL ? strlen(response.body) : 0;
	eduai_gateway_openai_read(call, &response, now_unix, outcome);
}

const Adapter eduai_gateway_mock_adapter = {
	.kind = "mock",
	.read = mock_read,
};

/* ---- the timer's side ---- */

int64
eduai_gateway_mock_latency_ms(const GatewayCall *call)
{
	return option(call, "latency_ms", 0);
}

/* Errors come by status alone (always), by fail_first, by error_rate. */
static bool
must_fail(const GatewayCall *call, double chance)
{
	int64 fail_first = option(call, "fail_first", -1);
	double rate = -1;

	(void) eduai_core_json_double(options_of(call), "error_rate", &rate);
	if (fail_first >= 0 && call->attempt <= fail_first)
		return true;
	if (rate >= 0)
		return chance < rate;
	return fail_first < 0 && option(call, "status", 200) >= 400;
}

void
eduai_gateway_mock_answer(GatewayCall *call, double chance, int64 now_unix, CallOutcome *outcome)
{
	WireResponse response = {.http_status = 200};
	char retry_after_ms[32];
	int64 wish = option(call, "retry_after_ms", -1);

	if (must_fail(call, chance))
	{
		response.http_status = (int) option(call, "status", 500);
		snprintf(retry_after_ms, sizeof(retry_after_ms), INT64_FORMAT, wish);
		if (wish >= 0)
			response.retry_after_ms = retry_after_ms;
	}
	eduai_gateway_response_read(call, &response, now_unix, outcome);
}
