/*
 * anthropic_messages.c: OpenAI's messages as Anthropic's.
 *
 * OpenAI gives each tool result a message of its own; Anthropic wants all
 * results of one turn in the next user message, so results that follow each
 * other share one.
 */
#include "postgres.h"

#include "gateway/anthropic.h"
#include "gateway/wire.h"

static void
put_text_block(EduaiJson *j, const char *text)
{
	eduai_core_json_open_object(j, NULL);
	eduai_core_json_put_text(j, "type", "text");
	eduai_core_json_put_text(j, "text", text);
	eduai_core_json_close_object(j);
}

/* ---- content parts ---- */

/* data:image/png;base64,... becomes a source of its own, a link stays one. */
static bool
put_image(EduaiJson *j, const Jsonb *part, CallOutcome *outcome)
{
	char *url = eduai_gateway_string(eduai_core_json_child(part, "image_url"), "url");
	char *comma;

	if (url == NULL)
		return eduai_gateway_bad_payload(outcome, "a content part has no image_url.url");
	eduai_core_json_open_object(j, NULL);
	eduai_core_json_put_text(j, "type", "image");
	eduai_core_json_open_object(j, "source");
	if (strncmp(url, "data:", 5) == 0)
	{
		comma = strchr(url, ',');
		if (comma == NULL || comma - url < 13 || strncmp(comma - 7, ";base64", 7) != 0)
			return eduai_gateway_bad_payload(outcome, "an image's data: URL is not base64");
		eduai_core_json_put_text(j, "type", "base64");
		eduai_core_json_put_textn(j, "media_type", url + 5, strcspn(url + 5, ";,"));
		eduai_core_json_put_text(j, "data", comma + 1);
	}
	else
	{
		eduai_core_json_put_text(j, "type", "url");
		eduai_core_json_put_text(j, "url", url);
	}
	eduai_core_json_close_object(j);
	eduai_core_json_close_object(j);
	return true;
}

static bool
put_part(EduaiJson *j, const Jsonb *part, CallOutcome *outcome)
{
	char *type = eduai_gateway_string(part, "type");

	if (type == NULL)
		return eduai_gateway_bad_payload(outcome, "a content part has no type");
	if (strcmp(type, "image_url") == 0)
		return put_image(j, part, outcome);
	/* text and its cache_control are the same; other blocks are Anthropic's own */
	if (strcmp(type, "text") == 0 || strcmp(type, "image") == 0 || strcmp(type, "document") == 0)
	{
		eduai_core_json_put_json(j, NULL, part);
		return true;
	}
	return eduai_gateway_bad_payload(outcome,
									 "content parts of type \"%s\" cannot be sent to this provider",
									 eduai_gateway_clip(type, 40));
}

/* Puts the elements of the open array: a string's, or each part's. */
static bool
put_content(EduaiJson *j, const Jsonb *message, CallOutcome *outcome)
{
	char *text = eduai_gateway_string(message, "content");
	Jsonb *parts = eduai_core_json_child(message, "content");

	if (text != NULL && *text != '\0')
		put_text_block(j, text);
	for (int i = 0; i < eduai_core_json_length(parts); i++)
	{
		Jsonb *part = eduai_core_json_element(parts, i);

		if (part == NULL)
			return eduai_gateway_bad_payload(outcome, "a content part is not an object");
		if (!put_part(j, part, outcome))
			return false;
	}
	return true;
}

/* ---- tools ---- */

static bool
put_tool_calls(EduaiJson *j, const Jsonb *message, CallOutcome *outcome)
{
	Jsonb *calls = eduai_core_json_child(message, "tool_calls");

	for (int i = 0; i < eduai_core_json_length(calls); i++)
	{
		Jsonb *call = eduai_core_json_element(calls, i);
		Jsonb *function = eduai_core_json_child(call, "function");
		char *arguments = eduai_gateway_string(function, "arguments");
		char *utf8 = arguments != NULL ? eduai_gateway_to_utf8(arguments) : NULL;
		char *why;
		Jsonb *input = NULL;

		if (utf8 != NULL && *utf8 != '\0')
			input = eduai_gateway_parse_answer(utf8, strlen(utf8), &why);
		if (utf8 != NULL && *utf8 != '\0' && !eduai_core_json_is_object(input))
			return eduai_gateway_bad_payload(outcome,
											 "a tool call's arguments are not a JSON object");
		eduai_core_json_open_object(j, NULL);
		eduai_core_json_put_text(j, "type", "tool_use");
		eduai_core_json_put_text(j, "id", eduai_gateway_string(call, "id"));
		eduai_core_json_put_text(j, "name", eduai_gateway_string(function, "name"));
		if (input != NULL)
			eduai_core_json_put_json(j, "input", input);
		else
		{
			eduai_core_json_open_object(j, "input");
			eduai_core_json_close_object(j);
		}
		eduai_core_json_close_object(j);
	}
	return true;
}

static bool
put_tool_result(EduaiJson *j, const Jsonb *message, CallOutcome *outcome)
{
	eduai_core_json_open_object(j, NULL);
	eduai_core_json_put_text(j, "type", "tool_result");
	eduai_core_json_put_text(j, "tool_use_id", eduai_gateway_string(message, "tool_call_id"));
	eduai_core_json_open_array(j, "content");
	if (!put_content(j, message, outcome))
		return false;
	eduai_core_json_close_array(j);
	eduai_core_json_close_object(j);
	return true;
}

/* ---- messages ---- */

static const char *
role_of(const Jsonb *message)
{
	char *role = eduai_gateway_string(message, "role");

	if (role == NULL)
		return NULL;
	if (strcmp(role, "developer") == 0)
		return "system";
	return role;
}

static bool
is_role(const Jsonb *messages, int i, const char *role)
{
	const char *actual = role_of(eduai_core_json_element(messages, i));

	return actual != NULL && strcmp(actual, role) == 0;
}

static void
open_message(EduaiJson *j, const char *role)
{
	eduai_core_json_open_object(j, NULL);
	eduai_core_json_put_text(j, "role", role);
	eduai_core_json_open_array(j, "content");
}

static void
close_message(EduaiJson *j)
{
	eduai_core_json_close_array(j);
	eduai_core_json_close_object(j);
}

/* Puts message i, with the tool results that follow it; returns the last index used, or -1. */
static int
put_message(EduaiJson *j, const Jsonb *messages, int i, CallOutcome *outcome)
{
	Jsonb *message = eduai_core_json_element(messages, i);
	const char *role = role_of(message);
	bool assistant = role != NULL && strcmp(role, "assistant") == 0;

	if (is_role(messages, i, "tool"))
	{
		open_message(j, "user");
		for (; is_role(messages, i, "tool"); i++)
			if (!put_tool_result(j, eduai_core_json_element(messages, i), outcome))
				return -1;
		close_message(j);
		return i - 1;
	}
	if (!assistant && (role == NULL || strcmp(role, "user") != 0))
	{
		(void) eduai_gateway_bad_payload(outcome, "payload.messages[%d] has no known role", i);
		return -1;
	}
	open_message(j, role);
	if (!put_content(j, message, outcome) || (assistant && !put_tool_calls(j, message, outcome)))
		return -1;
	close_message(j);
	return i;
}

bool
eduai_gateway_anthropic_messages(EduaiJson *j, const Jsonb *messages, CallOutcome *outcome)
{
	int n = eduai_core_json_length(messages);
	int put = 0;

	eduai_core_json_open_array(j, "messages");
	for (int i = 0; i < n; i++)
	{
		if (is_role(messages, i, "system"))
			continue;
		i = put_message(j, messages, i, outcome);
		if (i < 0)
			return false;
		put++;
	}
	eduai_core_json_close_array(j);
	if (put == 0)
		return eduai_gateway_bad_payload(outcome,
										 "payload.messages has nothing but system messages");
	return true;
}
