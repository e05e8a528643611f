/*
 * answer.c: a provider's bytes as jsonb.
 *
 * JSON from outside may hold what jsonb cannot: \u0000 and surrogates without
 * their other half.  They become U+FFFD rather than cost a paid answer.  Where
 * the server's encoding is not UTF-8, other characters are written as \u
 * escapes, which jsonb's input converts without a catalog.
 */
#include "postgres.h"

#include <ctype.h>

#include "gateway/wire.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

/* The code unit of "\uXXXX" at p, -1 when there is none. */
static int
escaped_unit(const char *p, const char *end)
{
	int unit = 0;

	if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
		return -1;
	for (int i = 2; i < 6; i++)
	{
		if (!isxdigit((unsigned char) p[i]))
			return -1;
		unit = unit * 16 + (isdigit((unsigned char) p[i]) ? p[i] - '0' : (p[i] | 0x20) - 'a' + 10);
	}
	return unit;
}

static bool
is_high(int unit)
{
	return unit >= 0xD800 && unit <= 0xDBFF;
}

static bool
is_low(int unit)
{
	return unit >= 0xDC00 && unit <= 0xDFFF;
}

/* Replaces what jsonb refuses among the escapes; false when nothing was. */
static bool
repair_escapes(char *text, size_t length)
{
	const char *end = text + length;
	bool repaired = false;
	char *p = text;

	while ((p = memchr(p, '\\', end - p)) != NULL)
	{
		int unit = escaped_unit(p, end);

		if (unit < 0)
		{
			/* any other escape is two bytes: the second may be a backslash */
			p += Min(2, end - p);
			continue;
		}
		if (is_high(unit) && is_low(escaped_unit(p + 6, end)))
		{
			p += 12;
			continue;
		}
		if (unit == 0 || is_high(unit) || is_low(unit))
		{
			memcpy(p + 2, "fffd", 4);
			repaired = true;
		}
		p += 6;
	}
	return repaired;
}

static bool
is_ascii(const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if ((unsigned char) bytes[i] >= 0x80)
			return false;
	return true;
}

/* Valid UTF-8 in, ASCII out. */
static char *
escape_all(const char *bytes, size_t length, size_t *escaped_length)
{
	StringInfoData text;
	const unsigned char *p = (const unsigned char *) bytes;
	const unsigned char *end = p + length;

	initStringInfo(&text);
	while (p < end)
	{
		pg_wchar c;

		if (*p < 0x80)
		{
			appendStringInfoChar(&text, *p++);
			continue;
		}
		c = utf8_to_unicode(p);
		p += pg_utf_mblen(p);
		if (c >= 0x10000)
			appendStringInfo(&text, "\\u%04x\\u%04x", 0xD800 + ((c - 0x10000) >> 10),
							 0xDC00 + ((c - 0x10000) & 0x3FF));
		else
			appendStringInfo(&text, "\\u%04x", c);
	}
	*escaped_length = text.len;
	return text.data;
}

Jsonb *
eduai_gateway_parse_answer(const char *bytes, size_t length, char **why)
{
	Jsonb *json;
	char *copy;

	if (length >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0)
	{
		bytes += 3;
		length -= 3;
	}
	if (length == 0)
	{
		*why = pstrdup("it is empty");
		return NULL;
	}
	if (GetDatabaseEncoding() != PG_UTF8 && GetDatabaseEncoding() != PG_SQL_ASCII &&
		!is_ascii(bytes, length) && length < MaxAllocSize / 4 &&
		pg_verify_mbstr(PG_UTF8, bytes, (int) length, true))
		bytes = escape_all(bytes, length, &length);

	json = eduai_core_json_parse_bytes(bytes, length, why);
	if (json != NULL || length >= MaxAllocSize - 1)
		return json;
	copy = palloc(length + 1);
	memcpy(copy, bytes, length);
	copy[length] = '\0';
	return repair_escapes(copy, length) ? eduai_core_json_parse_bytes(copy, length, why) : NULL;
}

static bool
is_empty(const WireResponse *response)
{
	for (size_t i = 0; i < response->body_length; i++)
		if (!isspace((unsigned char) response->body[i]))
			return false;
	return true;
}

Jsonb *
eduai_gateway_open_answer(const WireResponse *response, int64 now_unix, CallOutcome *outcome)
{
	char *why = NULL;
	Jsonb *body = eduai_gateway_parse_answer(response->body, response->body_length, &why);
	bool success = response->http_status >= 200 && response->http_status <= 299;

	if (!success || eduai_gateway_has_error(body))
	{
		eduai_gateway_classify(response, body, now_unix, outcome);
		return NULL;
	}
	if (body == NULL && is_empty(response))
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "empty_answer",
								   "the provider's answer is empty");
	else if (body == NULL)
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "invalid_json",
								   "the provider's answer is not JSON: %s", why);
	return body;
}
