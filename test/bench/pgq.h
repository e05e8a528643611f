/*
 * pgq.h: PgQ, a queue of Debian's archive, as a peer.
 */
#ifndef BENCH_PGQ_H
#define BENCH_PGQ_H

#include <libpq-fe.h>
#include <sys/types.h>

/*
 * Makes the queue "bench" and a process that ticks it until it is ended; 0, said
 * on the output, when PgQ is not there.
 */
extern pid_t start_pgq(PGconn *db);

#endif
