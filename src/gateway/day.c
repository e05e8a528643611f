/*
 * day.c: calendar days.  See day.h.
 */
#include "postgres.h"

#include "gateway/budget_period.h"
#include "gateway/day.h"
#include "pgtime.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#define LOOK_AGAIN_US INT64CONST(10000000) /* the setting may change */

/* The day that "at" is on, and the times at which it begins and ends. */
static int32
day_of(TimestampTz at, TimestampTz *ends)
{
	pg_tz *tz = eduai_gateway_budget_timezone();
	pg_time_t seconds = timestamptz_to_time_t(at);
	struct pg_tm local = *pg_localtime(&seconds, tz);
	struct pg_tm next = {0};
	int32 day = date2j(local.tm_year + 1900, local.tm_mon + 1, local.tm_mday);
	int offset;

	j2date(day + 1, &next.tm_year, &next.tm_mon, &next.tm_mday);
	offset = DetermineTimeZoneOffset(&next, tz);
	if (tm2timestamp(&next, 0, &offset, ends) != 0)
		*ends = at;
	return day;
}

int32
eduai_gateway_day(TimestampTz at, int64 *left_us)
{
	static int32 day;
	static TimestampTz ends = 0;
	static TimestampTz looked_at = 0;

	if (at >= ends || at < looked_at || at >= looked_at + LOOK_AGAIN_US)
	{
		day = day_of(at, &ends);
		looked_at = at;
	}
	*left_us = Max(ends - at, 0);
	return day;
}
