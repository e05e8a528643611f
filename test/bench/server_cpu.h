/*
 * server_cpu.h: the processor time of a server's processes, by what they are.
 *
 * For a server on this machine, by the scheduler's account.  A process counts
 * as what its title says, such as "autovacuum worker"; what one that has ended
 * used after the last sample is lost.
 */
#ifndef BENCH_SERVER_CPU_H
#define BENCH_SERVER_CPU_H

#include <libpq-fe.h>

extern void server_cpu_open(PGconn *db);
extern void server_cpu_sample(void);
/* Seconds, up to the last sample, of all whose title has these words in it. */
extern double server_cpu(const char *words);
/* The same of one of them. */
extern double server_cpu_of(int pid);

#endif
