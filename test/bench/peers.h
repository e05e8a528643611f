/*
 * peers.h: queues that are programs of another language, as peers of this one.
 *
 * scripts/bench.sh puts test/bench/peers and the packages they need into
 * EDUAI_PEERS; where it could not, there is no peer to run and the benchmark
 * says so.
 */
#ifndef BENCH_PEERS_H
#define BENCH_PEERS_H

#include <stdbool.h>
#include <stdint.h>

extern bool peers_are_here(void);

/* Runs "PROGRAM.mjs arguments" to its end; what it printed, malloc'd; fails when it fails. */
extern char *peer_run(const char *program, const char *arguments);

typedef struct PeerResult
{
	double per_second;
	int64_t finished; /* in all, before and after the time too */
} PeerResult;

/* As many processes of "PROGRAM.mjs arguments", which all start to work at the same time. */
extern PeerResult peer_load(const char *program, const char *arguments, int processes);

#endif
