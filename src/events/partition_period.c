/*
 * partition_period.c: the periods of the partitions.  See partition_period.h.
 */
#include "postgres.h"

#include "events/partition_period.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

typedef enum IntervalKind
{
	INTERVAL_DAY,
	INTERVAL_WEEK,
	INTERVAL_MONTH,
} IntervalKind;

static const struct config_enum_entry interval_options[] = {
	{"day", INTERVAL_DAY, false},
	{"week", INTERVAL_WEEK, false},
	{"month", INTERVAL_MONTH, false},
	{NULL, 0, false},
};

static int partition_interval = INTERVAL_WEEK;

void
eduai_events_period_init(void)
{
	DefineCustomEnumVariable(
		"eduai.partition_interval", "The period of one partition of the log of events.",
		"An append looks through the partitions that are not compacted yet: choose \"day\" where "
		"millions of events come in a day, \"month\" where few do. It takes effect with the next "
		"partition.",
		&partition_interval, INTERVAL_WEEK, interval_options, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/* Whole days since 2000-01-01, rounded down. */
static int
day_of(TimestampTz at)
{
	int64 day = at / USECS_PER_DAY;

	return (int) (at % USECS_PER_DAY < 0 ? day - 1 : day);
}

static TimestampTz
time_of_day(int day)
{
	return (TimestampTz) day * USECS_PER_DAY;
}

void
eduai_events_period(TimestampTz at, TimestampTz *lower, TimestampTz *upper)
{
	int day = day_of(at);
	int first = day;
	int last = day + 1;

	if (partition_interval == INTERVAL_WEEK)
	{
		/* 2000-01-03 was a Monday */
		int weekday = (day - 2) % 7;

		first = day - (weekday < 0 ? weekday + 7 : weekday);
		last = first + 7;
	}
	else if (partition_interval == INTERVAL_MONTH)
	{
		int year;
		int month;
		int mday;

		j2date(day + POSTGRES_EPOCH_JDATE, &year, &month, &mday);
		first = date2j(year, month, 1) - POSTGRES_EPOCH_JDATE;
		last = date2j(month == 12 ? year + 1 : year, month == 12 ? 1 : month + 1, 1) -
			   POSTGRES_EPOCH_JDATE;
	}
	*lower = time_of_day(first);
	*upper = time_of_day(last);
}

TimestampTz
eduai_events_period_before(TimestampTz upper)
{
	TimestampTz lower;

	eduai_events_period(upper - 1, &lower, &upper);
	return lower;
}

static void
date_of(TimestampTz at, int *year, int *month, int *mday)
{
	j2date(day_of(at) + POSTGRES_EPOCH_JDATE, year, month, mday);
}

void
eduai_events_period_name(TimestampTz lower, char *name, Size size)
{
	int year;
	int month;
	int mday;

	date_of(lower, &year, &month, &mday);
	snprintf(name, size, "event_p%04d%02d%02d", year, month, mday);
}

char *
eduai_events_period_text(TimestampTz bound)
{
	int year;
	int month;
	int mday;

	date_of(bound, &year, &month, &mday);
	return psprintf("%04d-%02d-%02d 00:00:00+00", year, month, mday);
}
