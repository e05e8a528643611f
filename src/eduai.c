/*
 * eduai.c: loads the library: one ordered list of rooms.
 */
#include "postgres.h"

#include "core/core.h"
#include "events/events.h"
#include "fmgr.h"
#include "gateway/gateway.h"
#include "projections/projections.h"
#include "queue/queue.h"
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
	eduai_gateway_init();
	MarkGUCPrefixReserved("eduai");
}
