/*
 * export.c: export_user() and export_user_rows(): everything that is held
 * about a learner, with where it came from.
 *
 * The stores hand over row by row; export_user_rows() puts them into a
 * tuplestore, which spills to disk beyond work_mem, so that a long history takes
 * no memory.  Sealed values are shown to roles that may see them, as in reads.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/base64.h"
#include "core/compat.h"
#include "core/json.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "privacy/erase.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(eduai_export_user);
PG_FUNCTION_INFO_V1(eduai_export_user_rows);

typedef struct Export
{
	const char *tenant;
	const char *user_id;
	Oid caller;
	MemoryContext context;  /* of what is built */
	Tuplestorestate *store; /* rows go here, */
	TupleDesc desc;
	EduaiJson json; /* or, as an array for each source, here */
	char *source;   /* the one at hand */
	int64 count;
} Export;

/* Events and tasks carry their own subjects. */
static const char *
subject_of(const char *source, const Jsonb *row)
{
	char *type = NULL;

	if (strcmp(source, "events") == 0 && (type = eduai_core_json_text(row, "event_type")))
		return psprintf("event:%s", type);
	if (strcmp(source, "tasks") == 0 && (type = eduai_core_json_text(row, "task_type")))
		return psprintf("task:%s", type);
	return source;
}

/* An attachment's row with its bytes in clear, or null. */
static const Jsonb *
shown_attachment(const Export *export, const Jsonb *row)
{
	char *base64 = eduai_core_json_text(row, "data");
	int room = pg_b64_dec_len(base64 ? (int) strlen(base64) : 0);
	bytea *sealed = palloc(VARHDRSZ + room);
	int n = base64 ? pg_b64_decode(base64, (int) strlen(base64), VARDATA(sealed), room) : -1;
	bytea *bytes = NULL;

	SET_VARSIZE(sealed, VARHDRSZ + Max(n, 0));
	if (n >= 0)
		bytes = eduai_core_personal_reveal_bytes(
			export->tenant, export->user_id, sealed,
			psprintf("attachment:%s", eduai_core_json_text(row, "attachment_id")), export->caller);
	if (bytes == NULL)
		return eduai_core_json_with_text(row, "data", NULL);
	room = pg_b64_enc_len((int) VARSIZE_ANY_EXHDR(bytes));
	base64 = palloc(room + 1);
	base64[pg_b64_encode(VARDATA_ANY(bytes), (int) VARSIZE_ANY_EXHDR(bytes), base64, room)] = '\0';
	return eduai_core_json_with_text(row, "data", base64);
}

static const Jsonb *
shown(const Export *export, const char *source, const Jsonb *row)
{
	bool sealed;

	if (strcmp(source, "attachments") == 0 && eduai_core_json_bool(row, "sealed", &sealed) &&
		sealed)
		return shown_attachment(export, row);
	return eduai_core_personal_reveal(export->tenant, export->user_id, row, subject_of(source, row),
									  export->caller);
}

static void
put_row(void *arg, const char *source, const Jsonb *row)
{
	Export *export = arg;
	Datum values[] = {CStringGetTextDatum(source), JsonbPGetDatum(shown(export, source, row))};
	bool nulls[] = {false, false};

	tuplestore_putvalues(export->store, export->desc, values, nulls);
	export->count++;
}

static void
put_json(void *arg, const char *source, const Jsonb *row)
{
	Export *export = arg;
	MemoryContext old;

	row = shown(export, source, row);
	old = MemoryContextSwitchTo(export->context);
	if (export->source == NULL || strcmp(export->source, source) != 0)
	{
		if (export->source)
			eduai_core_json_close_array(&export->json);
		export->source = pstrdup(source);
		eduai_core_json_open_array(&export->json, export->source);
	}
	/* the builder refers to what it is given */
	eduai_core_json_put_json(&export->json, NULL, memcpy(palloc(VARSIZE(row)), row, VARSIZE(row)));
	MemoryContextSwitchTo(old);
	export->count++;
}

static void
export_erasure(const Export *export, EduaiPersonalRow row, void *arg)
{
	eduai_core_personal_export_rows(
		"erasure",
		"SELECT jsonb_build_object('requested_at', e.requested_at, 'reason', e.reason)"
		" FROM eduai.erasure e WHERE e.tenant_id = $1 AND e.user_id = $2",
		export->tenant, export->user_id, row, arg);
}

/* All stores, as the owner; the source "events" first whatever their ranks, as they explain the rest. */
static void
export_all(Export *export, EduaiPersonalRow row)
{
	const EduaiPersonalStore *store;

	for (int i = 0; (store = eduai_core_personal_store(i)) != NULL; i++)
		if (store->export)
			store->export(export->tenant, export->user_id, row, export);
	eduai_privacy_tables_export(export->tenant, export->user_id, row, export);
	export_erasure(export, row, export);
	eduai_core_personal_note(export->tenant, export->user_id, "export", Max(export->count, 1),
							 export->caller);
}

static Export
begin_export(FunctionCallInfo fcinfo)
{
	Export export = {.caller = GetUserId(), .context = CurrentMemoryContext};

	export.user_id = eduai_privacy_user_argument(fcinfo);
	export.tenant = eduai_core_tenant();
	return export;
}

/* export_user_rows(user_id) returns setof exported */
Datum
eduai_export_user_rows(PG_FUNCTION_ARGS)
{
	Export export = begin_export(fcinfo);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	EduaiPrivilege saved;

	InitMaterializedSRF(fcinfo, 0);
	export.store = result->setResult;
	export.desc = result->setDesc;
	eduai_core_enter(&saved);
	SPI_connect();
	export_all(&export, put_row);
	SPI_finish();
	eduai_core_leave(&saved);
	return (Datum) 0;
}

/* export_user(user_id) returns jsonb */
Datum
eduai_export_user(PG_FUNCTION_ARGS)
{
	Export export = begin_export(fcinfo);
	EduaiPrivilege saved;
	Jsonb *result;
	MemoryContext old;

	eduai_core_json_begin(&export.json);
	eduai_core_json_put_text(&export.json, "user_id", export.user_id);
	eduai_core_enter(&saved);
	SPI_connect();
	export_all(&export, put_json);
	SPI_finish();
	eduai_core_leave(&saved);
	old = MemoryContextSwitchTo(export.context);
	if (export.source)
		eduai_core_json_close_array(&export.json);
	result = eduai_core_json_end(&export.json);
	MemoryContextSwitchTo(old);
	PG_RETURN_JSONB_P(result);
}
