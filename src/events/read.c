/*
 * read.c: read_stream() and stream_version().
 *
 * A stream's first versions may be compacted and the rest is hot; both are
 * read in the snapshot of the calling statement, which shows an event in
 * exactly one of the two.
 */
#include "postgres.h"

#include "core/personal.h"
#include "core/tenant.h"
#include "events/block.h"
#include "events/block_codec.h"
#include "events/read.h"
#include "events/store.h"
#include "events/validate.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(eduai_read_stream);
PG_FUNCTION_INFO_V1(eduai_stream_version);

typedef struct ReadRange
{
	const char *tenant;
	const char *stream;
	int64 from;
	int64 to;
	bool backward;
	int64 limit;
	Snapshot snapshot;
	EduaiRecordSink sink;
	void *arg;
} ReadRange;

static int64
read_hot(const ReadRange *r, int64 limit)
{
	EduaiHotReader *reader = eduai_events_hot_open(r->snapshot);
	int64 n = eduai_events_hot_read(reader, r->tenant, r->stream, r->from, r->to, r->backward,
									limit, r->sink, r->arg);

	eduai_events_hot_close(reader);
	return n;
}

static int64
read_blocks(const ReadRange *r, int64 limit)
{
	return eduai_events_block_read(r->tenant, r->stream, r->from, r->to, r->backward, limit,
								   r->snapshot, r->sink, r->arg);
}

void
eduai_events_read_stream(const char *tenant, const char *stream, int64 from, int64 to,
						 bool backward, int64 limit, Snapshot snapshot, EduaiRecordSink sink,
						 void *arg)
{
	ReadRange r = {tenant, stream, from, to, backward, limit, snapshot, sink, arg};
	int64 n = backward ? read_hot(&r, limit) : read_blocks(&r, limit);

	if (n < limit)
		(void) (backward ? read_blocks(&r, limit - n) : read_hot(&r, limit - n));
}

int64
eduai_events_version(const char *tenant, const char *stream, Snapshot snapshot)
{
	EduaiHotReader *reader = eduai_events_hot_open(snapshot);
	int64 version = eduai_events_hot_version(reader, tenant, stream);

	eduai_events_hot_close(reader);
	return version > 0 ? version : eduai_events_block_version(tenant, stream, snapshot);
}

/* ---- SQL ---- */

int
eduai_events_page_size(int32 max_count)
{
	if (max_count < 1 || max_count > EDUAI_EVENTS_MAX_PAGE)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid max_count %d", max_count),
						errhint("Read 1 to %d events at a time.", EDUAI_EVENTS_MAX_PAGE)));
	return max_count;
}

static char *
stream_argument(FunctionCallInfo fcinfo)
{
	static const char *const names[] = {"stream", "from_version", "max_count", "backward"};
	char *stream;

	/* no from_version: from the end that is read first */
	for (int i = 0; i < PG_NARGS(); i++)
		if (PG_ARGISNULL(i) && i != 1)
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("%s must not be null", names[i])));
	stream = text_to_cstring(PG_GETARG_TEXT_PP(0));
	eduai_events_check_name("stream", stream, true);
	return stream;
}

void
eduai_events_note_read(const char *tenant, const char *stream, FunctionCallInfo fcinfo)
{
	const ReturnSetInfo *result = (const ReturnSetInfo *) fcinfo->resultinfo;
	const char *user_id = NULL;
	EduaiSlice user;

	if (stream != NULL && eduai_events_user_of_stream(cstring_to_text(stream), &user))
		user_id = pnstrdup(user.bytes, user.length);
	eduai_core_personal_note(tenant, user_id, stream ? "events" : "feed",
							 tuplestore_tuple_count(result->setResult), GetUserId());
}

/* read_stream(stream, from_version, max_count, backward) returns setof event_record */
Datum
eduai_read_stream(PG_FUNCTION_ARGS)
{
	char *stream = stream_argument(fcinfo);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool backward = PG_GETARG_BOOL(3);
	int limit = eduai_events_page_size(PG_GETARG_INT32(2));
	char *tenant = eduai_core_tenant();
	EduaiReader reader;
	int64 end = PG_ARGISNULL(1) ? (backward ? PG_INT64_MAX : 1) : PG_GETARG_INT64(1);

	InitMaterializedSRF(fcinfo, 0);
	reader = (EduaiReader){tenant, GetUserId(), result->setResult, result->setDesc};
	eduai_events_read_stream(tenant, stream, backward ? 1 : end, backward ? end : PG_INT64_MAX,
							 backward, limit, GetActiveSnapshot(), eduai_events_put_for_reader,
							 &reader);
	eduai_events_note_read(tenant, stream, fcinfo);
	return (Datum) 0;
}

/* stream_version(stream) returns bigint */
Datum
eduai_stream_version(PG_FUNCTION_ARGS)
{
	char *stream = stream_argument(fcinfo);
	char *tenant = eduai_core_tenant();

	PG_RETURN_INT64(eduai_events_version(tenant, stream, GetActiveSnapshot()));
}
