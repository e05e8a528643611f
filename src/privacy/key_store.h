/*
 * key_store.h: where the learners' keys are: in the slots of a file
 * (eduai.key_store), or in a service behind a command (eduai.key_store_command).
 *
 * Functions that return char * return NULL, or why not, palloc'd, in words that
 * hold neither path nor content.  They raise only where there is no master key.
 * What needs a store is given the one that use() returned.
 */
#ifndef EDUAI_PRIVACY_KEY_STORE_H
#define EDUAI_PRIVACY_KEY_STORE_H

#include "postgres.h"

#define KEY_STORE_ID_BYTES  16
#define KEY_STORE_KEY_BYTES 32
#define KEY_DIGEST_BYTES    32
#define LEARNER_KEY_BYTES   32

struct KeyFile;

typedef struct KeyStore
{
	const uint8 *id;      /* random, of the store */
	const uint8 *key;     /* for digests of owners' names */
	uint64 destroyed;     /* another number: what is remembered may have been destroyed */
	struct KeyFile *file; /* NULL: behind the command */
} KeyStore;

extern void eduai_privacy_key_store_init(void);

extern bool eduai_privacy_key_store_configured(void);
/* What to do about one that cannot be used: a hint. */
extern const char *eduai_privacy_key_store_hint(void);

/* The store as it is now; valid until the next call.  NULL with *error. */
extern const KeyStore *eduai_privacy_key_store_use(char **error);

/* The key of the owner with this digest; *found: is there one? */
extern char *
eduai_privacy_key_store_find(const KeyStore *store, const uint8 *digest, uint8 *key, bool *found);
/* Makes one, kept safely when this returns; if another process was faster, theirs. */
extern char *eduai_privacy_key_store_make(const KeyStore *store, const uint8 *digest, uint8 *key);
/* Destroys it; nothing to do is fine.  NULL only when there is none any more. */
extern char *
eduai_privacy_key_store_destroy(const KeyStore *store, const uint8 *digest, bool *destroyed);

/* Makes the store, which must not be there. */
extern char *eduai_privacy_key_store_create(void);
/* Is all of it under the current master key? */
extern bool eduai_privacy_key_store_is_current(void);

/* What an owner's key is wrapped for: it opens in this store, for this owner; palloc'd. */
extern char *eduai_privacy_key_context(const uint8 *id, const uint8 *digest);

#endif
