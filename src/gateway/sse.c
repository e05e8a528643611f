/*
 * sse.c: server-sent events; see sse.h.
 *
 * A line that arrives whole is looked at where it lies; only one that is cut
 * by the end of a piece is copied.
 */
#include "postgres.h"

#include "gateway/sse.h"

/* The value of "name: value" or "name:value"; NULL when it is another field's line. */
static const char *
field_value(const char *line, size_t n, const char *name, size_t *length)
{
	size_t skip = strlen(name);

	if (n < skip || memcmp(line, name, skip) != 0 || (n > skip && line[skip] != ':'))
		return NULL;
	if (n > skip)
		skip++;
	if (n > skip && line[skip] == ' ')
		skip++;
	*length = n - skip;
	return line + skip;
}

static void
set_name(Sse *sse, const char *name, size_t n)
{
	n = Min(n, SSE_NAME_ROOM - 1);
	memcpy(sse->name, name, n);
	sse->name[n] = '\0';
}

static SseResult
add_data(Sse *sse, const char *data, size_t n)
{
	if (n >= sse->max || sse->data.length > sse->max - n - 1)
		return SSE_TOO_LONG;
	if ((sse->has_data && !eduai_gateway_bytes_add(&sse->data, "\n", 1)) ||
		!eduai_gateway_bytes_add(&sse->data, data, n))
		return SSE_NO_MEMORY;
	sse->has_data = true;
	return SSE_OK;
}

static SseResult
dispatch(Sse *sse, SseEvent event, void *arg)
{
	bool wanted = true;

	if (sse->has_data)
		wanted = event(arg, sse->name, sse->data.at != NULL ? sse->data.at : "", sse->data.length);
	sse->has_data = false;
	sse->data.length = 0;
	sse->name[0] = '\0';
	return wanted ? SSE_OK : SSE_UNWANTED;
}

/* A whole line, its end taken off. */
static SseResult
take_line(Sse *sse, const char *line, size_t n, SseEvent event, void *arg)
{
	const char *value;
	size_t length;

	if (!sse->begun && n >= 3 && memcmp(line, "\xEF\xBB\xBF", 3) == 0)
	{
		line += 3;
		n -= 3;
	}
	sse->begun = true;
	if (n == 0)
		return dispatch(sse, event, arg);
	if ((value = field_value(line, n, "data", &length)) != NULL)
		return add_data(sse, value, length);
	if ((value = field_value(line, n, "event", &length)) != NULL)
		set_name(sse, value, length);
	return SSE_OK;
}

/* The rest of a line whose beginning was kept, or all of it. */
static SseResult
end_line(Sse *sse, const char *rest, size_t n, SseEvent event, void *arg)
{
	SseResult result;

	if (sse->line.length == 0)
		return take_line(sse, rest, n, event, arg);
	if (!eduai_gateway_bytes_add(&sse->line, rest, n))
		return SSE_NO_MEMORY;
	result = take_line(sse, sse->line.at, sse->line.length, event, arg);
	sse->line.length = 0;
	return result;
}

SseResult
eduai_gateway_sse_feed(Sse *sse, const char *bytes, size_t n, SseEvent event, void *arg)
{
	const char *end = bytes + n;

	while (bytes < end)
	{
		const char *first = bytes;
		SseResult result;

		if (sse->after_cr && *bytes == '\n')
			first = ++bytes;
		sse->after_cr = false;
		while (bytes < end && *bytes != '\n' && *bytes != '\r')
			bytes++;
		if (sse->line.length + (bytes - first) > sse->max)
			return SSE_TOO_LONG;
		if (bytes == end)
			return eduai_gateway_bytes_add(&sse->line, first, bytes - first) ? SSE_OK
																			 : SSE_NO_MEMORY;
		sse->after_cr = *bytes == '\r';
		result = end_line(sse, first, bytes - first, event, arg);
		if (result != SSE_OK)
			return result;
		bytes++;
	}
	return SSE_OK;
}

void
eduai_gateway_sse_free(Sse *sse)
{
	eduai_gateway_bytes_free(&sse->line);
	eduai_gateway_bytes_free(&sse->data);
}
