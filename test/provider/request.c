/*-------------------------------------------------------------------------
 * request.c
 *		HTTP/1.1 framing of the requests the simulator reads.
 *
 * The head is parsed when all of it is there, and again when the body is
 * complete: growing the input buffer moves it, and parsing costs less than
 * keeping offsets would cost the reader.
 *-------------------------------------------------------------------------
 */
#include <ctype.h>

#include "request.h"

static bool
bad(RequestReader *reader, int status, const char *error)
{
	reader->error_status = status;
	reader->error = error;
	return false;
}

static bool
parse_request_line(RequestReader *reader, Slice line)
{
	Request *request = &reader->request;
	const char *end = line.p + line.len;
	const char *space = memchr(line.p, ' ', line.len);
	const char *target;
	const char *question;
	Slice version;

	if (space == NULL)
		return bad(reader, 400, "malformed request line");
	request->method = (Slice){line.p, space - line.p};
	target = space + 1;
	space = memchr(target, ' ', end - target);
	if (space == NULL || *target != '/')
		return bad(reader, 400, "malformed request line");
	version = (Slice){space + 1, end - space - 1};
	question = memchr(target, '?', space - target);
	request->path = (Slice){target, (question ? question : space) - target};
	if (question != NULL)
		request->query = (Slice){question + 1, space - question - 1};
	reader->old_protocol = slice_is(version, "HTTP/1.0");
	request->keep_alive = !reader->old_protocol;
	if (!reader->old_protocol && !slice_is(version, "HTTP/1.1"))
		return bad(reader, 505, "unsupported HTTP version");
	return true;
}

static bool
parse_framing(RequestReader *reader, Slice name, Slice value)
{
	int64_t length;

	if (slice_is_nocase(name, "content-length"))
	{
		if (!slice_int(value, &length) || length < 0)
			return bad(reader, 400, "malformed Content-Length");
		if (length > REQUEST_MAX_BODY)
			return bad(reader, 413, "request body too large");
		reader->body_len = length;
	}
	else if (slice_is_nocase(name, "transfer-encoding"))
	{
		if (!slice_is_nocase(value, "chunked"))
			return bad(reader, 501, "unsupported Transfer-Encoding");
		reader->chunked = true;
	}
	else if (slice_is_nocase(name, "connection"))
	{
		if (slice_is_nocase(value, "close"))
			reader->request.keep_alive = false;
		else if (slice_is_nocase(value, "keep-alive"))
			reader->request.keep_alive = true;
	}
	else if (slice_is_nocase(name, "expect"))
		reader->expect_continue = slice_is_nocase(value, "100-continue");
	return true;
}

static bool
parse_header(RequestReader *reader, Slice line)
{
	Request *request = &reader->request;
	const struct
	{
		const char *name;
		Slice *value;
	} wanted[] = {
		{"x-sim", &request->sim},
		{"authorization", &request->authorization},
		{"x-api-key", &request->api_key},
		{"anthropic-version", &request->anthropic_version},
		{"content-type", &request->content_type},
		{"idempotency-key", &request->idempotency_key},
	};
	const char *colon = memchr(line.p, ':', line.len);
	Slice name;
	Slice value;

	if (colon == NULL || colon == line.p || isspace((unsigned char) colon[-1]) ||
		isspace((unsigned char) *line.p))
		return bad(reader, 400, "malformed header line");
	name = (Slice){line.p, colon - line.p};
	value = slice_trim((Slice){colon + 1, line.p + line.len - colon - 1});
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
	{
		if (slice_is_nocase(name, wanted[i].name))
		{
			*wanted[i].value = value;
			return true;
		}
	}
	return parse_framing(reader, name, value);
}

static bool
parse_head(RequestReader *reader, const char *p, size_t len)
{
	const char *end = p + len;
	bool first = true;
	int64_t first_byte_us = reader->request.first_byte_us;
	size_t decoded = reader->body_len;

	memset(&reader->request, 0, sizeof(reader->request));
	reader->request.first_byte_us = first_byte_us;
	while (p < end)
	{
		const char *eol = memchr(p, '\n', end - p);
		Slice line = {p, eol - p};

		if (line.len > 0 && line.p[line.len - 1] == '\r')
			line.len--;
		p = eol + 1;
		if (line.len == 0)
			break;
		if (!(first ? parse_request_line(reader, line) : parse_header(reader, line)))
			return false;
		first = false;
	}
	if (reader->chunked && !reader->in_body && reader->body_len > 0)
		return bad(reader, 400, "both Content-Length and Transfer-Encoding");
	if (reader->chunked)
		reader->body_len = reader->in_body ? decoded : 0;
	return true;
}

/* The head's length with its empty line, 0 when it is not complete. */
static size_t
find_head(const Buf *in)
{
	const char *p = in->data;
	const char *end = in->data + in->len;

	while (p < end && (p = memchr(p, '\n', end - p)) != NULL)
	{
		p++;
		if (p < end && *p == '\n')
			return p + 1 - in->data;
		if (end - p >= 2 && p[0] == '\r' && p[1] == '\n')
			return p + 2 - in->data;
	}
	return 0;
}

/* "1a2b[;extension]" before a CRLF. */
static bool
parse_chunk_size(RequestReader *reader, Slice line, size_t *size)
{
	size_t i;

	*size = 0;
	for (i = 0; i < line.len && isxdigit((unsigned char) line.p[i]); i++)
	{
		int c = tolower((unsigned char) line.p[i]);

		*size = *size * 16 + (c <= '9' ? c - '0' : c - 'a' + 10);
		if (*size > REQUEST_MAX_BODY)
			return bad(reader, 413, "request body too large");
	}
	if (i == 0 || (i < line.len && line.p[i] != ';'))
		return bad(reader, 400, "malformed chunk size");
	if (reader->body_len + *size > REQUEST_MAX_BODY)
		return bad(reader, 413, "request body too large");
	return true;
}

/* A line of the chunked framing: a size, a chunk's end or a trailer. */
static RequestState
chunk_line(RequestReader *reader, Slice line)
{
	size_t size;

	if (line.len > 0 && line.p[line.len - 1] == '\r')
		line.len--;
	if (reader->in_trailer)
		return line.len == 0 ? REQUEST_READY : REQUEST_MORE;
	if (reader->chunk_open)
	{
		reader->chunk_open = false;
		if (line.len == 0)
			return REQUEST_MORE;
		bad(reader, 400, "malformed chunk");
		return REQUEST_BAD;
	}
	if (!parse_chunk_size(reader, line, &size))
		return REQUEST_BAD;
	reader->in_trailer = size == 0;
	reader->chunk_open = size > 0;
	reader->chunk_left = size;
	return REQUEST_MORE;
}

/*
 * Decode what has come of a chunked body.  Decoded bytes gather behind the
 * head; what is not decoded yet follows them without a gap.
 */
static RequestState
read_chunks(RequestReader *reader, Buf *in)
{
	char *dst = in->data + reader->head_len + reader->body_len;
	char *src = dst;
	char *end = in->data + in->len;
	RequestState state = REQUEST_MORE;

	while (state == REQUEST_MORE && src < end)
	{
		size_t len = end - src;
		char *eol;

		if (reader->chunk_left > 0)
		{
			len = len < reader->chunk_left ? len : reader->chunk_left;
			memmove(dst, src, len);
			dst += len;
			src += len;
			reader->chunk_left -= len;
			reader->body_len += len;
			continue;
		}
		eol = memchr(src, '\n', len);
		if (eol == NULL)
		{
			if (len > 4096)
			{
				bad(reader, 400, "chunk line too long");
				state = REQUEST_BAD;
			}
			break;
		}
		state = chunk_line(reader, (Slice){src, eol - src});
		src = eol + 1;
	}
	memmove(dst, src, end - src);
	in->len -= src - dst;
	return state;
}

/*
 * Call after bytes were added to the buffer.  REQUEST_READY hands out one
 * request; whatever follows it in the buffer belongs to the next.
 */
RequestState
request_read(RequestReader *reader, Buf *in)
{
	bool began = false;
	RequestState state;

	if (!reader->in_body)
	{
		reader->head_len = find_head(in);
		if (reader->head_len > REQUEST_MAX_HEAD ||
			(reader->head_len == 0 && in->len > REQUEST_MAX_HEAD))
		{
			bad(reader, 431, "request head too large");
			return REQUEST_BAD;
		}
		if (reader->head_len == 0)
			return REQUEST_MORE;
		if (!parse_head(reader, in->data, reader->head_len))
			return REQUEST_BAD;
		reader->in_body = true;
		began = true;
	}
	if (reader->chunked)
		state = read_chunks(reader, in);
	else
		state = in->len - reader->head_len >= reader->body_len ? REQUEST_READY : REQUEST_MORE;
	if (state == REQUEST_MORE && began && reader->expect_continue && in->len == reader->head_len)
		return REQUEST_CONTINUE;
	if (state != REQUEST_READY)
		return state;
	if (!began)
		parse_head(reader, in->data, reader->head_len);
	reader->request.body = (Slice){in->data + reader->head_len, reader->body_len};
	return REQUEST_READY;
}

/* Drop the request from the buffer. */
void
request_consume(RequestReader *reader, Buf *in)
{
	size_t used = reader->head_len + reader->body_len;

	in->len -= used;
	memmove(in->data, in->data + used, in->len);
	memset(reader, 0, sizeof(*reader));
}
