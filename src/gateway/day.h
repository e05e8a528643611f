/*
 * day.h: calendar days of eduai.timezone.
 */
#ifndef EDUAI_GATEWAY_DAY_H
#define EDUAI_GATEWAY_DAY_H

#include "postgres.h"
#include "datatype/timestamp.h"

/* A number for the day (its Julian date), and how much of it is left. */
extern int32 eduai_gateway_day(TimestampTz at, int64 *left_us);

#endif
