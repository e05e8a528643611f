/*
 * budget_period.c: from a time to the period that it is in.  See budget_period.h.
 */
#include "postgres.h"

#include "core/clock.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "gateway/budget_period.h"
#include "utils/builtins.h"
#include "miscadmin.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(eduai_budget_period);

#define SHORTEST    USECS_PER_MINUTE
#define MOST_MONTHS 120
#define MOST_DAYS   3660
#define MONDAY      (POSTGRES_EPOCH_JDATE + 2) /* 2000-01-03 */

static char *timezone_name = NULL;
static pg_tz *zone_set = NULL;

/* ---- the setting ---- */

static bool
check_timezone(char **name, void **extra, GucSource source)
{
	pg_tz *found = pg_tzset(*name);

	if (found == NULL || !pg_tz_acceptable(found))
	{
		GUC_check_errhint("A name such as \"Europe/Berlin\"; pg_timezone_names lists them.");
		return false;
	}
	return true;
}

static void
assign_timezone(const char *name, void *extra)
{
	zone_set = pg_tzset(name);
}

void
eduai_gateway_budget_period_init(void)
{
	DefineCustomStringVariable("eduai.timezone", "The time zone of days, weeks and months.",
							   "Budgets begin anew at its midnights.", &timezone_name, "UTC",
							   PGC_SIGHUP, 0, check_timezone, assign_timezone, NULL);
}

pg_tz *
eduai_gateway_budget_timezone(void)
{
	return zone_set;
}

const char *
eduai_gateway_budget_timezone_name(void)
{
	return timezone_name;
}

/* ---- lengths ---- */

/* whatever the session's IntervalStyle */
char *
eduai_gateway_budget_per_words(const Interval *per)
{
	struct pg_itm itm;
	char words[MAXDATELEN + 1];

	interval2itm(*per, &itm);
	EncodeInterval(&itm, INTSTYLE_POSTGRES, words);
	return pstrdup(words);
}

static void
refuse(const Interval *per, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid period \"%s\" of a budget", eduai_gateway_budget_per_words(per)),
			 errhint("%s", hint)));
}

Interval
eduai_gateway_budget_check_period(const Interval *per)
{
	Interval kept = *per;

	if (kept.time % USECS_PER_DAY == 0 && kept.time / USECS_PER_DAY <= MOST_DAYS)
	{
		kept.day += (int32) (kept.time / USECS_PER_DAY);
		kept.time = 0;
	}
	if ((kept.month != 0) + (kept.day != 0) + (kept.time != 0) != 1)
		refuse(per, "Give months, days, or hours and minutes: one of them.");
	if (kept.month < 0 || kept.month > MOST_MONTHS || kept.day < 0 || kept.day > MOST_DAYS)
		refuse(per, "A period is at most 10 years long.");
	if (kept.time != 0 && (kept.time < SHORTEST || kept.time > USECS_PER_DAY))
		refuse(per, "A period of hours and minutes is between a minute and a day long.");
	return kept;
}

bool
eduai_gateway_budget_is_local(const Interval *per)
{
	return per->time == 0;
}

/* ---- periods ---- */

static int64
floor_to(int64 value, int64 step)
{
	int64 rest = value % step;

	return value - (rest < 0 ? rest + step : rest);
}

/* midnight of the day with this Julian number, or the first moment after it that exists */
static TimestampTz
midnight(int day, pg_tz *zone)
{
	struct pg_tm tm = {0};
	TimestampTz at;
	int offset;

	j2date(day, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
	offset = DetermineTimeZoneOffset(&tm, zone);
	if (tm2timestamp(&tm, 0, &offset, &at) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
	return at;
}

static BudgetPeriod
of_months(int step, const struct pg_tm *tm, pg_tz *zone)
{
	BudgetPeriod period;
	int month = (int) floor_to((tm->tm_year - 2000) * 12 + tm->tm_mon - 1, step);
	int next = month + step;
	int year = (int) floor_to(month, 12);
	int next_year = (int) floor_to(next, 12);

	period.starts_at = midnight(date2j(2000 + year / 12, month - year + 1, 1), zone);
	period.ends_at = midnight(date2j(2000 + next_year / 12, next - next_year + 1, 1), zone);
	return period;
}

static BudgetPeriod
of_days(int step, const struct pg_tm *tm, pg_tz *zone)
{
	BudgetPeriod period;
	int today = date2j(tm->tm_year, tm->tm_mon, tm->tm_mday) - MONDAY;
	int day = (int) floor_to(today, step) + MONDAY;

	period.starts_at = midnight(day, zone);
	period.ends_at = midnight(day + step, zone);
	return period;
}

BudgetPeriod
eduai_gateway_budget_period(const Interval *per, TimestampTz at, pg_tz *zone)
{
	BudgetPeriod period;
	struct pg_tm tm;
	fsec_t fsec;
	int offset;

	if (per->time != 0)
	{
		period.starts_at = floor_to(at, per->time);
		period.ends_at = period.starts_at + per->time;
		return period;
	}
	if (timestamp2tm(at, &offset, &tm, &fsec, NULL, zone) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
	return per->month != 0 ? of_months(per->month, &tm, zone) : of_days(per->day, &tm, zone);
}

/* budget_period(per, at): for views and tests */
Datum
eduai_budget_period(PG_FUNCTION_ARGS)
{
	Interval per;
	TimestampTz at = PG_ARGISNULL(1) ? eduai_core_now() : PG_GETARG_TIMESTAMPTZ(1);
	BudgetPeriod period;
	Datum values[2];
	bool nulls[2] = {false, false};
	TupleDesc desc;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" cannot be null", "per")));
	per = eduai_gateway_budget_check_period(PG_GETARG_INTERVAL_P(0));
	if (TIMESTAMP_NOT_FINITE(at))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	period = eduai_gateway_budget_period(&per, at, zone_set);
	values[0] = TimestampTzGetDatum(period.starts_at);
	values[1] = TimestampTzGetDatum(period.ends_at);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
