/*
 * adapter.c: the table of adapters, and the guard around them.
 *
 * Adapters are written so that no bytes make them raise.  The guard is there
 * for what cannot be excluded, such as a value too large for jsonb: it turns
 * the error into an outcome.  No adapter takes a lock, a buffer or any other
 * resource, so there is nothing to release.
 */
#include "postgres.h"

#include "gateway/analysis.h"
#include "gateway/attachments.h"
#include "gateway/parents.h"
#include "gateway/redact.h"
#include "gateway/wire.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "queue/enqueue.h"
#include "utils/elog.h"
#include "utils/memutils.h"

#define MOST_RAW_BYTES (1024 * 1024) /* of a body that a result keeps on request */

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
	{"openrouter", &eduai_gateway_openrouter_adapter, true, true, true},
	{"huggingface", &eduai_gateway_huggingface_adapter, true, true, true},
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

const Adapter *
eduai_gateway_adapter_of(const Provider *provider)
{
	return provider->webhook ? &eduai_gateway_webhook_adapter
							 : eduai_gateway_adapter(provider->kind);
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
	memset(&outcome->limits, 0xff, sizeof(outcome->limits)); /* -1 each */
	outcome->cost_usd = int64_to_numeric(0);
	MemoryContextSwitchTo(caller);
	return outcome;
}

/* ---- messages ---- */

/* Providers echo what they refuse. */
static char *
scrubbed(char *message, const char *key)
{
	size_t length;

	if (key == NULL || strlen(key) < 4 || strstr(message, key) == NULL)
		return message;
	return eduai_gateway_redact(message, strlen(message), key, &length);
}

/* What it has of the key in so many bytes; escaped ones are found in the result. */
static WireResponse
without_echo(const WireResponse *response, const char *key)
{
	WireResponse clean = *response;

	if (!eduai_gateway_is_secret(key))
		return clean;
	if (memmem(response->body, response->body_length, key, strlen(key)) != NULL)
		clean.body =
			eduai_gateway_redact(response->body, response->body_length, key, &clean.body_length);
	if (response->request_id != NULL && strstr(response->request_id, key) != NULL)
		clean.request_id = NULL;
	return clean;
}

/* What an escape hid from without_echo(). */
static void
without_key(CallOutcome *outcome, const char *key)
{
	if (!eduai_gateway_is_secret(key))
		return;
	outcome->result = eduai_gateway_redact_json(outcome->result, key);
	if (outcome->model != NULL)
		outcome->model = scrubbed(outcome->model, key);
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

static bool
render(GatewayCall *call, bool parents, bool attachments, CallOutcome *outcome)
{
	MemoryContext caller = MemoryContextSwitchTo(call->context);
	Jsonb *volatile rendered = call->payload;

	PG_TRY();
	{
		if (parents)
			rendered = eduai_gateway_render_parents(call->payload, call->parents, call->metadata,
													eduai_queue_max_payload_bytes(), outcome);
		if (rendered != NULL && attachments)
			rendered = eduai_gateway_attachments_inline(call, rendered, outcome);
	}
	PG_CATCH();
	{
		rendered = NULL;
		caught(call, outcome, "fill in what the payload refers to");
	}
	PG_END_TRY();
	if (rendered == NULL)
		finish_message(call, outcome);
	else
		call->payload = rendered;
	if (rendered != NULL && parents)
		call->parents = NULL;
	MemoryContextSwitchTo(caller);
	return rendered != NULL;
}

bool
eduai_gateway_parents_render(GatewayCall *call, CallOutcome *outcome)
{
	return call->parents == NULL || render(call, true, false, outcome);
}

bool
eduai_gateway_payload_render(GatewayCall *call, CallOutcome *outcome)
{
	/* the receiver of a webhook gets references */
	bool attachments =
		!call->instance->provider->webhook && (eduai_gateway_mentions_attachments(call->payload) ||
											   eduai_gateway_mentions_attachments(call->parents));

	if (call->parents == NULL && !attachments)
		return true;
	return render(call, call->parents != NULL, attachments, outcome);
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
	const Adapter *adapter = eduai_gateway_adapter_of(provider);
	Jsonb *payload = call->payload;

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
	if (call->health_check)
	{
		eduai_gateway_health_request(call, adapter, request);
		add_provider_headers(provider, request);
		return true;
	}
	if (!eduai_core_json_is_object(call->payload))
		return eduai_gateway_bad_payload(outcome, "the payload must be a JSON object");
	if (!eduai_gateway_analysis_prepare(call, outcome))
		return false;
	/* what is refused elsewhere is refused there too, but it gets the task as it is */
	if (provider->webhook)
		call->payload = payload;
	if (!adapter->build(call, request, outcome))
		return false;
	if (request->file == NULL && request->file_type == NULL && request->nfields == 0)
		eduai_gateway_add_header(request, "Content-Type", "application/json");
	if (request->accept == NULL)
		request->accept = request->stream != STREAM_NONE ? "text/event-stream, application/json"
														 : "application/json";
	eduai_gateway_add_header(request, "Accept", request->accept);
	add_provider_headers(provider, request);
	return true;
}

bool
eduai_gateway_request_build(GatewayCall *call, int64 now_unix, WireRequest *request,
							CallOutcome *outcome)
{
	MemoryContext caller = MemoryContextSwitchTo(call->context);
	volatile bool built = false;

	memset(request, 0, sizeof(*request));
	request->now_unix = now_unix;
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

/*
 * metadata.raw: the body as the provider sent it, for those who need what the
 * result leaves out.  A long one, or one that is not JSON, only by its length.
 */
static void
add_raw(const GatewayCall *call, const WireResponse *response, CallOutcome *outcome)
{
	bool wanted = false;
	Jsonb *raw = NULL;
	char *why;
	EduaiJson j;

	if (!eduai_core_json_bool(call->metadata, "raw", &wanted) || !wanted)
		return;
	if (response->body_length <= MOST_RAW_BYTES)
		raw = eduai_gateway_parse_answer(response->body, response->body_length, &why);
	eduai_core_json_begin(&j);
	eduai_gateway_copy_pairs(&j, outcome->result, NULL);
	if (raw != NULL)
		eduai_core_json_put_json(&j, "raw", raw);
	else
		eduai_core_json_put_int(&j, "raw_bytes", response->body_length);
	outcome->result = eduai_core_json_end(&j);
}

static void
read_response(GatewayCall *call, const WireResponse *response, int64 now_unix, CallOutcome *outcome)
{
	const Provider *provider = call->instance->provider;
	const Kind *kind = find_kind(provider->kind);
	const Adapter *adapter = provider->webhook ? &eduai_gateway_webhook_adapter
							 : kind != NULL    ? kind->adapter
											   : NULL;
	Numeric given;

	outcome->http_status = response->http_status;
	outcome->cost_usd = NULL;
	eduai_gateway_read_limits(response, now_unix, &outcome->limits);
	if (response->request_id != NULL && is_visible_ascii(response->request_id))
		outcome->request_id = eduai_gateway_clip(response->request_id, 200);
	if (call->health_check)
		eduai_gateway_health_read(response, now_unix, outcome);
	else if (eduai_gateway_analysis_prepare(call, outcome) && adapter != NULL)
		adapter->read(call, response, now_unix, outcome);
	if (outcome->verdict == CALL_COMPLETED && !call->health_check)
		eduai_gateway_analysis_check(call, outcome);
	if (outcome->verdict == CALL_COMPLETED && !call->health_check)
		add_raw(call, response, outcome);
	without_key(outcome, provider->api_key);
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
		WireResponse clean = without_echo(response, call->instance->provider->api_key);

		read_response(call, &clean, now_unix, outcome);
	}
	PG_CATCH();
	{
		caught(call, outcome, "read the answer");
		outcome->cost_usd = int64_to_numeric(0);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
}
