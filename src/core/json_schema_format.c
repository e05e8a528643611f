/*
 * json_schema_format.c: the formats of JSON Schema that are checked: date-time,
 * date (RFC 3339), uuid, email.  Any other is an annotation.
 */
#include "postgres.h"

#include "core/json_schema_internal.h"

/* A string that is read from left to right. */
typedef struct Reader
{
	const char *at;
	const char *end;
} Reader;

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool
is_hex(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool
take(Reader *r, char c)
{
	if (r->at == r->end || *r->at != c)
		return false;
	r->at++;
	return true;
}

/* Exactly n digits, as a number from least to most. */
static bool
take_number(Reader *r, int n, int least, int most, int *value)
{
	*value = 0;
	for (int i = 0; i < n; i++)
	{
		if (r->at == r->end || !is_digit(*r->at))
			return false;
		*value = *value * 10 + (*r->at++ - '0');
	}
	return *value >= least && *value <= most;
}

static int
days_of(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

static bool
take_date(Reader *r)
{
	int year;
	int month;
	int day;

	return take_number(r, 4, 0, 9999, &year) && take(r, '-') && take_number(r, 2, 1, 12, &month) &&
		   take(r, '-') && take_number(r, 2, 1, days_of(year, month), &day);
}

/* "Z" or a difference to UTC, in minutes. */
static bool
take_zone(Reader *r, int *minutes)
{
	int hour;
	int minute;
	int sign;

	*minutes = 0;
	if (take(r, 'Z') || take(r, 'z'))
		return true;
	if (take(r, '+'))
		sign = 1;
	else if (take(r, '-'))
		sign = -1;
	else
		return false;
	if (!take_number(r, 2, 0, 23, &hour) || !take(r, ':') || !take_number(r, 2, 0, 59, &minute))
		return false;
	*minutes = sign * (hour * 60 + minute);
	return true;
}

static bool
take_time(Reader *r)
{
	int hour;
	int minute;
	int second;
	int zone;

	if (!take_number(r, 2, 0, 23, &hour) || !take(r, ':') || !take_number(r, 2, 0, 59, &minute) ||
		!take(r, ':') || !take_number(r, 2, 0, 60, &second))
		return false;
	if (take(r, '.'))
	{
		const char *first = r->at;

		while (r->at < r->end && is_digit(*r->at))
			r->at++;
		if (r->at == first)
			return false;
	}
	if (!take_zone(r, &zone))
		return false;
	/* a leap second ends a day of UTC */
	return second < 60 || (hour * 60 + minute - zone + 2 * 1440) % 1440 == 1439;
}

static bool
is_date(Reader r)
{
	return take_date(&r) && r.at == r.end;
}

static bool
is_date_time(Reader r)
{
	return take_date(&r) && (take(&r, 'T') || take(&r, 't')) && take_time(&r) && r.at == r.end;
}

static bool
is_uuid(Reader r)
{
	for (int i = 0; i < 36; i++)
	{
		bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;

		if (r.at == r.end || !(hyphen ? *r.at == '-' : is_hex(*r.at)))
			return false;
		r.at++;
	}
	return r.at == r.end;
}

/* ---- email: RFC 5321, ASCII ---- */

static bool
is_atom(char c)
{
	return is_letter(c) || is_digit(c) || (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

static bool
take_dot_atom(Reader *r)
{
	do
	{
		const char *first = r->at;

		while (r->at < r->end && is_atom(*r->at))
			r->at++;
		if (r->at == first)
			return false;
	} while (take(r, '.'));
	return true;
}

static bool
take_quoted(Reader *r)
{
	if (!take(r, '"'))
		return false;
	while (!take(r, '"'))
	{
		(void) take(r, '\\');
		if (r->at == r->end || *r->at < 0x20 || *r->at > 0x7e)
			return false;
		r->at++;
	}
	return true;
}

/* Labels of 1 to 63 letters, digits and, within, hyphens. */
static bool
take_domain(Reader *r)
{
	do
	{
		const char *first = r->at;

		while (r->at < r->end && (is_letter(*r->at) || is_digit(*r->at) || *r->at == '-'))
			r->at++;
		if (r->at == first || r->at - first > 63 || *first == '-' || r->at[-1] == '-')
			return false;
	} while (take(r, '.'));
	return true;
}

/* An address in brackets, in outline. */
static bool
take_address(Reader *r)
{
	const char *first;

	if (!take(r, '['))
		return false;
	first = r->at;
	while (r->at < r->end && (is_letter(*r->at) || is_digit(*r->at) || *r->at == ':' ||
							  *r->at == '.' || *r->at == '-'))
		r->at++;
	return r->at > first && take(r, ']');
}

static bool
is_email(Reader r)
{
	const char *first = r.at;
	bool local = *first == '"' ? take_quoted(&r) : take_dot_atom(&r);

	if (!local || r.at - first > 64 || !take(&r, '@') || r.end - r.at > 255 || r.at == r.end)
		return false;
	return (*r.at == '[' ? take_address(&r) : take_domain(&r)) && r.at == r.end;
}

bool
eduai_core_format_matches(const char *format, int format_length, const char *value, int length)
{
	static const struct
	{
		const char *name;
		bool (*matches)(Reader r);
	} formats[] = {
		{"date-time", is_date_time}, {"date", is_date}, {"uuid", is_uuid}, {"email", is_email}};
	Reader r = {value, value + length};

	for (int i = 0; i < lengthof(formats); i++)
		if ((int) strlen(formats[i].name) == format_length &&
			memcmp(formats[i].name, format, format_length) == 0)
			return length > 0 && formats[i].matches(r);
	return true;
}
