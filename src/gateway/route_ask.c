/*
 * route_ask.c: what a task asks of an instance, read from its request.  Pure.
 *
 * Tokens are estimated, not counted: a quarter of the bytes of all strings in
 * the payload.  A string that is data rather than text (a data: URL, a long
 * one without a space) counts OPAQUE_TOKENS, what providers take a picture
 * for.  The estimate reserves rate limits and prefers instances whose context
 * is large enough; the provider has the last word.
 */
#include "postgres.h"

#include "core/json.h"
#include "gateway/route.h"
#include "gateway/wire.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#define BYTES_PER_TOKEN 4
#define OPAQUE_TOKENS   1000
#define OPAQUE_BYTES    1024
#define OPAQUE_LOOK     256

static bool
is_opaque(const char *text, int length)
{
	if (length >= 5 && memcmp(text, "data:", 5) == 0)
		return true;
	return length >= OPAQUE_BYTES && memchr(text, ' ', OPAQUE_LOOK) == NULL &&
		   memchr(text, '\n', OPAQUE_LOOK) == NULL;
}

int64
eduai_gateway_payload_tokens(const Jsonb *payload)
{
	JsonbIterator *it = JsonbIteratorInit((JsonbContainer *) &payload->root);
	JsonbIteratorToken token;
	JsonbValue value;
	int64 bytes = 0;
	int64 opaque = 0;

	while ((token = JsonbIteratorNext(&it, &value, false)) != WJB_DONE)
	{
		if ((token != WJB_VALUE && token != WJB_ELEM) || value.type != jbvString)
			continue;
		if (is_opaque(value.val.string.val, value.val.string.len))
			opaque++;
		else
			bytes += value.val.string.len;
	}
	return bytes / BYTES_PER_TOKEN + 1 + opaque * OPAQUE_TOKENS;
}

static int64
output_bound(const Jsonb *payload)
{
	static const char *const names[] = {"max_completion_tokens", "max_tokens", "max_output_tokens"};
	int64 bound;

	for (size_t i = 0; i < lengthof(names); i++)
		if (eduai_core_json_int64(payload, names[i], &bound) && bound > 0)
			return bound;
	return 0;
}

/*
 * metadata.session names it; metadata.sticky, when true, asks for one by
 * payload.user or the task's user.
 */
static const char *
session_of(const Candidate *c)
{
	char *session = eduai_core_json_text(c->metadata, "session");
	bool sticky;

	if (session != NULL && *session != '\0')
		return session;
	if (!eduai_core_json_bool(c->metadata, "sticky", &sticky) || !sticky)
		return NULL;
	session = eduai_gateway_string(c->payload, "user");
	return session != NULL ? session : c->user_id;
}

static TimestampTz
time_of(const Jsonb *attempt)
{
	char *at = eduai_gateway_string(attempt, "at");

	if (at == NULL)
		return 0;
	return DatumGetTimestampTz(DirectFunctionCall3(
		timestamptz_in, CStringGetDatum(at), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

/* those that say something of an instance, since somebody last retried the task */
static void
read_failures(const Candidate *c, RouteAsk *ask)
{
	Jsonb *attempts = c->error ? eduai_core_json_child(c->error, "attempts") : NULL;
	int n = eduai_core_json_length(attempts);

	ask->failures = n > 0 ? palloc(sizeof(RouteFailure) * n) : NULL;
	for (int i = 0; i < n; i++)
	{
		Jsonb *attempt = eduai_core_json_element(attempts, i);
		int64 number = 0;
		char *code = eduai_gateway_string(attempt, "code");
		char *instance = eduai_gateway_string(attempt, "instance");

		(void) eduai_core_json_int64(attempt, "attempt", &number);
		if (number <= c->attempt_base || code == NULL || instance == NULL)
			continue;
		ask->failures[ask->nfailures++] = (RouteFailure){instance, code, time_of(attempt)};
	}
}

void
eduai_gateway_route_ask(const Candidate *c, TimestampTz now, RouteAsk *ask)
{
	int64 left_us = c->timeout_ms * 1000;

	memset(ask, 0, sizeof(*ask));
	ask->tenant = c->tenant;
	ask->task_type = c->task_type;
	ask->model = c->model;
	ask->priority = c->priority;
	if (strcmp(c->task_type, "transcription") != 0)
	{
		ask->tokens_in = eduai_gateway_payload_tokens(c->payload);
		ask->tokens_out = output_bound(c->payload);
	}
	if (strcmp(c->task_type, "image_generation") == 0 &&
		(!eduai_core_json_int64(c->payload, "n", &ask->images) || ask->images < 1))
		ask->images = 1;
	if (c->expires_at != 0 && (left_us == 0 || c->expires_at - now < left_us))
		left_us = Max(c->expires_at - now, 1);
	ask->deadline_us = left_us;
	ask->session = session_of(c);
	read_failures(c, ask);
}
