/*
 * openai_read.c: answers in OpenAI's shape.
 *
 * Usage is read before the answer is judged: a failed answer may have cost
 * money.  A chat without a finish reason was cut, and is a failure.
 */
#include "postgres.h"

#include "gateway/slice.h"
#include "gateway/wire.h"
#include "lib/stringinfo.h"

/* ---- usage ---- */

enum
{
	PROMPT_TOKENS,
	INPUT_TOKENS,
	COMPLETION_TOKENS,
	OUTPUT_TOKENS,
	CACHE_HIT_TOKENS,
	SECONDS,
	PROMPT_DETAILS,
	INPUT_DETAILS,
	INPUT_DETAIL,
	COMPLETION_DETAILS,
	OUTPUT_DETAILS
};
static const char *const usage_keys[] = {
	[PROMPT_TOKENS] = "prompt_tokens",
	[INPUT_TOKENS] = "input_tokens",
	[COMPLETION_TOKENS] = "completion_tokens",
	[OUTPUT_TOKENS] = "output_tokens",
	[CACHE_HIT_TOKENS] = "prompt_cache_hit_tokens",
	[SECONDS] = "seconds",
	[PROMPT_DETAILS] = "prompt_tokens_details",
	[INPUT_DETAILS] = "input_tokens_details",
	[INPUT_DETAIL] = "input_token_details", /* of transcriptions */
	[COMPLETION_DETAILS] = "completion_tokens_details",
	[OUTPUT_DETAILS] = "output_tokens_details",
};
#define NUSAGE (OUTPUT_DETAILS + 1)

static int64
first_count(const JsonSlice *usage, int key, int other)
{
	int64 count = eduai_gateway_slice_count(usage[key]);

	return count > 0 ? count : eduai_gateway_slice_count(usage[other]);
}

/* The first of several keys that has details; absent when none has. */
static JsonSlice
details(const JsonSlice *usage, int first, int last)
{
	for (int key = first; key <= last; key++)
		if (eduai_gateway_slice_is_container(usage[key]))
			return usage[key];
	return (JsonSlice){0};
}

static void
read_input_details(JsonSlice object, CallOutcome *outcome)
{
	static const char *const keys[] = {"cached_tokens", "cache_write_tokens", "audio_tokens",
									   "image_tokens"};
	JsonSlice found[lengthof(keys)];

	eduai_gateway_scan_members(object, keys, lengthof(keys), found);
	outcome->tokens_cached = eduai_gateway_slice_count(found[0]);
	outcome->tokens_cache_write = eduai_gateway_slice_count(found[1]);
	outcome->tokens_audio_in = eduai_gateway_slice_count(found[2]);
	outcome->tokens_image_in = eduai_gateway_slice_count(found[3]);
}

static void
read_output_details(JsonSlice object, CallOutcome *outcome)
{
	static const char *const keys[] = {"reasoning_tokens", "audio_tokens"};
	JsonSlice found[lengthof(keys)];

	eduai_gateway_scan_members(object, keys, lengthof(keys), found);
	outcome->tokens_reasoning = eduai_gateway_slice_count(found[0]);
	outcome->tokens_audio_out = eduai_gateway_slice_count(found[1]);
}

static void
read_usage(const GatewayCall *call, JsonSlice model, JsonSlice object, CallOutcome *outcome)
{
	JsonSlice usage[NUSAGE];

	outcome->model = eduai_gateway_slice_text(model);
	if (outcome->model == NULL)
		outcome->model = call->instance->model;
	eduai_gateway_scan_members(object, usage_keys, NUSAGE, usage);
	outcome->tokens_in = first_count(usage, PROMPT_TOKENS, INPUT_TOKENS);
	outcome->tokens_out = first_count(usage, COMPLETION_TOKENS, OUTPUT_TOKENS);
	read_input_details(details(usage, PROMPT_DETAILS, INPUT_DETAIL), outcome);
	read_output_details(details(usage, COMPLETION_DETAILS, OUTPUT_DETAILS), outcome);
	if (outcome->tokens_cached == 0)
		outcome->tokens_cached = eduai_gateway_slice_count(usage[CACHE_HIT_TOKENS]);
	if (usage[SECONDS].length > 0)
		outcome->audio_ms =
			eduai_gateway_seconds_to_ms(eduai_gateway_slice_json(object), "seconds");
	eduai_gateway_bound_usage(outcome);
	if (strcmp(call->instance->provider->kind, "openrouter") == 0)
		outcome->cost_usd = eduai_gateway_given_cost(eduai_gateway_slice_json(object), "cost");
}

/* ---- chat ---- */

enum
{
	CONTENT,
	REFUSAL,
	TOOL_CALLS,
	FUNCTION_CALL,
	IMAGES
};
static const char *const message_keys[] = {
	[CONTENT] = "content",       [REFUSAL] = "refusal",
	[TOOL_CALLS] = "tool_calls", [FUNCTION_CALL] = "function_call",
	[IMAGES] = "images",
};
#define NMESSAGE (IMAGES + 1)

/* Of an array of parts the text ones count. */
static char *
joined_text(JsonSlice parts)
{
	StringInfoData text;
	JsonSlice part;
	size_t position = 0;

	initStringInfo(&text);
	while (eduai_gateway_scan_is_array(parts) &&
		   eduai_gateway_scan_next(parts, &position, NULL, &part))
	{
		char *more = eduai_gateway_slice_text(eduai_gateway_scan_member(part, "text"));

		if (more != NULL)
			appendStringInfoString(&text, more);
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
finish_reason(const WireResponse *response, JsonSlice choice, JsonSlice given, int64 now_unix,
			  CallOutcome *outcome)
{
	char *reason = eduai_gateway_slice_text(given);

	if (eduai_gateway_slice_has_error(choice))
	{
		eduai_gateway_classify(response, eduai_gateway_slice_json(choice), now_unix, outcome);
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

/* What a result keeps of a message; NULL: it has none. */
typedef struct Message
{
	char *text;
	char *refusal;
	Jsonb *tool_calls; /* these three are containers */
	Jsonb *function_call;
	Jsonb *images;
} Message;

/* True when there is none; false when jsonb cannot have it. */
static bool
read_container(JsonSlice value, Jsonb **json)
{
	*json = eduai_gateway_slice_is_container(value) ? eduai_gateway_slice_json(value) : NULL;
	return *json != NULL || !eduai_gateway_slice_is_container(value);
}

static bool
read_string(JsonSlice value, char **text)
{
	*text = eduai_gateway_slice_text(value);
	return *text != NULL || !eduai_gateway_slice_is_string(value);
}

/* False when it has what jsonb, or the server's encoding, cannot have. */
static bool
read_message(JsonSlice message, Message *m)
{
	JsonSlice parts[NMESSAGE];

	eduai_gateway_scan_members(message, message_keys, NMESSAGE, parts);
	if (!read_string(parts[CONTENT], &m->text) || !read_string(parts[REFUSAL], &m->refusal) ||
		!read_container(parts[TOOL_CALLS], &m->tool_calls) ||
		!read_container(parts[FUNCTION_CALL], &m->function_call) ||
		!read_container(parts[IMAGES], &m->images))
		return false;
	if (eduai_gateway_slice_is_container(parts[CONTENT]))
		m->text = joined_text(parts[CONTENT]);
	return true;
}

static bool
has_something(const Message *m, const char *reason)
{
	return m->text != NULL || strcmp(reason, "length") == 0 ||
		   eduai_core_json_length(m->tool_calls) > 0 || eduai_core_json_length(m->images) > 0 ||
		   m->function_call != NULL || m->refusal != NULL;
}

static void
put_chat(const GatewayCall *call, const Message *m, const char *reason, CallOutcome *outcome)
{
	EduaiJson j;
	int images;

	eduai_core_json_begin(&j);
	eduai_core_json_put_text(&j, "text", m->text);
	if (m->text != NULL)
		eduai_gateway_put_json_text(&j, call->payload, m->text);
	if (eduai_core_json_length(m->tool_calls) > 0)
		eduai_core_json_put_json(&j, "tool_calls", m->tool_calls);
	if (m->function_call != NULL)
		eduai_core_json_put_json(&j, "function_call", m->function_call);
	if (m->refusal != NULL)
		eduai_core_json_put_text(&j, "refusal", m->refusal);
	images = eduai_gateway_put_chat_images(&j, m->images);
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

static void
read_chat(const GatewayCall *call, const WireResponse *response, JsonSlice choices, int64 now_unix,
		  CallOutcome *outcome)
{
	static const char *const keys[] = {"message", "finish_reason"};
	JsonSlice choice = eduai_gateway_slice_first(choices);
	JsonSlice found[lengthof(keys)];
	Message message;
	char *reason;

	if (!eduai_gateway_scan_is_object(choice))
	{
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "empty_answer",
								   "the answer has no choices");
		return;
	}
	eduai_gateway_scan_members(choice, keys, lengthof(keys), found);
	reason = finish_reason(response, choice, found[1], now_unix, outcome);
	if (reason == NULL)
		return;
	if (!read_message(found[0], &message))
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "invalid_json",
								   "the answer has what jsonb cannot have");
	else if (!eduai_gateway_scan_is_object(found[0]) || !has_something(&message, reason))
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "empty_answer",
								   "the answer has no content");
	else
		put_chat(call, &message, reason, outcome);
}

/* ---- the answer ---- */

void
eduai_gateway_openai_read(const GatewayCall *call, const WireResponse *response, int64 now_unix,
						  CallOutcome *outcome)
{
	static const char *const keys[] = {"model", "usage", "choices", "data"};
	JsonSlice found[lengthof(keys)];
	JsonSlice body;

	if (!eduai_gateway_open_slice(response, now_unix, outcome, &body))
		return;
	outcome->verdict = CALL_COMPLETED;
	outcome->code = "ok";
	eduai_gateway_scan_members(body, keys, lengthof(keys), found);
	read_usage(call, found[0], found[1], outcome);
	if (!eduai_gateway_scan_is_object(body))
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "invalid_answer",
								   "the answer is not a JSON object");
	else if (strcmp(call->task_type, "embeddings") == 0)
		eduai_gateway_read_embeddings(call, eduai_gateway_slice_json(found[3]), outcome);
	else if (strcmp(call->task_type, "image_generation") == 0)
		eduai_gateway_read_images(call, eduai_gateway_slice_json(body), outcome);
	else if (strcmp(call->task_type, "transcription") == 0)
		eduai_gateway_read_transcript(eduai_gateway_slice_json(body), outcome);
	else
		read_chat(call, response, found[2], now_unix, outcome);
}
