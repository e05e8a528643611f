/*
 * multi.h: libcurl's multi handle, driven by an epoll set of its own.
 */
#ifndef EDUAI_GATEWAY_MULTI_H
#define EDUAI_GATEWAY_MULTI_H

#include "gateway/exchange.h"

/* Once per process; returns the epoll descriptor.  Raises when it cannot. */
extern int eduai_gateway_multi_open(void);

/* How many transfers may run at once: eduai.http_connections, if descriptors allow. */
extern int eduai_gateway_multi_places(void);

/* Hands t->easy to libcurl, and takes it back unfinished. */
extern bool eduai_gateway_multi_add(Transfer *t);
extern void eduai_gateway_multi_remove(Transfer *t);

/* Serves ready sockets and libcurl's timer. */
extern void eduai_gateway_multi_serve(void);

/* The next transfer that libcurl has ended, taken back from it; NULL: none. */
extern Transfer *eduai_gateway_multi_ended(CURLcode *result);

/* When libcurl wants to be served next, monotonic; -1: it does not. */
extern int64 eduai_gateway_multi_timer_us(void);

#endif
