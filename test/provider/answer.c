/*-------------------------------------------------------------------------
 * answer.c
 *		From a request to its answer: route, behaviour, checks, chance.
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "journal.h"
#include "reply.h"

#define MAX_HEARTBEATS 10000

static char *required_key = NULL;

void
answer_set_key(const char *key)
{
	free(required_key);
	required_key = key != NULL ? mem_strdup(key) : NULL;
}

/* Lines may end with either of three; these are the other usual ones. */
static void
end_lines_with_crlf(Buf *body, size_t start)
{
	static Buf lines;

	buf_clear(&lines, 1024 * 1024);
	for (size_t i = start; i < body->len; i++)
	{
		if (body->data[i] == '\n')
			buf_str(&lines, "\r");
		buf_add(&lines, body->data + i, 1);
	}
	body->len = start;
	buf_add(body, lines.data, lines.len);
}

static void
note_event_end(Exchange *x)
{
	static size_t slots = 0;
	static size_t *ends = NULL;

	if (x->nevents >= slots)
	{
		slots = slots > 0 ? slots * 2 : 256;
		ends = mem_realloc(ends, sizeof(size_t) * slots);
	}
	x->event_ends = ends;
	if (x->behaviour->crlf && x->streamed)
		end_lines_with_crlf(x->body, x->nevents > 0 ? ends[x->nevents - 1] : 0);
	ends[x->nevents++] = x->body->len;
}

void
exchange_end_event(Exchange *x)
{
	note_event_end(x);
	if (!x->behaviour->comments || !x->streamed)
		return;
	buf_str(x->body, ": simulated comment\n\n");
	note_event_end(x);
}

/* What says nothing but that the provider still lives, until the latency is over. */
void
exchange_add_heartbeat(Exchange *x)
{
	const Behaviour *behaviour = x->behaviour;

	if (behaviour->heartbeat_ms <= 0)
		return;
	for (int i = 0; i < MAX_HEARTBEATS && i * behaviour->heartbeat_ms < behaviour->latency_ms; i++)
	{
		buf_str(x->body, x->streamed ? ": simulated heartbeat\n\n" : "\n");
		note_event_end(x);
	}
}

static bool
strip_prefix(Slice *path, const char *prefix)
{
	size_t len = strlen(prefix);

	if (path->len <= len || memcmp(path->p, prefix, len) != 0 || path->p[len] != '/')
		return false;
	path->p += len;
	path->len -= len;
	return true;
}

static const Endpoint *
find_in(const Endpoint *endpoint, Slice path)
{
	for (; endpoint->name != NULL; endpoint++)
	{
		if (slice_is(path, endpoint->path))
			return endpoint;
	}
	return NULL;
}

/* The paths count with and without /v1, and under /api as OpenRouter's. */
static const Endpoint *
find_endpoint(Slice path)
{
	const Endpoint *endpoint;

	strip_prefix(&path, "/api");
	strip_prefix(&path, "/v1");
	endpoint = find_in(openai_endpoints, path);
	return endpoint != NULL ? endpoint : find_in(anthropic_endpoints, path);
}

static bool
read_fields(Exchange *x)
{
	Slice body = x->request->body;
	bool multipart = x->endpoint != NULL && x->endpoint->body_kind == BODY_MULTIPART;

	if (multipart)
		return fields_from_multipart(&x->fields, body, x->request->content_type);
	return fields_from_json(&x->fields, body) || x->endpoint == NULL ||
		   x->endpoint->body_kind == BODY_NONE;
}

/* The header, else the model's suffix, else the defaults. */
static bool
choose_behaviour(Exchange *x)
{
	static Behaviour own;
	static Buf spec;
	static Buf error;
	char *text = x->fields.spec;

	if (x->request->sim.p != NULL)
	{
		spec.len = 0;
		buf_slice(&spec, x->request->sim);
		buf_add(&spec, "", 1);
		text = spec.data;
	}
	x->behaviour = behaviour_default(x->fields.model);
	error.len = 0;
	if (text != NULL && behaviour_parse(text, &own, &error))
	{
		x->behaviour = &own;
		text = NULL;
	}
	if (text == NULL)
	{
		if (x->behaviour->first >= 0 &&
			!behaviour_among_first(x->fields.model, x->fields.user, x->behaviour->first))
			x->behaviour = behaviour_plain();
		return true;
	}
	buf_add(&error, "", 1);
	x->behaviour = behaviour_plain();
	return exchange_refuse(x, 400, "simulator_behaviour", NULL, error.data);
}

/* One of the required keys, which stand beside each other with spaces between. */
static bool
is_required_key(Slice given)
{
	const char *word = required_key;

	while (*word != '\0')
	{
		size_t len = strcspn(word, " ");

		if (len > 0 && len == given.len && memcmp(word, given.p, len) == 0)
			return true;
		word += len + strspn(word + len, " ");
	}
	return false;
}

static bool
check_key(Exchange *x)
{
	Slice given = x->request->authorization;

	if (x->endpoint->api == API_ANTHROPIC)
	{
		given = x->request->api_key;
		if (given.p == NULL || given.len == 0)
			return exchange_refuse(x, 401, NULL, NULL, "x-api-key header is required");
		if (required_key != NULL && !is_required_key(given))
			return exchange_refuse(x, 401, NULL, NULL, "invalid x-api-key");
		return true;
	}
	if (required_key == NULL)
		return true;
	if (given.len < 7 || !slice_is_nocase((Slice){given.p, 7}, "bearer "))
		return exchange_refuse(x, 401, NULL, NULL, "you did not provide an API key");
	given.p += 7;
	given.len -= 7;
	return is_required_key(given) || exchange_refuse(x, 401, NULL, NULL, NULL);
}

static bool
check_request(Exchange *x, bool body_ok)
{
	if (x->endpoint == NULL)
		return exchange_refuse(x, 404, "unknown_url", NULL, "invalid URL");
	if (!slice_is(x->request->method, x->endpoint->method))
		return exchange_refuse(x, 405, "method_not_supported", NULL,
							   "this method is not allowed on this URL");
	if (!check_key(x))
		return false;
	if (!body_ok)
		return exchange_refuse(x, 400, NULL, NULL,
							   x->endpoint->body_kind == BODY_JSON
								   ? "could not parse the JSON body of the request"
								   : "could not parse the multipart form");
	return x->endpoint->check == NULL || x->endpoint->check(x);
}

/* The failing half of a flap's period comes second. */
static bool
flapped_off(const Behaviour *behaviour, int64_t now_us)
{
	int64_t period = behaviour->flap_on_ms + behaviour->flap_off_ms;

	return period > 0 && now_us / 1000 % period >= behaviour->flap_on_ms;
}

/*
 * status alone (or an error code) always fails; with error, fail_first or
 * flap it says how to fail when one of them strikes.
 */
static bool
strikes(Exchange *x)
{
	const Behaviour *behaviour = x->behaviour;
	bool struck = false;
	bool conditional = behaviour->error_rate >= 0 || behaviour->fail_first >= 0 ||
					   behaviour->flap_on_ms + behaviour->flap_off_ms > 0;

	if (!conditional)
		return (behaviour->status >= 300 || behaviour->error200 || behaviour->body != NULL ||
				(behaviour->status == 0 && behaviour->code != NULL)) &&
			   !behaviour->stream_error;
	if (behaviour->error_rate >= 0 && behaviour_random() < behaviour->error_rate)
		struck = true;
	if (behaviour->fail_first >= 0 &&
		behaviour_among_first(x->fields.model, x->fields.user, behaviour->fail_first))
		struck = true;
	return flapped_off(behaviour, x->request->arrival_us) || struck;
}

static int
failure_status(Exchange *x)
{
	const Behaviour *behaviour = x->behaviour;

	if (behaviour->status >= 300)
		return (int) behaviour->status;
	if (behaviour->code != NULL)
		return exchange_code_status(behaviour->code);
	if (behaviour->error200)
		return 502;
	return flapped_off(behaviour, x->request->arrival_us) ? 503 : 500;
}

static void
write_failure(Exchange *x)
{
	const Behaviour *behaviour = x->behaviour;

	exchange_refuse(x, failure_status(x), behaviour->code, NULL, NULL);
	if (behaviour->body == NULL)
		exchange_write_error(x);
	else
	{
		x->status = behaviour->status > 0 ? (int) behaviour->status : 200;
		buf_str(x->body, behaviour->body);
	}
	if (behaviour->error200)
		x->status = 200;
}

/* Write the body and settle the status. */
static void
write_body(Exchange *x, bool accepted)
{
	const Behaviour *behaviour = x->behaviour;

	if (!accepted)
		exchange_write_error(x);
	else if (behaviour->redirect != NULL)
		x->status = 302;
	else if (behaviour->garbage)
		buf_str(x->body, "simulated garbage {\"choices\": [ <html> not JSON");
	else if (strikes(x))
		write_failure(x);
	else
	{
		if (behaviour->status >= 200 && behaviour->status < 300)
			x->status = (int) behaviour->status;
		if (!x->fields.stream || behaviour->no_stream)
			exchange_add_heartbeat(x);
		x->endpoint->write(x);
		if (x->nevents > 0 && !x->streamed)
			note_event_end(x);
	}
	if (behaviour->type != NULL)
		x->content_type = behaviour->type;
	else if (behaviour->wrong_type)
		x->content_type = "text/html; charset=utf-8";
	else if (behaviour->latin1 && !x->streamed)
		x->content_type = "application/json; charset=iso-8859-1";
}

static const char *
describe_plan(const Exchange *x)
{
	const Behaviour *behaviour = x->behaviour;

	if (behaviour->silent)
		return "silent";
	if (behaviour->reset)
		return "reset";
	if (behaviour->hangup)
		return "hangup";
	if (behaviour->stall_after >= 0)
		return "stall";
	if (behaviour->cut_after >= 0)
		return "cut";
	return x->streamed ? "stream" : "answer";
}

static void
write_journal(const Exchange *x)
{
	const Request *request = x->request;
	JournalEntry entry = {
		.seq = x->seq,
		.first_byte_us = request->first_byte_us,
		.arrival_us = request->arrival_us,
		.body_bytes = request->body.len,
		.body_fnv64 = fnv64(FNV64_START, request->body.p, request->body.len),
		.endpoint = x->endpoint != NULL ? x->endpoint->name : "unknown",
		.plan = describe_plan(x),
		.status = x->status,
		.outcome = OUTCOME_PENDING,
	};

	if (x->behaviour->silent || x->behaviour->reset || x->behaviour->hangup)
		entry.status = 0;
	slice_copy((Slice){x->fields.model, strlen(x->fields.model)}, entry.model, JOURNAL_TEXT);
	slice_copy((Slice){x->fields.user, strlen(x->fields.user)}, entry.user, JOURNAL_TEXT);
	slice_copy(request->idempotency_key, entry.idempotency_key, JOURNAL_TEXT);
	journal_add(&entry);
}

void
answer_request(const Request *request, Reply *reply)
{
	static Buf body;
	Exchange x = {0};
	bool body_ok;

	buf_clear(&body, 1024 * 1024);
	x.request = request;
	x.body = &body;
	x.status = 200;
	x.seq = reply->seq = journal_next_seq();
	x.content_type = "application/json";
	x.endpoint = find_endpoint(request->path);
	body_ok = read_fields(&x);
	write_body(&x, choose_behaviour(&x) && check_request(&x, body_ok));
	write_journal(&x);
	frame_answer(&x, reply);
}
