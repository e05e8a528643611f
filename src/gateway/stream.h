/*
 * stream.h: answers that come in pieces (server-sent events).
 *
 * Pure, and fit for libcurl's callbacks: malloc'ed, bounded, never raises.
 * What the events say is put together into the body that the same call would
 * have had without streaming, so that an adapter reads both alike; the partial
 * text is at hand meanwhile.
 *
 * The result depends on the bytes alone, not on the pieces they came in.
 */
#ifndef EDUAI_GATEWAY_STREAM_H
#define EDUAI_GATEWAY_STREAM_H

#include "postgres.h"

typedef struct Stream Stream;

typedef enum StreamDialect
{
	STREAM_NONE,     /* the answer is not a stream */
	STREAM_OPENAI,   /* chat.completion.chunk, [DONE] */
	STREAM_ANTHROPIC /* message_start .. message_stop */
} StreamDialect;

typedef enum StreamEnd
{
	STREAM_OPEN,      /* no end was seen: the body is what there was of it */
	STREAM_FINISHED,  /* a finish reason, with or without [DONE] */
	STREAM_ERROR,     /* an error event: the body is that error */
	STREAM_MALFORMED, /* an event that is not what the dialect has */
	STREAM_TOO_LARGE,
	STREAM_NO_MEMORY
} StreamEnd;

/*
 * max_body bounds the assembled body and each event; all the bytes together
 * may be EDUAI_STREAM_OVERHEAD times as many, for each token brings a frame.
 */
#define EDUAI_STREAM_OVERHEAD 64

extern Stream *
eduai_gateway_stream_new(StreamDialect dialect, size_t max_body); /* NULL: out of memory */
extern void eduai_gateway_stream_free(Stream *stream);

/* False: no more is wanted, it can only be a failure. */
extern bool eduai_gateway_stream_feed(Stream *stream, const char *bytes, size_t n);

/* Has an event come that is more than a sign of life? */
extern bool eduai_gateway_stream_begun(const Stream *stream);

extern StreamEnd eduai_gateway_stream_end(const Stream *stream);

/*
 * The assembled body, owned by the stream and valid until the next feed; what
 * there is of it when the stream has not ended.  Assembling may itself find
 * the stream malformed or too large: ask for the end afterwards.
 */
extern const char *eduai_gateway_stream_body(Stream *stream, size_t *length);

/*
 * The text so far: UTF-8, not NUL-terminated, whole characters (but for bytes
 * that never were any), nothing taken back later; valid until the next feed.
 */
extern const char *eduai_gateway_stream_text(const Stream *stream, size_t *length);

#endif
