/*
 * wire.h: what the adapters share: building requests, reading answers.
 *
 * Nothing here needs a transaction.  Everything is allocated in the current
 * memory context, which is the call's.
 */
#ifndef EDUAI_GATEWAY_WIRE_H
#define EDUAI_GATEWAY_WIRE_H

#include "core/json.h"
#include "gateway/adapter.h"

/* ---- outcomes ---- */

extern void eduai_gateway_outcome_fail(CallOutcome *outcome, CallVerdict verdict, const char *code,
									   const char *format, ...) pg_attribute_printf(4, 5);

/* CALL_FATAL with code bad_payload; returns false, so that builders can return it. */
extern bool
eduai_gateway_bad_payload(CallOutcome *outcome, const char *format, ...) pg_attribute_printf(2, 3);

/* ---- requests ---- */

extern void eduai_gateway_add_header(WireRequest *request, const char *name, const char *value);
extern void eduai_gateway_add_field(WireRequest *request, const char *name, const char *value);

/* "Authorization: Bearer KEY", when there is a key. */
extern void eduai_gateway_add_bearer(WireRequest *request, const Provider *provider);

/* Copies top-level pairs, but for those named in the NULL-terminated list. */
extern void eduai_gateway_copy_pairs(EduaiJson *j, const Jsonb *object, const char *const *except);

/* The JSON body, in UTF-8; false (and "outcome") when it cannot be encoded. */
extern bool eduai_gateway_set_body(WireRequest *request, const Jsonb *body, CallOutcome *outcome);

/* Has the payload text under "key"?  A string, that is; nothing else counts. */
extern char *eduai_gateway_string(const Jsonb *json, const char *key);

/* Copies payload.messages, or a single user message made of payload.prompt. */
extern Jsonb *eduai_gateway_messages(const Jsonb *payload, CallOutcome *outcome);

/* Decodes base64, with or without a data: URL around it; false when it is none. */
extern bool eduai_gateway_base64(const char *text, char **bytes, size_t *length, char **type);

/* Percent-encodes all but unreserved characters. */
extern char *eduai_gateway_url_escape(const char *text);

/* ---- encodings ---- */

/* Looks up the conversion to UTF-8; call inside a transaction, once per process. */
extern void eduai_gateway_encoding_prepare(void);

/* To UTF-8; NULL when the text has no valid form there. */
extern char *eduai_gateway_to_utf8(const char *text);

/* Cut to so many characters, in the server's encoding. */
extern char *eduai_gateway_clip(const char *text, int characters);

/* ---- answers ---- */

/* The bytes as jsonb; NULL, and *why in a few words, when they are no JSON. */
extern Jsonb *eduai_gateway_parse_answer(const char *bytes, size_t length, char **why);

/*
 * The body of a 2xx answer that is JSON without an error in it; else NULL
 * and the outcome says why.  Every adapter's read() begins with it.
 */
extern Jsonb *
eduai_gateway_open_answer(const WireResponse *response, int64 now_unix, CallOutcome *outcome);

extern int64 eduai_gateway_count(const Jsonb *json, const char *key); /* >= 0; 0 when absent */

/* Adds result.usage and result.model from the outcome. */
extern void eduai_gateway_put_usage(EduaiJson *j, const CallOutcome *outcome);

/* When the payload asks for JSON: adds result.json if the text is that. */
extern void eduai_gateway_put_json_text(EduaiJson *j, const Jsonb *payload, const char *text);

/* Did the payload ask for JSON with response_format? */
extern bool eduai_gateway_wants_json(const Jsonb *payload);

/* ---- failures; classify.c ---- */

/*
 * Reads an answer that is none: by its status, or by the error object in its
 * body even under 200.  "body" may be NULL.
 */
extern void eduai_gateway_classify(const WireResponse *response, const Jsonb *body, int64 now_unix,
								   CallOutcome *outcome);

/* Is there an error object in the body, whatever the status? */
extern bool eduai_gateway_has_error(const Jsonb *body);

/*
 * The provider's wish in milliseconds, -1 for none.  Longer than an hour is an
 * hour, and *capped says so.
 */
extern int64 eduai_gateway_retry_after(const char *retry_after_ms, const char *retry_after,
									   int64 now_unix, bool *capped);

/* ---- money; cost.c ---- */

extern bool eduai_gateway_is_negative(Numeric number);

/* What the tokens, pictures and seconds of the outcome cost at the instance. */
extern Numeric eduai_gateway_cost(const Instance *instance, const CallOutcome *outcome);

/* ---- shared between kinds that speak OpenAI's chat ---- */

extern bool
eduai_gateway_openai_chat(const GatewayCall *call, const char *url, const char *limit_name,
						  WireRequest *request, CallOutcome *outcome);
extern bool eduai_gateway_openai_embeddings(const GatewayCall *call, const char *url,
											WireRequest *request, CallOutcome *outcome);
/* Fills file, file_name and file_type from payload.audio. */
extern bool
eduai_gateway_audio(const GatewayCall *call, WireRequest *request, CallOutcome *outcome);

/* The answers' parts that several kinds share; they set result or fail. */
extern void
eduai_gateway_read_embeddings(const GatewayCall *call, const Jsonb *data, CallOutcome *outcome);
extern void eduai_gateway_read_transcript(const Jsonb *body, CallOutcome *outcome);
extern void eduai_gateway_openai_read(const GatewayCall *call, const WireResponse *response,
									  int64 now_unix, CallOutcome *outcome);

extern const Adapter eduai_gateway_openai_adapter;
extern const Adapter eduai_gateway_anthropic_adapter;
extern const Adapter eduai_gateway_openrouter_adapter;
extern const Adapter eduai_gateway_huggingface_adapter;
extern const Adapter eduai_gateway_mock_adapter; /* no build: it needs no request */

#endif
