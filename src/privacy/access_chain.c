/*
 * access_chain.c: the hash chain of the access log.  See access_chain.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "core/plan.h"
#include "core/seal.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "privacy/access_chain.h"

#define KEYS 16 /* kept by this process; the oldest gives way */

typedef struct Key
{
	int number; /* 0: free */
	uint8 bytes[EDUAI_ACCESS_KEY_BYTES];
} Key;

static Key keys[KEYS];
static int next_place = 0;

/* ---- hashes ---- */

/* Lengths keep fields apart; an absent one differs from an empty one. */
static void
put(StringInfo buffer, const char *value)
{
	pq_sendint32(buffer, value ? (uint32) strlen(value) : PG_UINT32_MAX);
	if (value)
		appendBinaryStringInfo(buffer, value, (int) strlen(value));
}

static void
plain_hash(const StringInfo buffer, uint8 *hash)
{
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);
	bool ok = ctx != NULL && pg_cryptohash_init(ctx) >= 0 &&
			  pg_cryptohash_update(ctx, (uint8 *) buffer->data, buffer->len) >= 0 &&
			  pg_cryptohash_final(ctx, hash, EDUAI_ACCESS_HASH_BYTES) >= 0;

	pg_cryptohash_free(ctx);
	if (!ok)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not hash")));
}

static void
keyed_hash(const StringInfo buffer, const uint8 *key, uint8 *hash)
{
	pg_hmac_ctx *ctx = pg_hmac_create(PG_SHA256);
	bool ok = ctx != NULL && pg_hmac_init(ctx, key, EDUAI_ACCESS_KEY_BYTES) >= 0 &&
			  pg_hmac_update(ctx, (uint8 *) buffer->data, buffer->len) >= 0 &&
			  pg_hmac_final(ctx, hash, EDUAI_ACCESS_HASH_BYTES) >= 0;

	pg_hmac_free(ctx);
	if (!ok)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not hash")));
}

void
eduai_privacy_access_hash(const EduaiAccessRow *row, const uint8 *before, const uint8 *key,
						  uint8 *hash)
{
	StringInfoData buffer;

	initStringInfo(&buffer);
	appendBinaryStringInfo(&buffer, (const char *) before, EDUAI_ACCESS_HASH_BYTES);
	pq_sendint64(&buffer, row->seq);
	pq_sendint64(&buffer, row->rows);
	pq_sendint64(&buffer, row->at);
	pq_sendint32(&buffer, row->key);
	put(&buffer, row->tenant);
	put(&buffer, row->kind);
	put(&buffer, row->role);
	put(&buffer, row->learner);
	put(&buffer, row->purpose);
	put(&buffer, row->source);
	if (key)
		keyed_hash(&buffer, key, hash);
	else
		plain_hash(&buffer, hash);
	pfree(buffer.data);
}

/* ---- keys ---- */

static EduaiPlan newest_key = {"SELECT k.key, k.sealed FROM eduai.access_key k"
							   " ORDER BY k.key DESC LIMIT 1",
							   0};

static EduaiPlan one_key = {
	"SELECT k.key, k.sealed FROM eduai.access_key k WHERE k.key = $1", 1, {INT4OID}};

static EduaiPlan all_keys = {"SELECT k.key, k.sealed FROM eduai.access_key k FOR UPDATE", 0};

static EduaiPlan add_key = {
	"INSERT INTO eduai.access_key (key, sealed) VALUES ($1, $2)", 2, {INT4OID, BYTEAOID}};

static EduaiPlan set_key = {
	"UPDATE eduai.access_key SET sealed = $2 WHERE key = $1", 2, {INT4OID, BYTEAOID}};

static char *
context_of(int number)
{
	return psprintf("access log key %d", number);
}

static const uint8 *
kept(int number)
{
	for (int i = 0; i < KEYS; i++)
		if (keys[i].number == number)
			return keys[i].bytes;
	return NULL;
}

static const uint8 *
keep(int number, const char *bytes)
{
	Key *place = &keys[next_place];

	next_place = (next_place + 1) % KEYS;
	place->number = number;
	memcpy(place->bytes, bytes, EDUAI_ACCESS_KEY_BYTES);
	return place->bytes;
}

/* Opens the key of the row that was just read; NULL and *error when it cannot. */
static const uint8 *
open_key(char **error)
{
	int number = (int) eduai_core_int64(0, 1, 0);
	const uint8 *known = kept(number);
	size_t length;
	bool isnull;
	char *bytes;

	if (known)
		return known;
	bytes = eduai_core_unseal(DatumGetByteaPP(eduai_core_value(0, 2, &isnull)), context_of(number),
							  &length, error);
	if (bytes == NULL)
		return NULL;
	if (length == EDUAI_ACCESS_KEY_BYTES)
		known = keep(number, bytes);
	else
		*error = pstrdup("the key has another length");
	eduai_core_seal_wipe(bytes);
	return known;
}

static const uint8 *
make_key(int number)
{
	char bytes[EDUAI_ACCESS_KEY_BYTES];
	Datum args[2];
	const uint8 *key;

	if (!pg_strong_random(bytes, sizeof(bytes)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a key")));
	args[0] = Int32GetDatum(number);
	args[1] = PointerGetDatum(eduai_core_seal(bytes, sizeof(bytes), context_of(number)));
	eduai_core_run_latest(&add_key, args, NULL);
	/* not kept: should this transaction roll back, the number gets another key */
	key = (const uint8 *) memcpy(palloc(sizeof(bytes)), bytes, sizeof(bytes));
	explicit_bzero(bytes, sizeof(bytes));
	return key;
}

int
eduai_privacy_access_key_newest(const uint8 **key)
{
	char *error = NULL;
	int number;

	*key = NULL;
	if (!eduai_core_seal_configured())
		return 0;
	if (eduai_core_run_latest(&newest_key, NULL, NULL) == 0)
	{
		*key = make_key(1);
		return 1;
	}
	number = (int) eduai_core_int64(0, 1, 0);
	*key = open_key(&error);
	if (*key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot open the access log's key %d", number), errdetail("%s.", error),
				 errhint("Put the master key that sealed it back into eduai.master_key_file.")));
	return number;
}

bool
eduai_privacy_access_key(int number, const uint8 **key)
{
	Datum arg = Int32GetDatum(number);
	char *error = NULL;

	*key = kept(number);
	if (*key == NULL && eduai_core_run_latest(&one_key, &arg, NULL) > 0)
		*key = open_key(&error);
	return *key != NULL;
}

int
eduai_privacy_access_reseal(void)
{
	uint64 n;
	int changed = 0;
	int *numbers;
	bytea **sealed;

	if (!eduai_core_seal_configured() || eduai_core_seal_fault() != NULL)
		return 0;
	n = eduai_core_run_latest(&all_keys, NULL, NULL);
	numbers = palloc(sizeof(int) * (n + 1));
	sealed = palloc(sizeof(bytea *) * (n + 1));
	for (uint64 i = 0; i < n; i++)
	{
		bool isnull;

		numbers[i] = (int) eduai_core_int64(i, 1, 0);
		sealed[i] = DatumGetByteaPCopy(eduai_core_value(i, 2, &isnull));
	}
	for (uint64 i = 0; i < n; i++)
	{
		char *error = NULL;
		size_t length;
		char *bytes;
		Datum args[2];

		if (eduai_core_seal_is_current(sealed[i]))
			continue;
		bytes = eduai_core_unseal(sealed[i], context_of(numbers[i]), &length, &error);
		if (bytes == NULL)
			continue;
		args[0] = Int32GetDatum(numbers[i]);
		args[1] = PointerGetDatum(eduai_core_seal(bytes, length, context_of(numbers[i])));
		eduai_core_run_latest(&set_key, args, NULL);
		eduai_core_seal_wipe(bytes);
		changed++;
	}
	return changed;
}
