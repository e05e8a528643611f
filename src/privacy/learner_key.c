/*
 * learner_key.c: each learner's own key; see learner_key.h.
 *
 * Keys are remembered per backend, 512 at most, by the names of their owners
 * and as contexts of OpenSSL's, which overwrites them when it frees them,
 * as long as the store is the same and counts no destroyed key more: each use
 * reads that count first, so that after eduai_privacy_key_destroy() returned
 * nobody begins to use the key.  What is forgotten is overwritten.
 *
 * Caveat: a backend that does nothing keeps what it remembers in its memory
 * until its next use or its end.
 */
#include "postgres.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>

#include "common/hashfn.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/compat.h"
#include "executor/spi.h"
#include "privacy/key_store.h"
#include "privacy/learner_key.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#define REMEMBERED 512 /* a power of 2 */

typedef struct Remembered
{
	char *owner; /* tenant, 0, user_id; NULL: empty */
	Size length;
	LearnerKey key;
} Remembered;

static Remembered remembered[REMEMBERED];
/* what they were read from */
static uint8 remembered_store[KEY_STORE_ID_BYTES];
static uint64 remembered_destroyed;
static bool remembers = false;

static Oid identity_installation = InvalidOid; /* whose it is */
static pg_uuid_t identity;

/* ---- remembering ---- */

static void
forget_one(Remembered *r)
{
	if (r->owner != NULL)
	{
		EVP_CIPHER_CTX_free(r->key.seal);
		HMAC_CTX_free(r->key.nonce);
		pfree(r->owner);
		*r = (Remembered){NULL};
	}
}

static void
forget_all(void)
{
	for (int i = 0; i < REMEMBERED; i++)
		forget_one(&remembered[i]);
	remembers = false;
}

static char *
owner_name(const char *tenant, const char *user_id, Size *length)
{
	Size first = strlen(tenant) + 1;
	Size second = strlen(user_id);
	char *owner = palloc(first + second + 1);

	memcpy(owner, tenant, first);
	memcpy(owner + first, user_id, second + 1);
	*length = first + second;
	return owner;
}

static Remembered *
place_of(const char *owner, Size length)
{
	return &remembered[hash_bytes((const unsigned char *) owner, (int) length) & (REMEMBERED - 2)];
}

static bool
is_of(const Remembered *r, const char *owner, Size length)
{
	return r->owner && r->length == length && memcmp(r->owner, owner, length) == 0;
}

static const LearnerKey *
recall(const char *owner, Size length)
{
	Remembered *r = place_of(owner, length);

	return is_of(r, owner, length) ? &r->key : is_of(r + 1, owner, length) ? &r[1].key : NULL;
}

/* The owner's place, for a key that is still to be put there. */
static LearnerKey *
remember(const char *owner, Size length)
{
	Remembered *r = place_of(owner, length);
	char *copy = MemoryContextAlloc(TopMemoryContext, length + 1);

	/* of the two of a place the older one gives way */
	forget_one(r + 1);
	r[1] = r[0];
	memcpy(copy, owner, length + 1);
	*r = (Remembered){copy, length, {NULL}};
	remembers = true;
	return &r->key;
}

/* ---- the store ---- */

static void raise_unusable(const char *error) __attribute__((noreturn));

static void
raise_unusable(const char *error)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("cannot use the key store"),
			 errdetail("The reason: %s.", error), errhint("%s", eduai_privacy_key_store_hint())));
}

/* The store, open; what is remembered of another or before a key was destroyed is forgotten. */
static const KeyStore *
try_store(char **error)
{
	const KeyStore *store = eduai_privacy_key_store_use(error);

	if (remembers && (store == NULL || store->destroyed != remembered_destroyed ||
					  memcmp(store->id, remembered_store, KEY_STORE_ID_BYTES) != 0))
		forget_all();
	if (store != NULL && !remembers)
	{
		remembered_destroyed = store->destroyed;
		memcpy(remembered_store, store->id, KEY_STORE_ID_BYTES);
	}
	return store;
}

static const KeyStore *
use_store(void)
{
	char *error;
	const KeyStore *store = try_store(&error);

	if (store == NULL)
		raise_unusable(error);
	return store;
}

/* The oldest: CREATE EXTENSION makes one, a restored dump brings an older one. */
static void
read_identity(void)
{
	static EduaiPlan oldest = {
		"SELECT identity FROM eduai.key_identity ORDER BY made_at, identity LIMIT 1", 0};
	EduaiPrivilege saved;
	bool isnull;

	if (identity_installation == eduai_core_installation())
		return;
	eduai_core_enter(&saved);
	SPI_connect();
	if (eduai_core_run_latest(&oldest, NULL, NULL) != 1)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("eduai.key_identity has no row"),
						errhint("Restore the row that a dump of this database has.")));
	identity = *DatumGetUUIDP(eduai_core_value(0, 1, &isnull));
	SPI_finish();
	eduai_core_leave(&saved);
	identity_installation = eduai_core_installation();
	forget_all();
}

static void
digest_of(const KeyStore *store, const char *owner, Size length, uint8 *digest)
{
	uint8 *named = palloc(UUID_LEN + length);
	unsigned int n = KEY_DIGEST_BYTES;

	memcpy(named, identity.data, UUID_LEN);
	memcpy(named + UUID_LEN, owner, length);
	if (HMAC(EVP_sha256(), store->key, KEY_STORE_KEY_BYTES, named, UUID_LEN + length, digest, &n) ==
		NULL)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not look for a key")));
	pfree(named);
}

/* ---- a key and what is derived from it ---- */

static bool
derive(const uint8 *from, const char *purpose, uint8 *to)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
	size_t length = LEARNER_KEY_BYTES;
	bool ok;

	if (ctx == NULL)
		return false;
	ok = EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_CTX_set_hkdf_md(ctx, EVP_sha256()) == 1 &&
		 EVP_PKEY_CTX_set1_hkdf_key(ctx, from, LEARNER_KEY_BYTES) == 1 &&
		 EVP_PKEY_CTX_add1_hkdf_info(ctx, (const unsigned char *) purpose, (int) strlen(purpose)) ==
			 1 &&
		 EVP_PKEY_derive(ctx, to, &length) == 1;
	EVP_PKEY_CTX_free(ctx);
	return ok;
}

static bool
make_ready(const uint8 *key, LearnerKey *ready)
{
	uint8 seal[LEARNER_KEY_BYTES];
	uint8 nonce[LEARNER_KEY_BYTES];
	bool ok;

	ready->seal = EVP_CIPHER_CTX_new();
	ready->nonce = HMAC_CTX_new();
	ok = ready->seal != NULL && ready->nonce != NULL && derive(key, "eduai sealing", seal) &&
		 derive(key, "eduai nonces", nonce) &&
		 EVP_CipherInit_ex(ready->seal, EVP_aes_256_gcm(), NULL, seal, NULL, 1) == 1 &&
		 HMAC_Init_ex(ready->nonce, nonce, LEARNER_KEY_BYTES, EVP_sha256(), NULL) == 1;
	OPENSSL_cleanse(seal, sizeof(seal));
	OPENSSL_cleanse(nonce, sizeof(nonce));
	return ok;
}

static const LearnerKey *
derive_and_remember(const char *owner, Size length, const uint8 *key)
{
	LearnerKey *kept = remember(owner, length);

	if (!make_ready(key, kept))
	{
		forget_all();
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not derive a key")));
	}
	return kept;
}

/* Sets *kept: NULL when there is none, also after an error, which is returned. */
static char *
look_up(const KeyStore *store, const char *owner, Size length, bool make, const LearnerKey **kept)
{
	uint8 digest[KEY_DIGEST_BYTES];
	uint8 key[LEARNER_KEY_BYTES];
	bool found = false;
	char *error;

	*kept = NULL;
	digest_of(store, owner, length, digest);
	error = eduai_privacy_key_store_find(store, digest, key, &found);
	if (error == NULL && !found && make)
	{
		error = eduai_privacy_key_store_make(store, digest, key);
		found = true;
	}
	if (error == NULL && found)
		*kept = derive_and_remember(owner, length, key);
	OPENSSL_cleanse(key, sizeof(key));
	return error;
}

static const LearnerKey *
find_or_make(const char *tenant, const char *user_id, bool make)
{
	Size length;
	char *owner = owner_name(tenant, user_id, &length);
	const LearnerKey *key;
	const KeyStore *store;
	char *error = NULL;

	read_identity();
	store = use_store();
	key = recall(owner, length);
	if (key == NULL)
		error = look_up(store, owner, length, make, &key);
	if (error != NULL)
		raise_unusable(error);
	pfree(owner);
	return key;
}

bool
eduai_privacy_keys_configured(void)
{
	return eduai_privacy_key_store_configured();
}

char *
eduai_privacy_keys_fault(const char *tenant, const char *user_id)
{
	const KeyStore *store;
	const LearnerKey *key;
	char *error;
	Size length;
	char *owner;

	if (user_id != NULL)
		read_identity();
	store = try_store(&error);
	if (store == NULL || user_id == NULL)
		return error;
	owner = owner_name(tenant, user_id, &length);
	if (recall(owner, length) == NULL)
		error = look_up(store, owner, length, false, &key);
	pfree(owner);
	return error;
}

const LearnerKey *
eduai_privacy_key_find(const char *tenant, const char *user_id)
{
	return find_or_make(tenant, user_id, false);
}

const LearnerKey *
eduai_privacy_key_make(const char *tenant, const char *user_id)
{
	return find_or_make(tenant, user_id, true);
}

bool
eduai_privacy_key_destroy(const char *tenant, const char *user_id)
{
	Size length;
	char *owner = owner_name(tenant, user_id, &length);
	uint8 digest[KEY_DIGEST_BYTES];
	const KeyStore *store;
	bool destroyed;
	char *error;

	read_identity();
	store = use_store();
	digest_of(store, owner, length, digest);
	forget_all();
	error = eduai_privacy_key_store_destroy(store, digest, &destroyed);
	if (error != NULL)
		raise_unusable(error);
	return destroyed;
}

void
eduai_privacy_learner_key_init(void)
{
	eduai_privacy_key_store_init();
}
