/*-------------------------------------------------------------------------
 * exchange.h
 *		One request and the answer in the making.
 *
 * The answer's body gathers in body.  A streamed answer is a sequence of
 * events: exchange_end_event() closes one, and each becomes an HTTP chunk.
 * Both buffers are reused by the next request: the answer is framed into
 * the connection's own memory before this one is over.
 *-------------------------------------------------------------------------
 */
#ifndef SIM_EXCHANGE_H
#define SIM_EXCHANGE_H

#include "behaviour.h"
#include "fields.h"
#include "request.h"

typedef enum Api
{
	API_OPENAI,
	API_ANTHROPIC
} Api;

typedef enum BodyKind
{
	BODY_NONE,
	BODY_JSON,
	BODY_MULTIPART
} BodyKind;

typedef struct Exchange Exchange;

typedef struct Endpoint
{
	const char *name; /* in the journal */
	const char *method;
	const char *path; /* without /v1 */
	Api api;
	BodyKind body_kind;
	bool (*check)(Exchange *x);
	void (*write)(Exchange *x);
} Endpoint;

struct Exchange
{
	const Request *request;
	const Endpoint *endpoint;
	const Behaviour *behaviour;
	Fields fields;
	uint64_t seq;
	int status;
	const char *error_code; /* NULL: the status's usual one */
	const char *error_param;
	const char *error_message; /* NULL: the status's usual one */
	const char *content_type;
	bool streamed;
	bool broken_off; /* the stream ended with an error event */
	Buf *body;
	size_t *event_ends;
	size_t nevents;
};

/* What chat and messages have in common. */
typedef struct Content
{
	Slice text; /* raw inside of a JSON string */
	int64_t prompt_tokens;
	int64_t completion_tokens;
	int64_t cached_tokens;    /* included in prompt_tokens */
	int64_t reasoning_tokens; /* included in completion_tokens */
	bool cut_by_max_tokens;
} Content;

#define PIECES_BEFORE_FAULT 2 /* of a stream's text */

extern const Endpoint openai_endpoints[];
extern const Endpoint anthropic_endpoints[];

extern void exchange_end_event(Exchange *x);
extern void exchange_add_heartbeat(Exchange *x);
extern bool
exchange_refuse(Exchange *x, int status, const char *code, const char *param, const char *message);
extern void exchange_write_error(Exchange *x);
extern void exchange_write_error_event(Exchange *x);
extern int exchange_code_status(const char *code);

extern void content_make(Exchange *x, Content *content);
extern bool content_next_piece(const Content *content, Slice *rest, Slice *piece);
extern void content_add_oddities(const Behaviour *behaviour, Buf *out);

extern void control_set_base_url(const char *url);
extern const char *control_base_url(void);

#endif /* SIM_EXCHANGE_H */
