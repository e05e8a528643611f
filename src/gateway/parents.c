/*
 * parents.c: parents' results in the request of a task that depends on them.
 *
 * "parents" is an array in the order of depends_on, of {task_id, task_type,
 * state, result, error}.  A placeholder {{parents.0.result.text}} in any string
 * of the payload (not in a key) is a path into it.  A string that is only a
 * placeholder becomes the value itself, of whatever type; inside other text a
 * string stands as it is and any other value as JSON.  What was filled in is not
 * looked at again: a result that contains a placeholder is text.
 *
 * A payload without any gets the results as text: in a message of its own before
 * the last message of the user, or before the prompt.  metadata.parents false
 * leaves the payload as it is.
 *
 * What is filled in is counted before it is copied, so that a payload of many
 * placeholders and a long result cannot exhaust the memory.
 */
#include "postgres.h"

#include "core/json.h"
#include "core/json_write.h"
#include "gateway/parents.h"
#include "gateway/wire.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#define MAX_SHOWN 100 /* bytes of a bad placeholder that the error repeats */

typedef struct Rendering
{
	const Jsonb *parents;
	size_t room; /* bytes that may still be filled in */
	bool found;  /* some placeholder */
	bool failed; /* the outcome says why */
	CallOutcome *outcome;
} Rendering;

/* A placeholder in a text, and the path in it. */
typedef struct Placeholder
{
	const char *start; /* at the first brace */
	const char *end;   /* behind the last */
	const char *path;  /* behind "parents": empty, or begins with a dot */
	const char *path_end;
} Placeholder;

/* ---- placeholders ---- */

static const char *
find(const char *from, const char *end, const char *what)
{
	size_t length = strlen(what);

	for (; from + length <= end; from++)
		if (memcmp(from, what, length) == 0)
			return from;
	return NULL;
}

/* The placeholder that begins at the braces; false when it is other text. */
static bool
read_placeholder(const char *braces, const char *end, Placeholder *p)
{
	static const char word[] = "parents";
	const char *at = braces + 2;
	const char *close = find(at, end, "}}");

	if (close == NULL)
		return false;
	while (at < close && *at == ' ')
		at++;
	if (close - at < sizeof(word) - 1 || memcmp(at, word, sizeof(word) - 1) != 0)
		return false;
	p->start = braces;
	p->end = close + 2;
	p->path = at + sizeof(word) - 1;
	while (close > p->path && close[-1] == ' ')
		close--;
	p->path_end = close;
	return p->path == close || *p->path == '.';
}

static bool
next_placeholder(const char *from, const char *end, Placeholder *p)
{
	while ((from = find(from, end, "{{")) != NULL)
	{
		if (read_placeholder(from, end, p))
			return true;
		from++;
	}
	return false;
}

/* An element of an array, by its number. */
static JsonbValue *
element(JsonbContainer *array, const char *number, int length)
{
	uint32 index = 0;

	if (length == 0 || length > 6)
		return NULL;
	for (int i = 0; i < length; i++)
	{
		if (number[i] < '0' || number[i] > '9')
			return NULL;
		index = index * 10 + (uint32) (number[i] - '0');
	}
	return getIthJsonbValueFromContainer(array, index);
}

/* What a path leads to, NULL for nothing. */
static JsonbValue *
resolve(const Jsonb *parents, const Placeholder *p)
{
	JsonbValue *value = palloc(sizeof(JsonbValue));
	const char *at = p->path;

	value->type = jbvBinary;
	value->val.binary.data = (JsonbContainer *) &parents->root;
	value->val.binary.len = VARSIZE(parents) - VARHDRSZ;
	while (value != NULL && at < p->path_end)
	{
		const char *name = at + 1;
		JsonbContainer *in;

		for (at = name; at < p->path_end && *at != '.'; at++)
			;
		if (value->type != jbvBinary)
			return NULL;
		in = value->val.binary.data;
		value = JsonContainerIsArray(in)
					? element(in, name, (int) (at - name))
					: getKeyJsonValueFromContainer(in, name, (int) (at - name), NULL);
	}
	return value;
}

/* ---- values ---- */

static void
append_value(StringInfo text, JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			appendBinaryStringInfo(text, value->val.string.val, value->val.string.len);
			break;
		case jbvNumeric:
			appendStringInfoString(text, DatumGetCString(DirectFunctionCall1(
											 numeric_out, NumericGetDatum(value->val.numeric))));
			break;
		case jbvBool:
			appendStringInfoString(text, value->val.boolean ? "true" : "false");
			break;
		case jbvBinary:
			eduai_core_json_write(text, value->val.binary.data);
			break;
		default:
			appendStringInfoString(text, "null");
	}
}

static size_t
size_of(const JsonbValue *value)
{
	if (value->type == jbvString)
		return (size_t) value->val.string.len;
	return value->type == jbvBinary ? (size_t) value->val.binary.len : sizeof(JsonbValue);
}

static void
too_large(CallOutcome *outcome)
{
	eduai_gateway_outcome_fail(outcome, CALL_FATAL, "payload_too_large",
							   "with its parents' results the payload is larger than "
							   "eduai.max_payload_size allows");
}

/* The value of a placeholder; NULL when it fails the call. */
static JsonbValue *
value_of(Rendering *r, const Placeholder *p)
{
	JsonbValue *value = resolve(r->parents, p);

	r->found = true;
	if (value == NULL)
		eduai_gateway_outcome_fail(
			r->outcome, CALL_FATAL, "bad_placeholder",
			"\"%.*s\" is not in the results of the tasks that this one depends on",
			pg_mbcliplen(p->start, (int) (p->end - p->start), MAX_SHOWN), p->start);
	else if (size_of(value) > r->room)
		too_large(r->outcome);
	else
	{
		r->room -= size_of(value);
		return value;
	}
	r->failed = true;
	return NULL;
}

/* Fills in the placeholders of a string, in place; no-op when it has none. */
static void
fill_string(Rendering *r, JsonbValue *string)
{
	const char *from = string->val.string.val;
	const char *end = from + string->val.string.len;
	StringInfoData text;
	Placeholder p;

	if (!next_placeholder(from, end, &p))
		return;
	if (p.start == from && p.end == end)
	{
		JsonbValue *value = value_of(r, &p);

		if (value != NULL)
			*string = *value;
		return;
	}
	initStringInfo(&text);
	do
	{
		JsonbValue *value = value_of(r, &p);

		if (value == NULL)
			return;
		appendBinaryStringInfo(&text, from, (int) (p.start - from));
		append_value(&text, value);
		from = p.end;
	} while (next_placeholder(from, end, &p));
	appendBinaryStringInfo(&text, from, (int) (end - from));
	string->val.string.val = text.data;
	string->val.string.len = text.len;
}

static Jsonb *
fill_placeholders(Rendering *r, Jsonb *payload)
{
	JsonbIterator *it = JsonbIteratorInit(&payload->root);
	JsonbParseState *state = NULL;
	JsonbValue *result = NULL;
	JsonbIteratorToken token;
	JsonbValue v;

	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		bool scalar = token == WJB_ELEM || token == WJB_VALUE;

		if (scalar && v.type == jbvString)
			fill_string(r, &v);
		if (r->failed)
			return NULL;
		result = pushJsonbValue(&state, token, scalar || token == WJB_KEY ? &v : NULL);
	}
	return r->found ? JsonbValueToJsonb(result) : payload;
}

/* ---- a payload without placeholders ---- */

/* A parent's answer in words: its text or transcript, or its JSON. */
static void
append_answer(StringInfo text, const Jsonb *parent)
{
	Jsonb *result = eduai_core_json_child(parent, "result");
	char *answer = eduai_gateway_string(result, "text");
	JsonbValue value;

	if (answer == NULL)
		answer = eduai_gateway_string(result, "transcript");
	if (answer != NULL)
		appendStringInfoString(text, answer);
	else if (eduai_core_json_get(parent, "result", &value) && value.type != jbvNull)
		append_value(text, &value);
	else
		appendStringInfo(text, "(no result: %s)", eduai_core_json_text(parent, "state"));
}

static char *
all_answers(const Jsonb *parents)
{
	int n = eduai_core_json_length(parents);
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, "Results of the tasks before this one:");
	for (int i = 0; i < n; i++)
	{
		Jsonb *parent = eduai_core_json_element(parents, i);

		appendStringInfo(&text, "\n\n%d. (%s) ", i + 1, eduai_core_json_text(parent, "task_type"));
		append_answer(&text, parent);
	}
	return text.data;
}

/* Before the last message of the user; at the end when there is none. */
static int
place_of_answers(const Jsonb *messages)
{
	int n = eduai_core_json_length(messages);

	for (int i = n - 1; i >= 0; i--)
	{
		char *role = eduai_gateway_string(eduai_core_json_element(messages, i), "role");

		if (role != NULL && strcmp(role, "user") == 0)
			return i;
	}
	return n;
}

static void
put_answers(EduaiJson *j, const char *answers)
{
	eduai_core_json_open_object(j, NULL);
	eduai_core_json_put_text(j, "role", "user");
	eduai_core_json_put_text(j, "content", answers);
	eduai_core_json_close_object(j);
}

static void
put_messages(EduaiJson *j, Jsonb *messages, const char *answers)
{
	int place = place_of_answers(messages);
	JsonbIterator *it = JsonbIteratorInit(&messages->root);
	JsonbIteratorToken token;
	JsonbValue v;
	int n = 0;

	eduai_core_json_open_array(j, "messages");
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (n++ == place)
			put_answers(j, answers);
		eduai_core_json_put_value(j, NULL, &v);
	}
	if (n <= place)
		put_answers(j, answers);
	eduai_core_json_close_array(j);
}

/* The array of messages, NULL when there is none. */
static Jsonb *
messages_of(const Jsonb *payload)
{
	Jsonb *messages = eduai_core_json_child(payload, "messages");

	return messages != NULL && !eduai_core_json_is_object(messages) ? messages : NULL;
}

static bool
takes_answers(const Jsonb *payload)
{
	return messages_of(payload) != NULL || eduai_gateway_string(payload, "prompt") != NULL;
}

static Jsonb *
add_answers(const Jsonb *payload, const char *answers)
{
	static const char *const changed[] = {"messages", NULL};
	Jsonb *messages = messages_of(payload);
	EduaiJson j;

	if (messages == NULL)
		return eduai_core_json_with_text(
			payload, "prompt",
			psprintf("%s\n\n%s", answers, eduai_gateway_string(payload, "prompt")));
	eduai_core_json_begin(&j);
	eduai_gateway_copy_pairs(&j, payload, changed);
	put_messages(&j, messages, answers);
	return eduai_core_json_end(&j);
}

Jsonb *
eduai_gateway_render_parents(Jsonb *payload, const Jsonb *parents, const Jsonb *metadata,
							 size_t limit, CallOutcome *outcome)
{
	Rendering r = {.parents = parents, .room = limit, .outcome = outcome};
	bool wanted = true;
	Jsonb *rendered;

	(void) eduai_core_json_bool(metadata, "parents", &wanted);
	if (!wanted)
		return payload;
	rendered = fill_placeholders(&r, payload);
	if (rendered == NULL)
		return NULL;
	if (!r.found && takes_answers(payload))
		rendered = VARSIZE(parents) <= limit ? add_answers(payload, all_answers(parents)) : NULL;
	if (rendered != NULL && (rendered == payload || VARSIZE(rendered) <= limit))
		return rendered;
	too_large(outcome);
	return NULL;
}
