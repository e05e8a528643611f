/*
 * order_runs.h: the runs of an order row as bytes.
 *
 * For each run: the number of the stream among those the row named before,
 * counted from 1, or 0 and then the length and the bytes of a new one; the
 * first version; the count.  All numbers are base-128 varints.
 */
#ifndef EDUAI_EVENTS_ORDER_RUNS_H
#define EDUAI_EVENTS_ORDER_RUNS_H

#include "postgres.h"
#include "events/order.h"
#include "lib/stringinfo.h"

/* A row names at most as many streams as it has events. */
#define EDUAI_RUNS_NAMES 1024

typedef struct EduaiRunsBuilder
{
	StringInfoData bytes; /* begins with room for a varlena header */
	const char **names;   /* by number, from 1 */
	int nnames;
	int16 *places; /* open addressing: numbers of names; NULL while names are few */
	int events;
} EduaiRunsBuilder;

/* Names added must live until runs_finish(). */
extern void eduai_events_runs_begin(EduaiRunsBuilder *builder);
extern void
eduai_events_runs_add(EduaiRunsBuilder *builder, const char *stream, int64 version, int count);
/* The value; the builder is to be begun again before its next use. */
extern bytea *eduai_events_runs_finish(EduaiRunsBuilder *builder);

/*
 * Feeds the sink the runs; the first has position "first", and together they
 * count "events".  Returns false when the sink stopped it.  Raises XX001 for
 * bytes that are not what runs_finish() gave.
 */
extern bool
eduai_events_runs_read(const bytea *runs, int64 first, int events, EduaiRunSink sink, void *arg);

#endif
