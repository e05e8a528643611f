/*
 * stream_page.h: pages of the directory of compacted streams.
 *
 * A row for each stream would cost more than the blocks: most learners have
 * few events.  A page lists the streams from its first one to the next page's,
 * sorted, each with the blocks that hold it, and is rewritten as a whole.
 *
 * A page's bytes: a version byte, the number of entries, and for each entry
 * the bytes shared with the name before, the length and bytes of the rest, the
 * length of the refs, and refs.  A ref is the segment less the one before, the
 * block and how many versions it covers, from where the last ref ended.
 * All numbers are varints.
 */
#ifndef EDUAI_EVENTS_STREAM_PAGE_H
#define EDUAI_EVENTS_STREAM_PAGE_H

#include "postgres.h"
#include "events/block_column.h"

#define EDUAI_PAGE_VERSION 1

typedef struct EduaiStreamRef
{
	int segment;
	int block;
	int64 first; /* version */
	int64 count;
} EduaiStreamRef;

/* An entry as it stands in a page. */
typedef struct EduaiStreamEntry
{
	EduaiSlice name;
	EduaiSlice refs;
} EduaiStreamEntry;

/*
 * Finds a stream; false when the page does not list it.  entry->refs points
 * into the page.  Raises XX001 for a damaged page, as all that reads does.
 */
extern bool
eduai_events_page_find(const bytea *page, const EduaiSlice *name, EduaiStreamEntry *entry);

/* All entries; the names are copies, the refs point into the page. */
extern EduaiStreamEntry *eduai_events_page_entries(const bytea *page, int *n);

/* The refs of an entry, in order of version. */
extern EduaiStreamRef *eduai_events_page_refs(const EduaiSlice *refs, int *n);

/* The bytes of refs; "first" is implied. */
extern EduaiSlice eduai_events_page_pack_refs(const EduaiStreamRef *refs, int n);

/* A page of sorted entries. */
extern bytea *eduai_events_page_make(const EduaiStreamEntry *entries, int n);

#endif
