/*
 * record.h: an event as it is read, from the hot partitions or from a block.
 */
#ifndef EDUAI_EVENTS_RECORD_H
#define EDUAI_EVENTS_RECORD_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

/*
 * The texts may have a short header: read them with VARDATA_ANY and
 * VARSIZE_ANY_EXHDR.  data and metadata are whole, aligned jsonb values.
 */
typedef struct EduaiRecord
{
	int64 position; /* 0 when the reader does not know it (a stream's) */
	int64 version;
	pg_uuid_t event_id;
	bool id_given;      /* by the caller, so remembered for eduai.dedup_window */
	int schema_version; /* of the event type when it was appended */
	text *stream;
	text *event_type;
	text *user_id;    /* NULL when about nobody */
	text *session_id; /* NULL when absent */
	Jsonb *data;
	Jsonb *metadata;
	TimestampTz occurred_at;
	TimestampTz recorded_at;
} EduaiRecord;

/* The columns of eduai.event_record. */
typedef enum EduaiRecordColumn
{
	RECORD_POSITION,
	RECORD_EVENT_ID,
	RECORD_STREAM,
	RECORD_VERSION,
	RECORD_EVENT_TYPE,
	RECORD_USER_ID,
	RECORD_SESSION_ID,
	RECORD_DATA,
	RECORD_METADATA,
	RECORD_OCCURRED_AT,
	RECORD_RECORDED_AT,
	RECORD_COLUMNS,
} EduaiRecordColumn;

/*
 * Receives records one by one; returns false to stop the reader.  A record
 * and what it points to live only during the call, which runs in a short
 * memory context.
 */
typedef bool (*EduaiRecordSink)(const EduaiRecord *record, void *arg);

/*
 * Copies a record; what it points to goes into one chunk of the current
 * context, which is returned with its size.
 */
extern void *eduai_events_record_keep(EduaiRecord *copy, const EduaiRecord *record, Size *size);

/*
 * Adds the record as an eduai.event_record to a tuplestore, after bringing
 * data to the current schema version of its type (upcasters).
 */
extern void
eduai_events_put_record(Tuplestorestate *store, TupleDesc desc, const EduaiRecord *record);

/* Who reads, for what is sealed. */
typedef struct EduaiReader
{
	const char *tenant;
	Oid role; /* that called, not the owner */
	Tuplestorestate *store;
	TupleDesc desc;
} EduaiReader;

/* The same with sealed values as the role may see them; an EduaiRecordSink, arg an EduaiReader. */
extern bool eduai_events_put_for_reader(const EduaiRecord *record, void *arg);

#endif
