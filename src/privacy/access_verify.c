/*
 * access_verify.c: verify_access_log(): what does not fit in a tenant's chain.
 *
 * Rows are read in pages in the order of their numbers, and each hash is taken
 * anew from the row's fields and the hash of the row before it as it is stored:
 * so a changed row is named alone and the ones after it are not.  A row that
 * does not fit where it is, and does at a number near by, was moved.  A row
 * that says what retention removed carries the hash that the first row left
 * continues from.
 *
 * From the middle on, "from_seq" is trusted for the hash of the row before it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "privacy/access_chain.h"
#include "privacy/access_log.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(eduai_verify_access_log);

#define PAGE 1000
#define NEAR 8 /* how far away a moved row is looked for */

typedef struct Stored
{
	EduaiAccessRow row;
	uint8 hash[EDUAI_ACCESS_HASH_BYTES];
	bool whole; /* the hash has its length */
} Stored;

typedef struct Check
{
	ReturnSetInfo *result;
	const char *tenant;
	int64 from;
	int64 through;
	int64 last;                            /* the number of the row before, 0: none yet */
	uint8 before[EDUAI_ACCESS_HASH_BYTES]; /* its hash */
	int key;                               /* the greatest so far */
	bool any;
} Check;

static void
report(Check *c, int64 seq, TimestampTz at, const char *fault, const char *detail)
{
	Datum values[] = {Int64GetDatum(seq), TimestampTzGetDatum(at), CStringGetTextDatum(fault),
					  CStringGetTextDatum(detail)};
	bool nulls[] = {false, at == DT_NOBEGIN, false, false};

	tuplestore_putvalues(c->result->setResult, c->result->setDesc, values, nulls);
}

/* ---- reading ---- */

static EduaiPlan page = {
	"SELECT l.seq, l.rows, l.at, l.key, l.kind, l.role, l.learner::text, l.purpose, l.source, l.hash"
	" FROM eduai.access_log l WHERE l.tenant_id = $1 AND l.seq > $2 AND l.seq <= $3"
	" ORDER BY l.seq LIMIT $4",
	4,
	{TEXTOID, INT8OID, INT8OID, INT4OID}};

static void
take(const Check *c, uint64 i, Stored *s)
{
	bool isnull;
	bytea *hash = DatumGetByteaPP(eduai_core_value(i, 10, &isnull));

	s->row = (EduaiAccessRow){.seq = eduai_core_int64(i, 1, 0),
							  .rows = eduai_core_int64(i, 2, 0),
							  .at = DatumGetTimestampTz(eduai_core_value(i, 3, &isnull)),
							  .key = (int) eduai_core_int64(i, 4, 0),
							  .tenant = c->tenant,
							  .kind = eduai_core_text(i, 5),
							  .role = eduai_core_text(i, 6),
							  .learner = eduai_core_text(i, 7),
							  .purpose = eduai_core_text(i, 8),
							  .source = eduai_core_text(i, 9)};
	s->whole = VARSIZE_ANY_EXHDR(hash) == EDUAI_ACCESS_HASH_BYTES;
	memset(s->hash, 0, sizeof(s->hash));
	if (s->whole)
		memcpy(s->hash, VARDATA_ANY(hash), EDUAI_ACCESS_HASH_BYTES);
}

static Stored *
read_page(const Check *c, int64 after, int *n)
{
	Datum args[] = {CStringGetTextDatum(c->tenant), Int64GetDatum(after), Int64GetDatum(c->through),
					Int32GetDatum(PAGE)};
	Stored *rows;

	*n = (int) eduai_core_query(&page, args, NULL);
	rows = palloc(sizeof(Stored) * (*n + 1));
	for (int i = 0; i < *n; i++)
		take(c, i, &rows[i]);
	SPI_freetuptable(SPI_tuptable);
	return rows;
}

/* ---- one row ---- */

static bool
fits(const Stored *s, int64 seq, const uint8 *before, const uint8 *key)
{
	EduaiAccessRow row = s->row;
	uint8 hash[EDUAI_ACCESS_HASH_BYTES];

	row.seq = seq;
	eduai_privacy_access_hash(&row, before, key, hash);
	return s->whole && memcmp(hash, s->hash, sizeof(hash)) == 0;
}

/* The number near by at which the row's hash is right; 0 when there is none. */
static int64
moved_from(const Stored *rows, int n, int i, const uint8 *key)
{
	for (int64 seq = Max(rows[i].row.seq - NEAR, 1); seq <= rows[i].row.seq + NEAR; seq++)
		for (int j = Max(i - NEAR - 1, 0); seq != rows[i].row.seq && j < Min(i + NEAR, n); j++)
			if (fits(&rows[i], seq, rows[j].hash, key))
				return seq;
	return 0;
}

static void
check_row(Check *c, const Stored *rows, int n, int i)
{
	const Stored *s = &rows[i];
	const uint8 *key = NULL;
	int64 from;

	if (s->row.seq > c->last + 1)
		report(c, c->last + 1, DT_NOBEGIN, "removed",
			   s->row.seq == c->last + 2
				   ? "the row is missing"
				   : psprintf("the rows through %lld are missing", (long long) s->row.seq - 1));
	if (s->row.key < c->key)
		report(c, s->row.seq, s->row.at, "weaker",
			   psprintf("key %d after key %d: the chain was taken up by somebody without it",
						s->row.key, c->key));
	c->key = Max(c->key, s->row.key);
	if (s->row.key != 0 && !eduai_privacy_access_key(s->row.key, &key))
		report(c, s->row.seq, s->row.at, "unverified",
			   psprintf("key %d cannot be opened", s->row.key));
	else if (s->row.seq == c->last + 1 && !fits(s, s->row.seq, c->before, key))
	{
		from = moved_from(rows, n, i, key);
		report(c, s->row.seq, s->row.at, from ? "moved" : "changed",
			   from ? psprintf("the row was number %lld", (long long) from)
					: "the row or its hash is not what was written");
	}
	c->last = s->row.seq;
	memcpy(c->before, s->hash, sizeof(c->before));
}

/* ---- where it begins and ends ---- */

static EduaiPlan removal = {"SELECT l.rows, l.source FROM eduai.access_log l WHERE l.tenant_id = $1"
							" AND l.kind = 'removed' ORDER BY l.seq DESC LIMIT 1",
							1,
							{TEXTOID}};

/* What retention removed is no fault: the row that says so is of the chain itself. */
static void
begin_after_removed(Check *c)
{
	Datum arg = CStringGetTextDatum(c->tenant);
	char *hex;

	if (eduai_core_query(&removal, &arg, NULL) == 0)
		return;
	hex = eduai_core_text(0, 2);
	if (strlen(hex) != sizeof(c->before) * 2 || strspn(hex, "0123456789abcdef") != strlen(hex))
		return;
	c->last = eduai_core_int64(0, 1, 0);
	hex_decode(hex, strlen(hex), (char *) c->before);
}

/* From the middle: the row before is taken as it is. */
static void
begin_at(Check *c)
{
	Check one = *c;
	int n;
	Stored *rows;

	one.through = c->from - 1;
	rows = read_page(&one, c->from - 2, &n);
	if (n == 0)
		return;
	c->last = rows[0].row.seq;
	c->key = rows[0].row.key;
	memcpy(c->before, rows[0].hash, sizeof(c->before));
}

static EduaiPlan hash_at = {
	"SELECT l.hash FROM eduai.access_log l WHERE l.tenant_id = $1 AND l.seq = $2",
	2,
	{TEXTOID, INT8OID}};

static void
check_head(Check *c)
{
	int n;
	EduaiAccessHead *heads = eduai_privacy_access_heads_read(&n);

	for (int i = 0; i < n; i++)
	{
		Datum args[] = {CStringGetTextDatum(c->tenant), Int64GetDatum(heads[i].seq)};
		bool isnull;
		bytea *hash;

		if (strcmp(heads[i].tenant, c->tenant) != 0 || heads[i].seq > c->through)
			continue;
		if (heads[i].seq > c->last)
		{
			report(c, c->last + 1, DT_NOBEGIN, "truncated",
				   psprintf("the rows through %lld are missing, by the head outside",
							(long long) heads[i].seq));
			continue;
		}
		if (eduai_core_query(&hash_at, args, NULL) == 0)
			continue;
		hash = DatumGetByteaPP(eduai_core_value(0, 1, &isnull));
		if (VARSIZE_ANY_EXHDR(hash) != sizeof(heads[i].hash) ||
			memcmp(VARDATA_ANY(hash), heads[i].hash, sizeof(heads[i].hash)) != 0)
			report(c, heads[i].seq, DT_NOBEGIN, "rewritten",
				   "the head outside has another hash for this row");
	}
}

static void
check_rows(Check *c)
{
	MemoryContext per_page =
		AllocSetContextCreate(CurrentMemoryContext, "eduai access rows", ALLOCSET_DEFAULT_SIZES);
	int64 after = c->from > 1 ? c->from - 1 : 0;
	int n = PAGE;

	while (n == PAGE)
	{
		MemoryContext old = MemoryContextSwitchTo(per_page);
		Stored *rows = read_page(c, after, &n);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < n; i++)
			/* what retention removed in this snapshot's time is above its removal */
			if (rows[i].row.seq > c->last || c->from > 1)
				check_row(c, rows, n, i);
		if (n > 0)
			after = rows[n - 1].row.seq;
		MemoryContextSwitchTo(old);
		MemoryContextReset(per_page);
	}
	MemoryContextDelete(per_page);
}

/* verify_access_log(from_seq bigint, through_seq bigint) returns setof access_fault */
Datum
eduai_verify_access_log(PG_FUNCTION_ARGS)
{
	Check c = {.from = PG_ARGISNULL(0) ? 1 : PG_GETARG_INT64(0),
			   .through = PG_ARGISNULL(1) ? PG_INT64_MAX : PG_GETARG_INT64(1)};
	EduaiPrivilege saved;

	if (c.from < 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid from_seq %lld", (long long) c.from),
						errhint("Rows are numbered from 1.")));
	c.tenant = eduai_core_tenant();
	InitMaterializedSRF(fcinfo, 0);
	c.result = (ReturnSetInfo *) fcinfo->resultinfo;
	eduai_core_enter(&saved);
	SPI_connect();
	if (c.from > 1)
		begin_at(&c);
	else
		begin_after_removed(&c);
	check_rows(&c);
	if (eduai_privacy_access_heads_kept() && PG_ARGISNULL(1))
		check_head(&c);
	SPI_finish();
	eduai_core_leave(&saved);
	return (Datum) 0;
}
