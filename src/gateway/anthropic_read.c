/*
 * anthropic_read.c: answers of Anthropic's Messages API.
 *
 * input_tokens excludes what the cache was read for and what was written to
 * it; here, as everywhere in eduai, tokens_in is the sum.
 */
#include "postgres.h"

#include "gateway/anthropic.h"
#include "gateway/wire.h"
#include "lib/stringinfo.h"

static const struct
{
	const char *theirs;
	const char *ours;
} reasons[] = {
	{"end_turn", "stop"},       {"stop_sequence", "stop"},
	{"max_tokens", "length"},   {"model_context_window_exceeded", "length"},
	{"tool_use", "tool_calls"},
};

static void
read_usage(const Jsonb *body, CallOutcome *outcome)
{
	Jsonb *usage = eduai_core_json_child(body, "usage");

	outcome->tokens_cached = eduai_gateway_count(usage, "cache_read_input_tokens");
	outcome->tokens_cache_write = eduai_gateway_count(usage, "cache_creation_input_tokens");
	outcome->tokens_cache_write_1h = eduai_gateway_count(
		eduai_core_json_child(usage, "cache_creation"), "ephemeral_1h_input_tokens");
	outcome->tokens_in = eduai_gateway_count(usage, "input_tokens") + outcome->tokens_cached +
						 outcome->tokens_cache_write;
	outcome->tokens_out = eduai_gateway_count(usage, "output_tokens");
	eduai_gateway_bound_usage(outcome);
}

static const char *
finish_reason(const char *theirs)
{
	for (size_t i = 0; i < lengthof(reasons); i++)
		if (strcmp(theirs, reasons[i].theirs) == 0)
			return reasons[i].ours;
	return theirs;
}

/* Turns that the API ended before the model had: only a further request would go on. */
static bool
is_unfinished(const char *reason)
{
	return strcmp(reason, "pause_turn") == 0 || strcmp(reason, "pause_run") == 0 ||
		   strcmp(reason, "compaction") == 0;
}

static bool
is_block(const Jsonb *block, const char *type)
{
	char *actual = eduai_gateway_string(block, "type");

	return actual != NULL && strcmp(actual, type) == 0;
}

static char *
text_of(const Jsonb *content)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < eduai_core_json_length(content); i++)
	{
		Jsonb *block = eduai_core_json_element(content, i);
		char *part = is_block(block, "text") ? eduai_gateway_string(block, "text") : NULL;

		if (part != NULL)
			appendStringInfoString(&text, part);
	}
	return text.data;
}

/* tool_use blocks in OpenAI's shape: arguments are JSON in a string. */
static void
put_tool_calls(EduaiJson *j, const Jsonb *content)
{
	bool open = false;

	for (int i = 0; i < eduai_core_json_length(content); i++)
	{
		Jsonb *block = eduai_core_json_element(content, i);
		Jsonb *input = eduai_core_json_child(block, "input");

		if (!is_block(block, "tool_use"))
			continue;
		if (!open)
			eduai_core_json_open_array(j, "tool_calls");
		open = true;
		eduai_core_json_open_object(j, NULL);
		eduai_core_json_put_text(j, "id", eduai_gateway_string(block, "id"));
		eduai_core_json_put_text(j, "type", "function");
		eduai_core_json_open_object(j, "function");
		eduai_core_json_put_text(j, "name", eduai_gateway_string(block, "name"));
		eduai_core_json_put_text(j, "arguments",
								 input != NULL ? eduai_core_json_cstring(input) : "{}");
		eduai_core_json_close_object(j);
		eduai_core_json_close_object(j);
	}
	if (open)
		eduai_core_json_close_array(j);
}

static void
put_answer(const GatewayCall *call, const Jsonb *content, const char *reason, CallOutcome *outcome)
{
	EduaiJson j;
	char *text = text_of(content);

	eduai_core_json_begin(&j);
	eduai_core_json_put_text(&j, "text", text);
	eduai_gateway_put_json_text(&j, call->payload, text);
	put_tool_calls(&j, content);
	eduai_core_json_put_text(&j, "finish_reason", reason);
	eduai_gateway_put_usage(&j, outcome);
	outcome->result = eduai_core_json_end(&j);
}

void
eduai_gateway_anthropic_read(const GatewayCall *call, const WireResponse *response, int64 now_unix,
							 CallOutcome *outcome)
{
	Jsonb *body = eduai_gateway_open_answer(response, now_unix, outcome);
	Jsonb *content;
	char *reason;

	if (body == NULL)
		return;
	outcome->verdict = CALL_COMPLETED;
	outcome->code = "ok";
	outcome->model = eduai_gateway_string(body, "model");
	if (outcome->model == NULL)
		outcome->model = call->instance->model;
	read_usage(body, outcome);

	content = eduai_core_json_child(body, "content");
	reason = eduai_gateway_string(body, "stop_reason");
	if (content == NULL || eduai_core_json_is_object(content))
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "invalid_answer",
								   "the answer has no content");
	else if (reason == NULL || *reason == '\0')
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "missing_finish_reason",
								   "the answer has no stop reason: it may have been cut");
	else if (strcmp(reason, "refusal") == 0)
		eduai_gateway_outcome_fail(outcome, CALL_FATAL, "content_policy",
								   "the provider refused to answer (refusal)");
	else if (is_unfinished(reason))
		eduai_gateway_outcome_fail(outcome, CALL_FATAL, "unfinished_turn",
								   "the provider paused the turn (%s), which is not gone on with: "
								   "let its tools do less (max_uses)",
								   eduai_gateway_clip(reason, 40));
	else
		put_answer(call, content, finish_reason(reason), outcome);
}
