/*
 * head.c: what the lines of an answer's head say; see exchange.h.
 *
 * Heads are written by strangers: fields come twice, folded over several lines,
 * in the trailers behind the body, and before the answer in informational ones.
 * Only the last head counts and no trailer does.  A wait that is asked for
 * several times is the longest of them; a length that is told in two ways ends
 * the exchange, because it decides where the next answer begins.
 *
 * Called by libcurl's callbacks: never raises, never pallocs.
 */
#include "postgres.h"

#include "gateway/exchange.h"
#include "gateway/wire.h"

#define MAX_HEADER_BYTES (64 * 1024)

/* A field that is kept. */
typedef struct HeaderField
{
	const char *name;
	size_t offset;
	size_t room;
	bool several; /* a line for each, not the last one only */
} HeaderField;

#define FIELD(name, member, several)                                                   \
	{                                                                                  \
		name, offsetof(Transfer, member), sizeof(((Transfer *) NULL)->member), several \
	}

static const HeaderField header_fields[] = {
	FIELD("retry-after", retry_after, true),       FIELD("retry-after-ms", retry_after_ms, true),
	FIELD("x-should-retry", should_retry, false),  FIELD("content-type", content_type, false),
	FIELD("content-length", content_length, true), FIELD("x-request-id", request_id, false),
	FIELD("request-id", request_id, false),
};

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void
trim(const char **text, size_t *length)
{
	while (*length > 0 && is_blank(**text))
	{
		(*text)++;
		(*length)--;
	}
	while (*length > 0 && is_blank((*text)[*length - 1]))
		(*length)--;
}

/* Behind what is there already; a value that is too long is as good as none. */
static void
add_value(Transfer *t, char separator, const char *text, size_t length)
{
	size_t used = strlen(t->header);

	trim(&text, &length);
	if (used + length + 2 > t->header_room || memchr(text, '\0', length) != NULL)
	{
		t->header[0] = '\0';
		return;
	}
	if (used > 0)
		t->header[used++] = separator;
	memcpy(t->header + used, text, length);
	t->header[used + length] = '\0';
}

static void
keep_text(LimitHeaders *l, const char *text, size_t length, bool lower)
{
	char *into = l->text + l->used;

	for (size_t i = 0; i < length; i++)
		into[i] = lower ? pg_ascii_tolower((unsigned char) text[i]) : text[i];
	into[length] = '\0';
	l->at[l->n++] = l->used;
	l->used += (int) length + 1;
}

/* One too many, or too long, is as good as none. */
static void
keep_limit(LimitHeaders *l, const char *line, size_t name, const char *value, size_t length)
{
	trim(&value, &length);
	if (l->n >= 2 * MAX_LIMIT_HEADERS || length == 0 || length >= 64 ||
		memchr(value, '\0', length) != NULL || l->used + name + length + 2 > sizeof(l->text))
		return;
	keep_text(l, line, name, true);
	keep_text(l, value, length, false);
}

static void
keep_header(Transfer *t, const char *line, size_t length)
{
	const char *colon = memchr(line, ':', length);
	size_t name = colon != NULL ? (size_t) (colon - line) : 0;

	t->header = NULL;
	if (name > 0 && eduai_gateway_is_limit_header(line, name))
		keep_limit(&t->limits, line, name, colon + 1, length - name - 1);
	for (size_t i = 0; i < lengthof(header_fields) && name > 0; i++)
	{
		const HeaderField *field = &header_fields[i];

		if (strlen(field->name) != name || pg_strncasecmp(line, field->name, name) != 0)
			continue;
		t->header = (char *) t + field->offset;
		t->header_room = field->room;
		if (!field->several)
			t->header[0] = '\0';
		add_value(t, '\n', colon + 1, length - name - 1);
	}
}

static void
forget_headers(Transfer *t)
{
	for (size_t i = 0; i < lengthof(header_fields); i++)
		*((char *) t + header_fields[i].offset) = '\0';
	t->header = NULL;
	t->head_over = false;
	t->limits.n = t->limits.used = 0;
}

/* Which of two different lengths is meant decides where the next answer begins. */
static bool
tells_two_lengths(const Transfer *t)
{
	const char *second = strchr(t->content_length, '\n');

	return second != NULL && ((size_t) (second - t->content_length) != strlen(second + 1) ||
							  strncmp(t->content_length, second + 1, strlen(second + 1)) != 0);
}

static void
read_header_line(Transfer *t, const char *line, size_t length)
{
	/* a final answer may follow a 1xx one: only the last head counts */
	if (length > 5 && memcmp(line, "HTTP/", 5) == 0)
		forget_headers(t);
	else if (t->head_over)
		return;
	else if (*line == '\r' || *line == '\n')
		t->head_over = true;
	else if (*line != ' ' && *line != '\t')
		keep_header(t, line, length);
	else if (t->header != NULL)
		add_value(t, ' ', line, length);
}

bool
eduai_gateway_head_line(Transfer *t, const char *line, size_t length)
{
	t->header_bytes += length;
	if (length > 0)
		read_header_line(t, line, length);
	if (t->header_bytes > MAX_HEADER_BYTES)
		t->abort = ABORT_HEADERS_TOO_LARGE;
	else if (tells_two_lengths(t))
		t->abort = ABORT_TWO_LENGTHS;
	else
		return true;
	return false;
}

static const char *
present(const char *header)
{
	return *header != '\0' ? header : NULL;
}

/* Said several times, the longest wait is the safe one. */
static const char *
longest_wait(char *values, int64 now_unix)
{
	const char *longest = values;
	int64 longest_ms = -1;
	char *rest = values;
	char *value;

	while ((value = strsep(&rest, "\n")) != NULL)
	{
		bool capped;
		int64 ms = eduai_gateway_retry_after(NULL, value, now_unix, &capped);

		if (ms > longest_ms)
		{
			longest = value;
			longest_ms = ms;
		}
	}
	return present(longest);
}

void
eduai_gateway_head_tell(Transfer *t, int64 now_unix, WireResponse *response)
{
	response->retry_after = longest_wait(t->retry_after, now_unix);
	response->retry_after_ms = longest_wait(t->retry_after_ms, now_unix);
	response->should_retry = present(t->should_retry);
	response->content_type = present(t->content_type);
	response->request_id = present(t->request_id);
	for (int i = 0; i < t->limits.n; i++)
		t->limits.list[i] = t->limits.text + t->limits.at[i];
	response->limit_headers = t->limits.list;
	response->nlimit_headers = t->limits.n;
}
