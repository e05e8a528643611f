/*
 * sse.h: server-sent events out of bytes that come in any pieces.
 *
 * As the WHATWG's HTML standard parses an event stream ("9.2.6 Interpreting an
 * event stream"): lines end with CR, LF or CRLF, a leading BOM is skipped,
 * comments are, data lines are joined by LF, an event whose blank line never
 * came is none.  "id" and "retry" are for reconnecting, which is not done here.
 *
 * Pure, malloc'ed, bounded; never raises.
 */
#ifndef EDUAI_GATEWAY_SSE_H
#define EDUAI_GATEWAY_SSE_H

#include "gateway/bytes.h"

/*
 * An event, its name empty where it has none.  False: no more is wanted.  Its
 * bytes are valid during the call only.
 */
typedef bool (*SseEvent)(void *arg, const char *name, const char *data, size_t length);

typedef enum SseResult
{
	SSE_OK,
	SSE_UNWANTED, /* the event's receiver has enough */
	SSE_TOO_LONG, /* an event or a line longer than max */
	SSE_NO_MEMORY
} SseResult;

#define SSE_NAME_ROOM 64 /* names that are longer are cut */

/* Zeroed, but for max, before the first byte.  The owner frees. */
typedef struct Sse
{
	size_t max;
	Bytes line; /* what has come of one */
	Bytes data; /* of the event, each line behind an LF */
	char name[SSE_NAME_ROOM];
	bool has_data;
	bool after_cr; /* an LF that follows belongs to it */
	bool begun;    /* a line has ended: no BOM any more */
} Sse;

/* Not again after anything but SSE_OK. */
extern SseResult
eduai_gateway_sse_feed(Sse *sse, const char *bytes, size_t n, SseEvent event, void *arg);
extern void eduai_gateway_sse_free(Sse *sse);

#endif
