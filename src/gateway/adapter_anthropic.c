/*
 * adapter_anthropic.c: OpenAI's chat requests as Anthropic's Messages API.
 *
 * System messages move to the top level, tool results become users' content
 * blocks, images become sources; parameters without a counterpart are left
 * out (docs/gateway.md lists them).  A JSON schema becomes output_config.format.
 * Reading is in anthropic_read.c.
 */
#include "postgres.h"

#include "gateway/analysis.h"
#include "gateway/anthropic.h"
#include "gateway/wire.h"
#include "lib/stringinfo.h"

#define DEFAULT_VERSION    "2023-06-01"
#define DEFAULT_MAX_TOKENS 4096

/* ---- system ---- */

static void
append_paragraph(StringInfo text, const char *paragraph)
{
	if (paragraph == NULL || *paragraph == '\0')
		return;
	appendStringInfo(text, "%s%s", text->len > 0 ? "\n\n" : "", paragraph);
}

static bool
is_system(const Jsonb *message)
{
	char *role = eduai_gateway_string(message, "role");

	return role != NULL && (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0);
}

/*
 * A schema goes to output_config, which makes the model keep to it; an
 * instruction is what remains where there is none, where output_config cannot
 * say it, or where the instance's option json_schema says that its model does
 * not know output_config.
 */
static Jsonb *
schema_for_output(const GatewayCall *call)
{
	Jsonb *schema = eduai_gateway_response_schema(call->payload);

	if (!eduai_core_json_is_object(schema) || !eduai_gateway_knows_schemas(call->instance))
		return NULL;
	return eduai_gateway_plain_schema(schema);
}

static void
append_json_instruction(StringInfo text, const GatewayCall *call)
{
	Jsonb *schema = eduai_gateway_response_schema(call->payload);

	if (!eduai_gateway_wants_json(call->payload) || schema_for_output(call) != NULL)
		return;
	append_paragraph(text, "Answer with one JSON object and nothing else.");
	if (schema != NULL)
		append_paragraph(
			text, psprintf("It must match this JSON schema: %s", eduai_core_json_cstring(schema)));
}

static void
put_system(EduaiJson *j, const GatewayCall *call, const Jsonb *messages)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < eduai_core_json_length(messages); i++)
	{
		Jsonb *message = eduai_core_json_element(messages, i);
		Jsonb *parts = eduai_core_json_child(message, "content");

		if (!is_system(message))
			continue;
		append_paragraph(&text, eduai_gateway_string(message, "content"));
		for (int k = 0; k < eduai_core_json_length(parts); k++)
			append_paragraph(&text,
							 eduai_gateway_string(eduai_core_json_element(parts, k), "text"));
	}
	append_json_instruction(&text, call);
	if (text.len > 0)
		eduai_core_json_put_text(j, "system", text.data);
}

/* ---- parameters ---- */

static void
put_max_tokens(EduaiJson *j, const GatewayCall *call)
{
	int64 limit;

	if (!eduai_core_json_int64(call->payload, "max_completion_tokens", &limit) &&
		!eduai_core_json_int64(call->payload, "max_tokens", &limit))
		limit = call->instance->max_output_tokens > 0 ? call->instance->max_output_tokens
													  : DEFAULT_MAX_TOKENS;
	eduai_core_json_put_int(j, "max_tokens", limit);
}

static void
put_sampling(EduaiJson *j, const Jsonb *payload)
{
	static const char *const same[] = {"top_p", "top_k", "thinking"};
	char *user = eduai_gateway_string(payload, "user");
	char *stop = eduai_gateway_string(payload, "stop");
	Jsonb *stops = eduai_core_json_child(payload, "stop");
	JsonbValue value;
	double temperature;

	/* OpenAI's scale ends at 2, Anthropic's at 1 */
	if (eduai_core_json_double(payload, "temperature", &temperature))
	{
		if (temperature > 1)
			eduai_core_json_put_int(j, "temperature", 1);
		else
			eduai_core_json_put_numeric(j, "temperature",
										eduai_core_json_numeric(payload, "temperature"));
	}
	for (size_t i = 0; i < lengthof(same); i++)
		if (eduai_core_json_get(payload, same[i], &value) && value.type != jbvNull)
			eduai_core_json_put_value(j, same[i], &value);
	if (stops != NULL)
		eduai_core_json_put_json(j, "stop_sequences", stops);
	else if (stop != NULL)
	{
		eduai_core_json_open_array(j, "stop_sequences");
		eduai_core_json_put_text(j, NULL, stop);
		eduai_core_json_close_array(j);
	}
	if (user != NULL)
	{
		eduai_core_json_open_object(j, "metadata");
		eduai_core_json_put_text(j, "user_id", user);
		eduai_core_json_close_object(j);
	}
}

/* ---- tools ---- */

/* {type: function, function: {...}}, or a tool already in Anthropic's shape. */
static void
put_tool(EduaiJson *j, const Jsonb *tool)
{
	Jsonb *function = eduai_core_json_child(tool, "function");
	Jsonb *parameters = eduai_core_json_child(function, "parameters");
	char *description = eduai_gateway_string(function, "description");

	if (function == NULL)
	{
		eduai_core_json_put_json(j, NULL, tool);
		return;
	}
	eduai_core_json_open_object(j, NULL);
	eduai_core_json_put_text(j, "name", eduai_gateway_string(function, "name"));
	if (description != NULL)
		eduai_core_json_put_text(j, "description", description);
	if (parameters != NULL)
		eduai_core_json_put_json(j, "input_schema", parameters);
	else
	{
		eduai_core_json_open_object(j, "input_schema");
		eduai_core_json_put_text(j, "type", "object");
		eduai_core_json_close_object(j);
	}
	eduai_core_json_close_object(j);
}

static void
put_tool_choice(EduaiJson *j, const Jsonb *payload)
{
	char *word = eduai_gateway_string(payload, "tool_choice");
	Jsonb *object = eduai_core_json_child(payload, "tool_choice");
	char *name = eduai_gateway_string(eduai_core_json_child(object, "function"), "name");
	bool parallel = true;
	const char *type = "auto";

	(void) eduai_core_json_bool(payload, "parallel_tool_calls", &parallel);
	if (word == NULL && name == NULL && parallel)
		return;
	if (name != NULL)
		type = "tool";
	else if (word != NULL && strcmp(word, "required") == 0)
		type = "any";
	else if (word != NULL && strcmp(word, "none") == 0)
		type = "none";
	eduai_core_json_open_object(j, "tool_choice");
	eduai_core_json_put_text(j, "type", type);
	if (name != NULL)
		eduai_core_json_put_text(j, "name", name);
	if (!parallel && strcmp(type, "none") != 0)
		eduai_core_json_put_bool(j, "disable_parallel_tool_use", true);
	eduai_core_json_close_object(j);
}

static void
put_tools(EduaiJson *j, const Jsonb *payload)
{
	Jsonb *tools = eduai_core_json_child(payload, "tools");
	int n = eduai_core_json_length(tools);

	if (n == 0)
		return;
	eduai_core_json_open_array(j, "tools");
	for (int i = 0; i < n; i++)
		put_tool(j, eduai_core_json_element(tools, i));
	eduai_core_json_close_array(j);
	put_tool_choice(j, payload);
}

/* ---- answers that are data ---- */

static void
put_output_config(EduaiJson *j, const GatewayCall *call)
{
	static const char *const replaced[] = {"format", NULL};
	Jsonb *given = eduai_core_json_child(call->payload, "output_config");
	Jsonb *schema = schema_for_output(call);

	if (schema == NULL && !eduai_core_json_is_object(given))
		return;
	eduai_core_json_open_object(j, "output_config");
	eduai_gateway_copy_pairs(j, given, schema != NULL ? replaced : NULL);
	if (schema != NULL)
	{
		eduai_core_json_open_object(j, "format");
		eduai_core_json_put_text(j, "type", "json_schema");
		eduai_core_json_put_json(j, "schema", schema);
		eduai_core_json_close_object(j);
	}
	eduai_core_json_close_object(j);
}

/* ---- the request ---- */

void
eduai_gateway_anthropic_headers(const Provider *provider, WireRequest *request)
{
	char *version = eduai_gateway_string(provider->options, "anthropic_version");

	if (provider->api_key != NULL)
		eduai_gateway_add_header(request, "x-api-key", provider->api_key);
	eduai_gateway_add_header(request, "anthropic-version",
							 version != NULL ? version : DEFAULT_VERSION);
}

/* The path is /v1/messages, whether or not the base URL has the version. */
static char *
messages_url(const char *base_url)
{
	size_t length = strlen(base_url);

	if (length > 3 && strcmp(base_url + length - 3, "/v1") == 0)
		return psprintf("%s/messages", base_url);
	return psprintf("%s/v1/messages", base_url);
}

static bool
build(const GatewayCall *call, WireRequest *request, CallOutcome *outcome)
{
	Jsonb *messages = eduai_gateway_messages(call->payload, outcome);
	EduaiJson j;

	if (messages == NULL)
		return false;
	eduai_gateway_anthropic_headers(call->instance->provider, request);
	request->url = messages_url(call->instance->provider->base_url);

	eduai_core_json_begin(&j);
	eduai_core_json_put_text(&j, "model", call->instance->model);
	put_max_tokens(&j, call);
	put_system(&j, call, messages);
	if (!eduai_gateway_anthropic_messages(&j, messages, outcome))
		return false;
	put_sampling(&j, call->payload);
	put_tools(&j, call->payload);
	if (call->instance->stream)
	{
		request->stream = STREAM_ANTHROPIC;
		eduai_core_json_put_bool(&j, "stream", true);
	}
	put_output_config(&j, call);
	return eduai_gateway_set_body(request, eduai_core_json_end(&j), outcome);
}

const Adapter eduai_gateway_anthropic_adapter = {
	.kind = "anthropic",
	.build = build,
	.read = eduai_gateway_anthropic_read,
	.health_path = "/v1/models",
};
