/*
 * varint.h: base-128 numbers, as the order rows and the blocks hold them.
 */
#ifndef EDUAI_EVENTS_VARINT_H
#define EDUAI_EVENTS_VARINT_H

#include "postgres.h"
#include "lib/stringinfo.h"

extern void eduai_events_put_varint(StringInfo out, uint64 value);

/* Reads one and moves *at behind it; false when the bytes end or it has more than 64 bits. */
extern bool
eduai_events_take_varint(const unsigned char **at, const unsigned char *end, uint64 *value);

#endif
