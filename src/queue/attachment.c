/*
 * attachment.c: attach(), attachment(), and which task keeps what.  See
 * attachment.h.
 *
 * To link takes a share of the attachment's row, which several enqueuers may
 * have; to drop takes the row itself, skips it where somebody has a share, and
 * only then looks, with a fresh snapshot, whether a link is there.  So none is
 * dropped that a transaction under way refers to.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "core/compat.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "queue/attachment.h"
#include "queue/enqueue.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#define KEY               "attachment"
#define MOST_CONTENT_TYPE 255
#define UUID_TEXT         36

static int max_attachment_kb = 64 * 1024;

PG_FUNCTION_INFO_V1(eduai_attach);
PG_FUNCTION_INFO_V1(eduai_attachment);

void
eduai_queue_attachment_init(void)
{
	DefineCustomIntVariable("eduai.max_attachment_size", "The largest attachment.",
							"Larger inputs belong where a URL can name them.", &max_attachment_kb,
							64 * 1024, 1, 1000 * 1024, PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
}

/* ---- ids ---- */

/* As attach() returns them: 8-4-4-4-12 hexadecimal digits. */
static bool
parse_id(const char *s, int length, pg_uuid_t *id)
{
	int nibbles = 0;

	if (length != UUID_TEXT)
		return false;
	memset(id, 0, sizeof(*id));
	for (int i = 0; i < UUID_TEXT; i++)
	{
		const char *digits = "0123456789abcdef";
		const char *at;

		if (i == 8 || i == 13 || i == 18 || i == 23)
		{
			if (s[i] != '-')
				return false;
			continue;
		}
		at = s[i] == '\0' ? NULL : strchr(digits, pg_ascii_tolower((unsigned char) s[i]));
		if (at == NULL)
			return false;
		id->data[nibbles / 2] |= (at - digits) << (nibbles % 2 ? 0 : 4);
		nibbles++;
	}
	return true;
}

/* ---- attach() ---- */

static const char *
skip_token(const char *s)
{
	while (*s != '\0' && (isalnum((unsigned char) *s) || strchr("!#$%&'*+-.^_`|~", *s)))
		s++;
	return s;
}

/* Past a quoted string; NULL when it is none. */
static const char *
skip_quoted(const char *s)
{
	if (*s++ != '"')
		return NULL;
	for (; *s != '"'; s++)
	{
		if (*s == '\\')
			s++;
		if ((unsigned char) *s < 0x20 || (unsigned char) *s >= 0x7f)
			return NULL;
	}
	return s + 1;
}

static const char *
skip_space(const char *s)
{
	while (*s == ' ' || *s == '\t')
		s++;
	return s;
}

/* RFC 9110, section 8.3.1: type "/" subtype, then parameters. */
static bool
is_media_type(const char *s)
{
	const char *end = skip_token(s);

	if (end == s || *end != '/')
		return false;
	s = end + 1;
	end = skip_token(s);
	if (end == s)
		return false;
	while (*end != '\0')
	{
		s = skip_space(end);
		if (*s != ';')
			return false;
		s = skip_space(s + 1);
		end = skip_token(s);
		if (end == s || *end != '=')
			return false;
		s = end + 1;
		end = *s == '"' ? skip_quoted(s) : skip_token(s);
		if (end == NULL || end == s)
			return false;
	}
	return true;
}

static void
check_content_type(const char *content_type)
{
	if (strlen(content_type) <= MOST_CONTENT_TYPE && is_media_type(content_type))
		return;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid content_type \"%.*s\"",
						   pg_mbcliplen(content_type, strlen(content_type), 80), content_type),
					errhint("Give a media type of at most %d bytes, such as audio/webm.",
							MOST_CONTENT_TYPE)));
}

/* Before the bytes are fetched, where they are stored elsewhere. */
static void
check_size(Datum data)
{
	Size size = toast_raw_datum_size(data) - VARHDRSZ;

	if (size == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the attachment is empty"),
						errhint("Give the bytes of a file.")));
	if (size > (Size) max_attachment_kb * 1024)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the attachment has %zu bytes, more than eduai.max_attachment_size allows",
						size),
				 errdetail("The limit is %d kB.", max_attachment_kb),
				 errhint("Give a smaller file, or raise eduai.max_attachment_size.")));
}

static void
refuse_null(const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", what),
					errhint("Give the bytes and their media type.")));
}

/* ---- sealing ---- */

static char *
subject_of(const pg_uuid_t *id)
{
	return psprintf("attachment:%s",
					DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id))));
}

/* The bytes as they are stored. */
static Datum
guard_bytes(const char *tenant, const pg_uuid_t *id, const char *user_id, Datum data, bool *sealed)
{
	*sealed = false;
	if (user_id == NULL || !eduai_core_personal_guarding())
		return data;
	eduai_core_personal_require_sealing(user_id);
	*sealed = eduai_core_personal_sealing();
	if (!*sealed)
		return data;
	return PointerGetDatum(
		eduai_core_personal_seal_bytes(tenant, user_id, DatumGetByteaPP(data), subject_of(id)));
}

/* SPI connected, as the owner. */
static void
insert_attachment(const char *tenant, const pg_uuid_t *id, const char *user_id,
				  const char *content_type, Datum data)
{
	static EduaiPlan insert = {
		"INSERT INTO eduai.attachment (tenant_id, attachment_id, user_id, content_type, "
		"created_at, data, sealed) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		7,
		{TEXTOID, UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, BYTEAOID, BOOLOID}};
	char nulls[7] = {' ', ' ', user_id != NULL ? ' ' : 'n', ' ', ' ', ' ', ' '};
	bool sealed;
	Datum stored = guard_bytes(tenant, id, user_id, data, &sealed);
	Datum args[7] = {CStringGetTextDatum(tenant),
					 UUIDPGetDatum(id),
					 user_id != NULL ? CStringGetTextDatum(user_id) : (Datum) 0,
					 CStringGetTextDatum(content_type),
					 TimestampTzGetDatum(eduai_core_now()),
					 stored,
					 BoolGetDatum(sealed)};

	(void) eduai_core_run(&insert, args, nulls);
}

Datum
eduai_attach(PG_FUNCTION_ARGS)
{
	char *tenant = eduai_core_tenant();
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));
	char *user_id = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	char *content_type;
	EduaiPrivilege saved;

	if (PG_ARGISNULL(0))
		refuse_null("data");
	if (PG_ARGISNULL(1))
		refuse_null("content_type");
	check_size(PG_GETARG_DATUM(0));
	content_type = text_to_cstring(PG_GETARG_TEXT_PP(1));
	check_content_type(content_type);
	if (user_id != NULL)
		eduai_queue_check_label("user_id", user_id);
	eduai_core_personal_check(tenant, user_id);
	eduai_core_uuid7(id->data);
	eduai_core_enter(&saved);
	SPI_connect();
	insert_attachment(tenant, id, user_id, content_type, PG_GETARG_DATUM(0));
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_UUID_P(id);
}

/* ---- reading ---- */

Datum
eduai_attachment(PG_FUNCTION_ARGS)
{
	static EduaiPlan find = {
		"SELECT content_type, data, user_id, created_at, sealed FROM eduai.attachment "
		"WHERE tenant_id = $1 AND attachment_id = $2",
		2,
		{TEXTOID, UUIDOID}};
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum args[2] = {CStringGetTextDatum(eduai_core_tenant()), PG_GETARG_DATUM(0)};
	EduaiPrivilege saved;

	InitMaterializedSRF(fcinfo, 0);
	eduai_core_enter(&saved);
	SPI_connect();
	if (eduai_core_run(&find, args, NULL) > 0)
	{
		Datum values[5];
		bool nulls[5];
		bytea *bytes;

		for (int i = 0; i < 5; i++)
			values[i] = eduai_core_value(0, i + 1, &nulls[i]);
		/* the bytes, not where they are: they may be gone when the row is looked at */
		bytes = DatumGetByteaP(values[1]);
		if (DatumGetBool(values[4]))
			bytes = eduai_core_personal_reveal_bytes(
				TextDatumGetCString(args[0]), TextDatumGetCString(values[2]), bytes,
				subject_of(DatumGetUUIDP(args[1])), saved.caller);
		values[1] = PointerGetDatum(bytes);
		nulls[1] = bytes == NULL;
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		if (!nulls[2])
			eduai_core_personal_note(TextDatumGetCString(args[0]), TextDatumGetCString(values[2]),
									 "attachments", 1, saved.caller);
	}
	SPI_finish();
	eduai_core_leave(&saved);
	return (Datum) 0;
}

/* The bytes of a row (content_type, data, sealed, user_id) in clear; the dispatcher's must not raise. */
static AttachmentRead
open_bytes(const char *tenant, const pg_uuid_t *id, Datum bytes, bytea **data)
{
	char *user_id = eduai_core_text(0, 4);
	bool isnull;

	*data = DatumGetByteaPCopy(bytes);
	if (!DatumGetBool(eduai_core_value(0, 3, &isnull)))
		return ATTACHMENT_READ;
	if (eduai_core_personal_fault(tenant, user_id) != NULL)
		return ATTACHMENT_LOCKED;
	*data = eduai_core_personal_reveal_bytes(tenant, user_id, *data, subject_of(id), InvalidOid);
	return *data != NULL ? ATTACHMENT_READ : ATTACHMENT_MISSING;
}

AttachmentRead
eduai_queue_attachment_read(const char *tenant, const char *id, size_t most, char **content_type,
							bytea **data)
{
	static EduaiPlan find = {"SELECT content_type, data, sealed, user_id FROM eduai.attachment "
							 "WHERE tenant_id = $1 AND attachment_id = $2",
							 2,
							 {TEXTOID, UUIDOID}};
	MemoryContext caller = CurrentMemoryContext;
	AttachmentRead answer = ATTACHMENT_MISSING;
	pg_uuid_t uuid;
	Datum args[2] = {CStringGetTextDatum(tenant), UUIDPGetDatum(&uuid)};

	if (!parse_id(id, (int) strlen(id), &uuid))
		return ATTACHMENT_MISSING;
	SPI_connect();
	if (eduai_core_run(&find, args, NULL) > 0)
	{
		MemoryContext here = MemoryContextSwitchTo(caller);
		bool isnull;
		Datum bytes = eduai_core_value(0, 2, &isnull);

		answer = ATTACHMENT_TOO_LARGE;
		if (DatumGetBool(eduai_core_value(0, 3, &isnull)))
			most += EDUAI_SEALED_EXTRA;
		if (toast_raw_datum_size(bytes) - VARHDRSZ <= most)
		{
			*content_type = TextDatumGetCString(eduai_core_value(0, 1, &isnull));
			answer = open_bytes(tenant, &uuid, bytes, data);
		}
		MemoryContextSwitchTo(here);
	}
	SPI_finish();
	return answer;
}

void
eduai_queue_attachment_keep(const char *tenant, int64 task_id, const pg_uuid_t *id,
							const char *user_id, const char *content_type, bytea *data)
{
	static EduaiPlan link = {
		"INSERT INTO eduai.task_attachment (tenant_id, task_id, attachment_id) "
		"VALUES ($1, $2, $3)",
		3,
		{TEXTOID, INT8OID, UUIDOID}};
	Datum args[3] = {CStringGetTextDatum(tenant), Int64GetDatum(task_id), UUIDPGetDatum(id)};

	SPI_connect();
	insert_attachment(tenant, id, user_id, content_type, PointerGetDatum(data));
	(void) eduai_core_run(&link, args, NULL);
	SPI_finish();
}

void
eduai_queue_attachment_unkeep(const char *tenant, int64 task_id, const pg_uuid_t *id)
{
	static EduaiPlan unlink = {"DELETE FROM eduai.task_attachment WHERE tenant_id = $1 "
							   "AND task_id = $2 AND attachment_id = $3",
							   3,
							   {TEXTOID, INT8OID, UUIDOID}};
	static EduaiPlan drop = {"DELETE FROM eduai.attachment WHERE tenant_id = $1 "
							 "AND attachment_id = $2",
							 2,
							 {TEXTOID, UUIDOID}};
	Datum args[3] = {CStringGetTextDatum(tenant), Int64GetDatum(task_id), UUIDPGetDatum(id)};
	Datum which[2] = {args[0], args[2]};

	SPI_connect();
	(void) eduai_core_run(&unlink, args, NULL);
	(void) eduai_core_run(&drop, which, NULL);
	SPI_finish();
}

/* ---- links ---- */

static void
refuse_reference(const char *id, int length, const char *why)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("the payload refers to attachment \"%.*s\", which %s",
						   pg_mbcliplen(id, length, 80), id, why),
					errhint("Use an id that eduai.attach() returned for this tenant.")));
}

/* The ids that a payload refers to, palloc'd; each once or more. */
static int
find_references(const Jsonb *payload, pg_uuid_t **ids)
{
	JsonbIterator *it = JsonbIteratorInit((JsonbContainer *) &payload->root);
	JsonbIteratorToken token;
	JsonbValue value;
	bool here = false;
	int room = 8;
	int n = 0;

	*ids = palloc(sizeof(pg_uuid_t) * room);
	while ((token = JsonbIteratorNext(&it, &value, false)) != WJB_DONE)
	{
		if (token == WJB_VALUE && here && value.type == jbvString)
		{
			if (n == room)
				*ids = repalloc(*ids, sizeof(pg_uuid_t) * (room *= 2));
			if (!parse_id(value.val.string.val, value.val.string.len, &(*ids)[n++]))
				refuse_reference(value.val.string.val, value.val.string.len, "is no id");
		}
		here = token == WJB_KEY && value.val.string.len == strlen(KEY) &&
			   memcmp(value.val.string.val, KEY, strlen(KEY)) == 0;
	}
	return n;
}

static int
compare_ids(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(pg_uuid_t));
}

/* Sorted, so that two enqueuers take their shares in one order, and each once. */
static int
sort_references(pg_uuid_t *ids, int n)
{
	int kept = 0;

	qsort(ids, n, sizeof(pg_uuid_t), compare_ids);
	for (int i = 0; i < n; i++)
		if (i == 0 || compare_ids(&ids[i], &ids[kept - 1]) != 0)
			ids[kept++] = ids[i];
	return kept;
}

static Datum
id_array(pg_uuid_t *ids, int n)
{
	Datum *values = palloc(sizeof(Datum) * n);

	for (int i = 0; i < n; i++)
		values[i] = UUIDPGetDatum(&ids[i]);
	return eduai_core_datum_array(values, NULL, n, UUIDOID);
}

static void
refuse_missing(const char *tenant, Datum ids)
{
	static EduaiPlan find = {
		"SELECT u.id::text FROM pg_catalog.unnest($2::uuid[]) AS u (id) WHERE NOT EXISTS "
		"(SELECT FROM eduai.attachment a WHERE a.tenant_id = $1 AND a.attachment_id = u.id) "
		"LIMIT 1",
		2,
		{TEXTOID, UUIDARRAYOID}};
	Datum args[2] = {CStringGetTextDatum(tenant), ids};
	char *id = eduai_core_run(&find, args, NULL) > 0 ? eduai_core_text(0, 1) : NULL;

	/* in a snapshot of long ago, one that was dropped since may still be seen */
	refuse_reference(id ? id : "?", id ? (int) strlen(id) : 1, "does not exist");
}

void
eduai_queue_link_attachments(const char *tenant, int64 task_id, const Jsonb *payload)
{
	static EduaiPlan link = {
		"INSERT INTO eduai.task_attachment (tenant_id, task_id, attachment_id) "
		"SELECT a.tenant_id, $2, a.attachment_id FROM eduai.attachment a "
		"WHERE a.tenant_id = $1 AND a.attachment_id = ANY ($3) FOR KEY SHARE",
		3,
		{TEXTOID, INT8OID, UUIDARRAYOID}};
	Datum args[3] = {CStringGetTextDatum(tenant), Int64GetDatum(task_id), (Datum) 0};
	pg_uuid_t *ids;
	int n;

	/* a string stands in jsonb as it is */
	if (memmem(payload, VARSIZE(payload), KEY, strlen(KEY)) == NULL)
		return;
	n = find_references(payload, &ids);
	if (n == 0)
		return;
	n = sort_references(ids, n);
	args[2] = id_array(ids, n);
	if (eduai_core_run(&link, args, NULL) < (uint64) n)
		refuse_missing(tenant, args[2]);
}

/* ---- dropping ---- */

/* Takes the rows "pick" returns the ids of, then drops those without a link; how many. */
static int64
drop_unlinked(EduaiPlan *pick, Datum *args, const char *nulls)
{
	static EduaiPlan drop = {
		"DELETE FROM eduai.attachment a USING "
		"ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::uuid[])) AS u (tenant_id, id) "
		"WHERE a.tenant_id = u.tenant_id AND a.attachment_id = u.id AND NOT EXISTS "
		"(SELECT FROM eduai.task_attachment l WHERE l.tenant_id = a.tenant_id "
		"AND l.attachment_id = a.attachment_id)",
		2,
		{TEXTARRAYOID, UUIDARRAYOID}};
	Datum found[2];
	bool isnull;

	(void) eduai_core_run_latest(pick, args, nulls);
	found[0] = eduai_core_value(0, 1, &isnull);
	if (isnull)
		return 0;
	found[1] = eduai_core_value(0, 2, &isnull);
	return (int64) eduai_core_run_latest(&drop, found, NULL);
}

void
eduai_queue_drop_attachments(char *const *tenants, const int64 *ids, int n)
{
	static EduaiPlan unlink = {
		"WITH gone AS (DELETE FROM eduai.task_attachment l "
		"USING ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::bigint[])) AS u (tenant_id, id) "
		"WHERE l.tenant_id = u.tenant_id AND l.task_id = u.id "
		"RETURNING l.tenant_id, l.attachment_id), once AS (SELECT DISTINCT g.* FROM gone g) "
		"SELECT pg_catalog.array_agg(o.tenant_id), pg_catalog.array_agg(o.attachment_id) "
		"FROM once o",
		2,
		{TEXTARRAYOID, INT8ARRAYOID}};
	static EduaiPlan take = {
		"WITH taken AS (SELECT a.tenant_id, a.attachment_id FROM eduai.attachment a, "
		"ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::uuid[])) AS u (tenant_id, id) "
		"WHERE a.tenant_id = u.tenant_id AND a.attachment_id = u.id "
		"FOR UPDATE OF a SKIP LOCKED) "
		"SELECT pg_catalog.array_agg(t.tenant_id), pg_catalog.array_agg(t.attachment_id) "
		"FROM taken t",
		2,
		{TEXTARRAYOID, UUIDARRAYOID}};
	Datum args[2];
	bool isnull;

	if (n == 0)
		return;
	args[0] = eduai_core_text_array(tenants, n);
	args[1] = eduai_core_int8_array(ids, NULL, n);
	(void) eduai_core_run_latest(&unlink, args, NULL);
	args[0] = eduai_core_value(0, 1, &isnull);
	if (isnull)
		return;
	args[1] = eduai_core_value(0, 2, &isnull);
	(void) drop_unlinked(&take, args, NULL);
}

int64
eduai_queue_drop_unlinked_attachments(const char *tenant, int64 older_than_us, int most_n)
{
	static EduaiPlan take = {
		"WITH taken AS (SELECT a.tenant_id, a.attachment_id FROM eduai.attachment a "
		"WHERE a.created_at < $1 AND ($3 IS NULL OR a.tenant_id = $3) AND NOT EXISTS (SELECT FROM eduai.task_attachment l "
		"WHERE l.tenant_id = a.tenant_id AND l.attachment_id = a.attachment_id) "
		"ORDER BY a.created_at LIMIT $2 FOR UPDATE OF a SKIP LOCKED) "
		"SELECT pg_catalog.array_agg(t.tenant_id), pg_catalog.array_agg(t.attachment_id) "
		"FROM taken t",
		3,
		{TIMESTAMPTZOID, INT4OID, TEXTOID}};
	Datum args[3] = {TimestampTzGetDatum(eduai_core_now() - older_than_us), Int32GetDatum(most_n),
					 tenant ? CStringGetTextDatum(tenant) : (Datum) 0};

	return drop_unlinked(&take, args, tenant ? "   " : "  n");
}
