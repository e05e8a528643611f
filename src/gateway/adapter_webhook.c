/*
 * adapter_webhook.c: tasks sent to a service of one's own, signed.
 *
 * Providers of kind openai with the option webhook.  The task is POSTed to the
 * base URL as it is; what comes back is its result.  The signature is that of
 * the Standard Webhooks specification: HMAC-SHA256, under the provider's key,
 * over "id.timestamp.body".  The key itself is never sent.
 *
 * The id names the attempt: two attempts of a task are two messages, and an old
 * one that is sent again cannot pass for the present one.
 */
#include "postgres.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "common/base64.h"
#include "gateway/analysis.h"
#include "gateway/wire.h"

#define PREFIX "whsec_"

/* ---- the request ---- */

/* "whsec_" and base64, or any other text as it is. */
static void
secret_of(const char *key, const char **secret, size_t *length)
{
	char *bytes;
	char *type;

	*secret = key;
	*length = strlen(key);
	if (strncmp(key, PREFIX, strlen(PREFIX)) == 0 &&
		eduai_gateway_base64(key + strlen(PREFIX), &bytes, length, &type))
		*secret = bytes;
	else
		*length = strlen(key);
}

/* "v1," and the base64 of the HMAC. */
static char *
signature(const char *key, const char *id, int64 timestamp, const WireRequest *request)
{
	char *head = psprintf("%s." INT64_FORMAT ".", id, timestamp);
	size_t head_length = strlen(head);
	char *content = palloc(head_length + request->body_length);
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int digest_length = 0;
	const char *secret;
	size_t secret_length;
	char encoded[128];
	int written;

	memcpy(content, head, head_length);
	memcpy(content + head_length, request->body, request->body_length);
	secret_of(key, &secret, &secret_length);
	if (HMAC(EVP_sha256(), secret, (int) secret_length, (const unsigned char *) content,
			 head_length + request->body_length, digest, &digest_length) == NULL)
		return NULL;
	written = pg_b64_encode((const void *) digest, (int) digest_length, encoded, sizeof(encoded));
	return psprintf("v1,%.*s", Max(written, 0), encoded);
}

/* No dot may be in it: dots part what is signed. */
static char *
message_id(const GatewayCall *call)
{
	return psprintf("%s-%d",
					call->idempotency_key != NULL
						? call->idempotency_key
						: psprintf("eduai-%lld", (long long) call->task_id),
					call->attempt);
}

static Jsonb *
message(const GatewayCall *call)
{
	EduaiJson j;

	eduai_core_json_begin(&j);
	eduai_core_json_put_int(&j, "id", call->task_id);
	eduai_core_json_put_int(&j, "attempt", call->attempt);
	eduai_core_json_put_text(&j, "type", call->task_type);
	eduai_core_json_put_text(&j, "model", call->instance->model);
	eduai_core_json_put_text(&j, "tenant", call->tenant);
	eduai_core_json_put_text(&j, "user_id", call->user_id);
	eduai_core_json_put_json(&j, "payload", call->payload);
	eduai_core_json_put_json(&j, "metadata", call->metadata);
	eduai_core_json_put_int(&j, "timeout_ms", call->timeout_ms);
	return eduai_core_json_end(&j);
}

static bool
build(const GatewayCall *call, WireRequest *request, CallOutcome *outcome)
{
	const Provider *provider = call->instance->provider;
	char *id = message_id(call);
	char *signed_by;

	if (provider->api_key == NULL)
	{
		eduai_gateway_outcome_fail(outcome, CALL_RETRY_ELSEWHERE, "no_key",
								   "a webhook needs a key: it is what the task is signed with");
		return false;
	}
	if (!eduai_gateway_set_body(request, message(call), outcome))
		return false;
	signed_by = signature(provider->api_key, id, request->now_unix, request);
	if (signed_by == NULL)
	{
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "internal_error",
								   "could not sign the task");
		return false;
	}
	request->url = pstrdup(provider->base_url);
	eduai_gateway_add_header(request, "webhook-id", id);
	eduai_gateway_add_header(request, "webhook-timestamp",
							 psprintf(INT64_FORMAT, request->now_unix));
	eduai_gateway_add_header(request, "webhook-signature", signed_by);
	if (call->idempotency_key != NULL)
		eduai_gateway_add_header(request, "Idempotency-Key",
								 eduai_gateway_url_escape(call->idempotency_key));
	return true;
}

/* ---- the answer ---- */

/* {input, cached, output}, as results have it; OpenAI's names count too. */
static void
read_usage(const Jsonb *body, CallOutcome *outcome)
{
	Jsonb *usage = eduai_core_json_child(body, "usage");

	outcome->tokens_in = eduai_gateway_count(usage, "input");
	outcome->tokens_cached = eduai_gateway_count(usage, "cached");
	outcome->tokens_cache_write = eduai_gateway_count(usage, "cache_write");
	outcome->tokens_out = eduai_gateway_count(usage, "output");
	outcome->tokens_reasoning = eduai_gateway_count(usage, "reasoning");
	outcome->audio_ms = eduai_gateway_seconds_to_ms(usage, "audio_seconds");
	eduai_gateway_bound_usage(outcome);
}

/* The result, with what every result has. */
static void
put_result(const Jsonb *body, CallOutcome *outcome)
{
	static const char *const replaced[] = {"cost_usd", "usage", "model", NULL};
	EduaiJson j;

	eduai_core_json_begin(&j);
	eduai_gateway_copy_pairs(&j, body, replaced);
	if (eduai_gateway_string(body, "finish_reason") == NULL)
		eduai_core_json_put_text(&j, "finish_reason", "stop");
	eduai_gateway_put_usage(&j, outcome);
	outcome->result = eduai_core_json_end(&j);
}

static void
read_answer(const GatewayCall *call, const WireResponse *response, int64 now_unix,
			CallOutcome *outcome)
{
	Jsonb *body = eduai_gateway_open_answer(response, now_unix, outcome);

	if (body == NULL)
		return;
	if (!eduai_core_json_is_object(body))
	{
		eduai_gateway_outcome_fail(outcome, CALL_RETRY, "invalid_answer",
								   "the answer is not a JSON object");
		return;
	}
	outcome->verdict = CALL_COMPLETED;
	outcome->code = "ok";
	outcome->model = eduai_gateway_string(body, "model");
	if (outcome->model == NULL)
		outcome->model = call->instance->model;
	read_usage(body, outcome);
	outcome->cost_usd = eduai_gateway_given_cost(body, "cost_usd");
	outcome->images = eduai_core_json_length(eduai_core_json_child(body, "images"));
	put_result(body, outcome);
}

const Adapter eduai_gateway_webhook_adapter = {
	.kind = "openai",
	.build = build,
	.read = read_answer,
	.health_path = NULL,
};
