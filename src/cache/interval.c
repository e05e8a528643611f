/*
 * interval.c: times to live.  See interval.h.
 */
#include "postgres.h"

#include "cache/interval.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define LEAST_US 1000
#define MOST_US  (3653 * USECS_PER_DAY)

int64
eduai_cache_ttl_us(const Interval *ttl)
{
	double us = (double) ttl->time +
				((double) ttl->day + (double) ttl->month * DAYS_PER_MONTH) * USECS_PER_DAY;

	if (!(us >= LEAST_US && us <= (double) MOST_US))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid time to live \"%s\"",
						DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(ttl)))),
				 errhint("Give an interval between 1 millisecond and 10 years.")));
	return (int64) us;
}
