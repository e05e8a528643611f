/*
 * ratelimit.c: starts the room's parts in their order.
 */
#include "postgres.h"

#include "ratelimit/factor.h"
#include "ratelimit/personal.h"
#include "ratelimit/ratelimit.h"
#include "ratelimit/save.h"
#include "ratelimit/slots.h"
#include "ratelimit/table.h"
#include "ratelimit/tier.h"

void
eduai_ratelimit_init(void)
{
	/* before the table: making it reads the file */
	eduai_ratelimit_save_init();
	eduai_ratelimit_slots_init();
	eduai_ratelimit_table_init();
	eduai_ratelimit_factor_init();
	eduai_ratelimit_tier_init();
	eduai_ratelimit_rate_init();
	eduai_ratelimit_status_init();
	eduai_ratelimit_personal_init();
}
