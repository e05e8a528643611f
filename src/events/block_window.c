/*
 * block_window.c: reading compacted events in the order of their positions.
 *
 * A segment's positions are spread over all its blocks, so that a page of a
 * replay costs the decoding of a whole segment.  The backend therefore keeps a
 * window: the events of a stretch of positions of one segment, put together
 * in one go, as many as WINDOW_BYTES hold.  The first window of a reader is
 * short, since it may want no more than a page; each that follows on another
 * is longer.
 *
 * A window is used again only when the segment's first row, as the snapshot at
 * hand sees it, has the stamp that it had when the window was made (see
 * EduaiBlockStamp): no rollback, erasure or other snapshot can be mistaken.
 */
#include "postgres.h"

#include "events/block.h"
#include "events/block_table.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#define WINDOW_BYTES (4 * 1024 * 1024)
#define FIRST_REACH  1024 /* events expected in the first window */
#define GROWTH       8
#define MOST_REACH   131072

typedef struct Kept
{
	EduaiRecord record;
	void *chunk; /* what the record points to */
	Size size;
} Kept;

typedef struct Window
{
	MemoryContext context;
	char *tenant;
	EduaiBlockRow segment; /* its first row */
	int64 after;           /* holds all events with after < position <= through */
	int64 through;
	int reach; /* events that it was expected to hold */
	Kept *events;
	int *order; /* of the events by position */
	int n;
	int size;
	Size bytes;
} Window;

/* The backend's last one; NULL while a reader is using it. */
static Window *kept_window = NULL;

/* ---- filling ---- */

static void
drop_after(Window *w, int64 through)
{
	int n = 0;

	w->bytes = 0;
	for (int i = 0; i < w->n; i++)
	{
		if (w->events[i].record.position > through)
		{
			pfree(w->events[i].chunk);
			continue;
		}
		w->events[n] = w->events[i];
		w->bytes += w->events[n++].size;
	}
	w->n = n;
	w->through = through;
}

static void
keep_row(Window *w, const EduaiBlock *block, int row)
{
	EduaiRecord record;
	MemoryContext old;
	Kept *kept;

	eduai_events_block_record(block, w->tenant, row, &record);
	old = MemoryContextSwitchTo(w->context);
	if (w->n == w->size)
	{
		w->size = w->size ? w->size * 2 : FIRST_REACH;
		w->events = w->events ? repalloc_huge(w->events, sizeof(Kept) * w->size)
							  : palloc(sizeof(Kept) * w->size);
	}
	kept = &w->events[w->n++];
	kept->chunk = eduai_events_record_keep(&kept->record, &record, &kept->size);
	kept->size += sizeof(Kept) + sizeof(int);
	w->bytes += kept->size;
	MemoryContextSwitchTo(old);
	while (w->bytes > WINDOW_BYTES && w->n > 1 && w->through > w->after + 1)
		drop_after(w, w->after + (w->through - w->after) / 2);
}

static bool
is_wanted(const Window *w, const EduaiBlock *block, int row)
{
	return block->positions[row] > w->after && block->positions[row] <= w->through;
}

typedef struct Fill
{
	Window *window;
	MemoryContext per_block;
} Fill;

static bool
fill_from(EduaiBlockReader *reader, const EduaiBlockRow *row, void *arg)
{
	Fill *fill = arg;
	Window *w = fill->window;
	MemoryContext old;
	EduaiBlock *block;
	bool whole = false;

	if (row->segment != w->segment.segment)
		return false;
	old = MemoryContextSwitchTo(fill->per_block);
	block = eduai_events_blocks_begin(reader);
	for (int i = 0; i < block->n; i++)
	{
		if (!is_wanted(w, block, i))
			continue;
		if (!whole)
			eduai_events_block_finish(block);
		whole = true;
		keep_row(w, block, i);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(fill->per_block);
	return true;
}

/* How many positions of the segment hold about so many events. */
static int64
positions_for(const EduaiBlockRow *segment, int events)
{
	int64 span = segment->last_position - segment->first_position + 1;

	return Max((int64) ((double) span / MOST_REACH * events), events);
}

/* How many events the window after this one should hold. */
static int
next_reach(const Window *w)
{
	int reach = Min(w->reach, MOST_REACH / GROWTH) * GROWTH;

	if (w->n > 0)
		reach = Min(reach, (int) (0.9 * WINDOW_BYTES / ((double) w->bytes / w->n)));
	return Max(reach, 1);
}

/* A window on the segment from "after" on, in the current context. */
static Window *
make_window(EduaiBlockReader *reader, const char *tenant, const EduaiBlockRow *segment, int64 after,
			int reach)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "eduai window", ALLOCSET_DEFAULT_SIZES);
	Window *w = MemoryContextAllocZero(context, sizeof(Window));
	Fill fill = {w, AllocSetContextCreate(CurrentMemoryContext, "eduai compacted events",
										  ALLOCSET_DEFAULT_SIZES)};
	int64 *positions;

	w->context = context;
	w->tenant = MemoryContextStrdup(context, tenant);
	w->segment = *segment;
	w->reach = reach;
	w->after = Max(after, segment->first_position - 1);
	w->through = Min(w->after + positions_for(segment, reach), segment->last_position);
	eduai_events_blocks_visit(reader, segment->segment, fill_from, &fill);
	MemoryContextDelete(fill.per_block);
	w->after = after;
	positions = MemoryContextAllocHuge(context, sizeof(int64) * (w->n + 1));
	w->order = MemoryContextAllocHuge(context, sizeof(int) * (w->n + 1));
	for (int i = 0; i < w->n; i++)
		positions[i] = w->events[i].record.position;
	eduai_events_sort_rows(positions, w->n, w->order);
	pfree(positions);
	return w;
}

/* ---- keeping ---- */

static void
drop_window(Window *w)
{
	if (w != NULL)
		MemoryContextDelete(w->context);
}

/* The kept window, now the caller's: of the current context, should there be an error. */
static Window *
take_window(void)
{
	Window *w = kept_window;

	kept_window = NULL;
	if (w != NULL)
		MemoryContextSetParent(w->context, CurrentMemoryContext);
	return w;
}

static void
keep_window(Window *w)
{
	drop_window(kept_window);
	kept_window = w;
	if (w != NULL)
		MemoryContextSetParent(w->context, TopMemoryContext);
}

static bool
covers(const Window *w, const char *tenant, int64 after)
{
	return w != NULL && strcmp(w->tenant, tenant) == 0 && after >= w->after && after <= w->through;
}

/* Finds the segment that follows "after": by the window, where that is possible. */
static bool
find_segment(EduaiBlockReader *reader, const Window *w, const char *tenant, int64 after,
			 EduaiBlockRow *segment)
{
	if (covers(w, tenant, after) && after < w->segment.last_position &&
		eduai_events_blocks_first(reader, w->segment.segment, segment) &&
		eduai_events_same_stamp(&segment->stamp, &w->segment.stamp))
		return true;
	return eduai_events_blocks_find(reader, after, segment);
}

/* ---- reading ---- */

typedef struct Output
{
	EduaiRecordSink sink;
	void *arg;
	MemoryContext per_record;
	int64 after;
	int64 through;
	bool stopped;
} Output;

/* The place in order of the first event after a position. */
static int
first_after(const Window *w, int64 after)
{
	int low = 0;
	int high = w->n;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (w->events[w->order[middle]].record.position > after)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static void
put_window(Output *out, const Window *w)
{
	for (int i = first_after(w, out->after); i < w->n && !out->stopped; i++)
	{
		const EduaiRecord *record = &w->events[w->order[i]].record;
		MemoryContext old;

		if (record->position > out->through)
			break;
		CHECK_FOR_INTERRUPTS();
		old = MemoryContextSwitchTo(out->per_record);
		out->stopped = !out->sink(record, out->arg);
		MemoryContextSwitchTo(old);
		MemoryContextReset(out->per_record);
	}
	out->after = Min(w->through, out->through);
}

/* Reads from windows, one after the other; returns the last. */
static Window *
put_events(Output *out, EduaiBlockReader *reader, const char *tenant, Window *w)
{
	EduaiBlockRow segment;
	bool more = find_segment(reader, w, tenant, out->after, &segment);

	while (more && segment.first_position <= out->through)
	{
		bool follows = covers(w, tenant, out->after);

		if (!follows || out->after == w->through ||
			!eduai_events_same_stamp(&segment.stamp, &w->segment.stamp))
		{
			Window *next = make_window(reader, tenant, &segment, out->after,
									   follows ? next_reach(w) : FIRST_REACH);

			drop_window(w);
			w = next;
		}
		put_window(out, w);
		if (out->stopped || out->after >= out->through)
			break;
		if (out->after >= segment.last_position)
			more = eduai_events_blocks_first(reader, segment.segment + 1, &segment);
	}
	return w;
}

bool
eduai_events_block_feed(const char *tenant, int64 after, int64 through, Snapshot snapshot,
						EduaiRecordSink sink, void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context =
		AllocSetContextCreate(caller, "eduai compacted events", ALLOCSET_DEFAULT_SIZES);
	Output out = {sink, arg, .after = after, .through = through};
	EduaiBlockReader *reader;
	Window *w;

	MemoryContextSwitchTo(context);
	out.per_record =
		AllocSetContextCreate(context, "eduai compacted event", ALLOCSET_DEFAULT_SIZES);
	reader = eduai_events_blocks_open(tenant, snapshot);
	w = put_events(&out, reader, tenant, take_window());
	eduai_events_blocks_close(reader);
	/* who has read to the end goes on with hot events */
	if (!out.stopped)
	{
		drop_window(w);
		w = NULL;
	}
	keep_window(w);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return !out.stopped;
}
