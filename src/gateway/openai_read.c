/*
 * openai_read.c: answers in OpenAI's shape.
 *
 * Usage is read before the answer is judged: a failed answer may have cost
 * money.  A chat without a finish reason was cut, and is a failure.
 */
#include "postgres.h"

#include "gateway/wire.h"
#include "lib/stringinfo.h"

/* ---- usage ---- */

static int64
first_count(const Jsonb *json, const char *key, const char *other)
{
	int64 count = eduai_gateway_count(json, key);

	return count > 0 ? count : eduai_gateway_count(json, other);
}

static void
read_usage(const GatewayCall *call, const Jsonb *body, CallOutcome *outcome)
{
	Jsonb *usage = eduai_core_json_child(body, "usage");
	Jsonb *in = eduai_core_json_child(usage, "prompt_tokens_details");
	Jsonb *out = eduai_core_json_child(usage, "completion_tokens_details");

	outcome->model = eduai_gateway_string(body, "model");
	if (outcome->model == NULL)
		outcome->model = call->instance->model;
	if (in == NULL)
		in = eduai_core_json_child(usage, "input_tokens_details");
	/* of transcriptions it has another name */
	if (in == NULL)
		in = eduai_core_json_child(usage, "input_token_details");
	if (out == NULL)
		out = eduai_core_json_child(usage, "output_tokens_details");

	outcome->tokens_in = first_count(usage, "prompt_tokens", "input_tokens");
	outcome->tokens_out = first_count(usage, "completion_tokens", "output_tokens");
	outcome->tokens_cached = eduai_gateway_count(in, "cached_tokens");
	if (outcome->tokens_cached == 0)
		outcome->tokens_cached = eduai_gateway_count(usage, "prompt_cache_hit_tokens");
	outcome->tokens_cache_write = eduai_gateway_count(in, "cache_write_tokens");
	outcome->tokens_reasoning = eduai_gateway_count(out, "reasoning_tokens");
	outcome->tokens_audio_in = eduai_gateway_count(in, "audio_tokens");
	outcome->tokens_image_in = eduai_gateway_count(in, "image_tokens");
	outcome->tokens_audio_out = eduai_gateway_count(out, "audio_tokens");
	outcome->audio_ms = eduai_gateway_seconds_to_ms(usage, "seconds");

	eduai_gateway_bound_usage(outcome);
	if (strcmp(call->instance->provider->kind, "openrouter") == 0)
		outcome->cost_usd = eduai_gateway_given_cost(usage, "cost");
}

/* ---- chat ---- */

/* A string, or an array of parts of which the text ones count. */
static char *
content_text(const Jsonb *message)
{
	Jsonb *parts = eduai_core_json_child(message, "content");
	StringInfoData text;

	if (parts == NULL)
		return eduai_gateway_string(message, "content");
	initStringInfo(&text);
	for (int i = 0; i < eduai_core_json_length(parts); i++)
	{
		char *part = eduai_gateway_string(eduai_core_json_element(parts, i), "text");

		if (part != NULL)
			appendStringInfoString(&text, part);
	}
	return text.data;
}

/* Compatible servers' own words for OpenAI's; any other stays what it is. */
static const char *
common_reason(const char *theirs)
{
	static const char *const words[][2] = {
		{"eos", "stop"},
		{"eos_token", "stop"},
		{"end_turn", "stop"},
		{"stop_sequence", "stop"},
		{"max_tokens", "length"},
		{"model_length", "length"},
		{"tool_use", "tool_calls"},
	};

	for (size_t i = 0; i < lengthof(words); i++)
		if (strcmp(theirs, words[i][0]) == 0)
			return words[i][1];
	return theirs;
}

/* Judges the finish reason; NULL when the answer is a failure. */
static char *
finish_reason(const WireResponse *response, const Jsonb *choice, int64 now_unix,
			  CallOutcome *outcome)
{
	char *reason = eduai_gateway_string(choice, "finish_reason");

	if (eduai_gateway_has_error(choice))
	{
		eduai_gateway_classify(response, choice, now_unix, outcome);
		return NULL;
	}
	if (reason == NULL || *reason == '\0')
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "missing_finish_reason",
								   "the answer has no finish reason: it may have been cut");
	else if (strcmp(reason, "content_filter") == 0)
		eduai_gateway_outcome_fail(outcome, CALL_FATAL, "content_policy",
								   "the provider withheld the answer (content_filter)");
	else if (strcmp(reason, "error") == 0)
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "error_in_answer",
								   "the provider ended the answer with an error");
	else
		return (char *) common_reason(reason);
	return NULL;
}

static void
put_chat(const GatewayCall *call, const Jsonb *message, const char *text, const char *reason,
		 CallOutcome *outcome)
{
	EduaiJson j;
	Jsonb *calls = eduai_core_json_child(message, "tool_calls");
	Jsonb *legacy = eduai_core_json_child(message, "function_call");
	char *refusal = eduai_gateway_string(message, "refusal");
	int images;

	eduai_core_json_begin(&j);
	eduai_core_json_put_text(&j, "text", text);
	if (text != NULL)
		eduai_gateway_put_json_text(&j, call->payload, text);
	if (eduai_core_json_length(calls) > 0)
		eduai_core_json_put_json(&j, "tool_calls", calls);
	if (legacy != NULL)
		eduai_core_json_put_json(&j, "function_call", legacy);
	if (refusal != NULL)
		eduai_core_json_put_text(&j, "refusal", refusal);
	images = eduai_gateway_put_chat_images(&j, message);
	if (images < 0)
	{
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "invalid_answer",
								   "an image of the answer is neither a URL nor base64");
		return;
	}
	outcome->images = images;
	eduai_core_json_put_text(&j, "finish_reason", reason);
	eduai_gateway_put_usage(&j, outcome);
	outcome->result = eduai_core_json_end(&j);
}

static bool
has_something(const Jsonb *message, const char *text, const char *reason)
{
	return text != NULL || strcmp(reason, "length") == 0 ||
		   eduai_core_json_length(eduai_core_json_child(message, "tool_calls")) > 0 ||
		   eduai_core_json_length(eduai_core_json_child(message, "images")) > 0 ||
		   eduai_core_json_child(message, "function_call") != NULL ||
		   eduai_gateway_string(message, "refusal") != NULL;
}

static void
read_chat(const GatewayCall *call, const WireResponse *response, const Jsonb *body, int64 now_unix,
		  CallOutcome *outcome)
{
	Jsonb *choice = eduai_core_json_element(eduai_core_json_child(body, "choices"), 0);
	Jsonb *message = eduai_core_json_child(choice, "message");
	char *reason;
	char *text;

	if (!eduai_core_json_is_object(choice))
	{
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "empty_answer",
								   "the answer has no choices");
		return;
	}
	reason = finish_reason(response, choice, now_unix, outcome);
	if (reason == NULL)
		return;
	text = content_text(message);
	if (!eduai_core_json_is_object(message) || !has_something(message, text, reason))
	{
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "empty_answer",
								   "the answer has no content");
		return;
	}
	put_chat(call, message, text, reason, outcome);
}

/* ---- the answer ---- */

void
eduai_gateway_openai_read(const GatewayCall *call, const WireResponse *response, int64 now_unix,
						  CallOutcome *outcome)
{
	Jsonb *body = eduai_gateway_open_answer(response, now_unix, outcome);

	if (body == NULL)
		return;
	outcome->verdict = CALL_COMPLETED;
	outcome->code = "ok";
	read_usage(call, body, outcome);
	if (!eduai_core_json_is_object(body))
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "invalid_answer",
								   "the answer is not a JSON object");
	else if (strcmp(call->task_type, "embeddings") == 0)
		eduai_gateway_read_embeddings(call, eduai_core_json_child(body, "data"), outcome);
	else if (strcmp(call->task_type, "image_generation") == 0)
		eduai_gateway_read_images(call, body, outcome);
	else if (strcmp(call->task_type, "transcription") == 0)
		eduai_gateway_read_transcript(body, outcome);
	else
		read_chat(call, response, body, now_unix, outcome);
}
