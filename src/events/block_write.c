/*
 * block_write.c: writing the tables of compacted events.  See block_write.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/lock.h"
#include "core/plan.h"
#include "events/block_write.h"
#include "events/dictionary.h"
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
	eduai_core_run_latest(&touch_segment, args, NULL);
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
	if (kept < n)
		write_page(&update_page, tenant, page.first, eduai_events_page_make(entries, kept));
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
