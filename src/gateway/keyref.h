/*
 * keyref.h: where a provider's key is.
 *
 * add_provider() takes a literal key, "env:NAME" or "file:PATH".  References
 * are kept in eduai.provider.key_ref and resolved by the dispatcher whenever
 * it loads the fleet; a literal is kept in eduai.provider_secret, which no
 * dump carries, and key_ref then says "literal".
 */
#ifndef EDUAI_GATEWAY_KEYREF_H
#define EDUAI_GATEWAY_KEYREF_H

#include "postgres.h"

/*
 * Checks the argument api_key for the current user: raises 22023 for a key
 * that no header can carry and 42501 for a reference that the role may not
 * make.  Returns the key_ref to store: "literal" or api_key itself.  Messages
 * never hold a literal.  Call before eduai_core_enter().
 */
extern const char *eduai_gateway_keyref_check(const char *api_key);

/*
 * The key behind a stored reference, palloc'd, or NULL with *error set to
 * words that hold nothing of the content.  "secret" is the stored literal or
 * NULL.  Does not raise; needs no transaction.
 */
extern char *eduai_gateway_keyref_resolve(const char *key_ref, const char *secret, char **error);

#endif
