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

/* Parts that are larger than their wholes are cut to them. */
extern void eduai_gateway_bound_usage(CallOutcome *outcome);

/* What the provider says it charged, in USD; NULL when it says nothing credible. */
extern Numeric eduai_gateway_given_cost(const Jsonb *json, const char *key);

/* Adds result.usage and result.model from the outcome. */
extern void eduai_gateway_put_usage(EduaiJson *j, const CallOutcome *outcome);

/* When the payload asks for JSON: adds result.json if the text is that. */
extern void eduai_gateway_put_json_text(EduaiJson *j, const Jsonb *payload, const char *text);

/* Does the instance's model take JSON schemas (option json_schema, true by default)? */
extern bool eduai_gateway_knows_schemas(const Instance *instance);

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

/* ---- rate limits; limit_headers.c ---- */

/* What the limit headers say; -1 where they say nothing. */
extern void
eduai_gateway_read_limits(const WireResponse *response, int64 now_unix, CallLimits *limits);

/* Is it a name (of that length, in any case) that read_limits() looks at? */
extern bool eduai_gateway_is_limit_header(const char *name, size_t length);

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

/* ---- transcription.c ---- */

/* Fills file, file_name and file_type from payload.audio. */
extern bool
eduai_gateway_audio(const GatewayCall *call, WireRequest *request, CallOutcome *outcome);
/* Of a media type: "mp3"; that too for one that is not known. */
extern const char *eduai_gateway_audio_extension(const char *type);
extern bool eduai_gateway_openai_transcription(const GatewayCall *call, const char *url,
											   WireRequest *request, CallOutcome *outcome);
extern bool eduai_gateway_openrouter_transcription(const GatewayCall *call, const char *url,
												   WireRequest *request, CallOutcome *outcome);
extern bool eduai_gateway_huggingface_transcription(const GatewayCall *call, const char *url,
													WireRequest *request, CallOutcome *outcome);
/* A number of seconds, or one in a string; 0 when absent or absurd. */
extern int64 eduai_gateway_seconds_to_ms(const Jsonb *json, const char *key);
extern void eduai_gateway_read_transcript(const Jsonb *body, CallOutcome *outcome);

/* ---- images.c ---- */

extern bool eduai_gateway_openai_images(const GatewayCall *call, const char *url,
										WireRequest *request, CallOutcome *outcome);
extern bool eduai_gateway_huggingface_images(const GatewayCall *call, const char *url,
											 WireRequest *request, CallOutcome *outcome);
/* The most that one picture costs by the option price_image; NULL: nothing. */
extern Numeric eduai_gateway_dearest_image(const Jsonb *options);
extern void
eduai_gateway_read_images(const GatewayCall *call, const Jsonb *body, CallOutcome *outcome);
extern void eduai_gateway_read_image_bytes(const GatewayCall *call, const WireResponse *response,
										   CallOutcome *outcome);
/* Adds result.images of a chat; how many there were, -1 when one is broken. */
extern int eduai_gateway_put_chat_images(EduaiJson *j, const Jsonb *images);

/* ---- embeddings.c ---- */

extern void
eduai_gateway_read_embeddings(const GatewayCall *call, const Jsonb *data, CallOutcome *outcome);

/* ---- openai_read.c ---- */

extern void eduai_gateway_openai_read(const GatewayCall *call, const WireResponse *response,
									  int64 now_unix, CallOutcome *outcome);

/* ---- health checks; adapter_health.c ---- */

/* Where and as whom; the provider's own headers are added as to any request. */
extern void
eduai_gateway_health_request(const GatewayCall *call, const Adapter *adapter, WireRequest *request);
extern void
eduai_gateway_health_read(const WireResponse *response, int64 now_unix, CallOutcome *outcome);

extern void eduai_gateway_anthropic_headers(const Provider *provider, WireRequest *request);
/* https://openrouter.ai alone means its API's usual place. */
extern char *eduai_gateway_openrouter_url(const char *base_url, const char *path);

extern const Adapter eduai_gateway_openai_adapter;
extern const Adapter eduai_gateway_webhook_adapter; /* of kind openai with the option webhook */
extern const Adapter eduai_gateway_anthropic_adapter;
extern const Adapter eduai_gateway_openrouter_adapter;
extern const Adapter eduai_gateway_huggingface_adapter;
extern const Adapter eduai_gateway_mock_adapter; /* no build: it needs no request */

#endif
