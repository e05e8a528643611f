/*
 * testing.c: SQL functions by which tests reach what is pure.
 *
 * Superusers only, and only with eduai.test_mode.  They build a provider and
 * an instance out of their arguments and run the very functions the dispatcher
 * does; nothing is read from or written to tables.
 */
#include "postgres.h"

#include "core/json.h"
#include "core/pause.h"
#include "fmgr.h"
#include "gateway/address.h"
#include "gateway/parents.h"
#include "gateway/testing.h"
#include "gateway/wire.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(eduai_test_build_request);
PG_FUNCTION_INFO_V1(eduai_test_read_response);
PG_FUNCTION_INFO_V1(eduai_test_address_class);
PG_FUNCTION_INFO_V1(eduai_test_parents);

/* What a bench call stands on, all in one context. */
typedef struct Bench
{
	Provider provider;
	Instance instance;
	GatewayCall call;
} Bench;

static Numeric
price(const Jsonb *options, const char *name)
{
	return eduai_core_json_numeric(options, name);
}

static Numeric
price_or_zero(const Jsonb *options, const char *name)
{
	Numeric found = price(options, name);

	return found != NULL ? found : int64_to_numeric(0);
}

/* {"<id>": {"content_type", "text"}}: what the claim would have read. */
static void
add_files(GatewayCall *call, const Jsonb *files)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue key;

	if (!eduai_core_json_is_object(files))
		return;
	call->files = palloc0(sizeof(CallFile) * JsonContainerSize(&files->root));
	it = JsonbIteratorInit((JsonbContainer *) &files->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		CallFile *file = &call->files[call->nfiles];
		Jsonb *object;
		char *text;

		if (token != WJB_KEY)
			continue;
		file->id = pnstrdup(key.val.string.val, key.val.string.len);
		object = eduai_core_json_child(files, file->id);
		text = eduai_gateway_string(object, "text");
		file->content_type = eduai_gateway_string(object, "content_type");
		file->data = text != NULL ? (bytea *) cstring_to_text(text) : NULL;
		file->missing = "payload_too_large";
		call->nfiles++;
		(void) JsonbIteratorNext(&it, &key, true);
	}
}

static Bench *
bench_new(FunctionCallInfo fcinfo, int payload_arg, int provider_arg, int instance_arg)
{
	Bench *b = palloc0(sizeof(Bench));
	Jsonb *p = PG_GETARG_JSONB_P(provider_arg);
	Jsonb *i = PG_GETARG_JSONB_P(instance_arg);
	bool webhook = false;
	int64 attempt = 1;

	b->provider.name = "bench";
	b->provider.kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
	b->provider.base_url = eduai_gateway_string(p, "base_url");
	b->provider.api_key = eduai_gateway_string(p, "api_key");
	b->provider.options = p;
	b->provider.webhook = strcmp(b->provider.kind, "openai") == 0 &&
						  eduai_core_json_bool(p, "webhook", &webhook) && webhook;
	if (b->provider.base_url == NULL)
		b->provider.base_url = "https://api.example.com/v1";
	b->instance.provider = &b->provider;
	b->instance.name = "bench";
	b->instance.model = eduai_gateway_string(i, "model");
	if (b->instance.model == NULL)
		b->instance.model = "bench-model";
	b->instance.options = i;
	b->instance.price_input = price_or_zero(i, "price_input");
	b->instance.price_output = price_or_zero(i, "price_output");
	b->instance.price_cached = price(i, "price_cached");
	b->instance.price_cache_write = price(i, "price_cache_write");
	b->instance.price_cache_write_1h = price(i, "price_cache_write_1h");
	b->instance.price_audio_input = price(i, "price_audio_input");
	b->instance.price_image_input = price(i, "price_image_input");
	b->instance.price_audio_output = price(i, "price_audio_output");
	b->instance.price_reasoning = price(i, "price_reasoning");
	b->instance.price_image = eduai_gateway_dearest_image(i);
	b->instance.price_audio_second = price(i, "price_audio_second");
	(void) eduai_core_json_bool(i, "stream", &b->instance.stream);
	b->instance.max_output_tokens = eduai_gateway_count(i, "max_output_tokens");
	b->call.context = CurrentMemoryContext;
	b->call.task_id = 1;
	(void) eduai_core_json_int64(p, "attempt", &attempt);
	b->call.attempt = (int) attempt;
	b->call.metadata = eduai_core_json_child(p, "metadata");
	add_files(&b->call, eduai_core_json_child(p, "files"));
	b->call.tenant = "default";
	b->call.task_type = text_to_cstring(PG_GETARG_TEXT_PP(1));
	b->call.idempotency_key = eduai_gateway_string(p, "idempotency_key");
	b->call.payload = PG_GETARG_JSONB_P(payload_arg);
	b->call.timeout_ms = 60000;
	b->call.instance = &b->instance;
	if (eduai_gateway_adapter(b->provider.kind) == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("unknown provider kind \"%s\"", b->provider.kind)));
	eduai_gateway_encoding_prepare();
	return b;
}

/* ---- outcomes as jsonb ---- */

static const char *
verdict_name(CallVerdict verdict)
{
	static const char *const names[] = {"completed", "retry", "retry_elsewhere", "fatal",
										"cancelled"};

	return names[verdict];
}

static void
put_limit(EduaiJson *j, const char *name, int64 limit, int64 left, int64 reset_ms)
{
	if (left < 0)
		return;
	eduai_core_json_open_object(j, name);
	eduai_core_json_put_int(j, "limit", limit);
	eduai_core_json_put_int(j, "left", left);
	eduai_core_json_put_int(j, "reset_ms", reset_ms);
	eduai_core_json_close_object(j);
}

static void
put_count(EduaiJson *j, const char *key, int64 count)
{
	if (count != 0)
		eduai_core_json_put_int(j, key, count);
}

Jsonb *
eduai_gateway_outcome_json(const CallOutcome *outcome)
{
	EduaiJson j;

	eduai_core_json_begin(&j);
	eduai_core_json_put_text(&j, "verdict", verdict_name(outcome->verdict));
	eduai_core_json_put_text(&j, "code", outcome->code);
	put_count(&j, "http_status", outcome->http_status);
	if (outcome->message != NULL)
		eduai_core_json_put_text(&j, "message", outcome->message);
	if (outcome->retry_after_ms >= 0)
		eduai_core_json_put_int(&j, "retry_after_ms", outcome->retry_after_ms);
	if (outcome->result != NULL)
		eduai_core_json_put_json(&j, "result", outcome->result);
	put_count(&j, "tokens_in", outcome->tokens_in);
	put_count(&j, "tokens_cached", outcome->tokens_cached);
	put_count(&j, "tokens_cache_write", outcome->tokens_cache_write);
	put_count(&j, "tokens_out", outcome->tokens_out);
	put_count(&j, "tokens_reasoning", outcome->tokens_reasoning);
	put_count(&j, "images", outcome->images);
	put_count(&j, "audio_ms", outcome->audio_ms);
	eduai_core_json_put_numeric(&j, "cost_usd", outcome->cost_usd);
	put_limit(&j, "requests", outcome->limits.requests_limit, outcome->limits.requests_left,
			  outcome->limits.requests_reset_ms);
	put_limit(&j, "tokens", outcome->limits.tokens_limit, outcome->limits.tokens_left,
			  outcome->limits.tokens_reset_ms);
	if (outcome->request_id != NULL)
		eduai_core_json_put_text(&j, "request_id", outcome->request_id);
	return eduai_core_json_end(&j);
}

/* ---- requests as jsonb ---- */

static void
put_headers(EduaiJson *j, const WireRequest *request, const char *key)
{
	eduai_core_json_open_array(j, "headers");
	for (int i = 0; i < request->nheaders; i++)
	{
		char *found = key != NULL ? strstr(request->headers[i], key) : NULL;

		if (found == NULL)
			eduai_core_json_put_text(j, NULL, request->headers[i]);
		else
			eduai_core_json_put_text(j, NULL,
									 psprintf("%.*s***%s", (int) (found - request->headers[i]),
											  request->headers[i], found + strlen(key)));
	}
	eduai_core_json_close_array(j);
}

static void
put_upload(EduaiJson *j, const WireRequest *request)
{
	eduai_core_json_open_object(j, "upload");
	eduai_core_json_put_text(j, "file_name", request->file_name);
	eduai_core_json_put_text(j, "file_type", request->file_type);
	eduai_core_json_put_int(j, "file_length", request->file_length);
	eduai_core_json_open_array(j, "fields");
	for (int i = 0; i + 1 < request->nfields; i += 2)
		eduai_core_json_put_text(j, NULL,
								 psprintf("%s=%s", request->fields[i], request->fields[i + 1]));
	eduai_core_json_close_array(j);
	eduai_core_json_close_object(j);
}

Datum
eduai_test_build_request(PG_FUNCTION_ARGS)
{
	Bench *b;
	WireRequest request;
	CallOutcome *outcome;
	EduaiJson j;
	char *why;
	Jsonb *body;

	eduai_core_require_test_mode();
	b = bench_new(fcinfo, 2, 3, 4);
	outcome = eduai_gateway_outcome_new(&b->call);
	if (!eduai_gateway_payload_render(&b->call, outcome) ||
		!eduai_gateway_request_build(&b->call, eduai_gateway_count(b->provider.options, "now_unix"),
									 &request, outcome))
		PG_RETURN_JSONB_P(eduai_gateway_outcome_json(outcome));
	eduai_core_json_begin(&j);
	eduai_core_json_put_text(&j, "url", request.url);
	put_headers(&j, &request, b->provider.api_key);
	if (request.file != NULL || request.nfields > 0)
		put_upload(&j, &request);
	else
	{
		body = eduai_core_json_parse_bytes(request.body, request.body_length, &why);
		if (body != NULL)
			eduai_core_json_put_json(&j, "body", body);
		else
			eduai_core_json_put_int(&j, "body_bytes", request.body_length);
	}
	PG_RETURN_JSONB_P(eduai_core_json_end(&j));
}

/* Limit headers among these, in pairs of strings. */
static const char **
limit_headers(Jsonb *headers, int *n)
{
	const char **pairs = palloc(sizeof(char *) * 2 * Max(JB_ROOT_COUNT(headers), 1));
	JsonbIterator *it = JsonbIteratorInit(&headers->root);
	JsonbIteratorToken token;
	JsonbValue v;

	*n = 0;
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		char *name;

		if (token != WJB_KEY)
			continue;
		name = pnstrdup(v.val.string.val, v.val.string.len);
		if (!eduai_gateway_is_limit_header(name, strlen(name)))
			continue;
		pairs[(*n)++] = name;
		pairs[(*n)++] = eduai_core_json_text(headers, name);
	}
	return pairs;
}

Datum
eduai_test_read_response(PG_FUNCTION_ARGS)
{
	Bench *b;
	Jsonb *headers = PG_GETARG_JSONB_P(3);
	bytea *body = PG_GETARG_BYTEA_PP(4);
	WireResponse response = {
		.http_status = PG_GETARG_INT32(2),
		.body = VARDATA_ANY(body),
		.body_length = VARSIZE_ANY_EXHDR(body),
		.retry_after = eduai_gateway_string(headers, "retry-after"),
		.retry_after_ms = eduai_gateway_string(headers, "retry-after-ms"),
		.should_retry = eduai_gateway_string(headers, "x-should-retry"),
		.content_type = eduai_gateway_string(headers, "content-type"),
		.request_id = eduai_gateway_string(headers, "x-request-id"),
	};
	CallOutcome *outcome;

	eduai_core_require_test_mode();
	b = bench_new(fcinfo, 5, 6, 7);
	response.limit_headers = limit_headers(headers, &response.nlimit_headers);
	outcome = eduai_gateway_outcome_new(&b->call);
	eduai_gateway_response_read(&b->call, &response, PG_GETARG_INT64(8), outcome);
	PG_RETURN_JSONB_P(eduai_gateway_outcome_json(outcome));
}

Datum
eduai_test_address_class(PG_FUNCTION_ARGS)
{
	AddressClass class;

	eduai_core_require_test_mode();
	if (!eduai_gateway_address_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)), &class))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(eduai_gateway_address_class_name(class)));
}

Datum
eduai_test_parents(PG_FUNCTION_ARGS)
{
	CallOutcome outcome = {
		.retry_after_ms = -1, .cost_usd = int64_to_numeric(0), .limits = {-1, -1, -1, -1, -1, -1}};
	Jsonb *rendered;

	eduai_core_require_test_mode();
	rendered =
		eduai_gateway_render_parents(PG_GETARG_JSONB_P(0), PG_GETARG_JSONB_P(1),
									 PG_GETARG_JSONB_P(2), (size_t) PG_GETARG_INT32(3), &outcome);
	PG_RETURN_JSONB_P(rendered != NULL ? rendered : eduai_gateway_outcome_json(&outcome));
}
