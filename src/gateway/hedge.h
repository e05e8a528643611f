/*
 * hedge.h: second calls for critical chats of which nothing has come yet.
 *
 * An attempt then has two calls, to instances of different providers and
 * hosts: the one that the claim recorded, and the hedge, which is a row of
 * eduai.provider_hedge, committed before its bytes leave.  The answer that is
 * whole first wins, or that speaks first, where it is shown while it comes; the
 * other is given up at once.  A failure waits for the other.  Both are
 * recorded in one transaction, when both have ended: the attempt's outcome, a
 * row of the ledger for each, both reservations settled.
 *
 * A hedge takes a place in flight and tokens at its instance, and money of the
 * budgets, like any call; it takes no slot of the pool, which its attempt has.
 *
 * The two flights of an attempt live and are freed together: the hedge's
 * strings and payload are the first one's.
 */
#ifndef EDUAI_GATEWAY_HEDGE_H
#define EDUAI_GATEWAY_HEDGE_H

#include "gateway/flight.h"
#include "gateway/route.h"

extern void eduai_gateway_hedge_init(void);

/* eduai.hedge_after: 0 for never. */
extern int eduai_gateway_hedge_after_ms;

/*
 * For route(): would a call of that task to that instance be hedged?  NULL in
 * *second: nobody else could be asked.  *most: second calls of a hundred.
 */
extern bool eduai_gateway_hedge_foresee(const RouteDecision *decision, const RouteAsk *ask,
										const Instance **second, int *most);

/* A call leaves: if it is one of those that are hedged, it is watched until it ends. */
extern void eduai_gateway_hedge_watch(Flight *flight);

/* When the next one will have been silent for long enough, monotonic; INT64_MAX: none. */
extern int64 eduai_gateway_hedge_next_us(void);

/*
 * Inside a turn's transaction, before its claims: second calls for those that
 * are due, as far as there is room, money and leave.  Each is asked once.
 */
extern void eduai_gateway_hedge_claim(Fleet *fleet);

/* The transaction failed: as if none had been chosen; they are not asked again. */
extern void eduai_gateway_hedge_forget(void);

/* It committed: they leave.  Returns how many. */
extern int eduai_gateway_hedge_start(void);

/*
 * A call ended, and its instance knows: what is to be recorded now, the
 * partner with it.  NULL: the other call of its attempt still flies.
 */
extern Flight *eduai_gateway_hedge_ended(Flight *flight);

/* Gives up those whose partner speaks.  After the transfers were looked at. */
extern void eduai_gateway_hedge_listen(void);

/* ---- records; in a transaction, SPI connected, as the owner ---- */

/* These attempts' hedges are in the ledger. */
extern void
eduai_gateway_hedge_delete(char *const *tenants, int64 *task_ids, int32 *attempts, int n);

/* A record that a dispatcher left when it died. */
typedef struct HedgeRecord
{
	char *tenant;
	int64 task_id;
	int attempt;
	char *instance;
	char *provider;
	char *model;
	TimestampTz started_at;
} HedgeRecord;

/* Takes them out of the table, at most "most"; palloc'd. */
extern int eduai_gateway_hedge_take_orphans(int most, HedgeRecord **records);

#endif
