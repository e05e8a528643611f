/*
 * scan.c: looking into JSON where it lies; see scan.h.
 *
 * The check is one pass with a recursion for each level; what reads slices
 * relies on it and only counts brackets and quotes.  Whether strings are UTF-8
 * is left to whoever reads the text.
 */
#include "postgres.h"

#include "gateway/scan.h"

#define MAX_LEVELS 200

typedef struct Cursor
{
	const char *at;
	const char *end;
} Cursor;

/* ---- the check ---- */

static bool check_value(Cursor *c, int levels);

static void
skip_space(Cursor *c)
{
	while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
		c->at++;
}

static bool
take(Cursor *c, char wanted)
{
	if (c->at == c->end || *c->at != wanted)
		return false;
	c->at++;
	return true;
}

static bool
is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Behind the backslash. */
static bool
check_escape(Cursor *c)
{
	if (c->at == c->end)
		return false;
	switch (*c->at++)
	{
		case '"':
		case '\\':
		case '/':
		case 'b':
		case 'f':
		case 'n':
		case 'r':
		case 't':
			return true;
		case 'u':
			for (int i = 0; i < 4; i++)
				if (c->at == c->end || !is_hex(*c->at++))
					return false;
			return true;
	}
	return false;
}

static bool
check_string(Cursor *c)
{
	if (!take(c, '"'))
		return false;
	while (c->at < c->end)
	{
		unsigned char byte = (unsigned char) *c->at++;

		if (byte == '"')
			return true;
		if (byte < 0x20 || (byte == '\\' && !check_escape(c)))
			return false;
	}
	return false;
}

static bool
take_digits(Cursor *c)
{
	const char *first = c->at;

	while (c->at < c->end && *c->at >= '0' && *c->at <= '9')
		c->at++;
	return c->at > first;
}

static bool
check_number(Cursor *c)
{
	(void) take(c, '-');
	if (!take(c, '0') && !take_digits(c))
		return false;
	if (take(c, '.') && !take_digits(c))
		return false;
	if (take(c, 'e') || take(c, 'E'))
	{
		if (!take(c, '+'))
			(void) take(c, '-');
		return take_digits(c);
	}
	return true;
}

static bool
check_word(Cursor *c, const char *word)
{
	size_t n = strlen(word);

	if (c->end - c->at < n || memcmp(c->at, word, n) != 0)
		return false;
	c->at += n;
	return true;
}

/* Of an object or array, behind its bracket. */
static bool
check_items(Cursor *c, bool keys, char close, int levels)
{
	skip_space(c);
	if (take(c, close))
		return true;
	do
	{
		skip_space(c);
		if (keys)
		{
			if (!check_string(c))
				return false;
			skip_space(c);
			if (!take(c, ':'))
				return false;
			skip_space(c);
		}
		if (!check_value(c, levels - 1))
			return false;
		skip_space(c);
	} while (take(c, ','));
	return take(c, close);
}

static bool
check_value(Cursor *c, int levels)
{
	if (c->at == c->end || levels == 0)
		return false;
	switch (*c->at)
	{
		case '{':
			c->at++;
			return check_items(c, true, '}', levels);
		case '[':
			c->at++;
			return check_items(c, false, ']', levels);
		case '"':
			return check_string(c);
		case 't':
			return check_word(c, "true");
		case 'f':
			return check_word(c, "false");
		case 'n':
			return check_word(c, "null");
	}
	return check_number(c);
}

bool
eduai_gateway_scan(const char *bytes, size_t n, JsonSlice *value)
{
	Cursor c = {bytes, bytes + n};

	skip_space(&c);
	value->at = c.at;
	if (!check_value(&c, MAX_LEVELS))
		return false;
	value->length = c.at - value->at;
	skip_space(&c);
	return c.at == c.end;
}

/* ---- reading what was checked ---- */

static void
pass_string(Cursor *c)
{
	for (c->at++; *c->at != '"'; c->at++)
		if (*c->at == '\\')
			c->at++;
	c->at++;
}

static void
pass_value(Cursor *c)
{
	int depth = 0;

	if (*c->at != '"' && *c->at != '{' && *c->at != '[')
	{
		while (c->at<c->end && * c->at> ' ' && *c->at != ',' && *c->at != ']' && *c->at != '}')
			c->at++;
		return;
	}
	do
	{
		if (*c->at == '"')
		{
			pass_string(c);
			continue;
		}
		if (*c->at == '{' || *c->at == '[')
			depth++;
		else if (*c->at == '}' || *c->at == ']')
			depth--;
		c->at++;
	} while (depth > 0);
}

bool
eduai_gateway_scan_is_object(JsonSlice value)
{
	return value.length > 0 && *value.at == '{';
}

bool
eduai_gateway_scan_is_array(JsonSlice value)
{
	return value.length > 0 && *value.at == '[';
}

bool
eduai_gateway_scan_is_null(JsonSlice value)
{
	return value.length == 0 || *value.at == 'n';
}

bool
eduai_gateway_scan_next(JsonSlice container, size_t *position, JsonSlice *key, JsonSlice *value)
{
	Cursor c = {container.at + *position, container.at + container.length};

	if (!eduai_gateway_scan_is_object(container) && !eduai_gateway_scan_is_array(container))
		return false;
	/* past the bracket or the comma, and what surrounds it */
	if (*position == 0)
		c.at++;
	skip_space(&c);
	if (*c.at == ',')
		c.at++;
	skip_space(&c);
	if (*c.at == '}' || *c.at == ']')
		return false;
	if (*container.at == '{')
	{
		const char *first = c.at + 1;

		pass_string(&c);
		if (key != NULL)
			*key = (JsonSlice){first, c.at - 1 - first};
		skip_space(&c);
		c.at++;
		skip_space(&c);
	}
	value->at = c.at;
	pass_value(&c);
	value->length = c.at - value->at;
	*position = c.at - container.at;
	return true;
}

void
eduai_gateway_scan_members(JsonSlice object, const char *const *keys, int n, JsonSlice *values)
{
	size_t position = 0;
	JsonSlice name;
	JsonSlice value;

	memset(values, 0, sizeof(JsonSlice) * n);
	if (!eduai_gateway_scan_is_object(object))
		return;
	while (eduai_gateway_scan_next(object, &position, &name, &value))
		for (int i = 0; i < n; i++)
			/* its first byte tells most apart */
			if (name.length > 0 && *name.at == *keys[i] && strlen(keys[i]) == name.length &&
				memcmp(name.at, keys[i], name.length) == 0)
				values[i] = value;
}

JsonSlice
eduai_gateway_scan_member(JsonSlice object, const char *key)
{
	JsonSlice found;

	eduai_gateway_scan_members(object, &key, 1, &found);
	return found;
}

bool
eduai_gateway_scan_string(JsonSlice value, JsonSlice *inside)
{
	if (value.length == 0 || *value.at != '"')
		return false;
	*inside = (JsonSlice){value.at + 1, value.length - 2};
	return true;
}

bool
eduai_gateway_scan_is(JsonSlice value, const char *text)
{
	JsonSlice inside;
	size_t n = strlen(text);

	return eduai_gateway_scan_string(value, &inside) && inside.length == n &&
		   memcmp(inside.at, text, n) == 0;
}

bool
eduai_gateway_scan_count(JsonSlice value, int *count)
{
	*count = 0;
	if (value.length == 0 || value.length > 9)
		return false;
	for (size_t i = 0; i < value.length; i++)
	{
		if (value.at[i] < '0' || value.at[i] > '9')
			return false;
		*count = *count * 10 + (value.at[i] - '0');
	}
	return true;
}
