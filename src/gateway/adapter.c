/*
 * adapter.c: the table of adapters, and the guard around them.
 *
 * Adapters are written so that no bytes make them raise.  The guard is there
 * for what cannot be excluded, such as a value too large for jsonb: it turns
 * the error into an outcome.  No adapter takes a lock, a buffer or any other
 * resource, so there is nothing to release.
 */
#include "postgres.h"

#include "gateway/parents.h"
#include "gateway/wire.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "queue/enqueue.h"
#include "utils/elog.h"
#include "utils/memutils.h"

typedef struct Kind
{
	const char *kind;
	const Adapter *adapter;
	bool embeddings;
	bool images;
	bool transcription;
} Kind;

static const Kind kinds[] = {
	{"openai", &eduai_gateway_openai_adapter, true, true, true},
	{"anthropic", &eduai_gateway_anthropic_adapter, false, false, false},
	{"openrouter", &eduai_gateway_openrouter_adapter, true, false, false},
	{"huggingface", &eduai_gateway_huggingface_adapter, true, false, true},
	{"mock", &eduai_gateway_mock_adapter, true, true, true},
};

static const Kind *
find_kind(const char *kind)
{
	for (size_t i = 0; i < lengthof(kinds); i++)
		if (strcmp(kinds[i].kind, kind) == 0)
			return &kinds[i];
	return NULL;
}

const Adapter *
eduai_gateway_adapter(const char *kind)
{
	const Kind *found = find_kind(kind);

	return found != NULL && found->adapter->build != NULL ? found->adapter : NULL;
}

/* Types that applications define themselves and give to the gateway are chats. */
bool
eduai_gateway_kind_serves(const char *kind, const char *task_type)
{
	const Kind *found = find_kind(kind);

	if (found == NULL || strcmp(task_type, "custom") == 0)
		return false;
	if (strcmp(task_type, "embeddings") == 0)
		return found->embeddings;
	if (strcmp(task_type, "image_generation") == 0)
		return found->images;
	if (strcmp(task_type, "transcription") == 0)
		return found->transcription;
	return true;
}

CallOutcome *
eduai_gateway_outcome_new(GatewayCall *call)
{
	MemoryContext caller = MemoryContextSwitchTo(call->context);
	CallOutcome *outcome = palloc0(sizeof(CallOutcome));

	outcome->verdict = CALL_RETRY;
	outcome->code = "internal_error";
	outcome->retry_after_ms = -1;
	outcome->first_byte_us = -1;
	outcome->cost_usd = int64_to_numeric(0);
	MemoryContextSwitchTo(caller);
	return outcome;
}

/* ---- messages ---- */

/* Replaces every occurrence of the key; providers echo what they refuse. */
static char *
scrubbed(char *message, const char *key)
{
	size_t length = key != NULL ? strlen(key) : 0;
	StringInfoData clean;
	char *found;

	if (length < 4 || strstr(message, key) == NULL)
		return message;
	initStringInfo(&clean);
	while ((found = strstr(message, key)) != NULL)
	{
		appendBinaryStringInfo(&clean, message, found - message);
		appendStringInfoString(&clean, "[key]");
		message = found + length;
	}
	appendStringInfoString(&clean, message);
	return clean.data;
}

/* One line: control characters become spaces. */
static void
flatten(char *message)
{
	for (; *message; message++)
		if ((unsigned char) *message < 0x20 || *message == 0x7F)
			*message = ' ';
}

static void
finish_message(const GatewayCall *call, CallOutcome *outcome)
{
	if (outcome->verdict == CALL_COMPLETED)
	{
		outcome->message = NULL;
		outcome->retry_after_ms = -1;
		return;
	}
	if (outcome->message == NULL)
		outcome->message = pstrdup("the call failed");
	/* clipped last: half a key would not be recognised */
	outcome->message = scrubbed(outcome->message, call->instance->provider->api_key);
	outcome->message = eduai_gateway_clip(outcome->message, 500);
	flatten(outcome->message);
}

/* ---- the guard ---- */

static void
caught(const GatewayCall *call, CallOutcome *outcome, const char *doing)
{
	ErrorData *error;

	MemoryContextSwitchTo(call->context);
	error = CopyErrorData();
	FlushErrorState();
	/* the message may quote the payload or the answer: only its class is told */
	eduai_gateway_outcome_fail(outcome, CALL_RETRY, "internal_error", "could not %s (SQLSTATE %s)",
							   doing, unpack_sql_state(error->sqlerrcode));
}

bool
eduai_gateway_payload_render(GatewayCall *call, CallOutcome *outcome)
{
	MemoryContext caller;
	Jsonb *volatile rendered = NULL;

	if (call->parents == NULL)
		return true;
	caller = MemoryContextSwitchTo(call->context);
	PG_TRY();
	{
		rendered = eduai_gateway_render_parents(call->payload, call->parents, call->metadata,
												eduai_queue_max_payload_bytes(), outcome);
	}
	PG_CATCH();
	{
		caught(call, outcome, "fill in the results of its parents");
	}
	PG_END_TRY();
	if (rendered == NULL)
		finish_message(call, outcome);
	else
		call->payload = rendered;
	MemoryContextSwitchTo(caller);
	return rendered != NULL;
}

static void
add_provider_headers(const Provider *provider, WireRequest *request)
{
	Jsonb *headers = eduai_core_json_child(provider->options, "headers");
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue name;
	JsonbValue value;

	if (!eduai_core_json_is_object(headers))
		return;
	it = JsonbIteratorInit(&headers->root);
	while ((token = JsonbIteratorNext(&it, &name, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		if (value.type == jbvString)
			eduai_gateway_add_header(request, pnstrdup(name.val.string.val, name.val.string.len),
									 pnstrdup(value.val.string.val, value.val.string.len));
	}
}

static bool
build(GatewayCall *call, WireRequest *request, CallOutcome *outcome)
{
	const Provider *provider = call->instance->provider;
	const Adapter *adapter = eduai_gateway_adapter(provider->kind);

	if (adapter == NULL)
	{
		eduai_gateway_outcome_fail(outcome, CALL_RETRY_ELSEWHERE, "unknown_kind",
								   "provider kind \"%s\" is not available in this release",
								   provider->kind);
		return false;
	}
	if (provider->key_error != NULL)
	{
		eduai_gateway_outcome_fail(outcome, CALL_RETRY_ELSEWHERE, "no_key", "%s",
								   provider->key_error);
		return false;
	}
	if (!eduai_core_json_is_object(call->payload))
		return eduai_gateway_bad_payload(outcome, "the payload must be a JSON object");
	if (!adapter->build(call, request, outcome))
		return false;
	if (request->file == NULL && request->file_type == NULL)
		eduai_gateway_add_header(request, "Content-Type", "application/json");
	eduai_gateway_add_header(request, "Accept", "application/json");
	add_provider_headers(provider, request);
	return true;
}

bool
eduai_gateway_request_build(GatewayCall *call, WireRequest *request, CallOutcome *outcome)
{
	MemoryContext caller = MemoryContextSwitchTo(call->context);
	volatile bool built = false;

	memset(request, 0, sizeof(*request));
	PG_TRY();
	{
		built = build(call, request, outcome);
	}
	PG_CATCH();
	{
		caught(call, outcome, "build the request");
	}
	PG_END_TRY();
	if (!built)
		finish_message(call, outcome);
	MemoryContextSwitchTo(caller);
	return built;
}

static bool
is_visible_ascii(const char *text)
{
	for (const unsigned char *p = (const unsigned char *) text; *p; p++)
		if (*p <= 0x20 || *p >= 0x7F)
			return false;
	return *text != '\0';
}

static void
read_response(GatewayCall *call, const WireResponse *response, int64 now_unix, CallOutcome *outcome)
{
	const Kind *kind = find_kind(call->instance->provider->kind);
	Numeric given;

	outcome->http_status = response->http_status;
	outcome->cost_usd = NULL;
	if (response->request_id != NULL && is_visible_ascii(response->request_id))
		outcome->request_id = eduai_gateway_clip(response->request_id, 200);
	if (kind != NULL)
		kind->adapter->read(call, response, now_unix, outcome);
	/* what was used was paid for, whatever became of the answer */
	given = outcome->cost_usd;
	outcome->cost_usd = given != NULL ? given : eduai_gateway_cost(call->instance, outcome);
	finish_message(call, outcome);
}

void
eduai_gateway_response_read(GatewayCall *call, const WireResponse *response, int64 now_unix,
							CallOutcome *outcome)
{
	MemoryContext caller = MemoryContextSwitchTo(call->context);

	PG_TRY();
	{
		read_response(call, response, now_unix, outcome);
	}
	PG_CATCH();
	{
		caught(call, outcome, "read the answer");
		outcome->cost_usd = int64_to_numeric(0);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
}
