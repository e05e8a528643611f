/*
 * stream_internal.h: what the dialects of stream.h share.
 *
 * Values are kept as they were written, escapes and all: a string's deltas are
 * put one behind the other without decoding, so that even the halves of a
 * surrogate pair that came apart meet again.  Only the visible text is decoded.
 *
 * Functions that return false have set stream->end.  What did not fit is left out
 * whole, so that what is kept can still be put together.
 */
#ifndef EDUAI_GATEWAY_STREAM_INTERNAL_H
#define EDUAI_GATEWAY_STREAM_INTERNAL_H

#include "gateway/bytes.h"
#include "gateway/scan.h"
#include "gateway/sse.h"
#include "gateway/stream.h"

typedef struct StreamParser
{
	void *(*new)(void); /* NULL: out of memory */
	void (*free)(void *state);
	/* an event whose data is "json"; false: the stream ended in failure */
	bool (*event)(Stream *stream, const char *name, JsonSlice json);
	/* puts the body together out of the state */
	bool (*assemble)(Stream *stream);
} StreamParser;

struct Stream
{
	const StreamParser *parser;
	void *state; /* the parser's */
	Sse sse;
	size_t max_body;
	size_t kept;  /* bytes of all that is kept of the answer */
	uint64 bytes; /* fed */
	StreamEnd end;
	bool begun;
	bool over;  /* [DONE] or its like: what follows is nothing */
	Bytes text; /* decoded */
	int high;   /* a high surrogate at the end of the text waits for its other half; 0: none */
	Bytes body;
};

extern const StreamParser eduai_gateway_stream_openai;
extern const StreamParser eduai_gateway_stream_anthropic;

/* Ends the stream; returns false. */
extern bool eduai_gateway_stream_fail(Stream *stream, StreamEnd end);

/* Keeps bytes of the answer, within the stream's bound. */
extern bool eduai_gateway_stream_keep(Stream *stream, Bytes *bytes, const char *more, size_t n);
extern bool eduai_gateway_stream_keep_slice(Stream *stream, Bytes *bytes, JsonSlice slice);

/* Instead of what is kept, but for null and what is absent. */
extern bool eduai_gateway_stream_keep_last(Stream *stream, Bytes *bytes, JsonSlice value);
/* Behind what is kept and a comma: the inside of an array grows. */
extern bool eduai_gateway_stream_keep_element(Stream *stream, Bytes *bytes, JsonSlice element);

/* Keeps what is between a string's quotes; anything else is nothing. */
extern bool eduai_gateway_stream_keep_string(Stream *stream, Bytes *bytes, JsonSlice value);

/* Decodes the inside of a string into "bytes"; see Stream.high for *high. */
extern bool eduai_gateway_stream_decode(Stream *stream, Bytes *bytes, int *high, JsonSlice inside);

/* The same, into the visible text. */
extern bool eduai_gateway_stream_show(Stream *stream, JsonSlice inside);

/* The answer is an error: the body is that event. */
extern bool eduai_gateway_stream_error(Stream *stream, const char *name, JsonSlice json);

/* ---- assembling: appends to the body ---- */

extern bool eduai_gateway_stream_put(Stream *stream, const char *text);
extern bool eduai_gateway_stream_put_bytes(Stream *stream, const Bytes *bytes);
extern bool eduai_gateway_stream_put_slice(Stream *stream, JsonSlice slice);

/* ,"key": -- without the comma behind an opening bracket */
extern bool eduai_gateway_stream_put_key(Stream *stream, const char *key);
/* ,"key":value -- as it was written; nothing when it is empty */
extern bool eduai_gateway_stream_put_value(Stream *stream, const char *key, const Bytes *value);
/* ,"key":"string" */
extern bool eduai_gateway_stream_put_string(Stream *stream, const char *key, const Bytes *inside);

#endif
