/*
 * exchange_stream.c: an exchange whose answer is a stream; see exchange.h.
 *
 * Whether it is one, its first byte says where that can be told: JSON begins
 * with a brace, whatever it is called, and the fields of events with letters
 * that no JSON object does.  Else the content type does.  A provider that was
 * asked for a stream and answers JSON is read like any other.  Until the first event that
 * is more than a sign of life, the limit for the first byte holds; from then on
 * the one between bytes, whatever they are.  What is alive but never says
 * anything more is ended by the limit of the whole.
 *
 * An answer with a finish reason is whole, however the connection ended: to
 * ask again would cost as much again.  One without it has failed, and what the
 * provider said of its usage is charged all the same.
 */
#include "postgres.h"

#include "core/clock.h"
#include "gateway/deadline.h"
#include "gateway/exchange.h"
#include "gateway/show.h"

static bool
is_event_stream(const char *content_type)
{
	static const char name[] = "text/event-stream";
	size_t n = sizeof(name) - 1;

	return pg_strncasecmp(content_type, name, n) == 0 &&
		   (content_type[n] == '\0' || content_type[n] == ';' || content_type[n] == ' ');
}

/* data, event, id, retry, or a comment */
static bool
begins_field(char c)
{
	return c == 'd' || c == 'e' || c == 'i' || c == 'r' || c == ':';
}

static bool
looks_streamed(const Transfer *t, char first)
{
	long http_status = 0;

	if (first == '{' || first == '[')
		return false;
	if (is_event_stream(t->content_type))
		return true;
	/* the plain words of an error are no events */
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &http_status);
	return http_status >= 200 && http_status <= 299 && begins_field(first);
}

bool
eduai_gateway_exchange_streams(Transfer *t, const char *bytes, size_t n)
{
	if (t->body_began || n == 0)
		return t->stream != NULL;
	t->body_began = true;
	if (t->request.stream == STREAM_NONE || !looks_streamed(t, *bytes))
		return false;
	t->stream = eduai_gateway_stream_new(t->request.stream, t->max_body);
	if (t->stream == NULL)
		t->abort = ABORT_OUT_OF_MEMORY;
	return true;
}

static TransferAbort
abort_of(StreamEnd end)
{
	switch (end)
	{
		case STREAM_MALFORMED:
			return ABORT_MALFORMED;
		case STREAM_TOO_LARGE:
			return ABORT_BODY_TOO_LARGE;
		case STREAM_NO_MEMORY:
			return ABORT_OUT_OF_MEMORY;
		case STREAM_OPEN:
		case STREAM_FINISHED:
		case STREAM_ERROR:
			break;
	}
	return ABORT_NONE;
}

bool
eduai_gateway_exchange_feed(Transfer *t, const char *bytes, size_t n)
{
	bool wanted;

	if (t->stream == NULL)
		return false;
	wanted = eduai_gateway_stream_feed(t->stream, bytes, n);
	if (!wanted)
		t->abort = abort_of(eduai_gateway_stream_end(t->stream));
	else if (eduai_gateway_stream_begun(t->stream))
	{
		bool first = t->last_byte_us == 0;

		t->last_byte_us = eduai_core_mono_us();
		if (first)
		{
			/* the head came at once: what tells is when the model began to speak */
			t->first_byte_us = t->last_byte_us;
			eduai_gateway_deadline_phase(t);
		}
		eduai_gateway_show_note(t);
	}
	return wanted;
}

/* May what ended the exchange be passed over, as the answer is all there? */
static bool
is_whole(const Transfer *t, StreamEnd end, CURLcode result, int http_status)
{
	if (t->abort != ABORT_NONE && t->abort != ABORT_STALL && t->abort != ABORT_TOTAL)
		return false;
	if (end == STREAM_FINISHED || end == STREAM_ERROR)
		return true;
	/* the adapter says what is missing; an error's status says enough */
	return end == STREAM_OPEN && t->abort == ABORT_NONE &&
		   (result == CURLE_OK || http_status >= 400);
}

void
eduai_gateway_exchange_judge_stream(Transfer *t, CURLcode result, int http_status)
{
	size_t length;
	const char *body = eduai_gateway_stream_body(t->stream, &length);
	StreamEnd end = eduai_gateway_stream_end(t->stream);

	eduai_gateway_exchange_read(t, http_status, body, length);
	if (is_whole(t, end, result, http_status))
	{
		eduai_gateway_show_end(t);
		return;
	}
	if (t->abort == ABORT_NONE)
		t->abort = abort_of(end);
	if (t->abort != ABORT_NONE)
		eduai_gateway_exchange_aborted(t);
	else
		eduai_gateway_exchange_failed(t, result);
}
