/*
 * key_command.h: learners' keys in a service behind eduai.key_store_command.
 *
 * The command is run with two words after it, an operation and a reference:
 *
 *   get REF       prints the entry, or "none"
 *   put REF       keeps what it reads, unless there is an entry: that stays
 *   replace REF   keeps what it reads, whatever there was; REF is "store"
 *   destroy REF   leaves no entry, so that get says "none"; no copy of it either
 *
 * and exit status 0; anything else is a failure.  A reference is "store" or 64
 * hexadecimal digits, which name nobody.  An entry is a line of base64, at most
 * 1,000 characters.
 *
 * The conventions are those of key_store.h.
 */
#ifndef EDUAI_PRIVACY_KEY_COMMAND_H
#define EDUAI_PRIVACY_KEY_COMMAND_H

#include "privacy/key_store.h"

extern void eduai_privacy_key_command_init(void); /* eduai.key_store_command, ..._timeout */

extern bool eduai_privacy_key_command_configured(void);

/* Fills the store; asks the command when what is known is old. */
extern char *eduai_privacy_key_command_use(KeyStore *store);
extern char *eduai_privacy_key_command_find(const uint8 *digest, uint8 *key, bool *found);
extern char *eduai_privacy_key_command_make(const uint8 *digest, uint8 *key);
extern char *eduai_privacy_key_command_destroy(const uint8 *digest, bool *destroyed);
extern char *eduai_privacy_key_command_create(void);
/* Of the store that was used last. */
extern bool eduai_privacy_key_command_is_current(void);
/* Puts the store's entry under the current master key; *done: it was not. */
extern char *eduai_privacy_key_command_rotate(bool *done);

#endif
