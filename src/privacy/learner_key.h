/*
 * learner_key.h: each learner's own key.
 *
 * It exists in the key store alone (outside of the data directory: key_store.h): what it seals is readable wherever it went, backups and WAL
 * included, for as long as it is there, and nowhere afterwards.
 *
 * A key belongs to the database, the tenant and the user_id.  The database is
 * told by eduai.key_identity, which a dump carries: a restored one opens its
 * own.  A key made for a transaction that is rolled back stays, unused.
 *
 * All need a transaction.  All but configured() raise 55000 when the store
 * cannot be used.
 */
#ifndef EDUAI_PRIVACY_LEARNER_KEY_H
#define EDUAI_PRIVACY_LEARNER_KEY_H

#include "postgres.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

/*
 * Two keys derived from the learner's, which is not kept, as OpenSSL has them
 * ready: looking an algorithm up and expanding a key costs more than sealing
 * does.  Who uses one gives it the nonce, or begins the HMAC, anew each time.
 */
typedef struct LearnerKey
{
	EVP_CIPHER_CTX *seal; /* AES-256-GCM */
	HMAC_CTX *nonce;      /* HMAC-SHA-256 */
} LearnerKey;

extern void eduai_privacy_learner_key_init(void);

/* Is there a key store to use? */
extern bool eduai_privacy_keys_configured(void);
/*
 * Why it cannot be used now, palloc'd; NULL when it can.  With a learner (user_id
 * not NULL): also why their key, if they have one, cannot; found, it is remembered.
 */
extern char *eduai_privacy_keys_fault(const char *tenant, const char *user_id);

/* The learner's key, valid until the next call; NULL when there is none. */
extern const LearnerKey *eduai_privacy_key_find(const char *tenant, const char *user_id);
/* The same, made when there is none: on disk before it is used. */
extern const LearnerKey *eduai_privacy_key_make(const char *tenant, const char *user_id);

/*
 * Destroys the learner's key: overwritten in the store and synced before this
 * returns, and used by no backend from then on.  Not undone by a rollback: call
 * it when what decided it is committed.  Idempotent, again after an error too;
 * true when there was a key.  Waits for other writers of the store, for seconds
 * at most.
 *
 * A transaction that passed eduai_core_personal_check() before the erasure's
 * intent was committed can make a key after this: destroy once more when no
 * such transaction is left.
 */
extern bool eduai_privacy_key_destroy(const char *tenant, const char *user_id);

#endif
