/*
 * sealed_value.c: a JSON value under a learner's key; see sealed_value.h.
 *
 * Nothing can be raised while OpenSSL's memory is held.
 */
#include "postgres.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "common/base64.h"
#include "core/json.h"
#include "core/personal.h"
#include "mb/pg_wchar.h"
#include "privacy/sealed_value.h"

#define VERSION     1
#define NONCE_BYTES 12
#define TAG_BYTES   16
#define HEAD_BYTES  (1 + NONCE_BYTES)
#define MIN_BYTES   (HEAD_BYTES + TAG_BYTES)

StaticAssertDecl(MIN_BYTES == EDUAI_SEALED_EXTRA, "as core/personal.h says");

/* From "in" to "out"; the tag at "tag" is made or compared. */
static bool
run_cipher(EVP_CIPHER_CTX *ctx, const uint8 *head, const char *subject, const uint8 *in, int length,
		   uint8 *out, uint8 *tag, bool seal)
{
	int n = 0;
	bool ok = EVP_CipherInit_ex(ctx, NULL, NULL, NULL, head + 1, seal) == 1 &&
			  EVP_CipherUpdate(ctx, NULL, &n, head, 1) == 1 &&
			  EVP_CipherUpdate(ctx, NULL, &n, (const uint8 *) subject, (int) strlen(subject)) == 1;

	n = 0;
	ok = ok && EVP_CipherUpdate(ctx, out, &n, in, length) == 1;
	if (ok && !seal)
		ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG_BYTES, tag) == 1;
	ok = ok && EVP_CipherFinal_ex(ctx, out + n, &n) == 1;
	if (ok && seal)
		ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, tag) == 1;
	return ok;
}

/* Subject and field with their zeros, then the text: nothing can be shifted between them. */
static bool
make_nonce(HMAC_CTX *ctx, const char *subject, const char *field, const char *text, int length,
		   uint8 *nonce)
{
	uint8 mac[EVP_MAX_MD_SIZE];
	unsigned int n = sizeof(mac);

	if (HMAC_Init_ex(ctx, NULL, 0, NULL, NULL) != 1 ||
		HMAC_Update(ctx, (const uint8 *) subject, strlen(subject) + 1) != 1 ||
		HMAC_Update(ctx, (const uint8 *) field, strlen(field) + 1) != 1 ||
		HMAC_Update(ctx, (const uint8 *) text, length) != 1 || HMAC_Final(ctx, mac, &n) != 1)
		return false;
	memcpy(nonce, mac, NONCE_BYTES);
	return true;
}

static char *
plaintext(const Jsonb *value, int *length)
{
	char *text = eduai_core_json_cstring(value);
	char *utf8 = pg_server_to_any(text, (int) strlen(text), PG_UTF8);

	*length = (int) strlen(utf8);
	return utf8;
}

/* MIN_BYTES more than the text. */
static void
seal_into(const LearnerKey *key, const char *subject, const char *field, const char *text,
		  int length, uint8 *bytes)
{
	bytes[0] = VERSION;
	if (!make_nonce(key->nonce, subject, field, text, length, bytes + 1) ||
		!run_cipher(key->seal, bytes, subject, (const uint8 *) text, length, bytes + HEAD_BYTES,
					bytes + HEAD_BYTES + length, true))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not seal a value")));
}

Jsonb *
eduai_privacy_value_seal(const LearnerKey *key, const Jsonb *value, const char *subject,
						 const char *field)
{
	int length;
	char *text = plaintext(value, &length);
	int total = MIN_BYTES + length;
	int room = pg_b64_enc_len(total);
	uint8 *bytes = palloc(total);
	char *base64 = palloc(room + 1);
	EduaiJson j;

	seal_into(key, subject, field, text, length, bytes);
	room = pg_b64_encode((void *) bytes, total, base64, room);
	eduai_core_json_begin(&j);
	eduai_core_json_put_textn(&j, EDUAI_SEALED_KEY, base64, room);
	pfree(bytes);
	return eduai_core_json_end(&j);
}

bool
eduai_privacy_value_looks_sealed(const JsonbContainer *object, const char **text, int *length)
{
	JsonbValue found;

	if (!JsonContainerIsObject(object) || JsonContainerSize(object) != 1 ||
		getKeyJsonValueFromContainer((JsonbContainer *) object, EDUAI_SEALED_KEY,
									 strlen(EDUAI_SEALED_KEY), &found) == NULL ||
		found.type != jbvString || found.val.string.len < pg_b64_enc_len(MIN_BYTES) - 2)
		return false;
	*text = found.val.string.val;
	*length = found.val.string.len;
	/* the first six bits of the version */
	return **text == 'A';
}

/* What was authenticated is what was sealed: JSON. */
static Jsonb *
parse(const char *text, int length)
{
	return eduai_core_json_parse(pg_any_to_server(text, length, PG_UTF8));
}

Jsonb *
eduai_privacy_value_open(const LearnerKey *key, const char *text, int length, const char *subject)
{
	int room = pg_b64_dec_len(length);
	uint8 *bytes = palloc(room + 1);
	int total = pg_b64_decode(text, length, (void *) bytes, room);
	int inner = total - MIN_BYTES;
	Jsonb *value = NULL;
	uint8 *plain;

	if (inner < 0 || bytes[0] != VERSION)
		return NULL;
	plain = palloc(inner + 1);
	plain[inner] = '\0';
	if (run_cipher(key->seal, bytes, subject, bytes + HEAD_BYTES, inner, plain,
				   bytes + HEAD_BYTES + inner, false))
		value = parse((char *) plain, inner);
	OPENSSL_cleanse(plain, inner + 1);
	pfree(plain);
	pfree(bytes);
	return value;
}

bytea *
eduai_privacy_bytes_seal(const LearnerKey *key, const bytea *bytes, const char *subject)
{
	int length = (int) VARSIZE_ANY_EXHDR(bytes);
	bytea *sealed = palloc(VARHDRSZ + MIN_BYTES + length);

	SET_VARSIZE(sealed, VARHDRSZ + MIN_BYTES + length);
	seal_into(key, subject, "", VARDATA_ANY(bytes), length, (uint8 *) VARDATA(sealed));
	return sealed;
}

bytea *
eduai_privacy_bytes_open(const LearnerKey *key, const bytea *sealed, const char *subject)
{
	uint8 *from = (uint8 *) VARDATA_ANY(sealed);
	int inner = (int) VARSIZE_ANY_EXHDR(sealed) - MIN_BYTES;
	uint8 tag[TAG_BYTES];
	bytea *bytes;

	if (inner < 0 || from[0] != VERSION)
		return NULL;
	memcpy(tag, from + HEAD_BYTES + inner, TAG_BYTES);
	bytes = palloc(VARHDRSZ + inner);
	SET_VARSIZE(bytes, VARHDRSZ + inner);
	if (run_cipher(key->seal, from, subject, from + HEAD_BYTES, inner, (uint8 *) VARDATA(bytes),
				   tag, false))
		return bytes;
	OPENSSL_cleanse(VARDATA(bytes), inner);
	pfree(bytes);
	return NULL;
}
