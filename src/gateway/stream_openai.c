/*
 * stream_openai.c: chat.completion.chunk events, and the chat.completion that
 * they make.  See stream.h.
 *
 * A chunk has deltas for choices; strings are added up, a tool call's by its
 * index.  The finish reason comes with a choice's last chunk, usage in a chunk
 * of its own without choices, or with each: the last one counts.
 *
 * What compatible servers do differently and is understood: tool calls without
 * an index, or all with the same but other ids; "message" instead of "delta";
 * a role, name or model that is repeated or empty; no [DONE].
 */
#include "postgres.h"

#include "gateway/stream_internal.h"

#define MAX_CHOICES 128  /* as many as the API allows */
#define MAX_TOOLS   1024 /* calls of a choice */

/* members of a chunk; those before CHOICES are the answer's */
static const char *const chunk_keys[] = {
	"id",       "created", "model", "service_tier", "system_fingerprint",
	"provider", "choices", "usage", "error",        "object"};
enum
{
	CHOICES = 6,
	USAGE,
	ERROR_OBJECT,
	OBJECT
};
#define NHEADS CHOICES

static const char *const choice_keys[] = {"index",         "delta",    "message",
										  "finish_reason", "logprobs", "error"};
enum
{
	INDEX,
	DELTA,
	MESSAGE,
	FINISH_REASON,
	LOGPROBS,
	CHOICE_ERROR
};

/* members of a delta; those before FUNCTION_CALL are strings to be added up */
static const char *const delta_keys[] = {"content",   "refusal",       "reasoning_content",
										 "reasoning", "function_call", "tool_calls"};
enum
{
	CONTENT,
	REFUSAL,
	FUNCTION_CALL = 4,
	TOOL_CALLS
};
#define NSTRINGS FUNCTION_CALL

typedef struct ToolCall
{
	int index;
	Bytes id; /* these three are insides of strings */
	Bytes name;
	Bytes arguments;
} ToolCall;

typedef struct Choice
{
	bool present;
	Bytes strings[NSTRINGS];
	bool given[NSTRINGS]; /* as a string, if an empty one */
	ToolCall *tools;
	int ntools;
	ToolCall function; /* the older form of the only one */
	bool has_function;
	Bytes logprobs; /* elements of their content */
	Bytes finish;   /* the reason, a JSON value */
	Bytes error;    /* a JSON value */
} Choice;

typedef struct State
{
	Bytes heads[NHEADS]; /* JSON values, the first that say something */
	Bytes usage;         /* a JSON value, the last */
	Choice *choices;
	int nchoices;
} State;

static void *
state_new(void)
{
	return calloc(1, sizeof(State));
}

static void
free_tool(ToolCall *tool)
{
	eduai_gateway_bytes_free(&tool->id);
	eduai_gateway_bytes_free(&tool->name);
	eduai_gateway_bytes_free(&tool->arguments);
}

static void
free_choice(Choice *choice)
{
	for (int i = 0; i < NSTRINGS; i++)
		eduai_gateway_bytes_free(&choice->strings[i]);
	for (int i = 0; i < choice->ntools; i++)
		free_tool(&choice->tools[i]);
	free(choice->tools);
	free_tool(&choice->function);
	eduai_gateway_bytes_free(&choice->logprobs);
	eduai_gateway_bytes_free(&choice->finish);
	eduai_gateway_bytes_free(&choice->error);
}

static void
state_free(void *arg)
{
	State *state = arg;

	for (int i = 0; i < NHEADS; i++)
		eduai_gateway_bytes_free(&state->heads[i]);
	eduai_gateway_bytes_free(&state->usage);
	for (int i = 0; i < state->nchoices; i++)
		free_choice(&state->choices[i]);
	free(state->choices);
	free(state);
}

/* ---- tool calls ---- */

/* The last with this index; NULL when there is none. */
static ToolCall *
tool_at(Choice *choice, int index)
{
	for (int i = choice->ntools - 1; i >= 0; i--)
		if (choice->tools[i].index == index)
			return &choice->tools[i];
	return NULL;
}

static ToolCall *
new_tool(Stream *stream, Choice *choice, int index)
{
	ToolCall *tools;

	/* its place counts as kept: calls without a word must not be for free */
	if (choice->ntools >= MAX_TOOLS || sizeof(ToolCall) > stream->max_body - stream->kept)
	{
		eduai_gateway_stream_fail(stream, STREAM_TOO_LARGE);
		return NULL;
	}
	tools = realloc(choice->tools, sizeof(ToolCall) * (choice->ntools + 1));
	if (tools == NULL)
	{
		eduai_gateway_stream_fail(stream, STREAM_NO_MEMORY);
		return NULL;
	}
	stream->kept += sizeof(ToolCall);
	choice->tools = tools;
	memset(&tools[choice->ntools], 0, sizeof(ToolCall));
	tools[choice->ntools].index = index;
	return &tools[choice->ntools++];
}

static bool
is_other_id(const ToolCall *tool, JsonSlice id)
{
	return id.length > 0 && tool->id.length > 0 &&
		   (id.length != tool->id.length || memcmp(id.at, tool->id.at, id.length) != 0);
}

/* Which call a delta is about; NULL: the stream has failed. */
static ToolCall *
tool_of(Stream *stream, Choice *choice, JsonSlice delta)
{
	JsonSlice id = {0};
	ToolCall *tool;
	int index;

	(void) eduai_gateway_scan_string(eduai_gateway_scan_member(delta, "id"), &id);
	if (!eduai_gateway_scan_count(eduai_gateway_scan_member(delta, "index"), &index))
		index = choice->ntools > 0 ? choice->tools[choice->ntools - 1].index : 0;
	tool = tool_at(choice, index);
	if (tool == NULL || is_other_id(tool, id))
		tool = new_tool(stream, choice, index);
	return tool;
}

/* A name is given once; arguments grow, or are an object at once. */
static bool
add_function(Stream *stream, ToolCall *tool, JsonSlice function)
{
	JsonSlice arguments = eduai_gateway_scan_member(function, "arguments");

	if (tool->name.length == 0 &&
		!eduai_gateway_stream_keep_string(stream, &tool->name,
										  eduai_gateway_scan_member(function, "name")))
		return false;
	if (!eduai_gateway_scan_is_object(arguments))
		return eduai_gateway_stream_keep_string(stream, &tool->arguments, arguments);
	for (size_t i = 0; i < arguments.length; i++)
	{
		char c = arguments.at[i];
		char escaped[2] = {'\\', c};
		bool space = (unsigned char) c < 0x20;

		if (c == '"' || c == '\\'
				? !eduai_gateway_stream_keep(stream, &tool->arguments, escaped, 2)
				: !eduai_gateway_stream_keep(stream, &tool->arguments, space ? " " : &c, 1))
			return false;
	}
	return true;
}

static bool
add_tools(Stream *stream, Choice *choice, JsonSlice deltas)
{
	size_t position = 0;
	JsonSlice delta;

	if (!eduai_gateway_scan_is_array(deltas))
		return true;
	while (eduai_gateway_scan_next(deltas, &position, NULL, &delta))
	{
		ToolCall *tool = tool_of(stream, choice, delta);

		if (tool == NULL)
			return false;
		if (tool->id.length == 0 && !eduai_gateway_stream_keep_string(
										stream, &tool->id, eduai_gateway_scan_member(delta, "id")))
			return false;
		if (!add_function(stream, tool, eduai_gateway_scan_member(delta, "function")))
			return false;
	}
	return true;
}

/* ---- deltas ---- */

static bool
add_string(Stream *stream, Choice *choice, int which, JsonSlice inside)
{
	bool shown = which == CONTENT && choice == ((State *) stream->state)->choices;

	choice->given[which] = true;
	return eduai_gateway_stream_keep_slice(stream, &choice->strings[which], inside) &&
		   (!shown || eduai_gateway_stream_show(stream, inside));
}

/* A string, or parts of which those with text count. */
static bool
add_member(Stream *stream, Choice *choice, int which, JsonSlice value)
{
	size_t position = 0;
	JsonSlice inside;
	JsonSlice part;

	if (eduai_gateway_scan_string(value, &inside))
		return add_string(stream, choice, which, inside);
	if (!eduai_gateway_scan_is_array(value))
		return true;
	while (eduai_gateway_scan_next(value, &position, NULL, &part))
		if (eduai_gateway_scan_string(eduai_gateway_scan_member(part, "text"), &inside) &&
			!add_string(stream, choice, which, inside))
			return false;
	return true;
}

static bool
add_delta(Stream *stream, Choice *choice, JsonSlice delta)
{
	JsonSlice parts[lengthof(delta_keys)];

	eduai_gateway_scan_members(delta, delta_keys, lengthof(delta_keys), parts);
	for (int i = 0; i < NSTRINGS; i++)
		if (!add_member(stream, choice, i, parts[i]))
			return false;
	if (eduai_gateway_scan_is_object(parts[FUNCTION_CALL]))
	{
		choice->has_function = true;
		if (!add_function(stream, &choice->function, parts[FUNCTION_CALL]))
			return false;
	}
	return add_tools(stream, choice, parts[TOOL_CALLS]);
}

/* The content of a chunk's logprobs, added to what came before. */
static bool
add_logprobs(Stream *stream, Choice *choice, JsonSlice logprobs)
{
	JsonSlice content = eduai_gateway_scan_member(logprobs, "content");
	size_t position = 0;
	JsonSlice element;

	if (!eduai_gateway_scan_is_array(content))
		return true;
	while (eduai_gateway_scan_next(content, &position, NULL, &element))
		if (!eduai_gateway_stream_keep_element(stream, &choice->logprobs, element))
			return false;
	return true;
}

static bool
make_choices(Stream *stream, State *state, int n)
{
	Choice *choices;

	if (n <= state->nchoices)
		return true;
	choices = realloc(state->choices, sizeof(Choice) * n);
	if (choices == NULL)
		return eduai_gateway_stream_fail(stream, STREAM_NO_MEMORY);
	memset(choices + state->nchoices, 0, sizeof(Choice) * (n - state->nchoices));
	state->choices = choices;
	state->nchoices = n;
	return true;
}

static bool
add_choice(Stream *stream, State *state, JsonSlice chunk)
{
	JsonSlice parts[lengthof(choice_keys)];
	Choice *choice;
	int index = 0;

	eduai_gateway_scan_members(chunk, choice_keys, lengthof(choice_keys), parts);
	if (!eduai_gateway_scan_is_object(chunk) ||
		(!eduai_gateway_scan_is_null(parts[INDEX]) &&
		 !eduai_gateway_scan_count(parts[INDEX], &index)) ||
		index >= MAX_CHOICES)
		return eduai_gateway_stream_fail(stream, STREAM_MALFORMED);
	if (!make_choices(stream, state, index + 1))
		return false;
	choice = &state->choices[index];
	choice->present = true;
	return add_delta(stream, choice,
					 eduai_gateway_scan_is_object(parts[DELTA]) ? parts[DELTA] : parts[MESSAGE]) &&
		   add_logprobs(stream, choice, parts[LOGPROBS]) &&
		   eduai_gateway_stream_keep_last(stream, &choice->finish, parts[FINISH_REASON]) &&
		   eduai_gateway_stream_keep_last(stream, &choice->error, parts[CHOICE_ERROR]);
}

/* ---- events ---- */

/* null and "" say nothing: some send an empty model before the real one */
static bool
add_heads(Stream *stream, State *state, const JsonSlice *values)
{
	for (int i = 0; i < NHEADS; i++)
		if (state->heads[i].length == 0 && !eduai_gateway_scan_is_null(values[i]) &&
			!eduai_gateway_scan_is(values[i], "") &&
			!eduai_gateway_stream_keep_slice(stream, &state->heads[i], values[i]))
			return false;
	return true;
}

static bool
has_finished(const State *state)
{
	return state->nchoices > 0 && state->choices[0].finish.length > 0 &&
		   !(state->choices[0].finish.length == 2 && state->choices[0].finish.at[0] == '"');
}

static bool
on_event(Stream *stream, const char *name, JsonSlice json)
{
	State *state = stream->state;
	JsonSlice parts[lengthof(chunk_keys)];
	size_t position = 0;
	JsonSlice choice;

	stream->begun = true;
	eduai_gateway_scan_members(json, chunk_keys, lengthof(chunk_keys), parts);
	if (strcmp(name, "error") == 0 || !eduai_gateway_scan_is_null(parts[ERROR_OBJECT]) ||
		eduai_gateway_scan_is(parts[OBJECT], "error"))
		return eduai_gateway_stream_error(stream, name, json);
	if (!add_heads(stream, state, parts) ||
		!eduai_gateway_stream_keep_last(stream, &state->usage, parts[USAGE]))
		return false;
	while (eduai_gateway_scan_next(parts[CHOICES], &position, NULL, &choice))
		if (!add_choice(stream, state, choice))
			return false;
	if (has_finished(state))
		stream->end = STREAM_FINISHED;
	return true;
}

/* ---- the body ---- */

static bool
put_function(Stream *stream, const ToolCall *tool)
{
	return eduai_gateway_stream_put(stream, "{") &&
		   eduai_gateway_stream_put_string(stream, "name", &tool->name) &&
		   eduai_gateway_stream_put_string(stream, "arguments", &tool->arguments) &&
		   eduai_gateway_stream_put(stream, "}");
}

static bool
put_tools(Stream *stream, const Choice *choice)
{
	if (choice->ntools == 0)
		return true;
	if (!eduai_gateway_stream_put_key(stream, "tool_calls") ||
		!eduai_gateway_stream_put(stream, "["))
		return false;
	for (int i = 0; i < choice->ntools; i++)
		if (!eduai_gateway_stream_put(stream, i > 0 ? ",{" : "{") ||
			!eduai_gateway_stream_put_string(stream, "id", &choice->tools[i].id) ||
			!eduai_gateway_stream_put(stream, ",\"type\":\"function\",\"function\":") ||
			!put_function(stream, &choice->tools[i]) || !eduai_gateway_stream_put(stream, "}"))
			return false;
	return eduai_gateway_stream_put(stream, "]");
}

/* An empty content beside something else is none: streams begin with one. */
static bool
has_content(const Choice *choice)
{
	bool other = choice->ntools > 0 || choice->has_function || choice->strings[REFUSAL].length > 0;

	return choice->strings[CONTENT].length > 0 || (choice->given[CONTENT] && !other);
}

static bool
put_message(Stream *stream, const Choice *choice)
{
	if (!eduai_gateway_stream_put(stream, ",\"message\":{\"role\":\"assistant\""))
		return false;
	if (has_content(choice)
			? !eduai_gateway_stream_put_string(stream, "content", &choice->strings[CONTENT])
			: !eduai_gateway_stream_put(stream, ",\"content\":null"))
		return false;
	for (int i = REFUSAL; i < NSTRINGS; i++)
		if (choice->strings[i].length > 0 &&
			!eduai_gateway_stream_put_string(stream, delta_keys[i], &choice->strings[i]))
			return false;
	if (choice->has_function && !(eduai_gateway_stream_put_key(stream, "function_call") &&
								  put_function(stream, &choice->function)))
		return false;
	return put_tools(stream, choice) && eduai_gateway_stream_put(stream, "}");
}

static bool
put_choice(Stream *stream, const Choice *choice, int index)
{
	char number[32];

	snprintf(number, sizeof(number), "{\"index\":%d", index);
	return eduai_gateway_stream_put(stream, number) && put_message(stream, choice) &&
		   (choice->logprobs.length == 0 ||
			(eduai_gateway_stream_put(stream, ",\"logprobs\":{\"content\":[") &&
			 eduai_gateway_stream_put_bytes(stream, &choice->logprobs) &&
			 eduai_gateway_stream_put(stream, "]}"))) &&
		   eduai_gateway_stream_put_value(stream, "finish_reason", &choice->finish) &&
		   eduai_gateway_stream_put_value(stream, "error", &choice->error) &&
		   eduai_gateway_stream_put(stream, "}");
}

static bool
assemble(Stream *stream)
{
	const State *state = stream->state;
	bool first = true;

	if (!eduai_gateway_stream_put(stream, "{\"object\":\"chat.completion\""))
		return false;
	for (int i = 0; i < NHEADS; i++)
		if (!eduai_gateway_stream_put_value(stream, chunk_keys[i], &state->heads[i]))
			return false;
	if (!eduai_gateway_stream_put(stream, ",\"choices\":["))
		return false;
	for (int i = 0; i < state->nchoices; i++)
	{
		if (!state->choices[i].present)
			continue;
		if (!(first || eduai_gateway_stream_put(stream, ",")) ||
			!put_choice(stream, &state->choices[i], i))
			return false;
		first = false;
	}
	return eduai_gateway_stream_put(stream, "]") &&
		   eduai_gateway_stream_put_value(stream, "usage", &state->usage) &&
		   eduai_gateway_stream_put(stream, "}");
}

const StreamParser eduai_gateway_stream_openai = {
	.new = state_new,
	.free = state_free,
	.event = on_event,
	.assemble = assemble,
};
