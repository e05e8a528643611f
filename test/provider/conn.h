/*-------------------------------------------------------------------------
 * conn.h
 *		Connections: reading requests, sending answers on time.
 *-------------------------------------------------------------------------
 */
#ifndef SIM_CONN_H
#define SIM_CONN_H

#include <event2/event.h>

/* Takes a non-blocking socket and serves it until either side closes. */
extern void conn_start(struct event_base *base, int fd);

#endif /* SIM_CONN_H */
