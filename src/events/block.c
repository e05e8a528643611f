/*
 * block.c: reading compacted events.  See block.h.
 *
 * A stream's read asks the directory for its blocks and decodes those that
 * overlap the versions wanted.  The feed is in block_window.c.
 */
#include "postgres.h"

#include "events/block.h"
#include "events/block_table.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* What is done with a record, and where its memory comes from. */
typedef struct Output
{
	const char *tenant;
	EduaiRecordSink sink;
	void *arg;
	MemoryContext per_record;
	int64 fed;
	int64 limit;
	bool stopped;
} Output;

static MemoryContext
small_context(void)
{
	return AllocSetContextCreate(CurrentMemoryContext, "eduai compacted events",
								 ALLOCSET_DEFAULT_SIZES);
}

static bool
put_row(Output *out, const EduaiBlock *block, int row, bool with_position)
{
	MemoryContext old = MemoryContextSwitchTo(out->per_record);
	EduaiRecord record;

	CHECK_FOR_INTERRUPTS();
	eduai_events_block_record(block, out->tenant, row, &record);
	if (!with_position)
		record.position = 0;
	out->stopped = !out->sink(&record, out->arg);
	MemoryContextSwitchTo(old);
	MemoryContextReset(out->per_record);
	out->fed++;
	return !out->stopped && out->fed < out->limit;
}

/* ---- streams ---- */

int64
eduai_events_block_version(const char *tenant, const char *stream, Snapshot snapshot)
{
	EduaiSlice name = {stream, (int) strlen(stream)};
	int n;
	EduaiStreamRef *refs = eduai_events_directory_refs(tenant, &name, snapshot, &n);

	return n > 0 ? refs[n - 1].first + refs[n - 1].count - 1 : 0;
}

/* Of the streams that the page may list; returns how many those are. */
static int
versions_of_page(const EduaiDirectoryPage *page, const EduaiSlice *streams, int n, int64 *versions)
{
	EduaiSlice limit = {NULL, 0};
	int nentries = 0;
	EduaiStreamEntry *entries =
		page->body ? eduai_events_page_entries(page->body, &nentries) : NULL;
	int at = 0;
	int i;

	if (page->next)
		limit = (EduaiSlice){VARDATA_ANY(page->next), (int) VARSIZE_ANY_EXHDR(page->next)};
	for (i = 0; i < n && (i == 0 || limit.bytes == NULL ||
						  eduai_events_slice_compare(&streams[i], &limit) < 0);
		 i++)
	{
		int order = -1;
		int nrefs;
		EduaiStreamRef *refs;

		while (at < nentries &&
			   (order = eduai_events_slice_compare(&entries[at].name, &streams[i])) < 0)
			at++;
		versions[i] = 0;
		if (at == nentries || order != 0)
			continue;
		refs = eduai_events_page_refs(&entries[at].refs, &nrefs);
		versions[i] = nrefs > 0 ? refs[nrefs - 1].first + refs[nrefs - 1].count - 1 : 0;
	}
	return i;
}

void
eduai_events_block_versions(const char *tenant, const EduaiSlice *streams, int n, Snapshot snapshot,
							int64 *versions)
{
	MemoryContext per_page = small_context();

	for (int done = 0; done < n;)
	{
		MemoryContext old = MemoryContextSwitchTo(per_page);
		EduaiDirectoryPage page = eduai_events_directory_page(tenant, &streams[done], snapshot);

		CHECK_FOR_INTERRUPTS();
		done += versions_of_page(&page, streams + done, n - done, versions + done);
		MemoryContextSwitchTo(old);
		MemoryContextReset(per_page);
	}
	MemoryContextDelete(per_page);
}

static const EduaiBlockRun *
find_run(const EduaiBlock *block, const EduaiSlice *stream)
{
	for (int i = 0; i < block->nruns; i++)
		if (VARSIZE(block->runs[i].stream) - VARHDRSZ == stream->length &&
			memcmp(VARDATA(block->runs[i].stream), stream->bytes, stream->length) == 0)
			return &block->runs[i];
	return NULL;
}

/* False when no more is wanted. */
static bool
put_run(Output *out, const EduaiBlock *block, const EduaiBlockRun *run, int64 from, int64 to,
		bool backward)
{
	for (int i = 0; i < run->count; i++)
	{
		int row = run->first + (backward ? run->count - 1 - i : i);

		if (block->versions[row] >= from && block->versions[row] <= to &&
			!put_row(out, block, row, false))
			return false;
	}
	return true;
}

int64
eduai_events_block_read(const char *tenant, const char *stream, int64 from, int64 to, bool backward,
						int64 limit, Snapshot snapshot, EduaiRecordSink sink, void *arg)
{
	EduaiSlice name = {stream, (int) strlen(stream)};
	int n;
	EduaiStreamRef *refs = eduai_events_directory_refs(tenant, &name, snapshot, &n);
	Output out = {.tenant = tenant, .sink = sink, .arg = arg, .limit = limit};
	EduaiBlockReader *reader;
	MemoryContext per_block;
	bool more = true;

	if (n == 0 || from > to || limit <= 0)
		return 0;
	reader = eduai_events_blocks_open(tenant, snapshot);
	per_block = small_context();
	out.per_record = small_context();
	for (int i = 0; more && i < n; i++)
	{
		const EduaiStreamRef *ref = &refs[backward ? n - 1 - i : i];
		MemoryContext old;
		EduaiBlock *block;
		const EduaiBlockRun *run;

		if (ref->first > to || ref->first + ref->count <= from)
			continue;
		old = MemoryContextSwitchTo(per_block);
		block = eduai_events_blocks_get(reader, ref->segment, ref->block);
		run = block ? find_run(block, &name) : NULL;
		if (run != NULL)
			more = put_run(&out, block, run, from, to, backward);
		MemoryContextSwitchTo(old);
		MemoryContextReset(per_block);
	}
	MemoryContextDelete(out.per_record);
	MemoryContextDelete(per_block);
	eduai_events_blocks_close(reader);
	return out.fed;
}

int64
eduai_events_compacted_through(const char *tenant, Snapshot snapshot)
{
	EduaiBlockReader *reader = eduai_events_blocks_open(tenant, snapshot);
	EduaiBlockRow row;
	int64 through = 0;

	if (eduai_events_blocks_last(reader, &row))
		through = row.last_position;
	eduai_events_blocks_close(reader);
	return through;
}

/* ---- counting ---- */

typedef struct Count
{
	int64 after;
	int64 through;
	int64 events;
	MemoryContext per_block;
} Count;

static bool
count_block(EduaiBlockReader *reader, const EduaiBlockRow *row, void *arg)
{
	Count *count = arg;
	MemoryContext old;
	EduaiBlock *block;

	if (row->first_position > count->through)
		return false;
	if (row->first_position > count->after && row->last_position <= count->through)
	{
		count->events += row->events;
		return true;
	}
	old = MemoryContextSwitchTo(count->per_block);
	block = eduai_events_blocks_begin(reader);
	for (int i = 0; i < block->n; i++)
		if (block->positions[i] > count->after && block->positions[i] <= count->through)
			count->events++;
	MemoryContextSwitchTo(old);
	MemoryContextReset(count->per_block);
	return true;
}

int64
eduai_events_block_count(const char *tenant, int64 after, int64 through, Snapshot snapshot)
{
	Count count = {after, through, 0, small_context()};
	EduaiBlockReader *reader = eduai_events_blocks_open(tenant, snapshot);
	EduaiBlockRow first;

	if (eduai_events_blocks_find(reader, after, &first))
		eduai_events_blocks_visit(reader, first.segment, count_block, &count);
	eduai_events_blocks_close(reader);
	MemoryContextDelete(count.per_block);
	return count.events;
}

/* ---- given ids ---- */

void
eduai_events_block_find(const char *tenant, const pg_uuid_t *ids, int n, Snapshot snapshot,
						EduaiRecordSink sink, void *arg)
{
	EduaiBlockReader *reader = eduai_events_blocks_open(tenant, snapshot);
	Output out = {.tenant = tenant, .sink = sink, .arg = arg, .limit = PG_INT64_MAX};
	MemoryContext per_block = small_context();

	out.per_record = small_context();
	for (int i = 0; i < n && !out.stopped; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(per_block);
		int segment;
		int number;
		EduaiBlock *block = NULL;

		if (eduai_events_seen_find(tenant, &ids[i], snapshot, &segment, &number))
			block = eduai_events_blocks_get(reader, segment, number);
		for (int row = 0; block != NULL && row < block->n && !out.stopped; row++)
			if ((block->flags[row] & EDUAI_SHAPE_ID_STORED) != 0 &&
				memcmp(&block->ids[row], &ids[i], sizeof(pg_uuid_t)) == 0)
				put_row(&out, block, row, true);
		MemoryContextSwitchTo(old);
		MemoryContextReset(per_block);
	}
	MemoryContextDelete(out.per_record);
	MemoryContextDelete(per_block);
	eduai_events_blocks_close(reader);
}
