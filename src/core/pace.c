/*
 * pace.c: background work that leaves the processors to those who want them.
 * See pace.h.
 *
 * Processors cannot be asked for less by nice(): each backend is a session of
 * its own, and Linux weighs sessions against each other before processes.
 */
#include "postgres.h"

#include "access/xact.h"
#include "core/clock.h"
#include "core/pace.h"
#include "utils/guc.h"

#define LEAST_US    5000 /* of work, to tell how much of it was waiting */
#define MUCH_WAITED 0.25 /* of the time: others want all there is */

static int share_percent = 10;

static int64 began_us;
static int64 began_processor_us;

void
eduai_core_pace_begin(void)
{
	began_us = eduai_core_mono_us();
	began_processor_us = eduai_core_processor_us();
}

int64
eduai_core_pace_rest_us(void)
{
	int64 took_us = eduai_core_mono_us() - began_us;
	int64 worked_us = eduai_core_processor_us() - began_processor_us;
	double want;

	if (IsTransactionState())
		elog(ERROR, "a rest is asked for in a transaction");
	if (took_us < LEAST_US)
		return 0;
	want = Min((double) Max(took_us - worked_us, 0) / (double) took_us / MUCH_WAITED, 1.0);
	return (int64) ((double) worked_us * (100 - share_percent) / share_percent * want);
}

void
eduai_core_pace_init(void)
{
	DefineCustomIntVariable("eduai.maintenance_share",
							"The percentage of a processor that background jobs take where others "
							"want it.",
							"Where nobody does they work all the time. 100: everywhere.",
							&share_percent, 10, 1, 100, PGC_SIGHUP, 0, NULL, NULL, NULL);
}
