/*
 * block_testing.c: SQL functions by which tests and the fuzzer reach the codec
 * and erasure's part in blocks.
 *
 * Superusers only, and only with eduai.test_mode.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/pause.h"
#include "core/tenant.h"
#include "events/block_codec.h"
#include "events/compact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(eduai_test_encode_block);
PG_FUNCTION_INFO_V1(eduai_test_decode_block);
PG_FUNCTION_INFO_V1(eduai_test_unpack_block);
PG_FUNCTION_INFO_V1(eduai_test_pack_block);
PG_FUNCTION_INFO_V1(eduai_test_erase_compacted);

static EduaiRecord
record_of(Datum composite)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(composite);
	TupleDesc desc =
		lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header), .t_data = header};
	Datum values[RECORD_COLUMNS];
	bool nulls[RECORD_COLUMNS];
	EduaiRecord record;

	heap_deform_tuple(&tuple, desc, values, nulls);
	ReleaseTupleDesc(desc);
	record = (EduaiRecord){
		.position = DatumGetInt64(values[RECORD_POSITION]),
		.version = DatumGetInt64(values[RECORD_VERSION]),
		.event_id = *DatumGetUUIDP(values[RECORD_EVENT_ID]),
		.stream = DatumGetTextP(values[RECORD_STREAM]),
		.event_type = DatumGetTextP(values[RECORD_EVENT_TYPE]),
		.data = DatumGetJsonbPCopy(values[RECORD_DATA]),
		.metadata = DatumGetJsonbPCopy(values[RECORD_METADATA]),
		.occurred_at = DatumGetTimestampTz(values[RECORD_OCCURRED_AT]),
		.recorded_at = DatumGetTimestampTz(values[RECORD_RECORDED_AT]),
	};
	if (!nulls[RECORD_USER_ID])
		record.user_id = DatumGetTextP(values[RECORD_USER_ID]);
	if (!nulls[RECORD_SESSION_ID])
		record.session_id = DatumGetTextP(values[RECORD_SESSION_ID]);
	return record;
}

/* test_encode_block(tenant, events, schema_version, id_given) returns bytea */
Datum
eduai_test_encode_block(PG_FUNCTION_ARGS)
{
	char *tenant = text_to_cstring(PG_GETARG_TEXT_PP(0));
	ArrayType *array = PG_GETARG_ARRAYTYPE_P(1);
	int16 typlen;
	bool typbyval;
	char typalign;
	Datum *values;
	bool *nulls;
	int n;
	EduaiRecord *records;
	bytea *block;

	eduai_core_require_test_mode();
	get_typlenbyvalalign(ARR_ELEMTYPE(array), &typlen, &typbyval, &typalign);
	deconstruct_array(array, ARR_ELEMTYPE(array), typlen, typbyval, typalign, &values, &nulls, &n);
	if (n < 1 || n > EDUAI_BLOCK_EVENTS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a block holds 1 to %d events", EDUAI_BLOCK_EVENTS)));
	records = palloc(sizeof(EduaiRecord) * n);
	for (int i = 0; i < n; i++)
	{
		records[i] = record_of(values[i]);
		records[i].schema_version = PG_GETARG_INT32(2);
		records[i].id_given = PG_GETARG_BOOL(3);
	}
	block = eduai_events_block_encode(tenant, records, n, NULL);
	eduai_events_block_verify(tenant, records, n, block, NULL);
	PG_RETURN_BYTEA_P(block);
}

static void
put_row(ReturnSetInfo *result, const EduaiRecord *record)
{
	Datum values[RECORD_COLUMNS] = {
		[RECORD_POSITION] = Int64GetDatum(record->position),
		[RECORD_EVENT_ID] = UUIDPGetDatum(&record->event_id),
		[RECORD_STREAM] = PointerGetDatum(record->stream),
		[RECORD_VERSION] = Int64GetDatum(record->version),
		[RECORD_EVENT_TYPE] = PointerGetDatum(record->event_type),
		[RECORD_USER_ID] = PointerGetDatum(record->user_id),
		[RECORD_SESSION_ID] = PointerGetDatum(record->session_id),
		[RECORD_DATA] = JsonbPGetDatum(record->data),
		[RECORD_METADATA] = JsonbPGetDatum(record->metadata),
		[RECORD_OCCURRED_AT] = TimestampTzGetDatum(record->occurred_at),
		[RECORD_RECORDED_AT] = TimestampTzGetDatum(record->recorded_at),
	};
	bool nulls[RECORD_COLUMNS] = {
		[RECORD_USER_ID] = record->user_id == NULL,
		[RECORD_SESSION_ID] = record->session_id == NULL,
	};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static const EduaiDictionary *
no_dictionary(int id, void *arg)
{
	return NULL;
}

/* test_decode_block(tenant, block) returns setof event_record */
Datum
eduai_test_decode_block(PG_FUNCTION_ARGS)
{
	char *tenant = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bytea *body = PG_GETARG_BYTEA_PP(1);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	EduaiBlock *block;
	EduaiRecord record;

	eduai_core_require_test_mode();
	InitMaterializedSRF(fcinfo, 0);
	block =
		eduai_events_block_decode(VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body), no_dictionary, NULL);
	for (int row = 0; row < block->n; row++)
	{
		eduai_events_block_record(block, tenant, row, &record);
		put_row(result, &record);
	}
	return (Datum) 0;
}

/* test_unpack_block(block) returns bytea: four bytes that count the bits' bytes, bits, text */
Datum
eduai_test_unpack_block(PG_FUNCTION_ARGS)
{
	bytea *body = PG_GETARG_BYTEA_PP(0);
	EduaiColumnReader r;
	StringInfoData out;
	uint32 nbits;
	int version;

	eduai_core_require_test_mode();
	eduai_events_block_unpack(VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body), no_dictionary, NULL, &r,
							  &version);
	nbits = (uint32) (r.bit_end / 8);
	initStringInfo(&out);
	appendStringInfoSpaces(&out, VARHDRSZ);
	appendBinaryStringInfo(&out, (char *) &nbits, sizeof(nbits));
	appendBinaryStringInfo(&out, (const char *) r.bits, (int) nbits);
	appendBinaryStringInfo(&out, (const char *) r.text, (int) (r.text_end - r.text));
	SET_VARSIZE(out.data, out.len);
	PG_RETURN_BYTEA_P(out.data);
}

/* test_pack_block(unpacked) returns bytea */
Datum
eduai_test_pack_block(PG_FUNCTION_ARGS)
{
	bytea *unpacked = PG_GETARG_BYTEA_PP(0);
	const char *bytes = VARDATA_ANY(unpacked);
	uint32 length = VARSIZE_ANY_EXHDR(unpacked);
	uint32 nbits = 0;
	EduaiColumnWriter w;

	eduai_core_require_test_mode();
	eduai_events_column_writer_init(&w);
	if (length >= sizeof(nbits))
	{
		memcpy(&nbits, bytes, sizeof(nbits));
		bytes += sizeof(nbits);
		length -= sizeof(nbits);
	}
	nbits = Min(nbits, length);
	appendBinaryStringInfo(&w.bits, bytes, (int) nbits);
	appendBinaryStringInfo(&w.text, bytes + nbits, (int) (length - nbits));
	PG_RETURN_BYTEA_P(eduai_events_block_pack(&w, NULL, EDUAI_BLOCK_VERSION));
}

/* test_erase_compacted(user_id, stream) returns bigint */
Datum
eduai_test_erase_compacted(PG_FUNCTION_ARGS)
{
	char *tenant = eduai_core_tenant();

	eduai_core_require_test_mode();
	if (!PG_ARGISNULL(0))
		PG_RETURN_INT64(
			eduai_events_block_erase_learner(tenant, text_to_cstring(PG_GETARG_TEXT_PP(0))));
	if (!PG_ARGISNULL(1))
		PG_RETURN_INT64(eduai_events_block_remove(tenant, text_to_cstring(PG_GETARG_TEXT_PP(1))));
	PG_RETURN_NULL();
}
