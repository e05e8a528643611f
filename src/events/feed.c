/*
 * feed.c: reading a tenant's events in the order of their positions, and
 * read_all().  See feed.h.
 *
 * Everything up to compacted_through() comes from blocks, the rest by way of
 * the order rows, which name streams and versions: a category or a member is
 * told by the stream's name alone, a type by fetching the event.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "core/pause.h"
#include "core/tenant.h"
#include "events/block.h"
#include "events/feed.h"
#include "events/order.h"
#include "events/position.h"
#include "events/read.h"
#include "events/store.h"
#include "events/validate.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(eduai_read_all);

EduaiFeedView
eduai_events_feed_open(const char *tenant)
{
	EduaiFeedView view;

	if (IsolationUsesXactSnapshot() || RecoveryInProgress())
	{
		view.snapshot = RegisterSnapshot(GetTransactionSnapshot());
		view.through = eduai_events_order_bound(tenant, view.snapshot);
	}
	else
	{
		/* the mark first: the snapshot then shows all that will ever be up to it */
		view.through = eduai_events_position_mark();
		EDUAI_PAUSE("feed-after-mark");
		view.snapshot = RegisterSnapshot(GetLatestSnapshot());
	}
	return view;
}

void
eduai_events_feed_close(EduaiFeedView *view)
{
	UnregisterSnapshot(view->snapshot);
	view->snapshot = NULL;
}

int
eduai_events_member_of(const char *stream, size_t length, int members)
{
	if (members <= 1)
		return 0;
	return hash_bytes((const unsigned char *) stream, length) % (uint32) members;
}

/* ---- the filter ---- */

static bool
passes_stream(const EduaiFeedFilter *filter, const char *stream, size_t length)
{
	if (filter->category)
	{
		size_t category = strlen(filter->category);
		const char *dash = memchr(stream, '-', length);
		size_t end = dash ? dash - stream : length;

		if (end != category || memcmp(stream, filter->category, category) != 0)
			return false;
	}
	return filter->members <= 1 ||
		   eduai_events_member_of(stream, length, filter->members) == filter->member;
}

static bool
passes_type(const EduaiFeedFilter *filter, const text *type)
{
	if (filter->event_types == NULL)
		return true;
	for (int i = 0; i < filter->ntypes; i++)
		if (strlen(filter->event_types[i]) == VARSIZE_ANY_EXHDR(type) &&
			memcmp(filter->event_types[i], VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type)) == 0)
			return true;
	return false;
}

/* ---- reading ---- */

typedef struct FeedRead
{
	const char *tenant;
	const EduaiFeedFilter *filter;
	int64 limit;
	EduaiRecordSink sink;
	void *arg;
	EduaiHotReader *hot;
	int64 position; /* of the record that comes next from a run */
	int64 fed;
	int64 scanned;
	bool full;
} FeedRead;

/* Returns false when that was enough. */
static bool
deliver(FeedRead *read, const EduaiRecord *record)
{
	read->scanned = record->position;
	if (!passes_type(read->filter, record->event_type))
		return true;
	read->fed++;
	read->full = !read->sink(record, read->arg) || read->fed >= read->limit;
	return !read->full;
}

static bool
on_compacted(const EduaiRecord *record, void *arg)
{
	FeedRead *read = arg;

	if (!passes_stream(read->filter, VARDATA_ANY(record->stream),
					   VARSIZE_ANY_EXHDR(record->stream)))
		return true;
	return deliver(read, record);
}

static bool
on_hot(const EduaiRecord *record, void *arg)
{
	FeedRead *read = arg;
	EduaiRecord placed = *record;

	placed.position = read->position++;
	return deliver(read, &placed);
}

static bool
on_run(const EduaiRun *run, void *arg)
{
	FeedRead *read = arg;
	int64 found;

	if (!passes_stream(read->filter, run->stream, strlen(run->stream)))
		return true;
	read->position = run->position;
	found = eduai_events_hot_read(read->hot, read->tenant, run->stream, run->version,
								  run->version + run->count - 1, false, run->count, on_hot, read);
	if (!read->full && found != run->count)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("event %lld of stream \"%s\" is missing",
							   (long long) (run->version + found), run->stream)));
	return !read->full;
}

int64
eduai_events_feed_read(const EduaiFeedView *view, const char *tenant, int64 after,
					   const EduaiFeedFilter *filter, int64 limit, EduaiRecordSink sink, void *arg,
					   int64 *scanned)
{
	FeedRead read = {.tenant = tenant,
					 .filter = filter,
					 .limit = limit,
					 .sink = sink,
					 .arg = arg,
					 .scanned = after};
	int64 compacted = Min(eduai_events_compacted_through(tenant, view->snapshot), view->through);

	if (after < compacted)
		(void) eduai_events_block_feed(tenant, after, compacted, view->snapshot, on_compacted,
									   &read);
	if (!read.full && view->through > compacted)
	{
		read.hot = eduai_events_hot_open(view->snapshot);
		(void) eduai_events_order_read(tenant, Max(after, compacted), view->through, view->snapshot,
									   on_run, &read);
		eduai_events_hot_close(read.hot);
	}
	*scanned = read.full ? read.scanned : Max(after, view->through);
	return read.fed;
}

int64
eduai_events_feed_count(const EduaiFeedView *view, const char *tenant, int64 after, int64 through)
{
	int64 compacted = eduai_events_compacted_through(tenant, view->snapshot);
	int64 count = 0;

	if (after < compacted)
		count = eduai_events_block_count(tenant, after, Min(compacted, through), view->snapshot);
	return count + eduai_events_order_count(tenant, Max(after, compacted), through, view->snapshot);
}

/* ---- SQL ---- */

char **
eduai_events_type_names(ArrayType *array, int *n)
{
	Datum *values;
	bool *nulls;
	char **names;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("event_types has %d dimensions", ARR_NDIM(array)),
						errhint("Give an array of one dimension.")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, n);
	names = palloc(sizeof(char *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		names[i] = nulls[i] ? NULL : TextDatumGetCString(values[i]);
		eduai_events_check_name("event type", names[i], true);
	}
	return names;
}

static EduaiFeedFilter
filter_arguments(FunctionCallInfo fcinfo, int types, int category)
{
	EduaiFeedFilter filter = {0};

	if (!PG_ARGISNULL(types))
		filter.event_types = eduai_events_type_names(PG_GETARG_ARRAYTYPE_P(types), &filter.ntypes);
	if (!PG_ARGISNULL(category))
		filter.category = text_to_cstring(PG_GETARG_TEXT_PP(category));
	return filter;
}

/* read_all(after_position, max_count, event_types, category) returns setof event_record */
Datum
eduai_read_all(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	EduaiFeedFilter filter;
	EduaiFeedView view;
	EduaiReader reader;
	char *tenant;
	int64 scanned;
	int limit;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", PG_ARGISNULL(0) ? "after_position" : "max_count")));
	limit = eduai_events_page_size(PG_GETARG_INT32(1));
	filter = filter_arguments(fcinfo, 2, 3);
	tenant = eduai_core_tenant();
	InitMaterializedSRF(fcinfo, 0);
	reader = (EduaiReader){tenant, GetUserId(), result->setResult, result->setDesc};
	view = eduai_events_feed_open(tenant);
	(void) eduai_events_feed_read(&view, tenant, PG_GETARG_INT64(0), &filter, limit,
								  eduai_events_put_for_reader, &reader, &scanned);
	eduai_events_feed_close(&view);
	eduai_events_note_read(tenant, NULL, fcinfo);
	return (Datum) 0;
}
