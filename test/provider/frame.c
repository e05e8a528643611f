/*-------------------------------------------------------------------------
 * frame.c
 *		Puts an answer on the wire: head, framing, and their faults.
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "frame_pad.h"
#include "journal.h"

static const char *
reason(int status)
{
	switch (status)
	{
		case 200:
			return "OK";
		case 302:
			return "Found";
		case 400:
			return "Bad Request";
		case 401:
			return "Unauthorized";
		case 404:
			return "Not Found";
		case 413:
			return "Content Too Large";
		case 429:
			return "Too Many Requests";
		case 500:
			return "Internal Server Error";
		case 503:
			return "Service Unavailable";
		case 529:
			return "Overloaded";
		default:
			return "Simulated";
	}
}

/* Written once a second: a program that answers in 20 us notices strftime. */
static void
add_date(Buf *out)
{
	static time_t written = 0;
	static char line[64];
	time_t now = time(NULL);
	struct tm parts;

	if (now != written)
	{
		gmtime_r(&now, &parts);
		strftime(line, sizeof(line), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &parts);
		written = now;
	}
	buf_str(out, line);
}

static void
start_head(Buf *out, int status, const char *content_type)
{
	buf_str(out, "HTTP/1.1 ");
	buf_int(out, status);
	buf_str(out, " ");
	buf_str(out, reason(status));
	buf_str(out, "\r\nServer: eduai-simulator\r\n");
	add_date(out);
	if (*content_type != '\0')
		buf_printf(out, "Content-Type: %s\r\n", content_type);
}

static void
add_header(Buf *out, const char *name, const char *value)
{
	if (value == NULL)
		return;
	buf_str(out, name);
	buf_str(out, ": ");
	buf_str(out, value);
	buf_str(out, "\r\n");
}

/* "LIMIT:REMAINING:RESET", any of them empty to leave its header out. */
static void
add_limit_headers(Buf *out, Api api, const char *what, const char *limits)
{
	static const char *const names[] = {"limit", "remaining", "reset"};
	const char *p = limits;

	for (int i = 0; i < 3 && p != NULL; i++)
	{
		const char *colon = i < 2 ? strchr(p, ':') : NULL;
		int len = colon != NULL ? (int) (colon - p) : (int) strlen(p);

		if (len > 0 && api == API_ANTHROPIC)
			buf_printf(out, "anthropic-ratelimit-%s-%s: %.*s\r\n", what, names[i], len, p);
		else if (len > 0)
			buf_printf(out, "x-ratelimit-%s-%s: %.*s\r\n", names[i], what, len, p);
		p = colon != NULL ? colon + 1 : NULL;
	}
}

static void
add_retry_date(Buf *out, int64_t seconds)
{
	time_t then = time(NULL) + seconds;
	char line[64];
	struct tm parts;

	if (seconds < 0)
		return;
	gmtime_r(&then, &parts);
	strftime(line, sizeof(line), "Retry-After: %a, %d %b %Y %H:%M:%S GMT\r\n", &parts);
	buf_str(out, line);
}

static void
add_api_headers(const Exchange *x, Buf *out)
{
	const Behaviour *behaviour = x->behaviour;
	Api api = x->endpoint != NULL ? x->endpoint->api : API_OPENAI;

	buf_str(out, api == API_ANTHROPIC ? "request-id: req_sim_" : "x-request-id: req_sim_");
	buf_int(out, (int64_t) x->seq);
	buf_str(out, "\r\n");
	add_header(out, "Location", x->status == 302 ? behaviour->redirect : NULL);
	add_header(out, "Retry-After", behaviour->retry_after);
	add_header(out, "x-should-retry", behaviour->should_retry);
	add_retry_date(out, behaviour->retry_date);
	if (behaviour->headers != NULL)
		buf_printf(out, "%s\r\n", behaviour->headers);
	if (behaviour->retry_after_ms >= 0)
		buf_printf(out, "Retry-After-Ms: %lld\r\n", (long long) behaviour->retry_after_ms);
	add_limit_headers(out, api, "requests", behaviour->limit_requests);
	add_limit_headers(out, api, "tokens", behaviour->limit_tokens);
}

static void
add_chunk(Buf *out, const char *data, size_t len)
{
	buf_printf(out, "%zx\r\n", len);
	buf_add(out, data, len);
	buf_add(out, "\r\n", 2);
}

/* Where the chunk that begins there ends: with its event, unless a size was asked for. */
static size_t
chunk_end(const Exchange *x, size_t start, size_t *event)
{
	int64_t size = x->behaviour->chunk_bytes;

	if (size > 0)
		return start + (size_t) size < x->body->len ? start + (size_t) size : x->body->len;
	return *event < x->nevents ? x->event_ends[(*event)++] : x->body->len;
}

static void
end_chunks(const Exchange *x, Buf *out)
{
	buf_str(out, "0\r\n");
	if (x->behaviour->trailers)
		buf_str(out, "Retry-After: 3600\r\nX-Simulated-Trailer: yes\r\n");
	buf_str(out, "\r\n");
}

/* A chunk's end is where the stream may pause. */
static void
add_chunks(const Exchange *x, Reply *reply, bool paced)
{
	size_t slots = 0;
	size_t event = 0;

	for (size_t start = 0; start < x->body->len;)
	{
		size_t end = chunk_end(x, start, &event);

		add_chunk(&reply->out, x->body->data + start, end - start);
		start = end;
		if (!paced)
			continue;
		if (reply->nends + 1 >= slots)
		{
			slots = slots > 0 ? slots * 2 : 256;
			reply->ends = mem_realloc(reply->ends, sizeof(size_t) * slots);
		}
		reply->ends[reply->nends++] = reply->out.len;
	}
	end_chunks(x, &reply->out);
	if (reply->nends > 0)
		reply->ends[reply->nends - 1] = reply->out.len;
}

/* A chunk that is right, and a size that is not one. */
static void
add_malformed_chunks(const Exchange *x, Buf *out)
{
	size_t half = x->body->len / 2;

	add_chunk(out, x->body->data, half);
	buf_str(out, "simulated\r\n");
	buf_add(out, x->body->data + half, x->body->len - half);
	buf_str(out, "\r\n0\r\n\r\n");
}

/* Promises more than the body when it will be cut behind its end. */
static void
add_whole_body(const Exchange *x, Buf *out, int64_t cut)
{
	size_t promised = x->body->len;

	if (cut >= 0 && (size_t) cut >= promised)
		promised = cut + 1;
	if (x->behaviour->length >= 0)
		promised = (size_t) x->behaviour->length;
	if (x->status != 204 && !x->behaviour->until_close)
	{
		buf_str(out, "Content-Length: ");
		buf_int(out, (int64_t) promised);
		buf_str(out, "\r\n");
	}
	buf_str(out, "\r\n");
	if (x->status != 204 && x->status != 304)
		buf_add(out, x->body->data, x->body->len);
}

static size_t
add_body(const Exchange *x, Reply *reply, int64_t cut, bool paced)
{
	const Behaviour *behaviour = x->behaviour;
	Buf *out = &reply->out;
	size_t head_len;

	if (behaviour->gzip_bomb >= 0)
		return pad_gzip_body(x, reply);
	if (behaviour->giant >= 0)
		return pad_giant_body(x, reply);
	if (x->nevents == 0 && !behaviour->malformed_chunk && !behaviour->trailers &&
		behaviour->chunk_bytes <= 0)
	{
		add_whole_body(x, out, cut);
		return out->len - (x->status == 204 || x->status == 304 ? 0 : x->body->len);
	}
	buf_str(out, "Transfer-Encoding: chunked\r\n\r\n");
	head_len = out->len;
	if (behaviour->malformed_chunk)
		add_malformed_chunks(x, out);
	else
		add_chunks(x, reply, paced);
	return head_len;
}

/* The last bytes of a chunked body end it: they never count as a part. */
static void
cut_body(const Exchange *x, Reply *reply, size_t head_len, int64_t cut)
{
	size_t whole = reply->out.len - head_len;

	if (x->nevents > 0 || x->behaviour->giant >= 0 || x->behaviour->gzip_bomb >= 0 ||
		x->behaviour->chunk_bytes > 0)
		whole -= strlen("0\r\n\r\n");
	if ((size_t) cut < whole)
		whole = cut;
	reply->out.len = head_len + whole;
	while (reply->nends > 0 && reply->ends[reply->nends - 1] >= reply->out.len)
		reply->nends--;
	if (reply->ends != NULL)
		reply->ends[reply->nends++] = reply->out.len;
	if (reply->pad_left > 0 && reply->pad_at > reply->out.len)
		reply->pad_left = 0;
}

/*
 * latency is the time to the whole answer, first_byte the time to its head.
 * What comes in between spreads evenly, unless chunk_ms says otherwise.
 */
static void
set_times(const Exchange *x, Reply *reply, size_t head_len)
{
	const Behaviour *behaviour = x->behaviour;
	int64_t latency_us = behaviour_latency_us(behaviour, x->status >= 400);
	int64_t first_us = behaviour->first_byte_ms * 1000;

	reply->due_us = latency_us;
	if (behaviour->chunk_ms >= 0)
		reply->step_us = behaviour->chunk_ms * 1000;
	if (behaviour->heartbeat_ms > 0)
	{
		reply->due_us = 0;
		reply->step_us = behaviour->heartbeat_ms * 1000;
		return;
	}
	if (first_us < 0)
		return;
	reply->due_us = first_us;
	if (latency_us <= first_us)
		return;
	if (reply->nends == 0 && reply->out.len > head_len)
	{
		reply->ends = mem_realloc(reply->ends, sizeof(size_t) * 2);
		reply->ends[0] = head_len;
		reply->ends[1] = reply->out.len;
		reply->nends = 2;
	}
	if (reply->nends > 1 && behaviour->chunk_ms < 0)
		reply->step_us = (latency_us - first_us) / (int64_t) (reply->nends - 1);
}

static void
frame_nothing(const Exchange *x, Reply *reply)
{
	reply->after = x->behaviour->silent   ? AFTER_HANG
				   : x->behaviour->hangup ? AFTER_CUT
										  : AFTER_RESET;
	reply->due_us = x->behaviour->silent ? 0 : behaviour_latency_us(x->behaviour, false);
}

void
frame_answer(Exchange *x, Reply *reply)
{
	const Behaviour *behaviour = x->behaviour;
	bool paced =
		behaviour->first_byte_ms >= 0 || behaviour->chunk_ms >= 0 || behaviour->heartbeat_ms > 0;
	int64_t cut = behaviour->stall_after >= 0 ? behaviour->stall_after : behaviour->cut_after;
	size_t head_len;

	if (behaviour->silent || behaviour->reset || behaviour->hangup)
	{
		frame_nothing(x, reply);
		return;
	}
	reply->after = x->request->keep_alive ? AFTER_KEEP : AFTER_CLOSE;
	if (behaviour->malformed_chunk)
		reply->after = AFTER_CUT;
	else if (behaviour->close || behaviour->until_close)
		reply->after = AFTER_CLOSE;
	if (behaviour->interim > 0)
		pad_interim(x, reply);
	start_head(&reply->out, x->status, x->content_type);
	add_api_headers(x, &reply->out);
	add_header(&reply->out, "Content-Encoding", behaviour->encoding);
	if (!x->request->keep_alive)
		buf_str(&reply->out, "Connection: close\r\n");
	if (behaviour->giant_headers >= 0)
		pad_head(x, reply);
	head_len = add_body(x, reply, cut, paced);
	if (slice_is(x->request->method, "HEAD"))
		reply->out.len = head_len;
	else if (cut >= 0)
	{
		cut_body(x, reply, head_len, cut);
		reply->after = behaviour->stall_after >= 0 ? AFTER_HANG : AFTER_CUT;
	}
	set_times(x, reply, head_len);
}

void
frame_simple(Reply *reply, int status, const char *content_type, Slice body, bool keep_alive)
{
	start_head(&reply->out, status, content_type);
	buf_printf(&reply->out, "%sContent-Length: %zu\r\n\r\n",
			   keep_alive ? "" : "Connection: close\r\n", body.len);
	buf_slice(&reply->out, body);
	reply->after = keep_alive ? AFTER_KEEP : AFTER_CLOSE;
}
