/*
 * stream.c: answers that come in pieces; see stream.h.
 *
 * Bytes become events (sse.c), events become the state of a dialect
 * (stream_openai.c, stream_anthropic.c), the state becomes a body on demand.
 */
#include "postgres.h"

#include "gateway/stream_internal.h"

#define REPLACEMENT "\xEF\xBF\xBD"

/* ---- ends ---- */

bool
eduai_gateway_stream_fail(Stream *stream, StreamEnd end)
{
	stream->end = end;
	return false;
}

bool
eduai_gateway_stream_error(Stream *stream, const char *name, JsonSlice json)
{
	JsonSlice error = eduai_gateway_scan_member(json, "error");
	bool wrap = eduai_gateway_scan_is_null(error) && strcmp(name, "error") == 0;

	stream->body.length = 0;
	stream->over = true;
	if (!eduai_gateway_stream_put(stream, wrap ? "{\"error\":" : "") ||
		!eduai_gateway_stream_put_slice(stream, json) ||
		!eduai_gateway_stream_put(stream, wrap ? "}" : ""))
		return false;
	stream->end = STREAM_ERROR;
	return true;
}

/* ---- keeping ---- */

bool
eduai_gateway_stream_keep(Stream *stream, Bytes *bytes, const char *more, size_t n)
{
	if (n > stream->max_body - stream->kept)
		return eduai_gateway_stream_fail(stream, STREAM_TOO_LARGE);
	if (!eduai_gateway_bytes_add(bytes, more, n))
		return eduai_gateway_stream_fail(stream, STREAM_NO_MEMORY);
	stream->kept += n;
	return true;
}

bool
eduai_gateway_stream_keep_slice(Stream *stream, Bytes *bytes, JsonSlice slice)
{
	return eduai_gateway_stream_keep(stream, bytes, slice.at, slice.length);
}

bool
eduai_gateway_stream_keep_last(Stream *stream, Bytes *bytes, JsonSlice value)
{
	if (eduai_gateway_scan_is_null(value))
		return true;
	stream->kept -= bytes->length;
	bytes->length = 0;
	return eduai_gateway_stream_keep_slice(stream, bytes, value);
}

bool
eduai_gateway_stream_keep_element(Stream *stream, Bytes *bytes, JsonSlice element)
{
	if (bytes->length == 0)
		return eduai_gateway_stream_keep_slice(stream, bytes, element);
	if (element.length >= stream->max_body - stream->kept)
		return eduai_gateway_stream_fail(stream, STREAM_TOO_LARGE);
	return eduai_gateway_stream_keep(stream, bytes, ",", 1) &&
		   eduai_gateway_stream_keep_slice(stream, bytes, element);
}

bool
eduai_gateway_stream_keep_string(Stream *stream, Bytes *bytes, JsonSlice value)
{
	JsonSlice inside;

	return !eduai_gateway_scan_string(value, &inside) ||
		   eduai_gateway_stream_keep_slice(stream, bytes, inside);
}

/* ---- decoding ---- */

static int
hex_value(char c)
{
	return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

static size_t
encode_utf8(uint32 c, char *into)
{
	if (c < 0x80)
	{
		into[0] = (char) c;
		return 1;
	}
	if (c < 0x800)
	{
		into[0] = (char) (0xC0 | (c >> 6));
		into[1] = (char) (0x80 | (c & 0x3F));
		return 2;
	}
	if (c < 0x10000)
	{
		into[0] = (char) (0xE0 | (c >> 12));
		into[1] = (char) (0x80 | ((c >> 6) & 0x3F));
		into[2] = (char) (0x80 | (c & 0x3F));
		return 3;
	}
	into[0] = (char) (0xF0 | (c >> 18));
	into[1] = (char) (0x80 | ((c >> 12) & 0x3F));
	into[2] = (char) (0x80 | ((c >> 6) & 0x3F));
	into[3] = (char) (0x80 | (c & 0x3F));
	return 4;
}

static bool
add_character(Stream *stream, Bytes *bytes, uint32 c)
{
	char utf8[4];

	return eduai_gateway_stream_keep(stream, bytes, utf8, encode_utf8(c, utf8));
}

/* A high surrogate that nothing completes any more. */
static bool
give_up_high(Stream *stream, Bytes *bytes, int *high)
{
	if (*high == 0)
		return true;
	*high = 0;
	return eduai_gateway_stream_keep(stream, bytes, REPLACEMENT, strlen(REPLACEMENT));
}

/* What jsonb cannot hold becomes U+FFFD, as in answer.c. */
static bool
add_unit(Stream *stream, Bytes *bytes, int *high, int unit)
{
	bool is_high = unit >= 0xD800 && unit <= 0xDBFF;
	bool is_low = unit >= 0xDC00 && unit <= 0xDFFF;

	if (is_low && *high != 0)
	{
		uint32 c = 0x10000 + (((uint32) *high - 0xD800) << 10) + ((uint32) unit - 0xDC00);

		*high = 0;
		return add_character(stream, bytes, c);
	}
	if (!give_up_high(stream, bytes, high))
		return false;
	if (is_high)
		*high = unit;
	else
		return add_character(stream, bytes, is_low || unit == 0 ? 0xFFFD : (uint32) unit);
	return true;
}

/* The escape behind a backslash; *p is moved behind it. */
static bool
decode_escape(Stream *stream, Bytes *bytes, int *high, const char **p)
{
	static const char letters[] = "bfnrt";
	static const char meanings[] = "\b\f\n\r\t";
	char c = *(*p)++;
	const char *letter;
	int unit = 0;

	if (c == 'u')
	{
		for (int i = 0; i < 4; i++)
			unit = unit * 16 + hex_value(*(*p)++);
		return add_unit(stream, bytes, high, unit);
	}
	letter = strchr(letters, c);
	return add_unit(stream, bytes, high, letter != NULL ? meanings[letter - letters] : c);
}

bool
eduai_gateway_stream_decode(Stream *stream, Bytes *bytes, int *high, JsonSlice inside)
{
	const char *p = inside.at;
	const char *end = p + inside.length;

	while (p < end)
	{
		const char *plain = p;

		while (p < end && *p != '\\')
			p++;
		if (p > plain && !(give_up_high(stream, bytes, high) &&
						   eduai_gateway_stream_keep(stream, bytes, plain, p - plain)))
			return false;
		if (p < end)
		{
			p++;
			if (!decode_escape(stream, bytes, high, &p))
				return false;
		}
	}
	return true;
}

bool
eduai_gateway_stream_show(Stream *stream, JsonSlice inside)
{
	size_t kept = stream->kept;
	bool done = eduai_gateway_stream_decode(stream, &stream->text, &stream->high, inside);

	/* never longer than what it was decoded from, which is kept, too */
	stream->kept = kept;
	return done;
}

/* ---- assembling ---- */

static bool
put(Stream *stream, const char *bytes, size_t n)
{
	/* the same once more as what is kept, and the brackets around it */
	if (stream->body.length + n > 2 * stream->max_body + 4096)
		return eduai_gateway_stream_fail(stream, STREAM_TOO_LARGE);
	if (!eduai_gateway_bytes_add(&stream->body, bytes, n))
		return eduai_gateway_stream_fail(stream, STREAM_NO_MEMORY);
	return true;
}

bool
eduai_gateway_stream_put(Stream *stream, const char *text)
{
	return put(stream, text, strlen(text));
}

bool
eduai_gateway_stream_put_bytes(Stream *stream, const Bytes *bytes)
{
	return put(stream, bytes->at, bytes->length);
}

bool
eduai_gateway_stream_put_slice(Stream *stream, JsonSlice slice)
{
	return put(stream, slice.at, slice.length);
}

bool
eduai_gateway_stream_put_key(Stream *stream, const char *key)
{
	char last = stream->body.length > 0 ? stream->body.at[stream->body.length - 1] : '{';

	return (last == '{' || last == '[' || put(stream, ",", 1)) && put(stream, "\"", 1) &&
		   eduai_gateway_stream_put(stream, key) && put(stream, "\":", 2);
}

bool
eduai_gateway_stream_put_value(Stream *stream, const char *key, const Bytes *value)
{
	return value->length == 0 || (eduai_gateway_stream_put_key(stream, key) &&
								  eduai_gateway_stream_put_bytes(stream, value));
}

bool
eduai_gateway_stream_put_string(Stream *stream, const char *key, const Bytes *inside)
{
	return eduai_gateway_stream_put_key(stream, key) && put(stream, "\"", 1) &&
		   eduai_gateway_stream_put_bytes(stream, inside) && put(stream, "\"", 1);
}

/* ---- a stream's life ---- */

Stream *
eduai_gateway_stream_new(StreamDialect dialect, size_t max_body)
{
	Stream *stream = calloc(1, sizeof(Stream));

	if (stream == NULL)
		return NULL;
	stream->parser = dialect == STREAM_ANTHROPIC ? &eduai_gateway_stream_anthropic
												 : &eduai_gateway_stream_openai;
	stream->max_body = stream->sse.max = max_body;
	stream->state = stream->parser->new ();
	if (stream->state == NULL)
	{
		free(stream);
		return NULL;
	}
	return stream;
}

void
eduai_gateway_stream_free(Stream *stream)
{
	if (stream == NULL)
		return;
	stream->parser->free(stream->state);
	eduai_gateway_sse_free(&stream->sse);
	eduai_gateway_bytes_free(&stream->text);
	eduai_gateway_bytes_free(&stream->body);
	free(stream);
}

static bool
on_event(void *arg, const char *name, const char *data, size_t length)
{
	Stream *stream = arg;
	JsonSlice json;

	if (stream->over || length == 0)
		return true;
	if (length == 6 && memcmp(data, "[DONE]", 6) == 0)
	{
		stream->begun = stream->over = true;
		return true;
	}
	if (!eduai_gateway_scan(data, length, &json) || !eduai_gateway_scan_is_object(json))
		return eduai_gateway_stream_fail(stream, STREAM_MALFORMED);
	return stream->parser->event(stream, name, json);
}

/* A failure of the framing; one that an event found is there already. */
static StreamEnd
framing_failure(SseResult result, StreamEnd end)
{
	switch (result)
	{
		case SSE_TOO_LONG:
			return STREAM_TOO_LARGE;
		case SSE_NO_MEMORY:
			return STREAM_NO_MEMORY;
		case SSE_OK:
		case SSE_UNWANTED:
			break;
	}
	return end;
}

bool
eduai_gateway_stream_feed(Stream *stream, const char *bytes, size_t n)
{
	uint64 left = (uint64) stream->max_body * EDUAI_STREAM_OVERHEAD - stream->bytes;
	SseResult result;

	if (stream->end >= STREAM_MALFORMED)
		return false;
	/* behind the end there is nothing to read, but a transfer that may be reused */
	if (stream->over)
		return true;
	result = eduai_gateway_sse_feed(&stream->sse, bytes, Min(n, left), on_event, stream);
	stream->bytes += Min(n, left);
	stream->end = framing_failure(result, stream->end);
	if (n > left && result == SSE_OK && !stream->over)
		return eduai_gateway_stream_fail(stream, STREAM_TOO_LARGE);
	return result == SSE_OK;
}

bool
eduai_gateway_stream_begun(const Stream *stream)
{
	return stream->begun;
}

StreamEnd
eduai_gateway_stream_end(const Stream *stream)
{
	return stream->end;
}

const char *
eduai_gateway_stream_body(Stream *stream, size_t *length)
{
	if (stream->end != STREAM_ERROR)
	{
		stream->body.length = 0;
		if (!stream->parser->assemble(stream))
			stream->body.length = 0;
	}
	*length = stream->body.length;
	return stream->body.at != NULL ? stream->body.at : "";
}

const char *
eduai_gateway_stream_text(const Stream *stream, size_t *length)
{
	size_t n = stream->text.length;
	size_t back = 0;

	/* the beginning of a character at the end: its rest comes with the next delta */
	while (back < Min(n, 4) && ((unsigned char) stream->text.at[n - 1 - back] & 0xC0) == 0x80)
		back++;
	if (back < Min(n, 4))
	{
		unsigned char lead = (unsigned char) stream->text.at[n - 1 - back];
		size_t want = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;

		if (want > back + 1)
			n -= back + 1;
	}
	*length = n;
	return stream->text.at != NULL ? stream->text.at : "";
}
