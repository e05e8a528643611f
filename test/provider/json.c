/*-------------------------------------------------------------------------
 * json.c
 *		A validating JSON scanner that builds no tree.
 *
 * It is stricter than most parsers on purpose: a request that a provider
 * would refuse (a control character in a string, bytes that are not UTF-8,
 * anything after the value) must not pass here.
 *-------------------------------------------------------------------------
 */
#include <ctype.h>

#include "json.h"

static bool scan_value(const char **p, const char *end, int depth, JsonValue *value);

static void
skip_space(const char **p, const char *end)
{
	while (*p < end && (**p == ' ' || **p == '\n' || **p == '\r' || **p == '\t'))
		(*p)++;
}

/* Length of the escape sequence at p, 0 when it is not one. */
static size_t
escape_len(const char *p, const char *end)
{
	if (end - p < 2)
		return 0;
	if (p[1] != 'u')
		return p[1] != '\0' && strchr("\"\\/bfnrt", p[1]) != NULL ? 2 : 0;
	if (end - p < 6)
		return 0;
	for (int i = 2; i < 6; i++)
	{
		if (!isxdigit((unsigned char) p[i]))
			return 0;
	}
	return 6;
}

/* *p is after the opening quote; leaves it after the closing one. */
static bool
scan_string(const char **p, const char *end, Slice *raw)
{
	const char *s = *p;

	while (s < end)
	{
		unsigned char c = *s;
		size_t len = 1;

		if (c == '"')
		{
			raw->p = *p;
			raw->len = s - *p;
			*p = s + 1;
			return true;
		}
		if (c < 0x20)
			return false;
		if (c == '\\')
			len = escape_len(s, end);
		else if (c >= 0x80)
			len = utf8_len(s, end);
		if (len == 0)
			return false;
		s += len;
	}
	return false;
}

static bool
scan_digits(const char **p, const char *end)
{
	const char *start = *p;

	while (*p < end && isdigit((unsigned char) **p))
		(*p)++;
	return *p > start;
}

static bool
scan_number(const char **p, const char *end)
{
	if (**p == '-')
		(*p)++;
	if (*p < end && **p == '0')
		(*p)++;
	else if (!scan_digits(p, end))
		return false;
	if (*p < end && **p == '.')
	{
		(*p)++;
		if (!scan_digits(p, end))
			return false;
	}
	if (*p < end && (**p == 'e' || **p == 'E'))
	{
		(*p)++;
		if (*p < end && (**p == '+' || **p == '-'))
			(*p)++;
		return scan_digits(p, end);
	}
	return true;
}

/* One member: "key": value, or a bare value in an array. */
static bool
scan_member(const char **p, const char *end, bool object, int depth, Slice *key, JsonValue *value)
{
	skip_space(p, end);
	if (object)
	{
		if (*p >= end || *(*p)++ != '"' || !scan_string(p, end, key))
			return false;
		skip_space(p, end);
		if (*p >= end || *(*p)++ != ':')
			return false;
	}
	return scan_value(p, end, depth, value);
}

/* *p is after the opening bracket. */
static bool
scan_container(const char **p, const char *end, bool object, int depth)
{
	char close = object ? '}' : ']';
	JsonValue value;
	Slice key;

	if (depth >= JSON_MAX_DEPTH)
		return false;
	skip_space(p, end);
	if (*p < end && **p == close)
	{
		(*p)++;
		return true;
	}
	for (;;)
	{
		if (!scan_member(p, end, object, depth + 1, &key, &value))
			return false;
		skip_space(p, end);
		if (*p >= end)
			return false;
		if (**p == close)
		{
			(*p)++;
			return true;
		}
		if (*(*p)++ != ',')
			return false;
	}
}

static bool
scan_word(const char **p, const char *end, const char *word)
{
	size_t len = strlen(word);

	if ((size_t) (end - *p) < len || memcmp(*p, word, len) != 0)
		return false;
	*p += len;
	return true;
}

static bool
scan_value(const char **p, const char *end, int depth, JsonValue *value)
{
	bool ok = false;

	skip_space(p, end);
	value->kind = JSON_NONE;
	if (*p >= end)
		return false;
	value->raw.p = *p;
	switch (**p)
	{
		case '"':
			(*p)++;
			value->kind = JSON_STRING;
			return scan_string(p, end, &value->raw);
		case '{':
		case '[':
			value->kind = **p == '{' ? JSON_OBJECT : JSON_ARRAY;
			(*p)++;
			ok = scan_container(p, end, value->kind == JSON_OBJECT, depth);
			break;
		case 't':
			value->kind = JSON_TRUE;
			ok = scan_word(p, end, "true");
			break;
		case 'f':
			value->kind = JSON_FALSE;
			ok = scan_word(p, end, "false");
			break;
		case 'n':
			value->kind = JSON_NULL;
			ok = scan_word(p, end, "null");
			break;
		default:
			value->kind = JSON_NUMBER;
			ok = scan_number(p, end);
			break;
	}
	value->raw.len = *p - value->raw.p;
	return ok;
}

/* Check a whole text; the kind is JSON_NONE when it is not valid. */
JsonValue
json_scan(Slice text)
{
	const char *p = text.p;
	const char *end = text.p + text.len;
	JsonValue value = {JSON_NONE, {NULL, 0}};

	if (text.len == 0)
		return value;
	if (scan_value(&p, end, 0, &value))
	{
		skip_space(&p, end);
		if (p == end)
			return value;
	}
	value.kind = JSON_NONE;
	return value;
}

/* Anything that is not a container iterates as an empty one. */
JsonIter
json_iterate(JsonValue container)
{
	JsonIter iter = {0};

	if (container.kind == JSON_OBJECT || container.kind == JSON_ARRAY)
	{
		iter.object = container.kind == JSON_OBJECT;
		iter.p = container.raw.p + 1;
		iter.end = container.raw.p + container.raw.len - 1;
	}
	return iter;
}

bool
json_next(JsonIter *iter)
{
	skip_space(&iter->p, iter->end);
	if (iter->p >= iter->end)
		return false;
	if (*iter->p == ',')
		iter->p++;
	return scan_member(&iter->p, iter->end, iter->object, 0, &iter->key, &iter->value);
}

static uint32_t
hex4(const char *p)
{
	uint32_t value = 0;

	for (int i = 0; i < 4; i++)
	{
		int c = tolower((unsigned char) p[i]);

		value = value * 16 + (c <= '9' ? c - '0' : c - 'a' + 10);
	}
	return value;
}

static uint32_t
escaped_char(const char **p, const char *end)
{
	static const char from[] = "bfnrt";
	static const char to[] = "\b\f\n\r\t";
	const char *s = *p;
	const char *found;
	uint32_t unit;

	if (s[1] != 'u')
	{
		*p += 2;
		found = strchr(from, s[1]);
		return found != NULL ? (uint32_t) to[found - from] : (uint32_t) s[1];
	}
	*p += 6;
	unit = hex4(s + 2);
	if ((unit & 0xfc00) == 0xd800 && end - s >= 12 && s[6] == '\\' && s[7] == 'u' &&
		(hex4(s + 8) & 0xfc00) == 0xdc00)
	{
		*p += 6;
		return 0x10000 + ((unit & 0x3ff) << 10) + (hex4(s + 8) & 0x3ff);
	}
	return unit;
}

/* The next code point of a raw string; a lone surrogate is itself. */
uint32_t
json_char(const char **p, const char *end)
{
	const unsigned char *s = (const unsigned char *) *p;
	size_t len;

	if (s[0] == '\\' && escape_len(*p, end) > 0)
		return escaped_char(p, end);
	if (s[0] < 0x80 || (len = utf8_len(*p, end)) == 0)
	{
		(*p)++;
		return s[0];
	}
	*p += len;
	if (len == 2)
		return (s[0] & 0x1f) << 6 | (s[1] & 0x3f);
	if (len == 3)
		return (s[0] & 0x0f) << 12 | (s[1] & 0x3f) << 6 | (s[2] & 0x3f);
	return (s[0] & 0x07) << 18 | (s[1] & 0x3f) << 12 | (s[2] & 0x3f) << 6 | (s[3] & 0x3f);
}

size_t
json_chars(Slice raw)
{
	const char *p = raw.p;
	const char *end = raw.p + raw.len;
	size_t chars = 0;

	for (; p < end; chars++)
	{
		if (*p != '\\' && (unsigned char) *p < 0x80)
			p++;
		else
			json_char(&p, end);
	}
	return chars;
}

/* Bytes that the first chars characters take. */
size_t
json_prefix(Slice raw, size_t chars)
{
	const char *p = raw.p;
	const char *end = raw.p + raw.len;

	while (p < end && chars-- > 0)
		json_char(&p, end);
	return p - raw.p;
}

/*
 * Append the string as UTF-8.  What UTF-8 or a C string cannot hold (a lone
 * surrogate, U+0000) becomes a question mark.
 */
void
json_decode(Slice raw, Buf *dst)
{
	const char *p = raw.p;
	const char *end = raw.p + raw.len;

	while (p < end)
	{
		uint32_t c = json_char(&p, end);
		char s[4];
		size_t len;

		if (c == 0 || (c >= 0xd800 && c <= 0xdfff))
			c = '?';
		len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
		if (len == 1)
			s[0] = c;
		else
		{
			s[0] = (0xf00 >> len) | (c >> (6 * (len - 1)));
			for (size_t i = 1; i < len; i++)
				s[i] = 0x80 | ((c >> (6 * (len - 1 - i))) & 0x3f);
		}
		buf_add(dst, s, len);
	}
}
