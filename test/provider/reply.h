/*-------------------------------------------------------------------------
 * reply.h
 *		The bytes of an answer, and when and how they leave.
 *
 * out holds head and body as they go on the wire.  It leaves in parts, one
 * at ends[0], ends[1], ... (all of it in one part when nends is 0): the
 * first after due_us, each other step_us after the one before it.  At
 * offset pad_at, the block pad is sent pad_left times in between: that is
 * how bodies of any size cost no memory.
 *
 * The connection owns the Reply and its memory; pad is static.
 *-------------------------------------------------------------------------
 */
#ifndef SIM_REPLY_H
#define SIM_REPLY_H

#include "exchange.h"

typedef enum After
{
	AFTER_KEEP,  /* wait for the next request */
	AFTER_CLOSE, /* once the client has read all of it */
	AFTER_HANG,  /* do nothing until the client leaves */
	AFTER_CUT,   /* close in the middle of an answer */
	AFTER_RESET  /* the same with a RST */
} After;

typedef struct Reply
{
	Buf out;
	size_t *ends;
	size_t nends;
	int64_t due_us;
	int64_t step_us;
	size_t pad_at;
	const char *pad;
	size_t pad_len;
	uint64_t pad_left;
	After after;
	uint64_t seq; /* in the journal, 0 when it is not there */
} Reply;

/* Answer a provider's request; journals it. */
extern void answer_request(const Request *request, Reply *reply);

/* Refuse requests without this key; NULL takes any. */
extern void answer_set_key(const char *key);

/* Put the finished exchange on the wire, with the faults asked for. */
extern void frame_answer(Exchange *x, Reply *reply);

/* A plain answer in one piece. */
extern void
frame_simple(Reply *reply, int status, const char *content_type, Slice body, bool keep_alive);

extern bool control_handles(const Request *request);
extern void control_request(const Request *request, Reply *reply);

#endif /* SIM_REPLY_H */
