/*
 * enter.c: entering eduai's own tables.  See enter.h.
 */
#include "postgres.h"

#include "events/enter.h"
#include "utils/guc.h"

void
eduai_events_enter(EduaiPrivilege *saved)
{
	eduai_core_enter(saved);
	/* in the level that enter() opened: leave() and an abort take them back */
	(void) set_config_option("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	(void) set_config_option("plan_cache_mode", "force_generic_plan", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}
