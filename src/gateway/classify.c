/*
 * classify.c: what a failed answer means: retry, go elsewhere, or give up.
 *
 * Three tables, in this order: names that providers give their errors (code or
 * type), phrases of their messages where a name is missing or too general, and
 * HTTP statuses.  x-should-retry then overrides, but never for an account that
 * is out of money.
 */
#include "postgres.h"

#include <ctype.h>
#include <curl/curl.h>
#include <math.h>

#include "gateway/wire.h"
#include "mb/pg_wchar.h"

#define MAX_RETRY_AFTER_MS INT64CONST(3600000)

typedef struct ProviderError
{
	char *code;
	char *type;
	char *message;
	bool flagged;     /* OpenRouter: moderation gave reasons */
	double loading_s; /* Hugging Face: until the model is loaded; -1: not told */
} ProviderError;

typedef struct NameRule
{
	const char *name;
	CallVerdict verdict;
	const char *code;
} NameRule;

static const NameRule by_name[] = {
	{"context_length_exceeded", CALL_RETRY_ELSEWHERE, "context_length_exceeded"},
	{"exceed_context_size_error", CALL_RETRY_ELSEWHERE, "context_length_exceeded"},
	{"content_policy_violation", CALL_FATAL, "content_policy"},
	{"content_filter", CALL_FATAL, "content_policy"},
	{"moderation_blocked", CALL_FATAL, "content_policy"},
	{"invalid_prompt", CALL_FATAL, "content_policy"},
	{"insufficient_quota", CALL_RETRY_ELSEWHERE, "quota"},
	{"billing_hard_limit_reached", CALL_RETRY_ELSEWHERE, "quota"},
	{"billing_not_active", CALL_RETRY_ELSEWHERE, "quota"},
	{"billing_error", CALL_RETRY_ELSEWHERE, "quota"},
	{"insufficient_credits", CALL_RETRY_ELSEWHERE, "quota"},
	{"payment_required", CALL_RETRY_ELSEWHERE, "quota"},
	{"invalid_api_key", CALL_RETRY_ELSEWHERE, "auth"},
	{"account_deactivated", CALL_RETRY_ELSEWHERE, "auth"},
	{"authentication_error", CALL_RETRY_ELSEWHERE, "auth"},
	{"permission_error", CALL_RETRY_ELSEWHERE, "auth"},
	{"model_not_found", CALL_RETRY_ELSEWHERE, "model_not_found"},
	{"model_not_supported", CALL_RETRY_ELSEWHERE, "model_not_found"},
	{"not_found_error", CALL_RETRY_ELSEWHERE, "model_not_found"},
	{"rate_limit_exceeded", CALL_RETRY, "rate_limited"},
	{"rate_limit_error", CALL_RETRY, "rate_limited"},
	{"overloaded_error", CALL_RETRY, "overloaded"},
	{"request_too_large", CALL_FATAL, "request_too_large"},
};

/* Looked for, in lower case, in messages of 4xx answers. */
static const NameRule by_phrase[] = {
	{"prompt is too long", CALL_RETRY_ELSEWHERE, "context_length_exceeded"},
	{"exceed context limit", CALL_RETRY_ELSEWHERE, "context_length_exceeded"},
	{"maximum context length", CALL_RETRY_ELSEWHERE, "context_length_exceeded"},
	{"context length exceeded", CALL_RETRY_ELSEWHERE, "context_length_exceeded"},
	{"exceeds the available context size", CALL_RETRY_ELSEWHERE, "context_length_exceeded"},
	{"context window", CALL_RETRY_ELSEWHERE, "context_length_exceeded"},
	{"`max_new_tokens` must be", CALL_RETRY_ELSEWHERE, "context_length_exceeded"},
	{"content filtering policy", CALL_FATAL, "content_policy"},
	{"content management policy", CALL_FATAL, "content_policy"},
	{"safety system", CALL_FATAL, "content_policy"},
	{"credit balance is too low", CALL_RETRY_ELSEWHERE, "quota"},
	{"exceeded your current quota", CALL_RETRY_ELSEWHERE, "quota"},
};

typedef struct StatusRule
{
	int first;
	int last;
	CallVerdict verdict;
	const char *code; /* NULL: "http_" and the status */
} StatusRule;

static const StatusRule by_status[] = {
	{300, 399, CALL_FATAL, "redirect_refused"},
	{400, 400, CALL_FATAL, "bad_request"},
	{401, 401, CALL_RETRY_ELSEWHERE, "auth"},
	{402, 402, CALL_RETRY_ELSEWHERE, "quota"},
	{403, 403, CALL_RETRY_ELSEWHERE, "auth"},
	{404, 404, CALL_RETRY_ELSEWHERE, "model_not_found"},
	{408, 409, CALL_RETRY, NULL},
	{410, 410, CALL_RETRY_ELSEWHERE, "model_not_found"},
	{413, 413, CALL_FATAL, "request_too_large"},
	{422, 422, CALL_FATAL, "bad_request"},
	{425, 425, CALL_RETRY, NULL},
	{429, 429, CALL_RETRY, "rate_limited"},
	{400, 499, CALL_FATAL, NULL},
	{529, 529, CALL_RETRY, "overloaded"},
	{500, 599, CALL_RETRY, NULL},
};

/* ---- the error object ---- */

static char *
detail_text(const Jsonb *body)
{
	Jsonb *detail = eduai_core_json_child(body, "detail");
	Jsonb *first;

	if (detail == NULL)
		return eduai_gateway_string(body, "detail");
	if (eduai_core_json_is_object(detail))
		return eduai_gateway_string(detail, "message");
	first = eduai_core_json_element(detail, 0);
	return first != NULL ? eduai_gateway_string(first, "msg")
						 : eduai_core_json_element_text(detail, 0);
}

static void
read_error(const Jsonb *body, ProviderError *error)
{
	Jsonb *object = eduai_core_json_child(body, "error");

	memset(error, 0, sizeof(*error));
	if (!eduai_core_json_double(body, "estimated_time", &error->loading_s))
		error->loading_s = -1;
	if (eduai_core_json_is_object(object))
	{
		error->message = eduai_gateway_string(object, "message");
		error->type = eduai_core_json_text(object, "type");
		error->code = eduai_core_json_text(object, "code");
		error->flagged = eduai_core_json_length(eduai_core_json_child(
							 eduai_core_json_child(object, "metadata"), "reasons")) > 0;
		return;
	}
	error->message = object != NULL ? eduai_core_json_element_text(object, 0)
									: eduai_gateway_string(body, "error");
	if (error->message == NULL)
		error->message = detail_text(body);
	if (error->message == NULL)
		error->message = eduai_gateway_string(body, "message");
	error->type = eduai_core_json_text(body, "error_type");
	if (error->type == NULL)
		error->type = eduai_core_json_text(body, "type");
	error->code = eduai_core_json_text(body, "code");
}

bool
eduai_gateway_has_error(const Jsonb *body)
{
	JsonbValue value;
	char *type;

	if (eduai_core_json_get(body, "error", &value) &&
		(value.type == jbvBinary || (value.type == jbvString && value.val.string.len > 0)))
		return true;
	type = eduai_gateway_string(body, "type");
	if (type != NULL && strcmp(type, "error") == 0)
		return true;
	type = eduai_gateway_string(body, "object");
	return type != NULL && strcmp(type, "error") == 0;
}

/* A proxy's or a local server's plain words; pages of HTML say nothing. */
static char *
plain_text(const WireResponse *response)
{
	int length = (int) Min(response->body_length, 65536);
	char *text;

	if (length == 0 || length == 65536 || response->content_type == NULL ||
		pg_strncasecmp(response->content_type, "text/plain", 10) != 0)
		return NULL;
	length = pg_encoding_verifymbstr(PG_UTF8, response->body, length);
	if (GetDatabaseEncoding() != PG_UTF8)
		for (int i = 0; i < length; i++)
			if ((unsigned char) response->body[i] >= 0x80)
				length = i;
	text = pnstrdup(response->body, length);
	return *text == '\0' ? NULL : text;
}

/* ---- the verdict ---- */

static bool
apply_names(const char *name, CallOutcome *outcome)
{
	for (size_t i = 0; name != NULL && i < lengthof(by_name); i++)
		if (pg_strcasecmp(name, by_name[i].name) == 0)
		{
			outcome->verdict = by_name[i].verdict;
			outcome->code = by_name[i].code;
			return true;
		}
	return false;
}

static bool
apply_phrases(const char *message, CallOutcome *outcome)
{
	char *lower;

	if (message == NULL)
		return false;
	lower = eduai_gateway_clip(message, 2000);
	for (char *p = lower; *p; p++)
		*p = pg_ascii_tolower((unsigned char) *p);
	for (size_t i = 0; i < lengthof(by_phrase); i++)
		if (strstr(lower, by_phrase[i].name) != NULL)
		{
			outcome->verdict = by_phrase[i].verdict;
			outcome->code = by_phrase[i].code;
			return true;
		}
	return false;
}

static void
apply_status(int status, CallOutcome *outcome)
{
	for (size_t i = 0; i < lengthof(by_status); i++)
		if (status >= by_status[i].first && status <= by_status[i].last)
		{
			outcome->verdict = by_status[i].verdict;
			outcome->code =
				by_status[i].code != NULL ? by_status[i].code : psprintf("http_%d", status);
			return;
		}
	outcome->verdict = CALL_RETRY;
	outcome->code = status >= 200 && status <= 299 ? "error_in_answer" : "protocol_error";
}

static void
apply_should_retry(const char *header, CallOutcome *outcome)
{
	if (header == NULL || strcmp(outcome->code, "quota") == 0)
		return;
	if (pg_strcasecmp(header, "true") == 0)
		outcome->verdict = CALL_RETRY;
	else if (pg_strcasecmp(header, "false") == 0 && outcome->verdict == CALL_RETRY)
		outcome->verdict = CALL_RETRY_ELSEWHERE;
}

/* Under 200, an error's own numeric code stands for the status. */
static int
effective_status(int status, const ProviderError *error)
{
	int code;

	if (status < 200 || status > 299 || error->code == NULL)
		return status;
	code = atoi(error->code);
	return code >= 400 && code <= 599 ? code : status;
}

static void
judge(int status, const ProviderError *error, const char *should_retry, CallOutcome *outcome)
{
	bool is_client_error = status >= 400 && status <= 499;
	bool is_redirect = status >= 300 && status <= 399;

	if (error->flagged)
	{
		outcome->verdict = CALL_FATAL;
		outcome->code = "content_policy";
	}
	else if (is_redirect ||
			 !(apply_names(error->code, outcome) || apply_names(error->type, outcome) ||
			   (is_client_error && apply_phrases(error->message, outcome))))
		apply_status(status, outcome);
	apply_should_retry(should_retry, outcome);
}

static char *
words_for(int status)
{
	if (status >= 300 && status <= 399)
		return psprintf("the provider answered with a redirect (HTTP status %d), which is not "
						"followed",
						status);
	if (status >= 200 && status <= 299)
		return pstrdup("the answer is an error without a message");
	return psprintf("the provider answered with HTTP status %d", status);
}

void
eduai_gateway_classify(const WireResponse *response, const Jsonb *body, int64 now_unix,
					   CallOutcome *outcome)
{
	ProviderError error = {.loading_s = -1};
	bool capped;

	if (body != NULL)
		read_error(body, &error);
	if (error.message == NULL)
		error.message = plain_text(response);
	judge(effective_status(response->http_status, &error), &error, response->should_retry, outcome);

	outcome->result = NULL;
	outcome->retry_after_ms = eduai_gateway_retry_after(response->retry_after_ms,
														response->retry_after, now_unix, &capped);
	if (outcome->retry_after_ms < 0 && error.loading_s >= 0)
		outcome->retry_after_ms = (int64) Min(error.loading_s * 1000.0, MAX_RETRY_AFTER_MS);
	outcome->message = error.message != NULL && *error.message != '\0'
						   ? error.message
						   : words_for(response->http_status);
	if (capped)
		outcome->message =
			psprintf("asked to wait longer than an hour, taken as one hour: %s", outcome->message);
}

/* ---- Retry-After ---- */

/* A plain decimal number, nothing else; -1 when it is none. */
static double
decimal(const char *text)
{
	const char *p;
	bool digits = false;

	if (text == NULL)
		return -1;
	while (*text == ' ' || *text == '\t')
		text++;
	for (p = text; isdigit((unsigned char) *p); p++)
		digits = true;
	if (*p == '.')
		for (p++; isdigit((unsigned char) *p); p++)
			digits = true;
	while (*p == ' ' || *p == '\t')
		p++;
	return digits && *p == '\0' ? strtod(text, NULL) : -1;
}

static double
http_date_ms(const char *text, int64 now_unix)
{
	time_t date;

	if (text == NULL)
		return -1;
	text += strspn(text, " \t");
	/* libcurl would read much more as a date than RFC 7231 allows */
	if (!isalpha((unsigned char) *text))
		return -1;
	date = curl_getdate(text, NULL);
	if (date == (time_t) -1)
		return -1;
	return Max(0.0, ((double) date - (double) now_unix) * 1000.0);
}

int64
eduai_gateway_retry_after(const char *retry_after_ms, const char *retry_after, int64 now_unix,
						  bool *capped)
{
	double in_ms = decimal(retry_after_ms);
	double wish = decimal(retry_after);

	*capped = false;
	wish = wish >= 0 ? wish * 1000.0 : http_date_ms(retry_after, now_unix);
	/* "Retry-After: 1" beside "Retry-After-Ms: 0" has been seen: zero is no wish then */
	if (in_ms > 0 || (in_ms == 0 && wish < 0))
		wish = in_ms;
	if (wish < 0)
		return -1;
	if (wish > MAX_RETRY_AFTER_MS)
	{
		*capped = true;
		return MAX_RETRY_AFTER_MS;
	}
	return (int64) ceil(wish);
}
