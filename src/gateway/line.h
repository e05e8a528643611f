/*
 * line.h: where calls wait for a place among the running transfers.
 *
 * There is a line per host, so that calls to one that is slow to answer cannot
 * keep those to others waiting: hosts take turns.  A host that is a name has
 * at most 32 transfers of which it is not known yet where they go: libcurl
 * looks each of them up in a thread of its own.
 *
 * Nothing but eduai_gateway_line_join() allocates, and nothing raises once it
 * has returned: the rest may be called from libcurl's callbacks.
 */
#ifndef EDUAI_GATEWAY_LINE_H
#define EDUAI_GATEWAY_LINE_H

#include "gateway/exchange.h"

/* At the end of its host's line. */
extern void eduai_gateway_line_join(Transfer *t);

/* Out of the line, without a turn. */
extern void eduai_gateway_line_leave(Transfer *t);

/* Whose turn it is, taken out of the line; NULL when none may start now. */
extern Transfer *eduai_gateway_line_next(void);

/* The host's address is known, or the transfer has ended.  Again is harmless. */
extern void eduai_gateway_line_resolved(Transfer *t);

/* Are these base URLs of one host and port? */
extern bool eduai_gateway_line_is_same_host(const char *base_url, const char *other);

#endif
