/*
 * erased.c: whose data must not be kept any more.  See erased.h.
 *
 * Every append and every enqueue about a learner asks; hardly anybody was
 * erased.  So each database has a filter in shared memory: two bits of a keyed
 * hash of the name for every erased learner and stream.  Where both are set, and
 * only there, the digest is computed and looked up in the table's index.
 *
 * The filter is loaded from the tables by the first who asks.  Bits are set by
 * whoever erases, before the row can be seen, and cleared never: a transaction
 * that is rolled back leaves bits that cost later askers a look.  Rows that come
 * by another way, from a dump or a publisher, set them by a trigger.  Who asks
 * before the bits are set has begun before the intent was committed, and the
 * keeper waits for such transactions.
 *
 * A database that finds no place, and every database of a standby (whose tables
 * change by themselves) or without preload, looks into the index each time.
 *
 * The lock guards the places; bits and "loaded" are read without it.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "core/compat.h"
#include "core/heap.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/seal.h"
#include "core/shmem.h"
#include "core/xact.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "privacy/erased.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#define MAX_PLACES 64
#define MAX_KEYS   8
#define KEY_BYTES  32
#define BITS       (1 << 18)

typedef struct ErasedKey
{
	pg_uuid_t id;
	uint8 key[KEY_BYTES];
} ErasedKey;

typedef struct Place
{
	Oid database;
	pg_atomic_uint32 loaded;
	pg_atomic_uint32 any; /* some bit is set */
	bool overflow;        /* there are more keys than places for them */
	int nkeys;
	ErasedKey keys[MAX_KEYS];
	pg_atomic_uint32 bits[BITS / 32];
} Place;

/* Columns, from 0. */
enum
{
	ERASURE_PROBE = 3,
	STREAM_PROBE = 0,
	KEY_ID = 0,
	KEY_SEALED = 2,
	KEY_SECRET = 3,
};

static EduaiTable erasure_table = {"erasure", "erasure_pkey"};
static EduaiTable stream_table = {"erased_stream", "erased_stream_pkey"};
static EduaiTable key_table = {"erasure_key", "erasure_key_pkey"};

static Place *places = NULL;
static LWLockPadded *places_lock = NULL;
static bool reload_at_commit = false;

/* ---- digests ---- */

static uint64
seed_of(const uint8 *key)
{
	uint64 seed;

	memcpy(&seed, key, sizeof(seed));
	return seed;
}

/* What is hashed: the kind, the tenant, the name, each told from the next. */
static void
begin_message(StringInfo message, EduaiErasedKind kind, const char *tenant, const char *name)
{
	initStringInfo(message);
	appendStringInfoChar(message, kind == EDUAI_ERASED_LEARNER ? 'u' : 's');
	appendBinaryStringInfo(message, tenant, strlen(tenant) + 1);
	appendStringInfoString(message, name);
}

static int32
probe_of(const uint8 *key, const StringInfoData *message)
{
	return (int32) hash_bytes_extended((const unsigned char *) message->data, message->len,
									   seed_of(key));
}

static void
ref_of(const uint8 *key, const StringInfoData *message, char *ref)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int length;

	if (HMAC(EVP_sha256(), key, KEY_BYTES, (const unsigned char *) message->data, message->len,
			 digest, &length) == NULL)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute a digest")));
	hex_encode((const char *) digest, EDUAI_ERASED_REF / 2, ref);
	ref[EDUAI_ERASED_REF] = '\0';
}

void
eduai_privacy_digest_under(const pg_uuid_t *key_id, const uint8 *key, EduaiErasedKind kind,
						   const char *tenant, const char *name, EduaiErasedDigest *digest)
{
	StringInfoData message;

	begin_message(&message, kind, tenant, name);
	digest->key = *key_id;
	digest->probe = probe_of(key, &message);
	ref_of(key, &message, digest->ref);
	pfree(message.data);
}

/* ---- keys at rest ---- */

static char *
key_context(const pg_uuid_t *key_id)
{
	return psprintf("eduai erasure key %s",
					DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(key_id))));
}

uint8 *
eduai_privacy_erasure_key_open(const pg_uuid_t *key_id, bool sealed, const bytea *secret)
{
	uint8 *key = palloc(KEY_BYTES);
	char *opened = sealed ? NULL : VARDATA_ANY(secret);
	size_t length = sealed ? 0 : VARSIZE_ANY_EXHDR(secret);
	char *error = NULL;

	if (sealed)
		opened = eduai_core_unseal(secret, key_context(key_id), &length, &error);
	if (opened == NULL || length != KEY_BYTES)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("could not tell whether the learner was erased"),
						errdetail("The key of the erasures' digests could not be opened: %s.",
								  error ? error : "it is damaged"),
						errhint("Put its master key into eduai.master_key_file again.")));
	memcpy(key, opened, KEY_BYTES);
	if (sealed)
		eduai_core_seal_wipe(opened);
	return key;
}

bytea *
eduai_privacy_erasure_key_close(const pg_uuid_t *key_id, const uint8 *key, bool *sealed)
{
	bytea *plain;

	*sealed = eduai_core_seal_configured();
	if (*sealed)
		return eduai_core_seal((const char *) key, KEY_BYTES, key_context(key_id));
	plain = palloc(VARHDRSZ + KEY_BYTES);
	SET_VARSIZE(plain, VARHDRSZ + KEY_BYTES);
	memcpy(VARDATA(plain), key, KEY_BYTES);
	return plain;
}

/* ---- the filter ---- */

/* This database's place, made when there is room and it is asked for. */
static Place *
find_place(bool make)
{
	static int known = 0;
	Place *place = NULL;

	if (places == NULL || !OidIsValid(MyDatabaseId))
		return NULL;
	if (places[known].database == MyDatabaseId)
		return &places[known];
	LWLockAcquire(&places_lock->lock, make ? LW_EXCLUSIVE : LW_SHARED);
	for (int i = 0; i < MAX_PLACES && place == NULL; i++)
		if (places[i].database == MyDatabaseId)
			place = &places[known = i];
	for (int i = 0; i < MAX_PLACES && place == NULL && make; i++)
		if (!OidIsValid(places[i].database))
		{
			place = &places[known = i];
			place->database = MyDatabaseId;
		}
	LWLockRelease(&places_lock->lock);
	return place;
}

static void
set_bits(Place *place, int32 probe)
{
	uint32 a = (uint32) probe % BITS;
	uint32 b = ((uint32) probe * 0x9E3779B1u) >> 14;

	pg_atomic_fetch_or_u32(&place->bits[a / 32], 1u << (a % 32));
	pg_atomic_fetch_or_u32(&place->bits[b / 32], 1u << (b % 32));
	pg_atomic_write_u32(&place->any, 1);
}

static bool
has_bits(Place *place, int32 probe)
{
	uint32 a = (uint32) probe % BITS;
	uint32 b = ((uint32) probe * 0x9E3779B1u) >> 14;

	return (pg_atomic_read_u32(&place->bits[a / 32]) & (1u << (a % 32))) != 0 &&
		   (pg_atomic_read_u32(&place->bits[b / 32]) & (1u << (b % 32))) != 0;
}

/* Adds a key that the place does not have; the caller holds the lock. */
static void
add_key(Place *place, const ErasedKey *key)
{
	for (int i = 0; i < place->nkeys; i++)
		if (memcmp(&place->keys[i].id, &key->id, sizeof(key->id)) == 0)
			return;
	if (place->nkeys == MAX_KEYS)
		place->overflow = true;
	else
	{
		place->keys[place->nkeys] = *key;
		pg_write_barrier();
		place->nkeys++;
	}
}

/* Feeds every visible row of a small table to a function. */
static void
each_row(EduaiTable *table, void (*take)(TupleTableSlot *slot, void *arg), void *arg)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	Relation rel;
	TableScanDesc scan;
	TupleTableSlot *slot;

	eduai_core_table_find(table);
	rel = table_open(table->relid, AccessShareLock);
	slot = table_slot_create(rel, NULL);
	scan = table_beginscan(rel, snapshot, 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		slot_getallattrs(slot);
		take(slot, arg);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	UnregisterSnapshot(snapshot);
}

typedef struct KeyList
{
	ErasedKey *keys;
	int n;
} KeyList;

static void
take_key(TupleTableSlot *slot, void *arg)
{
	KeyList *list = arg;
	ErasedKey *key;
	uint8 *opened;

	list->keys = list->keys ? repalloc(list->keys, sizeof(ErasedKey) * (list->n + 1))
							: palloc(sizeof(ErasedKey));
	key = &list->keys[list->n++];
	key->id = *DatumGetUUIDP(slot->tts_values[KEY_ID]);
	opened = eduai_privacy_erasure_key_open(&key->id, DatumGetBool(slot->tts_values[KEY_SEALED]),
											DatumGetByteaPP(slot->tts_values[KEY_SECRET]));
	memcpy(key->key, opened, KEY_BYTES);
	pfree(opened);
}

static void
take_erasure(TupleTableSlot *slot, void *arg)
{
	set_bits(arg, DatumGetInt32(slot->tts_values[ERASURE_PROBE]));
}

static void
take_stream(TupleTableSlot *slot, void *arg)
{
	set_bits(arg, DatumGetInt32(slot->tts_values[STREAM_PROBE]));
}

static void
load(Place *place)
{
	KeyList list = {0};

	each_row(&key_table, take_key, &list);
	each_row(&erasure_table, take_erasure, place);
	each_row(&stream_table, take_stream, place);
	LWLockAcquire(&places_lock->lock, LW_EXCLUSIVE);
	for (int i = 0; i < list.n; i++)
		add_key(place, &list.keys[i]);
	LWLockRelease(&places_lock->lock);
	pg_atomic_write_u32(&place->loaded, 1);
}

/* The place, loaded; NULL where the filter cannot be used. */
static Place *
filter(void)
{
	Place *place;

	if (RecoveryInProgress())
		return NULL;
	place = find_place(true);
	if (place != NULL && pg_atomic_read_u32(&place->loaded) == 0)
		load(place);
	return place;
}

/* ---- looking ---- */

static bool
has_row(EduaiErasedKind kind, const char *tenant, const char *ref)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	EduaiScan scan;
	ScanKeyData keys[2];
	bool found;

	eduai_core_table_open(&scan, kind == EDUAI_ERASED_LEARNER ? &erasure_table : &stream_table,
						  snapshot, 2);
	eduai_core_key_text(&keys[0], 1, CStringGetTextDatum(tenant));
	eduai_core_key_text(&keys[1], 2, CStringGetTextDatum(ref));
	eduai_core_scan_seek(&scan, keys);
	found = eduai_core_scan_next(&scan, ForwardScanDirection);
	eduai_core_scan_close(&scan);
	UnregisterSnapshot(snapshot);
	return found;
}

static bool
has_row_under(const ErasedKey *key, EduaiErasedKind kind, const char *tenant, const char *name)
{
	EduaiErasedDigest digest;

	eduai_privacy_digest_under(&key->id, key->key, kind, tenant, name, &digest);
	return has_row(kind, tenant, digest.ref);
}

/* Without a filter: under each key of the table. */
static bool
look_up(EduaiErasedKind kind, const char *tenant, const char *name)
{
	KeyList list = {0};
	bool found = false;

	each_row(&key_table, take_key, &list);
	for (int i = 0; i < list.n && !found; i++)
		found = has_row_under(&list.keys[i], kind, tenant, name);
	return found;
}

bool
eduai_privacy_erased(EduaiErasedKind kind, const char *tenant, const char *name)
{
	Place *place = filter();
	StringInfoData message;
	bool found = false;

	if (place != NULL && pg_atomic_read_u32(&place->any) == 0)
		return false;
	if (place == NULL || place->overflow)
		return look_up(kind, tenant, name);
	begin_message(&message, kind, tenant, name);
	for (int i = 0; i < place->nkeys && !found; i++)
		found = has_bits(place, probe_of(place->keys[i].key, &message)) &&
				has_row_under(&place->keys[i], kind, tenant, name);
	pfree(message.data);
	return found;
}

static bool
learner_erased(const char *tenant, const char *user_id)
{
	return eduai_privacy_erased(EDUAI_ERASED_LEARNER, tenant, user_id);
}

static bool
stream_erased(const char *tenant, const char *stream)
{
	return (strncmp(stream, "learner-", 8) == 0 && learner_erased(tenant, stream + 8)) ||
		   eduai_privacy_erased(EDUAI_ERASED_STREAM, tenant, stream);
}

static void
erase_stream(const char *tenant, const char *stream)
{
	static EduaiPlan insert = {
		"INSERT INTO eduai.erased_stream (tenant_id, stream_ref, probe, key_id)"
		" VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
		4,
		{TEXTOID, TEXTOID, INT4OID, UUIDOID}};
	EduaiErasedDigest digest;
	Datum args[4];

	eduai_privacy_digest(EDUAI_ERASED_STREAM, tenant, stream, &digest);
	args[0] = CStringGetTextDatum(tenant);
	args[1] = CStringGetTextDatum(digest.ref);
	args[2] = Int32GetDatum(digest.probe);
	args[3] = UUIDPGetDatum(&digest.key);
	eduai_core_run_latest(&insert, args, NULL);
	eduai_privacy_erased_mark(&digest);
}

void
eduai_privacy_erased_mark(const EduaiErasedDigest *digest)
{
	Place *place = find_place(true);

	if (place != NULL)
		set_bits(place, digest->probe);
}

/* ---- this database's key ---- */

static EduaiPlan oldest_key = {
	"SELECT key_id, sealed, secret FROM eduai.erasure_key ORDER BY created_at, key_id LIMIT 1", 0};
static EduaiPlan insert_key = {"INSERT INTO eduai.erasure_key (key_id, created_at, sealed, secret)"
							   " VALUES ($1, pg_catalog.now(), $2, $3) ON CONFLICT DO NOTHING",
							   3,
							   {UUIDOID, BOOLOID, BYTEAOID}};

/*
 * One for the first erasure.  It stays in the filter's place also when that is
 * rolled back, and the next one takes it: two at the same time make the same.
 */
static ErasedKey
make_key(void)
{
	Place *place = find_place(true);
	ErasedKey key;
	bool sealed;
	Datum args[3];

	if (!pg_strong_random(&key, sizeof(key)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not draw a random key")));
	if (place != NULL)
	{
		LWLockAcquire(&places_lock->lock, LW_EXCLUSIVE);
		if (place->nkeys == 0)
			add_key(place, &key);
		key = place->keys[0];
		LWLockRelease(&places_lock->lock);
	}
	args[0] = UUIDPGetDatum(&key.id);
	args[2] = PointerGetDatum(eduai_privacy_erasure_key_close(&key.id, key.key, &sealed));
	args[1] = BoolGetDatum(sealed);
	eduai_core_run_latest(&insert_key, args, NULL);
	return key;
}

static ErasedKey
own_key(void)
{
	bool isnull;
	ErasedKey key;
	uint8 *opened;

	(void) filter();
	if (eduai_core_run_latest(&oldest_key, NULL, NULL) == 0)
		return make_key();
	key.id = *DatumGetUUIDP(eduai_core_value(0, 1, &isnull));
	opened = eduai_privacy_erasure_key_open(&key.id, DatumGetBool(eduai_core_value(0, 2, &isnull)),
											DatumGetByteaPP(eduai_core_value(0, 3, &isnull)));
	memcpy(key.key, opened, KEY_BYTES);
	pfree(opened);
	return key;
}

void
eduai_privacy_digest(EduaiErasedKind kind, const char *tenant, const char *name,
					 EduaiErasedDigest *digest)
{
	ErasedKey key = own_key();

	eduai_privacy_digest_under(&key.id, key.key, kind, tenant, name, digest);
	explicit_bzero(&key, sizeof(key));
}

void
eduai_privacy_erasure_keys_reseal(void)
{
	static EduaiPlan all = {"SELECT key_id, sealed, secret FROM eduai.erasure_key", 0};
	static EduaiPlan update = {
		"UPDATE eduai.erasure_key SET sealed = $2, secret = $3 WHERE key_id = $1",
		3,
		{UUIDOID, BOOLOID, BYTEAOID}};
	uint64 n;
	SPITupleTable *rows;

	if (!eduai_core_seal_configured() || eduai_core_seal_fault() != NULL)
		return;
	n = eduai_core_run_latest(&all, NULL, NULL);
	rows = SPI_tuptable;
	for (uint64 i = 0; i < n; i++)
	{
		bool isnull;
		bool sealed = DatumGetBool(SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull));
		Datum id = SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull);
		bytea *secret = DatumGetByteaPP(SPI_getbinval(rows->vals[i], rows->tupdesc, 3, &isnull));
		uint8 *key;
		Datum args[3];

		if (sealed && eduai_core_seal_is_current(secret))
			continue;
		key = eduai_privacy_erasure_key_open(DatumGetUUIDP(id), sealed, secret);
		args[0] = id;
		args[2] = PointerGetDatum(eduai_privacy_erasure_key_close(DatumGetUUIDP(id), key, &sealed));
		args[1] = BoolGetDatum(sealed);
		eduai_core_run_latest(&update, args, NULL);
		explicit_bzero(key, KEY_BYTES);
	}
}

/* ---- start ---- */

void
eduai_privacy_erased_reload(void)
{
	reload_at_commit = true;
}

static void
on_commit(void)
{
	Place *place = reload_at_commit ? find_place(false) : NULL;

	if (place != NULL)
		pg_atomic_write_u32(&place->loaded, 0);
	reload_at_commit = false;
}

static void
on_abort(void)
{
	reload_at_commit = false;
}

static Size
places_size(void)
{
	return sizeof(Place) * MAX_PLACES;
}

/* Zeros are what the atomics begin with. */
static void
places_init(void *ptr)
{
	memset(ptr, 0, places_size());
}

void
eduai_privacy_erased_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_privacy_erased",
										.size = places_size,
										.init = places_init,
										.nlocks = 1,
										.address = (void **) &places,
										.locks = &places_lock};
	static const EduaiXactHooks hooks = {
		.name = "erased", .rank = EDUAI_RANK_EVENTS, .commit = on_commit, .abort = on_abort};
	static const EduaiPersonalPolicy policy = {
		.erased = learner_erased, .stream_erased = stream_erased, .erase_stream = erase_stream};

	eduai_core_shmem_register(&part);
	eduai_core_xact_register(&hooks);
	eduai_core_personal_register_policy(&policy);
}
