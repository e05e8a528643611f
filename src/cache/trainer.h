/*
 * trainer.h: dictionaries made of values, by a process of its own.
 *
 * Once a kind has had enough values put, the session that put the last starts
 * a background process that lives for that: it needs no database, reads
 * samples from shared memory, trains on seven eighths of them and publishes
 * what saves a tenth more than plain zstd on the others.  When no process can
 * be had, a later put asks again.
 */
#ifndef EDUAI_CACHE_TRAINER_H
#define EDUAI_CACHE_TRAINER_H

#include "postgres.h"
#include "cache/store_internal.h"

/* Puts of a kind before the first training, and after a failed start. */
#define TRAINER_FIRST 200
#define TRAINER_AGAIN 100

/* Under the writer lock, after a put: is it time?  Says so once. */
extern bool eduai_cache_trainer_due(CacheShelf *shelf);

/* Starts the process for a kind; outside locks. */
extern void eduai_cache_trainer_start(Oid database, const char *kind);

#endif
