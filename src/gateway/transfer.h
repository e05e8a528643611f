/*
 * transfer.h: many HTTP transfers at once in one process, over libcurl.
 *
 * curl_multi_socket_action; the sockets are in a private epoll descriptor
 * that the worker nests in its WaitEventSet.  No function here touches a
 * transaction, a snapshot or SPI; libcurl's callbacks never raise and never
 * palloc.
 */
#ifndef EDUAI_GATEWAY_TRANSFER_H
#define EDUAI_GATEWAY_TRANSFER_H

#include "gateway/call.h"

/* Once per process.  Returns the descriptor to wait for. */
extern int eduai_gateway_transfer_open(void);

/*
 * Starts a call.  The call and its context belong to the transfer until it is
 * handed back by eduai_gateway_transfer_next(); a call that cannot even start
 * is handed back there too, with its failure.  Calls of a mock provider are
 * answered from its options by a timer, through the same queue.
 */
extern void eduai_gateway_transfer_start(GatewayCall *call);

/*
 * Aborts an attempt's transfers; they are handed back as CALL_CANCELLED.  False
 * when there are none, or they have their outcomes already.
 */
extern bool eduai_gateway_transfer_cancel(int64 task_id, int attempt);

/* The same of this call alone: an attempt may have two (hedge.h). */
extern bool eduai_gateway_transfer_give_up(const GatewayCall *call);

/* Has nothing come of its answer yet?  False when it is unknown or ended. */
extern bool eduai_gateway_transfer_is_silent(const GatewayCall *call);

/* Does text of its answer come? */
extern bool eduai_gateway_transfer_speaks(const GatewayCall *call);

/* Lets libcurl work: what epoll says, due timers, first-byte and stall limits. */
extern void eduai_gateway_transfer_poll(void);

/* Milliseconds until the next timer, -1 when there is none. */
extern long eduai_gateway_transfer_timeout_ms(void);

/*
 * The next finished call and its outcome (allocated in call->context), or
 * NULL.  The caller deletes call->context when it is done with both.
 */
extern GatewayCall *eduai_gateway_transfer_next(CallOutcome **outcome);

/* How many were started and not handed back yet. */
extern int eduai_gateway_transfer_running(void);

/* The transfer of a task that was not handed back: its tenant and newest attempt; false: none. */
extern bool eduai_gateway_transfer_of(int64 task_id, char **tenant, int *attempt);

/* All (task, attempt) that were not handed back, palloc'd, health checks aside; for cancels. */
extern int eduai_gateway_transfer_list(char ***tenants, int64 **task_ids, int **attempts);

#endif
