/*
 * pace.c: background work that leaves the processors to those who want them.
 * See pace.h.
 *
 * Processors cannot be asked for less by nice(): each backend is a session of
 * its own, and Linux weighs sessions against each other before processes.
 */
#include "postgres.h"

#include <time.h>

#include "core/clock.h"
#include "core/pace.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/guc.h"

#define WORK_US     5000   /* between rests */
#define LONGEST_US  200000 /* a rest */
#define NAP_MS      20     /* between looks at whether somebody waits */
#define MUCH_WAITED 0.25   /* of the time: others want all there is */
#define MEMORY      0.8 /* of what was waited before: schedulers give more than one turn at once */

static int share_percent = 20;

static bool pacing = false;
static bool (*hurry)(const void *arg) = NULL;
static const void *hurry_arg = NULL;
static int64 began_us; /* this work */
static int64 began_cpu_us;
static double waited; /* the share of the time, of late */

int64
eduai_core_pace_rest_us(int64 worked_us, double share_waited, int percent)
{
	double want = Min(share_waited / MUCH_WAITED, 1.0);
	double rest = (double) worked_us * (100 - percent) / percent * want;

	return (int64) Min(rest, (double) LONGEST_US);
}

static int64
cpu_us(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) != 0)
		return 0;
	return (int64) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void
begin_work(void)
{
	began_us = eduai_core_mono_us();
	began_cpu_us = cpu_us();
}

void
eduai_core_pace_begin(bool (*in_hurry)(const void *arg), const void *arg)
{
	pacing = true;
	hurry = in_hurry;
	hurry_arg = arg;
	/* others are taken to want the processors until it shows that they do not */
	waited = MUCH_WAITED;
	begin_work();
}

static void
rest(int64 until_us)
{
	int64 left;

	while ((left = until_us - eduai_core_mono_us()) > 0 && !(hurry && hurry(hurry_arg)))
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min((long) (left / 1000) + 1, NAP_MS), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
eduai_core_pace(void)
{
	int64 now_us;
	int64 worked_us;
	double part;
	int64 rest_us;

	if (!pacing || (now_us = eduai_core_mono_us()) - began_us < WORK_US)
		return;
	worked_us = cpu_us() - began_cpu_us;
	part = 1.0 - (double) worked_us / (double) (now_us - began_us);
	waited = MEMORY * waited + (1 - MEMORY) * Max(part, 0);
	rest_us = eduai_core_pace_rest_us(worked_us, waited, share_percent);
	if (rest_us >= 1000)
		rest(now_us + rest_us);
	begin_work();
}

void
eduai_core_pace_init(void)
{
	DefineCustomIntVariable("eduai.maintenance_share",
							"The percentage of a processor that background jobs take where others "
							"want it.",
							"Where nobody does they work all the time. 100: everywhere.",
							&share_percent, 20, 1, 100, PGC_SIGHUP, 0, NULL, NULL, NULL);
}
