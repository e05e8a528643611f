/*
 * budget_period.h: the periods that budgets are for.
 *
 * A period is of one unit: months, days, or a fixed length of less than a day.
 * Those of a budget follow each other without gaps: months are counted from
 * January 2000 and begin at midnight, days from Monday, January 3, 2000 (weeks
 * begin on Mondays), both in eduai.timezone; fixed lengths from 2000-01-01
 * 00:00 UTC.  So a day may have 23 or 25 hours, an hour never.
 */
#ifndef EDUAI_GATEWAY_BUDGET_PERIOD_H
#define EDUAI_GATEWAY_BUDGET_PERIOD_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "pgtime.h"

typedef struct BudgetPeriod
{
	TimestampTz starts_at;
	TimestampTz ends_at; /* the start of the next */
} BudgetPeriod;

/* eduai.timezone */
extern void eduai_gateway_budget_period_init(void);
extern pg_tz *eduai_gateway_budget_timezone(void);
extern const char *eduai_gateway_budget_timezone_name(void);

/* In the form that is kept: 24 hours are a day.  Raises 22023 for what is no period. */
extern Interval eduai_gateway_budget_check_period(const Interval *per);

/* For messages. */
extern char *eduai_gateway_budget_per_words(const Interval *per);

/* Do its limits depend on the time zone? */
extern bool eduai_gateway_budget_is_local(const Interval *per);

/* The period that "at" is in.  Pure. */
extern BudgetPeriod
eduai_gateway_budget_period(const Interval *per, TimestampTz at, pg_tz *timezone);

#endif
