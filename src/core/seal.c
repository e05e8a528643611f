/*
 * seal.c: sealing and opening secrets; see seal.h.
 *
 * A sealed value is
 *
 *   version (1 byte, 1)  length of the key's id (1)  the id  nonce (12)
 *   ciphertext (as long as the secret)  tag (16)
 *
 * The tag covers all of it and the context.  Nonces are random, which 96 bits
 * allow for 2^32 values of one key; a master key that has sealed more than
 * that should be followed by another.
 *
 * Nothing can be raised while OpenSSL's memory is held.
 */
#include "postgres.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "core/compat.h"
#include "core/health.h"
#include "core/master_key.h"
#include "core/seal.h"

#define VERSION     1
#define FIXED_BYTES 2 /* version, length of the id */
#define NONCE_BYTES 12
#define TAG_BYTES   16
#define MAX_SECRET  (16 * 1024 * 1024)

/* Where the parts of a sealed value are. */
typedef struct Parts
{
	uint8 *head; /* what is authenticated but not encrypted */
	int head_length;
	uint8 *nonce;
	uint8 *text;
	int text_length;
	uint8 *tag;
} Parts;

static Parts
parts_of(uint8 *start, int id_length, int text_length)
{
	Parts parts = {
		.head = start, .head_length = FIXED_BYTES + id_length, .text_length = text_length};

	parts.nonce = start + parts.head_length;
	parts.text = parts.nonce + NONCE_BYTES;
	parts.tag = parts.text + text_length;
	return parts;
}

/* The id and the parts of what claims to be sealed; false when it cannot be. */
static bool
take_apart(const bytea *sealed, char id[MAX_MASTER_KEY_ID + 1], Parts *parts)
{
	uint8 *start = (uint8 *) VARDATA_ANY(sealed);
	int length = (int) VARSIZE_ANY_EXHDR(sealed);
	int id_length = length > FIXED_BYTES ? start[1] : 0;

	if (id_length == 0 || start[0] != VERSION || id_length > MAX_MASTER_KEY_ID ||
		length < FIXED_BYTES + id_length + NONCE_BYTES + TAG_BYTES)
		return false;
	memcpy(id, start + FIXED_BYTES, id_length);
	id[id_length] = '\0';
	*parts = parts_of(start, id_length, length - FIXED_BYTES - id_length - NONCE_BYTES - TAG_BYTES);
	return true;
}

/* ---- OpenSSL ---- */

/* What is authenticated: the head, then the context. */
static bool
add_known(EVP_CIPHER_CTX *ctx, const Parts *parts, const char *context)
{
	int n;

	return EVP_CipherUpdate(ctx, NULL, &n, parts->head, parts->head_length) == 1 &&
		   EVP_CipherUpdate(ctx, NULL, &n, (const uint8 *) context, (int) strlen(context)) == 1;
}

/* From "in" to "out"; the tag is made or compared. */
static bool
run_cipher(const MasterKey *key, const Parts *parts, const char *context, const uint8 *in,
		   uint8 *out, bool seal)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int n = 0;
	bool ok;

	if (ctx == NULL)
		return false;
	ok = EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key->key, parts->nonce, seal) == 1 &&
		 add_known(ctx, parts, context) &&
		 EVP_CipherUpdate(ctx, out, &n, in, parts->text_length) == 1;
	if (ok && !seal)
		ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG_BYTES, parts->tag) == 1;
	ok = ok && EVP_CipherFinal_ex(ctx, out + n, &n) == 1;
	if (ok && seal)
		ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, parts->tag) == 1;
	EVP_CIPHER_CTX_free(ctx);
	return ok;
}

/* ---- sealing ---- */

static const MasterKey *
current_key(void)
{
	const MasterKey *keys;
	char *error;

	if (eduai_core_master_keys(&keys, &error) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot seal a secret without a usable master key"),
				 errdetail("The reason: %s.", error),
				 errhint("A superuser sets eduai.master_key_file to a file outside of the data "
						 "directory, readable by the server alone, with a line \"ID BASE64\".")));
	return &keys[0];
}

void
eduai_core_seal_refresh(void)
{
	eduai_core_master_key_refresh();
}

bool
eduai_core_seal_configured(void)
{
	return eduai_core_master_key_configured();
}

char *
eduai_core_seal_fault(void)
{
	const MasterKey *keys;
	char *error;

	return eduai_core_master_keys(&keys, &error) > 0 ? NULL : error;
}

bytea *
eduai_core_seal(const char *secret, size_t length, const char *context)
{
	const MasterKey *key = current_key();
	int id_length = (int) strlen(key->id);
	int size;
	bytea *sealed;
	Parts parts;

	if (length > MAX_SECRET)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("a secret cannot be longer than %d bytes", MAX_SECRET)));
	size = VARHDRSZ + FIXED_BYTES + id_length + NONCE_BYTES + (int) length + TAG_BYTES;
	sealed = palloc(size);
	SET_VARSIZE(sealed, size);
	parts = parts_of((uint8 *) VARDATA(sealed), id_length, (int) length);
	parts.head[0] = VERSION;
	parts.head[1] = (uint8) id_length;
	memcpy(parts.head + FIXED_BYTES, key->id, id_length);
	if (!pg_strong_random(parts.nonce, NONCE_BYTES) ||
		!run_cipher(key, &parts, context, (const uint8 *) secret, parts.text, true))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not seal a secret")));
	return sealed;
}

/* ---- opening ---- */

static const MasterKey *
key_named(const char *id, char **error)
{
	const MasterKey *keys;
	int n = eduai_core_master_keys(&keys, error);

	for (int i = 0; i < n; i++)
		if (strcmp(keys[i].id, id) == 0)
			return &keys[i];
	if (n > 0)
		*error = pstrdup("the master key that sealed it is not in the master key file");
	return NULL;
}

char *
eduai_core_unseal(const bytea *sealed, const char *context, size_t *length, char **error)
{
	char id[MAX_MASTER_KEY_ID + 1];
	const MasterKey *key;
	Parts parts;
	char *secret;

	*error = NULL;
	if (!take_apart(sealed, id, &parts))
	{
		*error = pstrdup("it is not a sealed value of a known version");
		return NULL;
	}
	key = key_named(id, error);
	if (key == NULL)
		return NULL;
	secret = palloc(parts.text_length + 1);
	if (!run_cipher(key, &parts, context, parts.text, (uint8 *) secret, false))
	{
		/* what could not be authenticated is not even garbage to look at */
		OPENSSL_cleanse(secret, parts.text_length + 1);
		pfree(secret);
		*error = pstrdup("it was altered, or sealed for something else, or under another master "
						 "key of the same id");
		return NULL;
	}
	secret[parts.text_length] = '\0';
	if (length != NULL)
		*length = parts.text_length;
	return secret;
}

bool
eduai_core_seal_is_current(const bytea *sealed)
{
	char id[MAX_MASTER_KEY_ID + 1];
	const MasterKey *keys;
	Parts parts;
	char *error;

	return take_apart(sealed, id, &parts) && eduai_core_master_keys(&keys, &error) > 0 &&
		   strcmp(keys[0].id, id) == 0;
}

void
eduai_core_seal_wipe(char *secret)
{
	if (secret != NULL)
		OPENSSL_cleanse(secret, strlen(secret));
}

/* ---- health ---- */

static void
report(EduaiHealth *health)
{
	char *fault = eduai_core_seal_configured() ? eduai_core_seal_fault() : NULL;

	if (fault != NULL)
		eduai_core_health_problem(health, "master_key_unusable", "warning", 0,
								  psprintf("Nothing can be sealed or opened: %s.", fault),
								  "Put the file that eduai.master_key_file names in order.");
}

void
eduai_core_seal_init(void)
{
	eduai_core_master_key_init();
	eduai_core_health_register(report);
}
