/*
 * seal.h: secrets at rest: AES-256-GCM (OpenSSL's EVP) under a master key that
 * is in a file outside of the data directory.
 *
 * The file has one key a line, "ID BASE64" (32 bytes), the current one first;
 * older ones open what they sealed.  It is read again when it changed.  A
 * sealed value names its key and is bound to a context (what it is the secret
 * of), so that one cannot be put in another's place.
 *
 * Any room may use it, in any backend, inside a transaction or not.
 */
#ifndef EDUAI_CORE_SEAL_H
#define EDUAI_CORE_SEAL_H

#include "postgres.h"

extern void eduai_core_seal_init(void); /* eduai.master_key_file, eduai.master_key_command */

/* Reads the master keys again, whatever is known: a command's may have changed. */
extern void eduai_core_seal_refresh(void);

/* Is a master key file, or a command, set? */
extern bool eduai_core_seal_configured(void);

/* Why nothing can be sealed now, palloc'd, without path or content; NULL when it can. */
extern char *eduai_core_seal_fault(void);

/*
 * The secret, any bytes, sealed; palloc'd.  Raises 55000 when there is no
 * usable master key (why, never its content).  Twice the same secret gives two
 * different values.  One master key is good for 2^32 of them.
 */
extern bytea *eduai_core_seal(const char *secret, size_t length, const char *context);

/*
 * The secret, palloc'd and NUL-terminated, *length bytes (length may be NULL);
 * or NULL and *error in words that hold nothing of it.  Does not raise.  Who
 * is done with the secret overwrites it: eduai_core_seal_wipe().
 */
extern char *
eduai_core_unseal(const bytea *sealed, const char *context, size_t *length, char **error);

/* Was it sealed under the current key?  False also for what was never sealed. */
extern bool eduai_core_seal_is_current(const bytea *sealed);

/* Overwrites a secret so that no compiler leaves it out; NULL is nothing to do. */
extern void eduai_core_seal_wipe(char *secret);

#endif
