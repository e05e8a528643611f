/*
 * wire.h: calls of a prepared statement without libpq: Bind, Execute and Sync
 * in one write, and the answer read to its end.  What a client costs that is
 * written by hand, as the one for Redis beside it is; a driver that describes
 * a statement once, when it prepares it, sends the same.
 */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <libpq-fe.h>
#include <stddef.h>

typedef struct Wire Wire;

/* On the connection of db, which has prepared the statement; libpq may not use it afterwards. */
extern Wire *open_wire(PGconn *db, const char *statement);

/* Text parameters; the number of rows.  Fails on an error. */
extern int call_wire(Wire *wire, int n, const char *const *values);

/* The length of the column, from 0, of the first row of the last answer; -1: NULL. */
extern int wire_length(const Wire *wire, int column);

#endif
