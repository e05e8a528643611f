/*
 * relcache.c: one callback of PostgreSQL's for all of eduai's.  See relcache.h.
 */
#include "postgres.h"

#include "core/relcache.h"
#include "utils/inval.h"

#define MAX_CALLBACKS 32

static EduaiRelcacheCallback callbacks[MAX_CALLBACKS];
static int ncallbacks = 0;

static void
on_relcache(Datum arg, Oid relid)
{
	for (int i = 0; i < ncallbacks; i++)
		callbacks[i](arg, relid);
}

void
eduai_core_relcache_register(EduaiRelcacheCallback callback)
{
	if (ncallbacks == MAX_CALLBACKS)
		elog(ERROR, "too many callbacks for changed relations");
	if (ncallbacks == 0)
		CacheRegisterRelcacheCallback(on_relcache, (Datum) 0);
	callbacks[ncallbacks++] = callback;
}
