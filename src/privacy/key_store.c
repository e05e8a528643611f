/*
 * key_store.c: the learners' keys in a file's slots or behind a command; see
 * key_store.h.  In a file they are wrapped by the master key.
 */
#include "postgres.h"

#include <openssl/crypto.h>

#include "core/compat.h"
#include "core/seal.h"
#include "privacy/key_command.h"
#include "privacy/key_slot.h"
#include "privacy/key_store.h"

#define MOST_HEX (2 * (KEY_STORE_ID_BYTES + KEY_DIGEST_BYTES) + 1)

static KeyStore store;

char *
eduai_privacy_key_context(const uint8 *id, const uint8 *digest)
{
	char hex[MOST_HEX];

	for (int i = 0; i < KEY_STORE_ID_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", id[i]);
	for (int i = 0; i < KEY_DIGEST_BYTES; i++)
		snprintf(hex + 2 * (KEY_STORE_ID_BYTES + i), 3, "%02x", digest[i]);
	return psprintf("eduai learner key %s", hex);
}

bool
eduai_privacy_key_store_configured(void)
{
	return eduai_privacy_key_file_configured() || eduai_privacy_key_command_configured();
}

const char *
eduai_privacy_key_store_hint(void)
{
	if (!eduai_privacy_key_store_configured())
		return "Set eduai.key_store, or eduai.key_store_command, and eduai.master_key_file; a new "
			   "key store is made by eduai.create_key_store().";
	return eduai_privacy_key_command_configured()
			   ? "See that eduai.key_store_command answers and eduai.master_key_file is in order; "
				 "a new key store is made by eduai.create_key_store()."
			   : "Put the files of eduai.key_store and eduai.master_key_file in order; a new key "
				 "store is made by eduai.create_key_store().";
}

static char *
not_one_set(void)
{
	if (!eduai_privacy_key_store_configured())
		return pstrdup("neither eduai.key_store nor eduai.key_store_command is set");
	return eduai_privacy_key_file_configured() && eduai_privacy_key_command_configured()
			   ? pstrdup("eduai.key_store and eduai.key_store_command are both set")
			   : NULL;
}

const KeyStore *
eduai_privacy_key_store_use(char **error)
{
	KeyFile *file;

	*error = not_one_set();
	if (*error != NULL)
		return NULL;
	if (eduai_privacy_key_command_configured())
	{
		*error = eduai_core_seal_fault();
		if (*error == NULL)
			*error = eduai_privacy_key_command_use(&store);
		if (*error != NULL)
			*error = psprintf("eduai.key_store_command: %s", *error);
		return *error == NULL ? &store : NULL;
	}
	file = eduai_privacy_key_file_use(error);
	if (file == NULL)
		return NULL;
	store = (KeyStore){
		.id = file->id, .key = file->key, .destroyed = file->state.destroyed, .file = file};
	return &store;
}

/* ---- keys ---- */

static char *
of_command(char *error)
{
	return error ? psprintf("eduai.key_store_command: %s", error) : NULL;
}

static char *
open_slot(const KeyStore *s, const KeySlot *slot, uint8 *key)
{
	bytea *wrapped = palloc(VARHDRSZ + slot->length);
	char *error;
	size_t n;
	char *opened;

	SET_VARSIZE(wrapped, VARHDRSZ + slot->length);
	memcpy(VARDATA(wrapped), slot->wrapped, slot->length);
	opened = eduai_core_unseal(wrapped, eduai_privacy_key_context(s->id, slot->digest), &n, &error);
	if (opened == NULL)
		return psprintf("a learner's key does not open: %s", error);
	if (n == LEARNER_KEY_BYTES)
		memcpy(key, opened, LEARNER_KEY_BYTES);
	OPENSSL_cleanse(opened, n);
	pfree(opened);
	return n == LEARNER_KEY_BYTES ? NULL : pstrdup("a learner's key is damaged");
}

char *
eduai_privacy_key_store_find(const KeyStore *s, const uint8 *digest, uint8 *key, bool *found)
{
	KeySlot slot;
	char *error;

	if (s->file == NULL)
		return of_command(eduai_privacy_key_command_find(digest, key, found));
	error = eduai_privacy_key_slot_find(s->file, digest, &slot);
	*found = error == NULL && slot.offset != 0;
	return *found ? open_slot(s, &slot, key) : error;
}

/* Everything that can raise comes before the store's lock. */
char *
eduai_privacy_key_store_make(const KeyStore *s, const uint8 *digest, uint8 *key)
{
	bytea *wrapped;
	KeySlot slot;
	char *error;

	if (s->file == NULL)
		return of_command(eduai_privacy_key_command_make(digest, key));
	if (!pg_strong_random(key, LEARNER_KEY_BYTES))
		return pstrdup("there are no random bytes to be had");
	wrapped =
		eduai_core_seal((char *) key, LEARNER_KEY_BYTES, eduai_privacy_key_context(s->id, digest));
	OPENSSL_cleanse(key, LEARNER_KEY_BYTES);
	error = eduai_privacy_key_slot_put(s->file, digest, wrapped, &slot);
	/* what is there, by us or by somebody faster */
	return error ? error : open_slot(s, &slot, key);
}

char *
eduai_privacy_key_store_destroy(const KeyStore *s, const uint8 *digest, bool *destroyed)
{
	return s->file == NULL ? of_command(eduai_privacy_key_command_destroy(digest, destroyed))
						   : eduai_privacy_key_slot_destroy(s->file, digest, destroyed);
}

/* ---- the store ---- */

char *
eduai_privacy_key_store_create(void)
{
	char *error = not_one_set();

	if (error != NULL)
		return error;
	return eduai_privacy_key_command_configured() ? of_command(eduai_privacy_key_command_create())
												  : eduai_privacy_key_file_create();
}

bool
eduai_privacy_key_store_is_current(void)
{
	return eduai_privacy_key_command_configured() ? eduai_privacy_key_command_is_current()
												  : eduai_privacy_key_file_is_current();
}

void
eduai_privacy_key_store_init(void)
{
	eduai_privacy_key_file_init();
	eduai_privacy_key_command_init();
}
