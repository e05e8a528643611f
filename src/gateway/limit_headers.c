/*
 * limit_headers.c: what an answer's headers say of the provider's rate limits.
 *
 *   x-ratelimit-{limit,remaining,reset}-{requests,tokens}    resets are
 *     durations: "6ms", "1.2s", "6m0s", "1h2m", or seconds without a unit
 *   anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-
 *     {limit,remaining,reset}                                resets are times
 *     of day in RFC 3339
 *
 * What cannot be read is as good as absent: these headers are advice, and an
 * answer is never refused for theirs.
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include "gateway/wire.h"
#include "utils/datetime.h"

#define MOST_DIGITS   15
#define MOST_RESET_MS 1e12

typedef struct LimitWords
{
	const char *limit;
	const char *left;
	const char *reset;
} LimitWords;

static const char *
header(const WireResponse *response, const char *format, const char *what)
{
	char name[64];

	snprintf(name, sizeof(name), format, what);
	for (int i = 0; i + 1 < response->nlimit_headers; i += 2)
		if (strcmp(response->limit_headers[i], name) == 0)
			return response->limit_headers[i + 1];
	return NULL;
}

static LimitWords
words(const WireResponse *response, const char *format)
{
	LimitWords w = {.limit = header(response, format, "limit"),
					.left = header(response, format, "remaining"),
					.reset = header(response, format, "reset")};

	return w;
}

/* ---- values ---- */

static int64
whole_number(const char *text)
{
	size_t digits = text != NULL ? strspn(text, "0123456789") : 0;

	if (digits == 0 || digits > MOST_DIGITS || text[digits] != '\0')
		return -1;
	return strtoll(text, NULL, 10);
}

/* "1.5" of "1.5s"; false when there is none */
static bool
decimal(const char **text, double *value)
{
	const char *p = *text;
	double scale = 1.0;
	bool any = false;

	*value = 0.0;
	for (; isdigit((unsigned char) *p); p++, any = true)
		*value = *value * 10.0 + (*p - '0');
	if (*p == '.')
		for (p++; isdigit((unsigned char) *p); p++, any = true)
			*value += (*p - '0') * (scale /= 10.0);
	*text = p;
	return any;
}

/* milliseconds of the unit at *text, which is passed; 0: none */
static double
unit_ms(const char **text)
{
	static const struct
	{
		const char *name; /* the longer before what it begins with */
		double ms;
	} units[] = {{"ms", 1.0},   {"us", 1e-3},   {"\xc2\xb5s", 1e-3}, {"ns", 1e-6},
				 {"s", 1000.0}, {"m", 60000.0}, {"h", 3600000.0},    {"d", 86400000.0}};

	for (size_t i = 0; i < lengthof(units); i++)
		if (strncmp(*text, units[i].name, strlen(units[i].name)) == 0)
		{
			*text += strlen(units[i].name);
			return units[i].ms;
		}
	return 0.0;
}

/* rounded up: a moment too early is refused */
static int64
duration_ms(const char *text)
{
	double total = 0.0;
	double value;
	double unit;

	if (text == NULL || *text == '\0')
		return -1;
	while (*text != '\0')
	{
		if (!decimal(&text, &value))
			return -1;
		unit = unit_ms(&text);
		if (unit == 0.0 && (*text != '\0' || total > 0.0))
			return -1;
		total += value * (unit == 0.0 ? 1000.0 : unit);
	}
	return total <= MOST_RESET_MS ? (int64) ceil(total) : -1;
}

/* seconds east of UTC from "Z", "+02:00"; false: neither */
static bool
zone_offset(const char *text, int *offset)
{
	int hours;
	int minutes;
	char sign;

	*offset = 0;
	if ((text[0] == 'Z' || text[0] == 'z') && text[1] == '\0')
		return true;
	if (strlen(text) != 6 || sscanf(text, "%c%2d:%2d", &sign, &hours, &minutes) != 3 ||
		(sign != '+' && sign != '-'))
		return false;
	*offset = (sign == '+' ? 1 : -1) * (hours * 3600 + minutes * 60);
	return true;
}

/* RFC 3339; from now on, 0 when it has passed; -1: no such time */
static int64
until_ms(const char *text, int64 now_unix)
{
	int year, month, day, hour, minute, second, offset;
	int length = 0;
	double fraction = 0.0;
	int64 unix_s;

	if (text == NULL ||
		sscanf(text, "%4d-%2d-%2d%*1[Tt ]%2d:%2d:%2d%n", &year, &month, &day, &hour, &minute,
			   &second, &length) != 6 ||
		length == 0 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || hour > 23 ||
		minute < 0 || minute > 59 || second < 0 || second > 60 || year < 1970)
		return -1;
	text += length;
	if (*text == '.' && !decimal(&text, &fraction))
		return -1;
	if (!zone_offset(text, &offset))
		return -1;
	unix_s = ((int64) date2j(year, month, day) - UNIX_EPOCH_JDATE) * SECS_PER_DAY + hour * 3600 +
			 minute * 60 + second - offset;
	return Max((unix_s - now_unix) * 1000 + (int64) ceil(fraction * 1000.0), 0);
}

/* ---- putting them together ---- */

static bool
read_one(LimitWords w, bool times, int64 now_unix, int64 *limit, int64 *left, int64 *reset_ms)
{
	*limit = whole_number(w.limit);
	*left = whole_number(w.left);
	*reset_ms = times ? until_ms(w.reset, now_unix) : duration_ms(w.reset);
	return *left >= 0;
}

static void
read_requests(const WireResponse *response, int64 now_unix, CallLimits *l)
{
	if (!read_one(words(response, "x-ratelimit-%s-requests"), false, now_unix, &l->requests_limit,
				  &l->requests_left, &l->requests_reset_ms))
		(void) read_one(words(response, "anthropic-ratelimit-requests-%s"), true, now_unix,
						&l->requests_limit, &l->requests_left, &l->requests_reset_ms);
}

/* The one that Anthropic gives for all tokens is the strictest of its limits. */
static void
read_tokens(const WireResponse *response, int64 now_unix, CallLimits *l)
{
	static const char *const anthropic[] = {"anthropic-ratelimit-tokens-%s",
											"anthropic-ratelimit-input-tokens-%s",
											"anthropic-ratelimit-output-tokens-%s"};
	bool found = read_one(words(response, "x-ratelimit-%s-tokens"), false, now_unix,
						  &l->tokens_limit, &l->tokens_left, &l->tokens_reset_ms);

	for (size_t i = 0; i < lengthof(anthropic) && !found; i++)
		found = read_one(words(response, anthropic[i]), true, now_unix, &l->tokens_limit,
						 &l->tokens_left, &l->tokens_reset_ms);
}

void
eduai_gateway_read_limits(const WireResponse *response, int64 now_unix, CallLimits *limits)
{
	if (response->nlimit_headers == 0)
		return;
	read_requests(response, now_unix, limits);
	read_tokens(response, now_unix, limits);
}

bool
eduai_gateway_is_limit_header(const char *name, size_t length)
{
	static const char *const prefixes[] = {"x-ratelimit-", "anthropic-ratelimit-"};

	for (size_t i = 0; i < lengthof(prefixes); i++)
		if (length > strlen(prefixes[i]) &&
			pg_strncasecmp(name, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}
