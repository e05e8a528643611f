/*
 * block_erase.c: taking a stream's or a learner's events out of blocks.  See
 * compact.h.
 *
 * A block that holds such events is encoded anew without them, under its
 * number: everything else that the directory says stays true.  A learner can
 * be in any stream, so all blocks of the tenant are looked through; that takes
 * a second for some millions of events.  Positions are not used again, and a
 * stream that keeps other events keeps its versions.
 *
 * The directory names a stream until none of its blocks holds it.  In parts that
 * is looked at after all of them, once for each stream: until then it names
 * blocks that do not hold the stream any more, or are gone, as it does of
 * streams that lost some of their events.
 */
#include "postgres.h"

#include "access/xact.h"
#include "core/clock.h"
#include "core/pause.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "events/block_write.h"
#include "events/compact.h"
#include "events/personal.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

typedef struct Erasure
{
	const char *tenant;
	EduaiSlice user;   /* empty when a stream is erased */
	EduaiSlice stream; /* the stream, or the one that is named after the learner */
	EduaiDictionary *dictionary;
	MemoryContext context; /* of the whole call */
	MemoryContext per_block;
	EduaiSlices emptied; /* streams that lost events, but in parts; sorted only within a block */
	int64 removed;
	int changed_segment; /* has blocks that were replaced, from this one on; -1: none */
	int changed_block;
	EduaiTouched *touched; /* of an erasure in parts; else NULL */
	int segment;           /* the one at hand, and the next block to look at in it */
	int block;
	int64 until_us;
	bool begun; /* a block was looked at: each part gets further */
	bool stopped;
} Erasure;

static EduaiSlice
slice_of(const text *value)
{
	return (EduaiSlice){VARDATA_ANY(value), (int) VARSIZE_ANY_EXHDR(value)};
}

static bool
same(const EduaiSlice *a, const EduaiSlice *b)
{
	return a->length == b->length && memcmp(a->bytes, b->bytes, a->length) == 0;
}

static bool
is_erased(const Erasure *e, const EduaiRecord *record)
{
	EduaiSlice stream = slice_of(record->stream);
	EduaiSlice user;

	if (same(&stream, &e->stream))
		return true;
	if (e->user.length == 0 || record->user_id == NULL)
		return false;
	user = slice_of(record->user_id);
	return same(&user, &e->user);
}

static void
note_stream(Erasure *e, const EduaiRecord *record)
{
	EduaiSlice stream = slice_of(record->stream);
	MemoryContext old;

	if (e->touched != NULL)
		return;
	if (e->emptied.n > 0 && same(&stream, &e->emptied.values[e->emptied.n - 1]))
		return;
	old = MemoryContextSwitchTo(e->context);
	eduai_events_slices_add(&e->emptied, pnstrdup(stream.bytes, stream.length), stream.length);
	MemoryContextSwitchTo(old);
}

/* Whether a blank event has to take the place of an erased one. */
static bool
note(Erasure *e, const EduaiRecord *record)
{
	MemoryContext old;
	bool blank;

	if (e->touched == NULL)
		return false;
	old = MemoryContextSwitchTo(e->context);
	blank = eduai_events_touched_note(e->touched, record);
	MemoryContextSwitchTo(old);
	return blank;
}

/* Touching a segment copies its first block: once for all of its blocks. */
static void
touch_changed(Erasure *e)
{
	if (e->changed_segment >= 0)
		eduai_events_segment_touch(e->tenant, e->changed_segment, e->changed_block);
	e->changed_segment = -1;
}

/* Blocks come in order. */
static void
note_change(Erasure *e, int segment, int block)
{
	if (segment == e->changed_segment)
		return;
	touch_changed(e);
	e->changed_segment = segment;
	e->changed_block = block;
}

/* Writes the block without what is erased; in the context per_block. */
static void
rewrite(Erasure *e, const EduaiBlock *block, int segment, int number)
{
	EduaiRecord *kept = palloc(sizeof(EduaiRecord) * block->n);
	Datum *ids = palloc(sizeof(Datum) * block->n);
	int nkept = 0;
	int nids = 0;
	int changed = 0;
	bytea *body = NULL;

	for (int row = 0; row < block->n; row++)
	{
		EduaiRecord *record = &kept[nkept];

		eduai_events_block_record(block, e->tenant, row, record);
		if (!is_erased(e, record))
		{
			nkept++;
			continue;
		}
		changed++;
		if (note(e, record))
		{
			if (record->id_given)
				ids[nids++] = UUIDPGetDatum(&block->ids[row]);
			eduai_events_record_blank(record);
			nkept++;
			continue;
		}
		if (record->id_given)
			ids[nids++] = UUIDPGetDatum(&block->ids[row]);
		note_stream(e, record);
	}
	if (changed == 0)
		return;
	if (nkept > 0)
	{
		body = eduai_events_block_encode(e->tenant, kept, nkept, e->dictionary);
		eduai_events_block_verify(e->tenant, kept, nkept, body, e->dictionary);
	}
	else
		body = (bytea *) cstring_to_text("");
	eduai_events_block_replace(e->tenant, segment, number, nkept, body);
	note_change(e, segment, number);
	eduai_events_seen_remove(e->tenant, ids, nids);
	e->removed += changed;
}

/* Whether a block may hold something erased: without putting any record together. */
static bool
may_hold(const Erasure *e, const EduaiBlock *block)
{
	for (int row = 0; row < block->n; row++)
	{
		EduaiSlice stream = slice_of(block->runs[block->run_of[row]].stream);
		EduaiSlice user;

		if (same(&stream, &e->stream))
			return true;
		if (e->user.length == 0)
			continue;
		if ((block->flags[row] & EDUAI_SHAPE_USER) == EDUAI_USER_GIVEN)
		{
			if (same(&block->users[row], &e->user))
				return true;
		}
		else if (eduai_events_user_of_stream(block->runs[block->run_of[row]].stream, &user) &&
				 same(&user, &e->user))
			return true;
	}
	return false;
}

static void
erase_from(Erasure *e, EduaiBlock *block, int segment, int number)
{
	if (block != NULL && may_hold(e, block))
		rewrite(e, block, segment, number);
}

static bool
visit(EduaiBlockReader *reader, const EduaiBlockRow *row, void *arg)
{
	Erasure *e = arg;
	MemoryContext old;

	if (row->segment == e->segment && row->block < e->block)
		return true;
	e->stopped = e->begun && eduai_core_mono_us() >= e->until_us;
	e->segment = row->segment;
	e->block = row->block;
	if (e->stopped)
		return false;
	e->begun = true;
	old = MemoryContextSwitchTo(e->per_block);
	erase_from(e, eduai_events_blocks_here(reader), row->segment, row->block);
	MemoryContextSwitchTo(old);
	MemoryContextReset(e->per_block);
	return true;
}

/* Goes through the blocks of a stream; true when one of them still holds it. */
static bool
visit_stream(Erasure *e, EduaiBlockReader *reader, const EduaiSlice *stream, Snapshot snapshot,
			 bool look_only)
{
	int n;
	EduaiStreamRef *refs = eduai_events_directory_refs(e->tenant, stream, snapshot, &n);
	bool holds = false;

	for (int i = 0; i < n && !holds; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(e->per_block);
		EduaiBlock *block = eduai_events_blocks_get(reader, refs[i].segment, refs[i].block);

		if (!look_only)
			erase_from(e, block, refs[i].segment, refs[i].block);
		for (int run = 0; look_only && block != NULL && run < block->nruns; run++)
		{
			EduaiSlice name = slice_of(block->runs[run].stream);

			holds |= same(&name, stream);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(e->per_block);
	}
	return holds;
}

/* A stream that has nothing left must not be named any more. */
static void
forget_stream(Erasure *e, const EduaiSlice *stream)
{
	Snapshot latest = RegisterSnapshot(GetLatestSnapshot());
	EduaiBlockReader *reader = eduai_events_blocks_open(e->tenant, latest);

	CHECK_FOR_INTERRUPTS();
	if (!visit_stream(e, reader, stream, latest, true))
		eduai_events_directory_remove(e->tenant, stream, latest);
	eduai_events_blocks_close(reader);
	UnregisterSnapshot(latest);
}

static void
close_dictionary(void *arg)
{
	eduai_events_dictionary_close(arg);
}

static void
erase_as_owner(Erasure *e, int from)
{
	MemoryContextCallback *callback = palloc(sizeof(MemoryContextCallback));
	Snapshot snapshot;
	EduaiBlockReader *reader;

	(void) eduai_events_compact_lock(e->tenant, false);
	e->dictionary = eduai_events_dictionary_newest(e->tenant);
	if (e->dictionary != NULL)
	{
		*callback = (MemoryContextCallback){close_dictionary, e->dictionary};
		MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	}
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	reader = eduai_events_blocks_open(e->tenant, snapshot);
	if (e->user.length > 0)
		eduai_events_blocks_visit(reader, from, visit, e);
	else
		(void) visit_stream(e, reader, &e->stream, snapshot, false);
	eduai_events_blocks_close(reader);
	UnregisterSnapshot(snapshot);
	touch_changed(e);
	CommandCounterIncrement();
	for (int i = 0; i < e->emptied.n; i++)
		forget_stream(e, &e->emptied.values[i]);
}

static void
make_contexts(Erasure *e)
{
	e->changed_segment = -1;
	e->context =
		AllocSetContextCreate(CurrentMemoryContext, "eduai erasure", ALLOCSET_DEFAULT_SIZES);
	e->per_block = AllocSetContextCreate(e->context, "eduai block", ALLOCSET_DEFAULT_SIZES);
}

static int64
erase(Erasure *e, int from)
{
	MemoryContext old = CurrentMemoryContext;
	EduaiPrivilege saved;

	eduai_core_enter(&saved);
	SPI_connect();
	make_contexts(e);
	MemoryContextSwitchTo(e->context);
	erase_as_owner(e, from);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(e->context);
	SPI_finish();
	eduai_core_leave(&saved);
	MemoryContextSwitchTo(old);
	return e->removed;
}

int64
eduai_events_block_remove(const char *tenant, const char *stream)
{
	Erasure e = {.tenant = tenant, .stream = {stream, (int) strlen(stream)}};

	return erase(&e, 0);
}

int64
eduai_events_block_erase_learner(const char *tenant, const char *user_id)
{
	char *stream = psprintf("learner-%s", user_id);
	Erasure e = {.tenant = tenant,
				 .user = {user_id, (int) strlen(user_id)},
				 .stream = {stream, (int) strlen(stream)},
				 .segment = -1,
				 .until_us = PG_INT64_MAX};

	return erase(&e, 0);
}

int64
eduai_events_block_erase_part(EduaiPersonalWork *work, EduaiTouched *touched, int *segment,
							  int *block)
{
	char *stream = psprintf("learner-%s", work->user_id);
	Erasure e = {.tenant = work->tenant,
				 .user = {work->user_id, (int) strlen(work->user_id)},
				 .stream = {stream, (int) strlen(stream)},
				 .touched = touched,
				 .segment = *segment,
				 .block = *block,
				 .until_us = work->until_us};
	int64 removed = erase(&e, *segment);

	EDUAI_PAUSE("events-erase-written");
	work->more = e.stopped;
	*segment = e.segment;
	*block = e.block;
	return removed;
}

void
eduai_events_block_forget_part(EduaiPersonalWork *work, char *const *streams, int n, int *next)
{
	Erasure e = {.tenant = work->tenant};
	MemoryContext old = CurrentMemoryContext;
	int begin = *next;

	make_contexts(&e);
	MemoryContextSwitchTo(e.context);
	while (*next < n && (*next == begin || eduai_core_mono_us() < work->until_us))
	{
		EduaiSlice stream = {streams[*next], (int) strlen(streams[*next])};

		forget_stream(&e, &stream);
		CommandCounterIncrement();
		(*next)++;
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(e.context);
	work->more = *next < n;
}
