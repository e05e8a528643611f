/*
 * partition_period.h: the periods of the partitions, on the calendar of UTC.
 */
#ifndef EDUAI_EVENTS_PARTITION_PERIOD_H
#define EDUAI_EVENTS_PARTITION_PERIOD_H

#include "postgres.h"
#include "datatype/timestamp.h"

/* Defines eduai.partition_interval. */
extern void eduai_events_period_init(void);

/* The day, week (from Monday) or month that a time lies in. */
extern void eduai_events_period(TimestampTz at, TimestampTz *lower, TimestampTz *upper);

/* The start of the period that ends at (or around) "upper". */
extern TimestampTz eduai_events_period_before(TimestampTz upper);

/* "event_p20260907" for a period that starts then. */
extern void eduai_events_period_name(TimestampTz lower, char *name, Size size);

/* "2026-09-07 00:00:00+00": a bound, for SQL; palloc'd. */
extern char *eduai_events_period_text(TimestampTz bound);

#endif
