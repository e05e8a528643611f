/*
 * pseudonym.h: the names that an anonymisation gives.
 *
 * A run draws a random key of 256 bits, and a name is the HMAC-SHA256 of what
 * it stands for under that key.  While the run lasts, the same learner gets the
 * same name, in whatever transaction and after whatever crash; when it ends,
 * the key is overwritten and removed, and then nobody can tell, for any id he
 * knows, which name it got: to him the names are random.  No list of who got
 * which name is ever made.
 *
 * The key is in a file of the data directory whose name base backups leave out
 * (they pass over pgsql_tmp*), never in a table, the WAL or a dump.  A standby
 * does not have it: a run that a promotion interrupts goes on with another key.
 */
#ifndef EDUAI_PRIVACY_PSEUDONYM_H
#define EDUAI_PRIVACY_PSEUDONYM_H

#include "postgres.h"

/* 128 bits in hex, with the prefix "anon-", NUL */
#define EDUAI_PSEUDONYM_BYTES 38

/*
 * The key of the tenant's run, found or drawn; *begun when it was drawn now.
 * Raises when the file cannot be read or written.
 */
extern void eduai_privacy_run_open(const char *tenant, bool *begun);
/* Is there one? */
extern bool eduai_privacy_run_open_now(const char *tenant);
/* Overwrites and removes it; does nothing without one. */
extern void eduai_privacy_run_close(const char *tenant);

/* The name of a thing of a kind ('u' learner, 's' stream, 'n' session) in the run last opened. */
extern void
eduai_privacy_pseudonym(const char *tenant, char kind, const char *bytes, int length, char *name);

/* A number that nobody can foretell, for what must be in no order; of the run last opened. */
extern uint64 eduai_privacy_shuffle(const char *name);

#endif
