/*
 * erased.h: whose data must not be kept any more.
 *
 * An erased learner is known by a digest under a key of this database; so are
 * the streams that held nothing else than an erased learner's events.
 */
#ifndef EDUAI_PRIVACY_ERASED_H
#define EDUAI_PRIVACY_ERASED_H

#include "postgres.h"
#include "utils/uuid.h"

/* 128 bits in hexadecimal digits. */
#define EDUAI_ERASED_REF 32

typedef enum EduaiErasedKind
{
	EDUAI_ERASED_LEARNER,
	EDUAI_ERASED_STREAM,
} EduaiErasedKind;

/* What stands for a name. */
typedef struct EduaiErasedDigest
{
	pg_uuid_t key;
	char ref[EDUAI_ERASED_REF + 1];
	int32 probe;
} EduaiErasedDigest;

extern void eduai_privacy_erased_init(void);

/*
 * The digest of a name under this database's own key, which is made and kept
 * in eduai.erasure_key when there is none.  Inside SPI, as the owner.  Raises
 * 55000 when the key is sealed and cannot be opened.
 */
extern void eduai_privacy_digest(EduaiErasedKind kind, const char *tenant, const char *name,
								 EduaiErasedDigest *digest);

/* The same under a key that was brought from elsewhere, 32 bytes. */
extern void
eduai_privacy_digest_under(const pg_uuid_t *key_id, const uint8 *key, EduaiErasedKind kind,
						   const char *tenant, const char *name, EduaiErasedDigest *digest);

/*
 * Marks the digest in the filter, for good: those who look find the filter's
 * mark and then the table's row, or none.  So it is called when the row is
 * written, whatever becomes of the transaction.
 */
extern void eduai_privacy_erased_mark(const EduaiErasedDigest *digest);

/* A key was added to eduai.erasure_key: when this transaction commits, the filter is loaded anew. */
extern void eduai_privacy_erased_reload(void);

/* Is there a row for the name?  As eduai_core_personal_erased(). */
extern bool eduai_privacy_erased(EduaiErasedKind kind, const char *tenant, const char *name);

/* A key as eduai.erasure_key has it, opened, 32 bytes, palloc'd; raises 55000. */
extern uint8 *
eduai_privacy_erasure_key_open(const pg_uuid_t *key_id, bool sealed, const bytea *secret);
/* Sealed where there is a master key. */
extern bytea *
eduai_privacy_erasure_key_close(const pg_uuid_t *key_id, const uint8 *key, bool *sealed);

/* Keys of this database that are sealed under an older master key are sealed anew. */
extern void eduai_privacy_erasure_keys_reseal(void);

#endif
