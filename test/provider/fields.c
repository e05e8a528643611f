/*-------------------------------------------------------------------------
 * fields.c
 *		What the simulator reads of a request's body.
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE /* memmem */
#include <string.h>

#include "fields.h"

/* "name@behaviour": an '@' that opens the name belongs to it. */
static void
set_model(Fields *fields, const char *model, size_t len)
{
	static Buf spec;
	const char *at = len > 1 ? memchr(model + 1, '@', len - 1) : NULL;
	size_t name_len = at != NULL ? (size_t) (at - model) : len;

	slice_copy((Slice){model, name_len}, fields->model, MODEL_SIZE);
	fields->has_model = true;
	fields->spec = NULL;
	if (at != NULL)
	{
		spec.len = 0;
		buf_add(&spec, at + 1, len - name_len - 1);
		buf_add(&spec, "", 1);
		fields->spec = spec.data;
	}
}

static void
set_string(JsonValue value, char *dst, size_t size)
{
	static Buf text;

	if (value.kind != JSON_STRING)
		return;
	text.len = 0;
	json_decode(value.raw, &text);
	slice_copy((Slice){text.data, text.len}, dst, size);
}

static void
read_model(Fields *fields, JsonValue value)
{
	static Buf text;

	if (value.kind != JSON_STRING)
		return;
	text.len = 0;
	json_decode(value.raw, &text);
	set_model(fields, text.data, text.len);
}

/* A message's content: a string, or an array of parts with text. */
static size_t
read_content(JsonValue content, Slice *text)
{
	JsonIter parts;
	size_t chars = 0;

	if (content.kind == JSON_STRING)
	{
		*text = content.raw;
		return json_chars(content.raw);
	}
	parts = json_iterate(content);
	while (json_next(&parts))
	{
		JsonIter part = json_iterate(parts.value);

		while (json_next(&part))
		{
			if (part.value.kind == JSON_STRING && slice_is(part.key, "text"))
			{
				*text = part.value.raw;
				chars += json_chars(part.value.raw);
			}
		}
	}
	return chars;
}

static void
read_messages(Fields *fields, JsonValue value)
{
	JsonIter messages = json_iterate(value);

	fields->has_messages = value.kind == JSON_ARRAY;
	while (json_next(&messages))
	{
		JsonIter message = json_iterate(messages.value);
		bool from_user = false;
		Slice text = {"", 0};

		while (json_next(&message))
		{
			if (slice_is(message.key, "role"))
				from_user = slice_is(message.value.raw, "user");
			else if (slice_is(message.key, "content"))
				fields->prompt_chars += read_content(message.value, &text);
		}
		if (from_user)
			fields->last_user = text;
	}
}

static void
read_member(JsonValue container, const char *name, JsonValue *value)
{
	JsonIter iter = json_iterate(container);

	while (json_next(&iter))
	{
		if (slice_is(iter.key, name))
			*value = iter.value;
	}
}

static void
read_options(Fields *fields, Slice key, JsonValue value)
{
	JsonValue member = {JSON_NONE, {NULL, 0}};
	Slice ignored;

	if (slice_is(key, "stream"))
		fields->stream = value.kind == JSON_TRUE;
	else if (slice_is(key, "stream_options"))
	{
		read_member(value, "include_usage", &member);
		fields->include_usage = member.kind == JSON_TRUE;
	}
	else if (slice_is(key, "metadata"))
	{
		read_member(value, "user_id", &member);
		set_string(member, fields->user, NONCE_SIZE);
	}
	else if (slice_is(key, "max_tokens") || slice_is(key, "max_completion_tokens"))
		slice_int(value.raw, &fields->max_tokens);
	else if (slice_is(key, "n"))
		slice_int(value.raw, &fields->n);
	else if (slice_is(key, "dimensions"))
		slice_int(value.raw, &fields->dimensions);
	else if (slice_is(key, "system"))
		fields->prompt_chars += read_content(value, &ignored);
	else if (slice_is(key, "encoding_format"))
		fields->encoding_format = value.raw;
	else if (slice_is(key, "response_format"))
		fields->response_format = value.raw;
}

static void
fields_init(Fields *fields)
{
	memset(fields, 0, sizeof(*fields));
	fields->max_tokens = fields->n = fields->dimensions = -1;
	fields->last_user = (Slice){"", 0};
}

/* False when the body is not a JSON object; the fields are then empty. */
bool
fields_from_json(Fields *fields, Slice body)
{
	JsonValue root = json_scan(body);
	JsonIter iter;

	fields_init(fields);
	if (root.kind != JSON_OBJECT)
		return false;
	iter = json_iterate(root);
	while (json_next(&iter))
	{
		if (slice_is(iter.key, "model"))
			read_model(fields, iter.value);
		else if (slice_is(iter.key, "user"))
			set_string(iter.value, fields->user, NONCE_SIZE);
		else if (slice_is(iter.key, "messages"))
			read_messages(fields, iter.value);
		else if (slice_is(iter.key, "input"))
			fields->input = iter.value;
		else if (slice_is(iter.key, "prompt"))
			fields->prompt = iter.value;
		else
			read_options(fields, iter.key, iter.value);
	}
	return true;
}

/* The value of name="..." in a part's head. */
static Slice
part_name(Slice head)
{
	const char *p = memmem(head.p, head.len, " name=\"", 7);
	const char *quote;

	if (p == NULL)
		return (Slice){NULL, 0};
	p += 7;
	quote = memchr(p, '"', head.p + head.len - p);
	return (Slice){p, quote != NULL ? (size_t) (quote - p) : 0};
}

static void
read_part(Fields *fields, Slice part)
{
	const char *blank = memmem(part.p, part.len, "\r\n\r\n", 4);
	Slice name;
	Slice data;

	if (blank == NULL)
		return;
	name = part_name((Slice){part.p, blank - part.p});
	data = (Slice){blank + 4, part.p + part.len - blank - 4};
	if (slice_is(name, "file"))
	{
		fields->has_file = true;
		fields->file_bytes = data.len;
	}
	else if (slice_is(name, "model"))
		set_model(fields, data.p, data.len);
	else if (slice_is(name, "user"))
		slice_copy(data, fields->user, NONCE_SIZE);
	else if (slice_is(name, "response_format"))
		fields->response_format = data;
}

static bool
find_boundary(Slice content_type, char *boundary, size_t size)
{
	const char *p = memmem(content_type.p, content_type.len, "boundary=", 9);
	Slice value;

	if (p == NULL)
		return false;
	p += 9;
	value = (Slice){p, content_type.p + content_type.len - p};
	if (value.len > 0 && *value.p == '"')
	{
		value.p++;
		value.len--;
	}
	for (size_t i = 0; i < value.len; i++)
	{
		if (value.p[i] == '"' || value.p[i] == ';')
			value.len = i;
	}
	if (value.len == 0 || value.len + 5 > size)
		return false;
	memcpy(boundary, "\r\n--", 4);
	slice_copy(value, boundary + 4, size - 4);
	return true;
}

/* False when the body is not well-formed multipart/form-data. */
bool
fields_from_multipart(Fields *fields, Slice body, Slice content_type)
{
	char boundary[128];
	const char *end = body.p + body.len;
	const char *p = body.p;
	size_t len;

	fields_init(fields);
	if (content_type.p == NULL || !find_boundary(content_type, boundary, sizeof(boundary)))
		return false;
	len = strlen(boundary);
	if (body.len < len || memcmp(p, boundary + 2, len - 2) != 0)
		return false;
	p += len - 2;
	while (end - p >= 2 && memcmp(p, "\r\n", 2) == 0)
	{
		const char *next = memmem(p, end - p, boundary, len);

		if (next == NULL)
			return false;
		read_part(fields, (Slice){p, next - p});
		p = next + len;
	}
	return end - p >= 2 && memcmp(p, "--", 2) == 0;
}
