/*
 * stream_page.c: pages of the directory of compacted streams.  See stream_page.h.
 */
#include "postgres.h"

#include "events/stream_page.h"
#include "events/validate.h"

static EduaiColumnReader
reader_of(const char *bytes, size_t length)
{
	return (EduaiColumnReader){(const unsigned char *) bytes,
							   (const unsigned char *) bytes + length};
}

static EduaiColumnReader
open_page(const bytea *page, int *n)
{
	EduaiColumnReader r = reader_of(VARDATA_ANY(page), VARSIZE_ANY_EXHDR(page));

	if (*eduai_events_get_bytes(&r, 1) != EDUAI_PAGE_VERSION)
		eduai_events_corrupted("version of a page of streams");
	*n = (int) eduai_events_get_count(&r, VARSIZE_ANY_EXHDR(page));
	return r;
}

/* The next entry; "name" is the buffer that all names of a page are built in. */
static void
next_entry(EduaiColumnReader *r, char *name, EduaiStreamEntry *entry)
{
	int shared = (int) eduai_events_get_count(r, entry->name.length);
	int rest = (int) eduai_events_get_count(r, EDUAI_EVENTS_NAME_BYTES - shared);

	memcpy(name + shared, eduai_events_get_bytes(r, rest), rest);
	entry->name = (EduaiSlice){name, shared + rest};
	entry->refs.length = (int) eduai_events_get_count(r, r->text_end - r->text);
	entry->refs.bytes = eduai_events_get_bytes(r, entry->refs.length);
}

bool
eduai_events_page_find(const bytea *page, const EduaiSlice *name, EduaiStreamEntry *entry)
{
	char buffer[EDUAI_EVENTS_NAME_BYTES];
	int n;
	EduaiColumnReader r = open_page(page, &n);

	*entry = (EduaiStreamEntry){{buffer, 0}};
	while (n-- > 0)
	{
		int order;

		next_entry(&r, buffer, entry);
		order = eduai_events_slice_compare(&entry->name, name);
		if (order >= 0)
		{
			entry->name = *name;
			return order == 0;
		}
	}
	return false;
}

EduaiStreamEntry *
eduai_events_page_entries(const bytea *page, int *n)
{
	char buffer[EDUAI_EVENTS_NAME_BYTES];
	EduaiColumnReader r = open_page(page, n);
	EduaiStreamEntry *entries = palloc(sizeof(EduaiStreamEntry) * Max(*n, 1));
	EduaiStreamEntry entry = {{buffer, 0}};

	for (int i = 0; i < *n; i++)
	{
		next_entry(&r, buffer, &entry);
		entries[i] = entry;
		entries[i].name.bytes = pnstrdup(buffer, entry.name.length);
	}
	return entries;
}

EduaiStreamRef *
eduai_events_page_refs(const EduaiSlice *refs, int *n)
{
	EduaiColumnReader r = reader_of(refs->bytes, refs->length);
	EduaiStreamRef *result = palloc(sizeof(EduaiStreamRef) * (refs->length / 3 + 1));
	int segment = 0;
	int64 version = 1;

	*n = 0;
	while (r.text < r.text_end)
	{
		EduaiStreamRef *ref = &result[(*n)++];

		segment += (int) eduai_events_get_count(&r, PG_INT32_MAX - segment);
		ref->segment = segment;
		ref->block = (int) eduai_events_get_count(&r, PG_INT32_MAX);
		ref->first = version;
		ref->count = (int64) eduai_events_get_count(&r, PG_INT64_MAX - version);
		version += ref->count;
	}
	return result;
}

EduaiSlice
eduai_events_page_pack_refs(const EduaiStreamRef *refs, int n)
{
	StringInfoData out;
	int segment = 0;

	initStringInfo(&out);
	for (int i = 0; i < n; i++)
	{
		eduai_events_put_varint(&out, refs[i].segment - segment);
		eduai_events_put_varint(&out, refs[i].block);
		eduai_events_put_varint(&out, refs[i].count);
		segment = refs[i].segment;
	}
	return (EduaiSlice){out.data, out.len};
}

bytea *
eduai_events_page_make(const EduaiStreamEntry *entries, int n)
{
	StringInfoData out;
	EduaiSlice last = {"", 0};

	initStringInfo(&out);
	appendStringInfoSpaces(&out, VARHDRSZ);
	appendStringInfoCharMacro(&out, EDUAI_PAGE_VERSION);
	eduai_events_put_varint(&out, n);
	for (int i = 0; i < n; i++)
	{
		EduaiSlice name = entries[i].name;
		int shared = 0;

		while (shared < name.length && shared < last.length &&
			   name.bytes[shared] == last.bytes[shared])
			shared++;
		eduai_events_put_varint(&out, shared);
		eduai_events_put_varint(&out, name.length - shared);
		appendBinaryStringInfo(&out, name.bytes + shared, name.length - shared);
		eduai_events_put_varint(&out, entries[i].refs.length);
		appendBinaryStringInfo(&out, entries[i].refs.bytes, entries[i].refs.length);
		last = name;
	}
	SET_VARSIZE(out.data, out.len);
	return (bytea *) out.data;
}
