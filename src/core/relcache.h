/*
 * relcache.h: told of relations that changed.
 *
 * A process has ten places for such callbacks, PostgreSQL's own among them:
 * eduai takes one.
 */
#ifndef EDUAI_CORE_RELCACHE_H
#define EDUAI_CORE_RELCACHE_H

#include "postgres.h"

/* relid InvalidOid: any relation may have changed.  Must not raise, allocate or look anything up. */
typedef void (*EduaiRelcacheCallback)(Datum arg, Oid relid);

/* For the life of the process. */
extern void eduai_core_relcache_register(EduaiRelcacheCallback callback);

#endif
