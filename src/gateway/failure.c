/*
 * failure.c: exchanges that ended without an answer, in words and verdicts.
 *
 * Messages hold what libcurl says of hosts, addresses and certificates, which
 * is never a key nor a payload.
 */
#include "postgres.h"

#include "gateway/exchange.h"
#include "gateway/gateway.h"
#include "gateway/wire.h"

typedef struct AbortRule
{
	TransferAbort abort;
	CallVerdict verdict;
	const char *code;
	const char *message;
} AbortRule;

static const AbortRule aborts[] = {
	{ABORT_CONNECT, CALL_RETRY, "timeout_connect", "no connection within the time limit"},
	{ABORT_FIRST_BYTE, CALL_RETRY, "timeout_first_byte", "no answer began within the time limit"},
	{ABORT_STALL, CALL_RETRY, "timeout_stall", "the answer stopped in the middle"},
	{ABORT_TOTAL, CALL_RETRY, "timeout_total", "no whole answer within the time limit"},
	{ABORT_BODY_TOO_LARGE, CALL_RETRY_ELSEWHERE, "body_too_large",
	 "the answer is longer than eduai.max_response_size"},
	{ABORT_MALFORMED, CALL_RETRY, "invalid_answer",
	 "the answer's stream has an event that cannot be read"},
	{ABORT_HEADERS_TOO_LARGE, CALL_RETRY_ELSEWHERE, "headers_too_large",
	 "the answer's headers are longer than 64 kB"},
	{ABORT_TWO_LENGTHS, CALL_RETRY, "protocol_error", "the answer tells two different lengths"},
	{ABORT_ADDRESS, CALL_RETRY_ELSEWHERE, "address_refused",
	 "the provider's host has an address that its options do not allow"},
	{ABORT_CLEAR_TEXT, CALL_RETRY_ELSEWHERE, "address_refused",
	 "plain http would send the key to a public address in clear text"},
	{ABORT_RESENT, CALL_RETRY, "connection_closed",
	 "a kept connection was closed before an answer came"},
	{ABORT_OUT_OF_MEMORY, CALL_RETRY, "out_of_memory", "out of memory"},
	{ABORT_CANCELLED, CALL_CANCELLED, "cancelled", "the task was cancelled"},
};

typedef struct FailureRule
{
	CURLcode result;
	CallVerdict verdict;
	const char *code;
} FailureRule;

static const FailureRule failures[] = {
	{CURLE_COULDNT_RESOLVE_HOST, CALL_RETRY, "dns_failed"},
	{CURLE_COULDNT_CONNECT, CALL_RETRY, "connect_failed"},
	{CURLE_OPERATION_TIMEDOUT, CALL_RETRY, "timeout_connect"},
	{CURLE_SSL_CONNECT_ERROR, CALL_RETRY, "tls_failed"},
	{CURLE_PEER_FAILED_VERIFICATION, CALL_RETRY_ELSEWHERE, "tls_failed"},
	{CURLE_SSL_CACERT_BADFILE, CALL_RETRY_ELSEWHERE, "tls_failed"},
	{CURLE_SSL_CIPHER, CALL_RETRY_ELSEWHERE, "tls_failed"},
	{CURLE_SSL_CERTPROBLEM, CALL_RETRY_ELSEWHERE, "tls_failed"},
	{CURLE_SSL_ISSUER_ERROR, CALL_RETRY_ELSEWHERE, "tls_failed"},
	{CURLE_SSL_INVALIDCERTSTATUS, CALL_RETRY_ELSEWHERE, "tls_failed"},
	{CURLE_BAD_CONTENT_ENCODING, CALL_RETRY, "protocol_error"},
	{CURLE_WEIRD_SERVER_REPLY, CALL_RETRY, "protocol_error"},
	{CURLE_HTTP2, CALL_RETRY, "protocol_error"},
	{CURLE_HTTP2_STREAM, CALL_RETRY, "protocol_error"},
	{CURLE_OUT_OF_MEMORY, CALL_RETRY, "out_of_memory"},
	{CURLE_URL_MALFORMAT, CALL_RETRY_ELSEWHERE, "bad_url"},
	{CURLE_UNSUPPORTED_PROTOCOL, CALL_RETRY, "protocol_error"},
};

/* In the call's own context, whoever calls. */
static void
fail(Transfer *t, CallVerdict verdict, const char *code, const char *message)
{
	MemoryContext caller = MemoryContextSwitchTo(t->call->context);

	eduai_gateway_outcome_fail(t->outcome, verdict, code, "%s", message);
	MemoryContextSwitchTo(caller);
}

void
eduai_gateway_exchange_aborted(Transfer *t)
{
	for (size_t i = 0; i < lengthof(aborts); i++)
		if (aborts[i].abort == t->abort)
		{
			fail(t, aborts[i].verdict, aborts[i].code, aborts[i].message);
			return;
		}
	fail(t, CALL_RETRY, "internal_error", "the transfer ended for an unknown reason");
}

void
eduai_gateway_exchange_failed(Transfer *t, CURLcode result)
{
	const char *words = t->error[0] != '\0' ? t->error : curl_easy_strerror(result);

	/* libcurl's own limit of a single line, 100 kB, looks like this */
	if (result == CURLE_OUT_OF_MEMORY && t->connected_us != 0 && !t->head_over)
	{
		t->abort = ABORT_HEADERS_TOO_LARGE;
		eduai_gateway_exchange_aborted(t);
		return;
	}
	for (size_t i = 0; i < lengthof(failures); i++)
		if (failures[i].result == result)
		{
			fail(t, failures[i].verdict, failures[i].code, words);
			return;
		}
	/* the connection ended: was there an answer yet? */
	fail(t, CALL_RETRY, t->first_byte_us != 0 ? "body_cut" : "connection_closed", words);
}
