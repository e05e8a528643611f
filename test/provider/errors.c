/*-------------------------------------------------------------------------
 * errors.c
 *		Error bodies in the shapes the providers publish.
 *-------------------------------------------------------------------------
 */
#include <stdio.h>

#include "exchange.h"

typedef struct ErrorKind
{
	int status;
	const char *openai_type;
	const char *openai_code; /* NULL: null */
	const char *anthropic_type;
	const char *message;
} ErrorKind;

static const ErrorKind by_status[] = {
	{400, "invalid_request_error", NULL, "invalid_request_error", "the request is not valid"},
	{401, "invalid_request_error", "invalid_api_key", "authentication_error",
	 "incorrect API key provided"},
	{402, "insufficient_quota", "insufficient_quota", "billing_error", "insufficient credits"},
	{403, "request_forbidden", "unsupported_country_region_territory", "permission_error",
	 "access denied"},
	{404, "invalid_request_error", "model_not_found", "not_found_error",
	 "the model does not exist"},
	{408, "timeout", NULL, "timeout_error", "the request timed out"},
	{409, "conflict", NULL, "conflict_error", "the request conflicts with another"},
	{413, "invalid_request_error", NULL, "request_too_large", "the request is too large"},
	{429, "requests", "rate_limit_exceeded", "rate_limit_error", "rate limit reached"},
	{502, "server_error", NULL, "api_error", "bad gateway"},
	{503, "service_unavailable", NULL, "api_error", "the service is unavailable"},
	{504, "server_error", NULL, "timeout_error", "gateway timeout"},
	{529, "overloaded_error", NULL, "overloaded_error", "overloaded"},
	{500, "server_error", NULL, "api_error", "the server had an error"},
};

typedef struct ErrorCode
{
	const char *code;
	int status;
	const char *openai_type;
	const char *param;
	const char *message;
} ErrorCode;

static const ErrorCode by_code[] = {
	{"context_length_exceeded", 400, "invalid_request_error", "messages",
	 "prompt is too long: the maximum context length is 8192 tokens"},
	{"content_policy_violation", 400, "invalid_request_error", NULL,
	 "rejected as a result of the safety system"},
	{"content_filter", 400, "invalid_request_error", "prompt",
	 "the response was filtered by the content management policy"},
	{"insufficient_quota", 429, "insufficient_quota", NULL,
	 "you exceeded your current quota, please check your plan and billing details"},
	{"billing_hard_limit_reached", 400, "billing_limit_user_error", NULL,
	 "billing hard limit has been reached"},
	{"rate_limit_exceeded", 429, "requests", NULL, "rate limit reached"},
	{"invalid_api_key", 401, "invalid_request_error", NULL, "incorrect API key provided"},
	{"model_not_found", 404, "invalid_request_error", "model", "the model does not exist"},
};

static const ErrorKind *
find_kind(int status)
{
	const ErrorKind *kind = by_status;

	while (kind->status != status && kind->status != 500)
		kind++;
	return kind;
}

static const ErrorCode *
find_code(const char *code)
{
	for (size_t i = 0; code != NULL && i < sizeof(by_code) / sizeof(by_code[0]); i++)
	{
		if (strcmp(by_code[i].code, code) == 0)
			return &by_code[i];
	}
	return NULL;
}

/* The status that an error code comes with. */
int
exchange_code_status(const char *code)
{
	const ErrorCode *known = find_code(code);

	return known != NULL ? known->status : 400;
}

/* Settle on an error; returns false, for checks to return. */
bool
exchange_refuse(Exchange *x, int status, const char *code, const char *param, const char *message)
{
	x->status = status;
	x->error_code = code;
	x->error_param = param;
	x->error_message = message;
	return false;
}

static void
add_string_or_null(Buf *out, const char *name, const char *value)
{
	buf_printf(out, ",\"%s\":", name);
	if (value == NULL)
	{
		buf_str(out, "null");
		return;
	}
	buf_str(out, "\"");
	buf_json(out, value);
	buf_str(out, "\"");
}

static void
write_anthropic(Exchange *x, const ErrorKind *kind, const char *message)
{
	buf_printf(x->body,
			   "{\"type\":\"error\",\"error\":{\"type\":\"%s\","
			   "\"message\":\"simulated error: ",
			   kind->anthropic_type);
	buf_json(x->body, message);
	buf_printf(x->body, "\"},\"request_id\":\"req_sim_%llu\"}", (unsigned long long) x->seq);
}

/*
 * An error inside a 200 answer without a code is OpenRouter's: its code is
 * the number of the status that upstream had.
 */
static void
write_openai(Exchange *x, const ErrorKind *kind, const ErrorCode *known, const char *message)
{
	const char *code = x->error_code ? x->error_code : kind->openai_code;
	const char *param = x->error_param;

	if (param == NULL && known != NULL)
		param = known->param;
	buf_str(x->body, "{\"error\":{\"message\":\"simulated error: ");
	buf_json(x->body, message);
	if (x->behaviour->error200 && x->error_code == NULL)
	{
		buf_printf(x->body,
				   "\",\"code\":%d,\"metadata\":"
				   "{\"provider_name\":\"simulator\"}}}",
				   kind->status);
		return;
	}
	buf_printf(x->body, "\",\"type\":\"%s\"",
			   known != NULL ? known->openai_type : kind->openai_type);
	add_string_or_null(x->body, "param", param);
	add_string_or_null(x->body, "code", code);
	buf_str(x->body, "}}");
}

/* x->status is the error's, also when the answer will be a 200. */
void
exchange_write_error(Exchange *x)
{
	const ErrorKind *kind = find_kind(x->status);
	const ErrorCode *known = find_code(x->error_code);
	const char *message = x->error_message;

	if (message == NULL)
		message = known != NULL ? known->message : kind->message;
	x->content_type = "application/json";
	x->streamed = false;
	if (x->endpoint != NULL && x->endpoint->api == API_ANTHROPIC)
		write_anthropic(x, kind, message);
	else
		write_openai(x, kind, known, message);
}

/*
 * The error as an event of a stream whose status was 200: Anthropic's error
 * event, or OpenRouter's last chunk, with the error beside a finish reason.
 */
void
exchange_write_error_event(Exchange *x)
{
	const Behaviour *behaviour = x->behaviour;
	const ErrorKind *kind = find_kind(behaviour->status > 0 ? (int) behaviour->status : 529);
	const ErrorCode *known = find_code(behaviour->code);
	const char *message = known != NULL ? known->message : kind->message;

	x->broken_off = true;
	if (x->endpoint->api == API_ANTHROPIC)
	{
		buf_str(x->body, "event: error\ndata: ");
		write_anthropic(x, kind, message);
	}
	else
	{
		buf_str(x->body, "data: {\"id\":\"chatcmpl-sim\",\"object\":\"chat.completion.chunk\","
						 "\"error\":{\"code\":");
		if (behaviour->code != NULL)
		{
			buf_str(x->body, "\"");
			buf_json(x->body, behaviour->code);
			buf_str(x->body, "\"");
		}
		else
			buf_int(x->body, kind->status);
		buf_str(x->body, ",\"message\":\"simulated error: ");
		buf_json(x->body, message);
		buf_str(x->body, "\"},\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},"
						 "\"finish_reason\":\"error\"}]}");
	}
	buf_str(x->body, "\n\n");
	exchange_end_event(x);
}
