/*
 * adapter.h: one adapter per provider kind.
 *
 * An adapter is pure: it builds bytes from a call and reads bytes into an
 * outcome.  It knows nothing of sockets, transactions or time (the time of
 * day, for HTTP dates, is an argument).  It must not raise: bad
 * payloads and hostile bytes become outcomes.
 */
#ifndef EDUAI_GATEWAY_ADAPTER_H
#define EDUAI_GATEWAY_ADAPTER_H

#include "gateway/call.h"
#include "gateway/fleet.h"
#include "gateway/stream.h"

typedef struct WireRequest
{
	char *url;
	char **headers; /* "Name: value"; the key's header among them: never log */
	int nheaders;
	char *body; /* JSON, UTF-8; NULL, without a file: a GET */
	size_t body_length;
	const char *accept; /* NULL: JSON */
	int64 now_unix;     /* the time of day, for signatures; in */
	/* a multipart upload instead of body, when file or fields are set */
	char *file;
	size_t file_length;
	char *file_name;
	char *file_type;
	char **fields; /* name, value, name, value ... */
	int nfields;
	StreamDialect stream; /* how the answer is read if it is an event stream */
} WireRequest;

typedef struct WireResponse
{
	int http_status;
	const char *body; /* not NUL-terminated */
	size_t body_length;
	/* headers that adapters read; NULL when absent, NUL-terminated */
	const char *retry_after;
	const char *retry_after_ms;
	const char *should_retry; /* x-should-retry */
	const char *content_type;
	const char *request_id;
	/* x-ratelimit-*, anthropic-ratelimit-*: name, value, name, value ...; names in lower case */
	const char *const *limit_headers;
	int nlimit_headers; /* strings, names and values */
} WireResponse;

typedef struct Adapter
{
	const char *kind;
	/* false: the payload cannot be sent; "outcome" says why (CALL_FATAL) */
	bool (*build)(const GatewayCall *call, WireRequest *request, CallOutcome *outcome);
	/* reads a complete response, whatever its status */
	void (*read)(const GatewayCall *call, const WireResponse *response, int64 now_unix,
				 CallOutcome *outcome);
	/* what answers a free GET (a health check), relative to base_url; NULL: none */
	const char *health_path;
} Adapter;

/*
 * What the transfers call: the adapter of the call's provider, guarded.  They
 * run in call->context, raise nothing whatever the bytes, and see to what all
 * kinds share: keys that could not be resolved, the provider's own headers,
 * cost, and messages that are short, legible and without the key.
 */
extern CallOutcome *eduai_gateway_outcome_new(GatewayCall *call);
/*
 * Puts the parents' results into the payload (parents.h), once: call->parents is
 * NULL afterwards; payload_render also what attachments.h has read.  False: the
 * call cannot be made.
 */
extern bool eduai_gateway_parents_render(GatewayCall *call, CallOutcome *outcome);
extern bool eduai_gateway_payload_render(GatewayCall *call, CallOutcome *outcome);
extern bool eduai_gateway_request_build(GatewayCall *call, int64 now_unix, WireRequest *request,
										CallOutcome *outcome);
extern void eduai_gateway_response_read(GatewayCall *call, const WireResponse *response,
										int64 now_unix, CallOutcome *outcome);

/* NULL when there is no such kind over HTTP. */
extern const Adapter *eduai_gateway_adapter(const char *kind);

/* The same for a provider, whose options may ask for another (webhook). */
extern const Adapter *eduai_gateway_adapter_of(const Provider *provider);

/* May "kind" serve the task type? */
extern bool eduai_gateway_kind_serves(const char *kind, const char *task_type);

#endif
