/*
 * eduai.c: loads the library: one ordered list of rooms.
 */
#include "postgres.h"

#include "cache/cache.h"
#include "core/core.h"
#include "events/events.h"
#include "fmgr.h"
#include "gateway/gateway.h"
#include "privacy/privacy.h"
#include "projections/projections.h"
#include "queue/queue.h"
#include "ratelimit/ratelimit.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

void _PG_init(void);

void
_PG_init(void)
{
	eduai_core_init();
	eduai_events_init();
	eduai_projections_init();
	eduai_queue_init();
	eduai_ratelimit_init();
	eduai_gateway_init();
	eduai_cache_init();
	eduai_privacy_init();
	MarkGUCPrefixReserved("eduai");
}
