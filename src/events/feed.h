/*
 * feed.h: reading a tenant's events in the order of their positions.
 */
#ifndef EDUAI_EVENTS_FEED_H
#define EDUAI_EVENTS_FEED_H

#include "postgres.h"
#include "events/record.h"
#include "utils/array.h"
#include "utils/snapshot.h"

/* What a reader wants to see; all NULL (0 for members) for everything. */
typedef struct EduaiFeedFilter
{
	char **event_types; /* NULL: all */
	int ntypes;
	const char *category; /* NULL: all */
	int members;          /* 0 or 1: all streams; else those of one member */
	int member;
} EduaiFeedFilter;

/*
 * How far a reader may go, and the snapshot in which everything up to there
 * is visible.  Under READ COMMITTED a fresh one; otherwise the transaction's.
 */
typedef struct EduaiFeedView
{
	int64 through;
	Snapshot snapshot; /* registered */
} EduaiFeedView;

extern EduaiFeedView eduai_events_feed_open(const char *tenant);
extern void eduai_events_feed_close(EduaiFeedView *view);

/*
 * Feeds the sink the events after "after" that pass the filter, at most
 * limit, in order.  *scanned becomes the position up to which all was looked
 * at: that of the last event fed when limit was reached or the sink stopped
 * it, else view->through.  Returns how many were fed.
 */
extern int64 eduai_events_feed_read(const EduaiFeedView *view, const char *tenant, int64 after,
									const EduaiFeedFilter *filter, int64 limit,
									EduaiRecordSink sink, void *arg, int64 *scanned);

/* How many events of the tenant lie in after < position <= through. */
extern int64
eduai_events_feed_count(const EduaiFeedView *view, const char *tenant, int64 after, int64 through);

/* The names in an array argument; raises 22004, 22023, 2202E. */
extern char **eduai_events_type_names(ArrayType *array, int *n);

/* Which of n members a stream belongs to; stable for ever. */
extern int eduai_events_member_of(const char *stream, size_t length, int members);

#endif
