/*
 * block_write.c: writing the tables of compacted events.  See block_write.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/lock.h"
#include "core/plan.h"
#include "events/block_write.h"
#include "events/dictionary.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

bool
eduai_events_compact_lock(const char *tenant, bool nowait)
{
	return eduai_core_lock(EDUAI_LOCK_COMPACT, eduai_core_lock_key(tenant, ""), nowait);
}

/* ---- blocks ---- */

static EduaiPlan insert_block = {
	"INSERT INTO eduai.event_block (tenant_id, segment, block, first_position, last_position,"
	" recorded_through, events, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
	8,
	{TEXTOID, INT4OID, INT4OID, INT8OID, INT8OID, TIMESTAMPTZOID, INT4OID, BYTEAOID}};

static EduaiPlan update_block = {"UPDATE eduai.event_block SET body = $4, events = $5"
								 " WHERE tenant_id = $1 AND segment = $2 AND block = $3",
								 5,
								 {TEXTOID, INT4OID, INT4OID, BYTEAOID, INT4OID}};

static EduaiPlan delete_block = {
	"DELETE FROM eduai.event_block WHERE tenant_id = $1 AND segment = $2 AND block = $3",
	3,
	{TEXTOID, INT4OID, INT4OID}};

/* Changes the stamp of a segment's first row for the sake of a later one. */
static EduaiPlan touch_segment = {
	"UPDATE eduai.event_block b SET events = b.events WHERE b.tenant_id = $1 AND b.segment = $2"
	" AND b.block = (SELECT min(f.block) FROM eduai.event_block f"
	" WHERE f.tenant_id = $1 AND f.segment = $2) AND b.block < $3",
	3,
	{TEXTOID, INT4OID, INT4OID}};

void
eduai_events_block_insert(const char *tenant, const EduaiBlockRow *row, bytea *body)
{
	Datum args[] = {CStringGetTextDatum(tenant),       Int32GetDatum(row->segment),
					Int32GetDatum(row->block),         Int64GetDatum(row->first_position),
					Int64GetDatum(row->last_position), TimestampTzGetDatum(row->recorded_through),
					Int32GetDatum(row->events),        PointerGetDatum(body)};

	eduai_core_run_latest(&insert_block, args, NULL);
}

void
eduai_events_block_replace(const char *tenant, int segment, int block, int events, bytea *body)
{
	Datum args[] = {CStringGetTextDatum(tenant), Int32GetDatum(segment), Int32GetDatum(block),
					PointerGetDatum(body), Int32GetDatum(events)};

	eduai_core_run_latest(events > 0 ? &update_block : &delete_block, args, NULL);
}

void
eduai_events_segment_touch(const char *tenant, int segment, int block)
{
	Datum args[] = {CStringGetTextDatum(tenant), Int32GetDatum(segment), Int32GetDatum(block)};

	eduai_core_run_latest(&touch_segment, args, NULL);
}

static EduaiPlan delete_segment = {
	"WITH gone AS (DELETE FROM eduai.event_block WHERE tenant_id = $1 AND segment = $2"
	" RETURNING events) SELECT coalesce(sum(events), 0)::bigint FROM gone",
	2,
	{TEXTOID, INT4OID}};

static EduaiPlan delete_seen_of = {
	"DELETE FROM eduai.event_seen WHERE tenant_id = $1 AND segment = $2", 2, {TEXTOID, INT4OID}};

int64
eduai_events_segment_remove(const char *tenant, int segment)
{
	Datum args[] = {CStringGetTextDatum(tenant), Int32GetDatum(segment)};
	int64 events;

	eduai_core_run_latest(&delete_segment, args, NULL);
	events = eduai_core_int64(0, 1, 0);
	eduai_core_run_latest(&delete_seen_of, args, NULL);
	return events;
}

/* ---- the directory ---- */

/*
 * A page beyond the first size is cut into pages of about the second: four of
 * these fit on a heap page, and a read looks through one in a microsecond.
 */
#define PAGE_BYTES 2900
#define CUT_BYTES  1400

static EduaiPlan insert_page = {
	"INSERT INTO eduai.event_stream (tenant_id, first_stream, body) VALUES ($1, $2, $3)",
	3,
	{TEXTOID, TEXTOID, BYTEAOID}};

static EduaiPlan update_page = {
	"UPDATE eduai.event_stream SET body = $3 WHERE tenant_id = $1 AND first_stream = $2",
	3,
	{TEXTOID, TEXTOID, BYTEAOID}};

static void
write_page(EduaiPlan *plan, const char *tenant, text *first, bytea *body)
{
	Datum args[] = {CStringGetTextDatum(tenant), PointerGetDatum(first), PointerGetDatum(body)};

	eduai_core_run_latest(plan, args, NULL);
}

static text *
text_of(const EduaiSlice *slice)
{
	return cstring_to_text_with_len(slice->bytes, slice->length);
}

/* The pages of these entries; the first keeps its name, or gets the empty one. */
static void
write_pages(const char *tenant, const EduaiDirectoryPage *page, const EduaiStreamEntry *entries,
			int n)
{
	bytea *whole = eduai_events_page_make(entries, n);
	int npages = VARSIZE(whole) <= PAGE_BYTES ? 1 : (int) (VARSIZE(whole) / CUT_BYTES);
	int start = 0;

	npages = Min(npages, Max(n, 1));
	for (int i = 0; i < npages; i++)
	{
		int end = (int) ((int64) n * (i + 1) / npages);
		bytea *body = npages == 1 ? whole : eduai_events_page_make(entries + start, end - start);

		if (i > 0)
			write_page(&insert_page, tenant, text_of(&entries[start].name), body);
		else if (page->body != NULL)
			write_page(&update_page, tenant, page->first, body);
		else
			write_page(&insert_page, tenant, cstring_to_text(""), body);
		start = end;
	}
}

/* The refs of an entry with one more at the end. */
static void
extend_entry(EduaiStreamEntry *entry, const EduaiStreamPart *part)
{
	int n = 0;
	EduaiStreamRef *refs = eduai_events_page_refs(&entry->refs, &n);
	EduaiStreamRef *more = palloc(sizeof(EduaiStreamRef) * (n + 1));
	int64 end = n > 0 ? refs[n - 1].first + refs[n - 1].count - 1 : 0;

	if (part->last_version <= end)
		elog(ERROR, "version " INT64_FORMAT " of a stream is compacted already",
			 part->last_version);
	memcpy(more, refs, sizeof(EduaiStreamRef) * n);
	more[n] = (EduaiStreamRef){part->segment, part->block, end + 1, part->last_version - end};
	entry->refs = eduai_events_page_pack_refs(more, n + 1);
}

/* Merges n parts, all of which belong to the page, into it. */
static void
merge_page(const char *tenant, const EduaiDirectoryPage *page, const EduaiStreamPart *parts, int n)
{
	int nold = 0;
	EduaiStreamEntry *old = page->body ? eduai_events_page_entries(page->body, &nold) : NULL;
	EduaiStreamEntry *entries = palloc(sizeof(EduaiStreamEntry) * (nold + n));
	int count = 0;
	int at = 0;

	for (int i = 0; i < n; i++)
	{
		while (at < nold && eduai_events_slice_compare(&old[at].name, &parts[i].stream) <= 0)
			entries[count++] = old[at++];
		if (count == 0 ||
			eduai_events_slice_compare(&entries[count - 1].name, &parts[i].stream) != 0)
			entries[count++] = (EduaiStreamEntry){parts[i].stream, {NULL, 0}};
		extend_entry(&entries[count - 1], &parts[i]);
	}
	while (at < nold)
		entries[count++] = old[at++];
	write_pages(tenant, page, entries, count);
}

static bool
is_before(const EduaiSlice *stream, text *next)
{
	EduaiSlice limit;

	if (next == NULL)
		return true;
	limit = (EduaiSlice){VARDATA_ANY(next), (int) VARSIZE_ANY_EXHDR(next)};
	return eduai_events_slice_compare(stream, &limit) < 0;
}

void
eduai_events_directory_add(const char *tenant, const EduaiStreamPart *parts, int n,
						   Snapshot snapshot)
{
	MemoryContext per_page =
		AllocSetContextCreate(CurrentMemoryContext, "eduai directory", ALLOCSET_DEFAULT_SIZES);

	for (int start = 0, end; start < n; start = end)
	{
		MemoryContext old = MemoryContextSwitchTo(per_page);
		EduaiDirectoryPage page =
			eduai_events_directory_page(tenant, &parts[start].stream, snapshot);

		for (end = start + 1; end < n && is_before(&parts[end].stream, page.next); end++)
			;
		merge_page(tenant, &page, parts + start, end - start);
		MemoryContextSwitchTo(old);
		MemoryContextReset(per_page);
	}
	MemoryContextDelete(per_page);
}

static EduaiPlan drop_page = {
	"DELETE FROM eduai.event_stream WHERE tenant_id = $1 AND first_stream = $2",
	2,
	{TEXTOID, TEXTOID}};
static EduaiPlan move_page = {
	"UPDATE eduai.event_stream SET first_stream = $3 WHERE tenant_id = $1 AND first_stream = $2",
	3,
	{TEXTOID, TEXTOID, TEXTOID}};

/* A page that bears a stream's name gets that of its first one left; what lies between goes before it. */
static void
rename_page(const char *tenant, text *first, const EduaiSlice *stream, const EduaiSlice *next)
{
	EduaiSlice name = {VARDATA_ANY(first), (int) VARSIZE_ANY_EXHDR(first)};
	Datum args[] = {CStringGetTextDatum(tenant), PointerGetDatum(first), (Datum) 0};

	if (name.length == 0 || eduai_events_slice_compare(&name, stream) != 0)
		return;
	if (next == NULL)
		eduai_core_run_latest(&drop_page, args, NULL);
	else
	{
		args[2] = PointerGetDatum(cstring_to_text_with_len(next->bytes, next->length));
		eduai_core_run_latest(&move_page, args, NULL);
	}
}

/* ---- replacing a segment in the directory ---- */

/* Where a stream ends in a block. */
typedef struct StreamEnd
{
	int segment;
	int block;
	int64 last_version;
} StreamEnd;

static int
compare_ends(const void *a, const void *b)
{
	const StreamEnd *x = a;
	const StreamEnd *y = b;

	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	return x->block < y->block ? -1 : x->block > y->block;
}

/* The entry without the segment and with the parts; false when nothing is left of it. */
static bool
replace_refs(EduaiStreamEntry *entry, int segment, const EduaiStreamPart *parts, int nparts)
{
	int nrefs = 0;
	EduaiStreamRef *refs = entry->refs.bytes ? eduai_events_page_refs(&entry->refs, &nrefs) : NULL;
	StreamEnd *ends = palloc(sizeof(StreamEnd) * (nrefs + nparts + 1));
	int64 end = 0;
	int n = 0;

	for (int i = 0; i < nrefs; i++)
		if (refs[i].segment != segment)
			ends[n++] =
				(StreamEnd){refs[i].segment, refs[i].block, refs[i].first + refs[i].count - 1};
	for (int i = 0; i < nparts; i++)
		ends[n++] = (StreamEnd){segment, parts[i].block, parts[i].last_version};
	if (n == 0)
		return false;
	qsort(ends, n, sizeof(StreamEnd), compare_ends);
	refs = palloc(sizeof(EduaiStreamRef) * n);
	for (int i = 0; i < n; i++)
	{
		if (ends[i].last_version <= end)
			elog(ERROR, "versions of a stream are out of order in its blocks");
		refs[i] =
			(EduaiStreamRef){ends[i].segment, ends[i].block, end + 1, ends[i].last_version - end};
		end = ends[i].last_version;
	}
	entry->refs = eduai_events_page_pack_refs(refs, n);
	return true;
}

static int
count_same(const EduaiStreamPart *parts, int n)
{
	int same = n > 0;

	while (same < n && eduai_events_slice_compare(&parts[same].stream, &parts[0].stream) == 0)
		same++;
	return same;
}

/* Merges the streams that lose the segment and the parts, all of the page, into it. */
static void
replace_in_page(const char *tenant, const EduaiDirectoryPage *page, int segment,
				const EduaiSlice *lost, int nlost, const EduaiStreamPart *parts, int nparts)
{
	int nold = 0;
	EduaiStreamEntry *old = page->body ? eduai_events_page_entries(page->body, &nold) : NULL;
	EduaiStreamEntry *entries = palloc(sizeof(EduaiStreamEntry) * (nold + nparts + 1));
	int count = 0;

	for (int at = 0; at < nold || nparts > 0;)
	{
		EduaiStreamEntry entry;
		int order = at == nold    ? 1
					: nparts == 0 ? -1
								  : eduai_events_slice_compare(&old[at].name, &parts->stream);
		int same = order >= 0 ? count_same(parts, nparts) : 0;
		bool touched = same > 0;

		entry = order <= 0 ? old[at++] : (EduaiStreamEntry){parts->stream, {NULL, 0}};
		while (nlost > 0 && eduai_events_slice_compare(lost, &entry.name) < 0)
			lost++, nlost--;
		touched |= nlost > 0 && eduai_events_slice_compare(lost, &entry.name) == 0;
		if (!touched || replace_refs(&entry, segment, parts, same))
			entries[count++] = entry;
		parts += same;
		nparts -= same;
	}
	write_pages(tenant, page, entries, count);
}

void
eduai_events_directory_replace(const char *tenant, int segment, const EduaiSlices *streams,
							   const EduaiStreamPart *parts, int n, Snapshot snapshot)
{
	MemoryContext per_page =
		AllocSetContextCreate(CurrentMemoryContext, "eduai directory", ALLOCSET_DEFAULT_SIZES);
	int lost = 0;
	int part = 0;

	while (lost < streams->n || part < n)
	{
		MemoryContext old = MemoryContextSwitchTo(per_page);
		const EduaiSlice *first =
			part == n            ? &streams->values[lost]
			: lost == streams->n ? &parts[part].stream
			: eduai_events_slice_compare(&streams->values[lost], &parts[part].stream) < 0
				? &streams->values[lost]
				: &parts[part].stream;
		EduaiDirectoryPage page = eduai_events_directory_page(tenant, first, snapshot);
		int lost_end = lost;
		int part_end = part;

		CHECK_FOR_INTERRUPTS();
		while (lost_end < streams->n && is_before(&streams->values[lost_end], page.next))
			lost_end++;
		while (part_end < n && is_before(&parts[part_end].stream, page.next))
			part_end++;
		replace_in_page(tenant, &page, segment, streams->values + lost, lost_end - lost,
						parts + part, part_end - part);
		lost = lost_end;
		part = part_end;
		MemoryContextSwitchTo(old);
		MemoryContextReset(per_page);
	}
	MemoryContextDelete(per_page);
}

void
eduai_events_directory_remove(const char *tenant, const EduaiSlice *stream, Snapshot snapshot)
{
	EduaiDirectoryPage page = eduai_events_directory_page(tenant, stream, snapshot);
	EduaiStreamEntry *entries;
	int n;
	int kept = 0;

	if (page.body == NULL)
		return;
	entries = eduai_events_page_entries(page.body, &n);
	for (int i = 0; i < n; i++)
		if (eduai_events_slice_compare(&entries[i].name, stream) != 0)
			entries[kept++] = entries[i];
	if (kept == n)
		return;
	write_page(&update_page, tenant, page.first, eduai_events_page_make(entries, kept));
	rename_page(tenant, page.first, stream, kept > 0 ? &entries[0].name : NULL);
}

/* ---- dictionaries ---- */

static EduaiPlan newest_dictionary = {
	"SELECT dictionary, body FROM eduai.event_dictionary WHERE tenant_id = $1"
	" ORDER BY segment DESC LIMIT 1",
	1,
	{TEXTOID}};

static EduaiPlan insert_dictionary = {
	"INSERT INTO eduai.event_dictionary (tenant_id, dictionary, segment, body)"
	" VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id, dictionary) DO UPDATE"
	" SET segment = EXCLUDED.segment",
	4,
	{TEXTOID, INT4OID, INT4OID, BYTEAOID}};

static EduaiDictionary *
open_dictionary(int id, const bytea *body)
{
	return eduai_events_dictionary_open(id, VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body), true);
}

EduaiDictionary *
eduai_events_dictionary_newest(const char *tenant)
{
	Datum args[] = {CStringGetTextDatum(tenant)};
	bool isnull;

	if (eduai_core_run_latest(&newest_dictionary, args, NULL) == 0)
		return NULL;
	return open_dictionary((int) eduai_core_int64(0, 1, 0),
						   DatumGetByteaPP(eduai_core_value(0, 2, &isnull)));
}

EduaiDictionary *
eduai_events_dictionary_keep(const char *tenant, int segment, bytea *dictionary)
{
	int id = eduai_events_dictionary_number(dictionary);
	Datum args[] = {CStringGetTextDatum(tenant), Int32GetDatum(id), Int32GetDatum(segment),
					PointerGetDatum(dictionary)};

	eduai_core_run_latest(&insert_dictionary, args, NULL);
	return open_dictionary(id, dictionary);
}

/* ---- given ids ---- */

static EduaiPlan insert_seen = {
	"INSERT INTO eduai.event_seen (tenant_id, segment, block, event_id)"
	" SELECT $1, $2, u.block, u.event_id FROM unnest($3, $4) AS u (event_id, block)"
	" ON CONFLICT (tenant_id, event_id) DO UPDATE SET segment = EXCLUDED.segment,"
	" block = EXCLUDED.block",
	4,
	{TEXTOID, INT4OID, UUIDARRAYOID, INT4ARRAYOID}};

static EduaiPlan delete_seen = {
	"DELETE FROM eduai.event_seen WHERE tenant_id = $1 AND event_id = ANY ($2)",
	2,
	{TEXTOID, UUIDARRAYOID}};

void
eduai_events_seen_add(const char *tenant, const Datum *ids, const int32 *blocks, int n, int segment)
{
	Datum args[] = {CStringGetTextDatum(tenant), Int32GetDatum(segment),
					eduai_core_datum_array(ids, NULL, n, UUIDOID),
					eduai_core_int4_array(blocks, NULL, n)};

	if (n > 0)
		eduai_core_run_latest(&insert_seen, args, NULL);
}

void
eduai_events_seen_remove(const char *tenant, const Datum *ids, int n)
{
	Datum args[] = {CStringGetTextDatum(tenant), eduai_core_datum_array(ids, NULL, n, UUIDOID)};

	if (n > 0)
		eduai_core_run_latest(&delete_seen, args, NULL);
}
