/*
 * key_command.c: learners' keys in a service behind eduai.key_store_command; see
 * key_command.h.
 *
 * The entry "store" has what the header of a file has: the store's id, a key for
 * digests of owners' names, and here one that wraps the learners' keys; sealed
 * under the master key.  So the service sees no key in clear, and a new master
 * key rewraps one entry.  A learner's entry is
 *
 *   version (1 byte, 1)  nonce (12)  the key (32), encrypted  tag (16)
 *
 * by AES-256-GCM under the wrapping key; the tag covers version, store and owner.
 *
 * Nothing is believed of a command that says nothing: that there is no key, too,
 * is said in a word.  What was put is read again before it is used, what was
 * destroyed is asked for before it counts as destroyed.
 *
 * What processes remember, keys and the entry "store", they forget after five
 * minutes, and keys whenever one was destroyed in this cluster: shared memory
 * counts them.  Processes without shared memory remember no key.
 *
 * A command that failed is left alone for a second, and for twice as long as it
 * took, by all processes: one that hangs must not hold up everything, for ever.
 */
#include "postgres.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "common/base64.h"
#include "core/clock.h"
#include "core/command.h"
#include "core/seal.h"
#include "core/shmem.h"
#include "port/atomics.h"
#include "privacy/key_command.h"
#include "utils/guc.h"

#define STORE         "store"
#define NONE          "none"
#define VERSION       1
#define NONCE_BYTES   12
#define TAG_BYTES     16
#define HEAD_BYTES    (1 + NONCE_BYTES)
#define WRAPPED_BYTES (HEAD_BYTES + LEARNER_KEY_BYTES + TAG_BYTES)
#define MOST_ENTRY    1000
#define KNOWN_US      (5 * 60 * INT64CONST(1000000))
#define REST_US       INT64CONST(1000000)
#define DIGEST_HEX    (2 * KEY_DIGEST_BYTES + 1)
#define STORE_CONTEXT "eduai key store of a command"

static char *key_store_command = NULL;
static int command_timeout_ms = 5000;

/* What processes tell one another. */
typedef struct Shared
{
	pg_atomic_uint64 destroyed;
	pg_atomic_uint64 rest_until_us; /* on the monotonic clock: the command failed a moment ago */
} Shared;

static Shared *shared = NULL;
static uint64 own_rest_until_us = 0; /* without shared memory */

/* What the entry "store" has. */
typedef struct StoreKeys
{
	uint8 id[KEY_STORE_ID_BYTES];
	uint8 digests[KEY_STORE_KEY_BYTES];
	uint8 wrapping[KEY_STORE_KEY_BYTES];
} StoreKeys;

StaticAssertDecl(sizeof(StoreKeys) == KEY_STORE_ID_BYTES + 2 * KEY_STORE_KEY_BYTES,
				 "what is sealed has no holes");

static struct
{
	char *command; /* that gave it; NULL: nothing is known */
	int64 read_us;
	StoreKeys keys;
	char entry[MOST_ENTRY + 1];
} known;
static uint64 readings = 0; /* of the entry, by this process */

static void
forget(void)
{
	if (known.command != NULL)
		free(known.command);
	OPENSSL_cleanse(&known, sizeof(known));
}

bool
eduai_privacy_key_command_configured(void)
{
	return key_store_command != NULL && *key_store_command != '\0';
}

/* ---- asking ---- */

static uint64
rest_until(void)
{
	return shared ? pg_atomic_read_u64(&shared->rest_until_us) : own_rest_until_us;
}

static void
rest(int64 took_us)
{
	own_rest_until_us = eduai_core_mono_us() + REST_US + 2 * took_us;
	if (shared != NULL)
		pg_atomic_write_u64(&shared->rest_until_us, own_rest_until_us);
}

/* Runs the command; its answer without the end of the line. */
static char *
ask(const char *operation, const char *reference, const char *input, char *answer)
{
	const char *words[] = {operation, reference, NULL};
	int64 began_us = eduai_core_mono_us();
	size_t length = 0;
	char *error;

	if ((uint64) began_us < rest_until())
		return pstrdup("the command failed a moment ago");
	error = eduai_core_command_output(key_store_command, words, input, answer, MOST_ENTRY + 1,
									  &length, command_timeout_ms);
	if (error != NULL)
	{
		rest(eduai_core_mono_us() - began_us);
		return psprintf("%s: %s", operation, error);
	}
	if (length > 0 && answer[length - 1] == '\n')
		answer[--length] = '\0';
	return strlen(answer) == length ? NULL : psprintf("%s: a zero byte was printed", operation);
}

/* The entry; *there says whether there is one. */
static char *
get(const char *reference, char *entry, bool *there)
{
	char *error = ask("get", reference, NULL, entry);

	*there = error == NULL && strcmp(entry, NONE) != 0;
	if (error == NULL && *entry == '\0')
		return pstrdup("get: the command printed nothing");
	return error;
}

/* The bytes of an entry; how many, -1: it is none. */
static int
decode(const char *entry, uint8 *bytes, int room)
{
	return pg_b64_decode(entry, (int) strlen(entry), (void *) bytes, room);
}

static char *
encode(const uint8 *bytes, int n)
{
	int room = pg_b64_enc_len(n);
	char *entry = palloc(room + 1);

	entry[pg_b64_encode((const void *) bytes, n, entry, room)] = '\0';
	return entry;
}

/* ---- the entry "store" ---- */

static char *
open_store(const char *entry)
{
	int room = pg_b64_dec_len((int) strlen(entry));
	bytea *sealed = palloc(VARHDRSZ + room);
	int n = decode(entry, (uint8 *) VARDATA(sealed), room);
	size_t length;
	char *error;
	char *keys;

	if (n < 0)
		return pstrdup("the entry of the store is not base64");
	SET_VARSIZE(sealed, VARHDRSZ + n);
	keys = eduai_core_unseal(sealed, STORE_CONTEXT, &length, &error);
	if (keys == NULL)
		return psprintf("the entry of the store does not open: %s", error);
	if (length == sizeof(StoreKeys))
		memcpy(&known.keys, keys, sizeof(StoreKeys));
	OPENSSL_cleanse(keys, length);
	if (length != sizeof(StoreKeys))
		return pstrdup("the entry of the store is damaged");
	known.command = strdup(key_store_command);
	known.read_us = eduai_core_mono_us();
	strlcpy(known.entry, entry, sizeof(known.entry));
	readings++;
	return NULL;
}

static char *
read_store(void)
{
	char entry[MOST_ENTRY + 1];
	bool there;
	char *error;

	forget();
	error = get(STORE, entry, &there);
	if (error == NULL && !there)
		error = pstrdup("there is no key store behind the command yet");
	if (error == NULL)
		error = open_store(entry);
	if (error != NULL)
		forget();
	return error;
}

char *
eduai_privacy_key_command_use(KeyStore *store)
{
	char *error = NULL;

	if (known.command == NULL || strcmp(known.command, key_store_command) != 0 ||
		eduai_core_mono_us() - known.read_us >= KNOWN_US)
		error = read_store();
	/* whoever has no shared memory hears of no destroyed key */
	if (shared == NULL)
		readings++;
	*store =
		(KeyStore){.id = known.keys.id,
				   .key = known.keys.digests,
				   .destroyed = readings + (shared ? pg_atomic_read_u64(&shared->destroyed) : 0)};
	return error;
}

/* Seals the store's keys and puts them there; what is there afterwards must be that. */
static char *
keep_store(const char *operation, const StoreKeys *keys)
{
	bytea *sealed = eduai_core_seal((const char *) keys, sizeof(StoreKeys), STORE_CONTEXT);
	char *entry = encode((uint8 *) VARDATA_ANY(sealed), VARSIZE_ANY_EXHDR(sealed));
	char answer[MOST_ENTRY + 1];
	bool there;
	char *error = ask(operation, STORE, entry, answer);

	if (error == NULL)
		error = get(STORE, answer, &there);
	if (error == NULL && strcmp(answer, entry) != 0)
		error = pstrdup("the command did not keep the entry of the store");
	return error;
}

char *
eduai_privacy_key_command_create(void)
{
	char entry[MOST_ENTRY + 1];
	StoreKeys keys;
	bool there;
	char *error = eduai_core_seal_fault();

	if (error == NULL)
		error = get(STORE, entry, &there);
	if (error == NULL && there)
		error = pstrdup("there is a key store behind the command already");
	if (error == NULL && !pg_strong_random(&keys, sizeof(keys)))
		error = pstrdup("there are no random bytes to be had");
	if (error == NULL)
		error = keep_store("put", &keys);
	OPENSSL_cleanse(&keys, sizeof(keys));
	forget();
	return error;
}

static bool
is_current(void)
{
	int room = pg_b64_dec_len((int) strlen(known.entry));
	bytea *sealed = palloc(VARHDRSZ + room);
	int n = decode(known.entry, (uint8 *) VARDATA(sealed), room);

	SET_VARSIZE(sealed, VARHDRSZ + Max(n, 0));
	return n > 0 && eduai_core_seal_is_current(sealed);
}

bool
eduai_privacy_key_command_is_current(void)
{
	return known.command != NULL && is_current();
}

char *
eduai_privacy_key_command_rotate(bool *done)
{
	char *error = read_store();

	*done = false;
	if (error != NULL || is_current())
		return error;
	error = keep_store("replace", &known.keys);
	forget();
	*done = error == NULL;
	return error;
}

/* ---- learners' entries ---- */

static void
reference_of(const uint8 *digest, char reference[DIGEST_HEX])
{
	for (int i = 0; i < KEY_DIGEST_BYTES; i++)
		snprintf(reference + 2 * i, 3, "%02x", digest[i]);
}

/* From "in" to "out"; the tag is at the end of the bytes of which "head" is the beginning. */
static bool
run_cipher(uint8 *head, const char *context, const uint8 *in, uint8 *out, bool wrap)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8 *tag = head + HEAD_BYTES + LEARNER_KEY_BYTES;
	int n = 0;
	bool ok;

	if (ctx == NULL)
		return false;
	ok =
		EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, known.keys.wrapping, head + 1, wrap) == 1 &&
		EVP_CipherUpdate(ctx, NULL, &n, head, 1) == 1 &&
		EVP_CipherUpdate(ctx, NULL, &n, (const uint8 *) context, (int) strlen(context)) == 1 &&
		EVP_CipherUpdate(ctx, out, &n, in, LEARNER_KEY_BYTES) == 1;
	if (ok && !wrap)
		ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG_BYTES, tag) == 1;
	ok = ok && EVP_CipherFinal_ex(ctx, out + n, &n) == 1;
	if (ok && wrap)
		ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, tag) == 1;
	EVP_CIPHER_CTX_free(ctx);
	return ok;
}

static char *
wrap(const uint8 *digest, const uint8 *key, char **entry)
{
	uint8 bytes[WRAPPED_BYTES] = {VERSION};

	if (!pg_strong_random(bytes + 1, NONCE_BYTES) ||
		!run_cipher(bytes, eduai_privacy_key_context(known.keys.id, digest), key,
					bytes + HEAD_BYTES, true))
		return pstrdup("a key could not be wrapped");
	*entry = encode(bytes, WRAPPED_BYTES);
	return NULL;
}

static char *
unwrap(const uint8 *digest, const char *entry, uint8 *key)
{
	uint8 bytes[MOST_ENTRY];
	int n = decode(entry, bytes, sizeof(bytes));

	if (n != WRAPPED_BYTES || bytes[0] != VERSION)
		return pstrdup("an entry is not that of a learner's key");
	if (!run_cipher(bytes, eduai_privacy_key_context(known.keys.id, digest), bytes + HEAD_BYTES,
					key, false))
	{
		OPENSSL_cleanse(key, LEARNER_KEY_BYTES);
		return pstrdup("a learner's key does not open: it was altered, or is another learner's");
	}
	return NULL;
}

char *
eduai_privacy_key_command_find(const uint8 *digest, uint8 *key, bool *found)
{
	char reference[DIGEST_HEX];
	char entry[MOST_ENTRY + 1];
	char *error;

	reference_of(digest, reference);
	error = get(reference, entry, found);
	return error == NULL && *found ? unwrap(digest, entry, key) : error;
}

char *
eduai_privacy_key_command_make(const uint8 *digest, uint8 *key)
{
	char reference[DIGEST_HEX];
	char answer[MOST_ENTRY + 1];
	char *entry = NULL;
	bool found;
	char *error;

	if (!pg_strong_random(key, LEARNER_KEY_BYTES))
		return pstrdup("there are no random bytes to be had");
	error = wrap(digest, key, &entry);
	OPENSSL_cleanse(key, LEARNER_KEY_BYTES);
	if (error != NULL)
		return error;
	reference_of(digest, reference);
	error = ask("put", reference, entry, answer);
	if (error != NULL)
		return error;
	/* what is there, by us or by somebody faster */
	error = eduai_privacy_key_command_find(digest, key, &found);
	return error == NULL && !found ? pstrdup("put: the command did not keep the entry") : error;
}

char *
eduai_privacy_key_command_destroy(const uint8 *digest, bool *destroyed)
{
	char reference[DIGEST_HEX];
	char answer[MOST_ENTRY + 1];
	bool there;
	char *error;

	reference_of(digest, reference);
	error = get(reference, answer, destroyed);
	if (error == NULL)
		error = ask("destroy", reference, NULL, answer);
	/* counted after an error, too: nobody knows how far it came */
	if (shared != NULL)
		(void) pg_atomic_fetch_add_u64(&shared->destroyed, 1);
	if (error == NULL)
		error = get(reference, answer, &there);
	if (error == NULL && there)
		error = pstrdup("destroy: the command still has the entry");
	return error;
}

/* ---- settings, shared memory ---- */

static Size
shared_size(void)
{
	return sizeof(Shared);
}

static void
shared_init(void *ptr)
{
	Shared *s = ptr;

	pg_atomic_init_u64(&s->destroyed, 0);
	pg_atomic_init_u64(&s->rest_until_us, 0);
}

void
eduai_privacy_key_command_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_privacy_keys",
										.size = shared_size,
										.init = shared_init,
										.address = (void **) &shared};

	DefineCustomStringVariable(
		"eduai.key_store_command", "A command that keeps the learners' keys, for a KMS.",
		"Run by the shell as the server's user, with an operation (get, put, replace, destroy) and "
		"a reference after it. Instead of eduai.key_store.",
		&key_store_command, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"eduai.key_store_timeout", "How long eduai.key_store_command may take, each time.",
		"It is ended then, and what needed a key fails.", &command_timeout_ms, 5000, 100, 600000,
		PGC_SIGHUP, GUC_SUPERUSER_ONLY | GUC_UNIT_MS, NULL, NULL, NULL);
	eduai_core_shmem_register(&part);
}
