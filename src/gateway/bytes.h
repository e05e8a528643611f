/*
 * bytes.h: bytes that grow, malloc'ed: for libcurl's callbacks, which may not
 * raise and so not palloc.
 */
#ifndef EDUAI_GATEWAY_BYTES_H
#define EDUAI_GATEWAY_BYTES_H

#include "postgres.h"

/* Zeroed is empty.  The owner frees. */
typedef struct Bytes
{
	char *at; /* NULL while empty */
	size_t length;
	size_t room;
} Bytes;

/* False, and nothing is added: out of memory. */
extern bool eduai_gateway_bytes_add(Bytes *bytes, const char *more, size_t n);
extern void eduai_gateway_bytes_free(Bytes *bytes);

#endif
