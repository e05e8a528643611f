/*
 * slice.c: values of an answer, read where they lie; see slice.h.
 *
 * A slice lies in bytes that were checked as a whole: valid UTF-8, JSON.  A
 * string without a backslash is its own text where the server's encoding is
 * UTF-8, or none; all others go through jsonb's input, which decodes them.
 */
#include "postgres.h"

#include <math.h>

#include "gateway/slice.h"
#include "gateway/wire.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#define MOST_COUNT  INT64CONST(1000000000000)
#define MOST_DIGITS 12 /* of a whole number that is read without ado */
#define MOST_NUMBER 64 /* bytes of one that is not */

bool
eduai_gateway_slice_is_container(JsonSlice value)
{
	return eduai_gateway_scan_is_object(value) || eduai_gateway_scan_is_array(value);
}

bool
eduai_gateway_slice_is_string(JsonSlice value)
{
	return value.length > 0 && *value.at == '"';
}

Jsonb *
eduai_gateway_slice_json(JsonSlice value)
{
	char *why;

	return value.length > 0 ? eduai_gateway_parse_answer(value.at, value.length, &why) : NULL;
}

static bool
is_plain(JsonSlice inside)
{
	if (memchr(inside.at, '\\', inside.length) != NULL)
		return false;
	if (GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII)
		return true;
	for (size_t i = 0; i < inside.length; i++)
		if ((unsigned char) inside.at[i] >= 0x80)
			return false;
	return true;
}

char *
eduai_gateway_slice_text(JsonSlice value)
{
	JsonSlice inside;
	JsonbValue text;
	Jsonb *json;

	if (!eduai_gateway_scan_string(value, &inside))
		return NULL;
	if (is_plain(inside))
		return pnstrdup(inside.at, inside.length);
	json = eduai_gateway_slice_json(value);
	if (json == NULL || !JsonbExtractScalar(&json->root, &text))
		return NULL;
	return pnstrdup(text.val.string.val, text.val.string.len);
}

static bool
is_number(JsonSlice value)
{
	return value.length > 0 && (*value.at == '-' || (*value.at >= '0' && *value.at <= '9'));
}

int64
eduai_gateway_slice_count(JsonSlice value)
{
	char text[MOST_NUMBER];
	int64 count = 0;
	double number;
	size_t i = 0;

	if (!is_number(value))
		return 0;
	for (; i < value.length && value.at[i] >= '0' && value.at[i] <= '9' && i < MOST_DIGITS; i++)
		count = count * 10 + (value.at[i] - '0');
	if (i == value.length)
		return count;
	if (value.length >= sizeof(text))
		return 0;
	memcpy(text, value.at, value.length);
	text[value.length] = '\0';
	number = strtod(text, NULL);
	/* a count that no int64 holds is none, as of a jsonb */
	if (isnan(number) || number < 0 || number >= 9223372036854775807.0)
		return 0;
	return (int64) rint(Min(number, (double) MOST_COUNT));
}

JsonSlice
eduai_gateway_slice_first(JsonSlice array)
{
	JsonSlice first = {0};
	size_t position = 0;

	if (eduai_gateway_scan_is_array(array))
		(void) eduai_gateway_scan_next(array, &position, NULL, &first);
	return first;
}

bool
eduai_gateway_slice_has_error(JsonSlice value)
{
	static const char *const keys[] = {"error", "type", "object"};
	static const char word[] = "\"error\"";
	JsonSlice found[lengthof(keys)];
	JsonSlice inside;

	/* be it a key or a value: nearly all answers are without it, and need no walk */
	if (memmem(value.at, value.length, word, sizeof(word) - 1) == NULL)
		return false;
	eduai_gateway_scan_members(value, keys, lengthof(keys), found);
	return eduai_gateway_slice_is_container(found[0]) ||
		   (eduai_gateway_scan_string(found[0], &inside) && inside.length > 0) ||
		   eduai_gateway_scan_is(found[1], "error") || eduai_gateway_scan_is(found[2], "error");
}

static bool
is_success(const WireResponse *response)
{
	return response->http_status >= 200 && response->http_status <= 299;
}

static bool
scan_body(const WireResponse *response, JsonSlice *body)
{
	const char *bytes = response->body;
	size_t length = response->body_length;

	if (length >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0)
	{
		bytes += 3;
		length -= 3;
	}
	return length < MaxAllocSize && pg_verify_mbstr(PG_UTF8, bytes, (int) length, true) &&
		   eduai_gateway_scan(bytes, length, body);
}

bool
eduai_gateway_open_slice(const WireResponse *response, int64 now_unix, CallOutcome *outcome,
						 JsonSlice *body)
{
	if (is_success(response) && scan_body(response, body) && !eduai_gateway_slice_has_error(*body))
		return true;
	/* a failure, which is not so frequent that its price matters */
	if (eduai_gateway_open_answer(response, now_unix, outcome) != NULL)
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "invalid_json",
								   "the provider's answer is not JSON: it is nested too deeply");
	return false;
}
