/*
 * access_drain.c: the keeper's chore that adds the notes of reads to the
 * chains, and what shortens the chains again.
 *
 * A batch is one transaction: the learners' references, then the rows.  The
 * places in shared memory are given back after its commit, so that what fails
 * is tried again.  A reference is a random uuid of its own for each learner,
 * and eduai.access_learner alone says whose it is: an erasure removes that row,
 * and no hash of the chain changes.  Who was erased gets no new one.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/pause.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "miscadmin.h"
#include "privacy/access_chain.h"
#include "privacy/access_log.h"
#include "privacy/access_ring.h"
#include "privacy/keeper.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#define BATCH     500
#define BATCHES   8     /* of a call of the chore */
#define PERIOD_MS 1000  /* while reads are noted */
#define IDLE_MS   60000 /* while they are not */

/* What is about to be inserted, and the heads of the tenants in it. */
typedef struct Batch
{
	EduaiAccessRow rows[BATCH + EDUAI_ACCESS_LOSSES + 1];
	Datum hashes[BATCH + EDUAI_ACCESS_LOSSES + 1];
	int n;
	EduaiAccessHead *heads;
	int nheads;
	int room;
	int key;
	const uint8 *key_bytes;
	MemoryContext context;
} Batch;

/* ---- chains ---- */

static EduaiPlan last_row = {"SELECT l.seq, l.hash FROM eduai.access_log l WHERE l.tenant_id = $1"
							 " ORDER BY l.seq DESC LIMIT 1",
							 1,
							 {TEXTOID}};

static EduaiAccessHead *
head_of(Batch *b, const char *tenant)
{
	EduaiAccessHead *head;
	Datum arg = CStringGetTextDatum(tenant);

	for (int i = 0; i < b->nheads; i++)
		if (strcmp(b->heads[i].tenant, tenant) == 0)
			return &b->heads[i];
	if (b->nheads == b->room)
	{
		b->room = b->room ? b->room * 2 : 16;
		b->heads = b->heads ? repalloc(b->heads, sizeof(EduaiAccessHead) * b->room)
							: palloc(sizeof(EduaiAccessHead) * b->room);
	}
	head = &b->heads[b->nheads++];
	memset(head, 0, sizeof(*head));
	head->tenant = pstrdup(tenant);
	if (eduai_core_run_latest(&last_row, &arg, NULL) > 0)
	{
		bool isnull;
		bytea *hash = DatumGetByteaPP(eduai_core_value(0, 2, &isnull));

		head->seq = eduai_core_int64(0, 1, 0);
		if (VARSIZE_ANY_EXHDR(hash) == EDUAI_ACCESS_HASH_BYTES)
			memcpy(head->hash, VARDATA_ANY(hash), EDUAI_ACCESS_HASH_BYTES);
	}
	return head;
}

/* Gives the row its number and hash; its texts stay where they are until the insertion. */
static void
add(Batch *b, const EduaiAccessRow *row)
{
	EduaiAccessHead *head = head_of(b, row->tenant);
	EduaiAccessRow *place = &b->rows[b->n];
	bytea *hash = palloc(VARHDRSZ + EDUAI_ACCESS_HASH_BYTES);

	*place = *row;
	place->tenant = head->tenant;
	place->seq = head->seq + 1;
	place->key = b->key;
	SET_VARSIZE(hash, VARHDRSZ + EDUAI_ACCESS_HASH_BYTES);
	eduai_privacy_access_hash(place, head->hash, b->key_bytes, (uint8 *) VARDATA(hash));
	memcpy(head->hash, VARDATA(hash), EDUAI_ACCESS_HASH_BYTES);
	head->seq = place->seq;
	b->hashes[b->n++] = PointerGetDatum(hash);
}

static EduaiPlan insert_rows = {
	"INSERT INTO eduai.access_log (tenant_id, seq, at, rows, key, kind, role, learner, purpose,"
	" source, hash) SELECT * FROM unnest($1::text[], $2::bigint[], $3::timestamptz[], $4::bigint[],"
	" $5::int[], $6::text[], $7::text[], $8::uuid[], $9::text[], $10::text[], $11::bytea[])",
	11,
	{TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT4ARRAYOID, TEXTARRAYOID,
	 TEXTARRAYOID, UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, BYTEAARRAYOID}};

/* One text column of the batch. */
#define TEXTS(field) texts_of(b, offsetof(EduaiAccessRow, field))

static Datum
texts_of(const Batch *b, size_t offset)
{
	char **values = palloc(sizeof(char *) * (b->n + 1));

	for (int i = 0; i < b->n; i++)
		values[i] = *(char **) ((char *) &b->rows[i] + offset);
	return eduai_core_text_array(values, b->n);
}

static Datum
learners_of(const Batch *b)
{
	Datum *values = palloc0(sizeof(Datum) * (b->n + 1));
	bool *nulls = palloc0(sizeof(bool) * (b->n + 1));

	for (int i = 0; i < b->n; i++)
	{
		nulls[i] = b->rows[i].learner == NULL;
		if (!nulls[i])
			values[i] = DirectFunctionCall1(uuid_in, CStringGetDatum(b->rows[i].learner));
	}
	return eduai_core_datum_array(values, nulls, b->n, UUIDOID);
}

static void
insert(const Batch *b)
{
	int64 *seqs = palloc(sizeof(int64) * (b->n + 1));
	int64 *counts = palloc(sizeof(int64) * (b->n + 1));
	int32 *keys = palloc(sizeof(int32) * (b->n + 1));
	Datum *times = palloc(sizeof(Datum) * (b->n + 1));
	Datum args[11];

	if (b->n == 0)
		return;
	for (int i = 0; i < b->n; i++)
	{
		seqs[i] = b->rows[i].seq;
		counts[i] = b->rows[i].rows;
		keys[i] = b->rows[i].key;
		times[i] = TimestampTzGetDatum(b->rows[i].at);
	}
	args[0] = TEXTS(tenant);
	args[1] = eduai_core_int8_array(seqs, NULL, b->n);
	args[2] = eduai_core_datum_array(times, NULL, b->n, TIMESTAMPTZOID);
	args[3] = eduai_core_int8_array(counts, NULL, b->n);
	args[4] = eduai_core_int4_array(keys, NULL, b->n);
	args[5] = TEXTS(kind);
	args[6] = TEXTS(role);
	args[7] = learners_of(b);
	args[8] = TEXTS(purpose);
	args[9] = TEXTS(source);
	args[10] = eduai_core_datum_array(b->hashes, NULL, b->n, BYTEAOID);
	eduai_core_run_latest(&insert_rows, args, NULL);
}

static Batch *
begin_batch(void)
{
	Batch *b = palloc0(sizeof(Batch));

	(void) eduai_core_lock(EDUAI_LOCK_ACCESS_LOG, EDUAI_ACCESS_LOG_LOCK, false);
	b->key = eduai_privacy_access_key_newest(&b->key_bytes);
	return b;
}

/* ---- learners ---- */

static EduaiPlan make_references = {
	"INSERT INTO eduai.access_learner (tenant_id, user_id, ref)"
	" SELECT DISTINCT ON (u.tenant_id, u.user_id) u.tenant_id, u.user_id, gen_random_uuid()"
	" FROM unnest($1::text[], $2::text[]) AS u (tenant_id, user_id)"
	" WHERE NOT EXISTS (SELECT FROM eduai.access_learner a WHERE a.tenant_id = u.tenant_id"
	" AND a.user_id = u.user_id) ON CONFLICT DO NOTHING",
	2,
	{TEXTARRAYOID, TEXTARRAYOID}};

static EduaiPlan find_references = {
	"SELECT a.ref::text FROM unnest($1::text[], $2::text[]) WITH ORDINALITY"
	" AS u (tenant_id, user_id, n) LEFT JOIN eduai.access_learner a ON a.tenant_id = u.tenant_id"
	" AND a.user_id = u.user_id ORDER BY u.n",
	2,
	{TEXTARRAYOID, TEXTARRAYOID}};

/* The reference of each note's learner; NULL where there is none. */
static char **
references(const EduaiAccessNote *notes, int n)
{
	char **tenants = palloc(sizeof(char *) * (n + 1));
	char **users = palloc(sizeof(char *) * (n + 1));
	char **result = palloc0(sizeof(char *) * (n + 1));
	int *place = palloc(sizeof(int) * (n + 1));
	int count = 0;
	Datum args[2];

	for (int i = 0; i < n; i++)
	{
		if (notes[i].user_id[0] == '\0' ||
			eduai_core_personal_erased(notes[i].tenant, notes[i].user_id))
			continue;
		place[count] = i;
		tenants[count] = pstrdup(notes[i].tenant);
		users[count++] = pstrdup(notes[i].user_id);
	}
	if (count == 0)
		return result;
	args[0] = eduai_core_text_array(tenants, count);
	args[1] = eduai_core_text_array(users, count);
	eduai_core_run_latest(&make_references, args, NULL);
	eduai_core_run_latest(&find_references, args, NULL);
	for (int i = 0; i < count; i++)
		result[place[i]] = eduai_core_text(i, 1);
	return result;
}

/* ---- the chore ---- */

static const char *
or_null(const char *value)
{
	return value[0] ? value : NULL;
}

static void
chain_notes(Batch *b, const EduaiAccessNote *notes, int n)
{
	char **learners = references(notes, n);

	for (int i = 0; i < n; i++)
	{
		EduaiAccessRow row = {.rows = notes[i].rows,
							  .at = notes[i].at,
							  .tenant = notes[i].tenant,
							  .kind = "read",
							  .role = GetUserNameFromId(notes[i].role, true),
							  .learner = learners[i],
							  .purpose = or_null(notes[i].purpose),
							  .source = notes[i].source};

		if (row.role == NULL)
			row.role = psprintf("dropped role %u", notes[i].role);
		add(b, &row);
	}
}

static void
chain_losses(Batch *b, const EduaiAccessLoss *losses, int n)
{
	for (int i = 0; i < n; i++)
	{
		EduaiAccessRow row = {.rows = losses[i].lost,
							  .at = eduai_core_now(),
							  .tenant = losses[i].tenant[0] ? losses[i].tenant : "default",
							  .kind = "lost",
							  .role = "eduai",
							  .source = losses[i].tenant[0] ? "this tenant" : "several tenants"};

		add(b, &row);
	}
}

static void
forget(const EduaiAccessNote *notes, int n, const EduaiAccessLoss *losses, int nlosses)
{
	eduai_privacy_access_release(n);
	eduai_privacy_access_losses_written(losses, nlosses);
}

/* Writes one batch in a transaction of its own; true when there may be more. */
static bool
drain_batch(MemoryContext context)
{
	EduaiAccessNote *notes = MemoryContextAlloc(context, sizeof(EduaiAccessNote) * BATCH);
	EduaiAccessLoss losses[EDUAI_ACCESS_LOSSES];
	int nlosses = eduai_privacy_access_losses(losses);
	int n = eduai_privacy_access_look(notes, BATCH);
	EduaiPrivilege saved;
	EduaiAccessHead *heads = NULL;
	int nheads = 0;
	Batch *b;

	if (n == 0 && nlosses == 0)
		return false;
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	eduai_core_enter(&saved);
	SPI_connect();
	b = begin_batch();
	chain_notes(b, notes, n);
	chain_losses(b, losses, nlosses);
	insert(b);
	if (eduai_privacy_access_heads_kept())
	{
		nheads = b->nheads;
		heads = MemoryContextAlloc(context, sizeof(EduaiAccessHead) * (nheads + 1));
		for (int i = 0; i < nheads; i++)
		{
			heads[i] = b->heads[i];
			heads[i].tenant = MemoryContextStrdup(context, b->heads[i].tenant);
		}
	}
	SPI_finish();
	eduai_core_leave(&saved);
	PopActiveSnapshot();
	EDUAI_PAUSE("privacy-access-commit");
	CommitTransactionCommand();
	forget(notes, n, losses, nlosses);
	MemoryContextSwitchTo(context);
	if (nheads > 0)
		eduai_privacy_access_heads_write(heads, nheads);
	return n == BATCH;
}

static bool
drain(void)
{
	MemoryContext context;
	MemoryContext old;
	volatile bool more = true;

	if (RecoveryInProgress())
		return false;
	context = AllocSetContextCreate(TopMemoryContext, "eduai access log", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	PG_TRY();
	{
		for (int i = 0; more && i < BATCHES; i++)
		{
			more = drain_batch(context);
			MemoryContextReset(context);
		}
	}
	PG_FINALLY();
	{
		MemoryContextSwitchTo(old);
		MemoryContextDelete(context);
	}
	PG_END_TRY();
	return more;
}

/* ---- the end of the server ---- */

/*
 * A keeper that is told to leave writes what waits: the notes of sessions that
 * have ended or will have nothing more to read.  Not after an error of its own.
 */
static void
drain_at_exit(int code, Datum arg)
{
	MemoryContext context = CurrentMemoryContext;

	if (code != 0 && code != 1)
		return;
	PG_TRY();
	{
		AbortOutOfAnyTransaction();
		while (drain())
			;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		EmitErrorReport();
		FlushErrorState();
		AbortOutOfAnyTransaction();
	}
	PG_END_TRY();
}

static long
chore(void)
{
	static bool registered = false;

	if (!registered)
	{
		before_shmem_exit(drain_at_exit, (Datum) 0);
		registered = true;
	}
	if (drain())
		return 0;
	return eduai_privacy_access_log ? PERIOD_MS : IDLE_MS;
}

void
eduai_privacy_access_drain_init(void)
{
	static const EduaiChore access_chore = {"access log", chore, NULL};

	eduai_privacy_keeper_register(&access_chore);
}

/* ---- shortening ---- */

/* Not when there is nothing old but what earlier removals left. */
static EduaiPlan old_rows = {
	"SELECT w.seq, w.hash FROM (SELECT o.seq, o.hash, bool_or(o.kind <> 'removed') OVER () AS any_read"
	" FROM (SELECT l.seq, l.hash, l.at, l.kind FROM eduai.access_log l"
	" WHERE l.tenant_id = $1 ORDER BY l.seq LIMIT $3) o WHERE o.at < $2) w WHERE w.any_read"
	" ORDER BY w.seq DESC LIMIT 1",
	3,
	{TEXTOID, TIMESTAMPTZOID, INT4OID}};

static EduaiPlan remove_rows = {
	"DELETE FROM eduai.access_log WHERE tenant_id = $1 AND seq <= $2", 2, {TEXTOID, INT8OID}};

static EduaiPlan remove_learners = {
	"DELETE FROM eduai.access_learner a WHERE a.tenant_id = $1 AND NOT EXISTS"
	" (SELECT FROM eduai.access_log l WHERE l.tenant_id = a.tenant_id AND l.learner = a.ref)",
	1,
	{TEXTOID}};

int64
eduai_privacy_access_prune(const char *tenant, TimestampTz before, int limit)
{
	Datum args[] = {CStringGetTextDatum(tenant), TimestampTzGetDatum(before), Int32GetDatum(limit)};
	EduaiAccessRow row = {.tenant = tenant, .kind = "removed", .role = "eduai"};
	char *hex;
	bool isnull;
	bytea *hash;
	int64 removed;
	Batch *b = begin_batch();

	if (eduai_core_run_latest(&old_rows, args, NULL) == 0)
		return 0;
	row.rows = eduai_core_int64(0, 1, 0);
	hash = DatumGetByteaPP(eduai_core_value(0, 2, &isnull));
	hex = palloc0(VARSIZE_ANY_EXHDR(hash) * 2 + 1);
	hex_encode(VARDATA_ANY(hash), VARSIZE_ANY_EXHDR(hash), hex);
	row.source = hex;
	row.at = eduai_core_now();
	add(b, &row);
	insert(b);
	args[1] = Int64GetDatum(row.rows);
	removed = (int64) eduai_core_run_latest(&remove_rows, args, NULL);
	eduai_core_run_latest(&remove_learners, args, NULL);
	return removed;
}
