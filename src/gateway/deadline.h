/*
 * deadline.h: the time limits of transfers, on the monotonic clock.
 *
 * A transfer must connect within its instance's connect_ms, see the first byte
 * of the answer's body within first_byte_ms from then, further ones within
 * stall_ms each, and end within its total.  Nothing here allocates or raises;
 * it may be called from libcurl's callbacks.
 */
#ifndef EDUAI_GATEWAY_DEADLINE_H
#define EDUAI_GATEWAY_DEADLINE_H

#include "gateway/exchange.h"

extern void eduai_gateway_deadline_set(Transfer *t, int64 when_us);
extern void eduai_gateway_deadline_clear(Transfer *t);

/* When the transfer must end as things stand, and what to call that. */
extern int64 eduai_gateway_deadline_limit(const Transfer *t, TransferAbort *why);

/* The connection stands, or the body has begun: another limit may hold. */
extern void eduai_gateway_deadline_phase(Transfer *t);

/*
 * A long upload may take longer than the first byte of an answer should.
 * While it proceeds, the answer's time has not begun: true, and it begins now.
 */
extern bool eduai_gateway_deadline_uploading(Transfer *t, int64 now_us);

/* The transfer whose timer rang first, NULL when none has. */
extern Transfer *eduai_gateway_deadline_due(int64 now_us);

/* When the next timer rings, -1 when there is none. */
extern int64 eduai_gateway_deadline_next_us(void);

#endif
