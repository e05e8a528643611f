/*
 * keyref.h: where a provider's key is.
 *
 * add_provider() takes a literal key, "env:NAME" or "file:PATH".  References
 * are kept in eduai.provider.key_ref and resolved by the dispatcher whenever
 * it loads the fleet; a literal is kept in eduai.provider_secret, sealed
 * (core/seal.h) and in no dump, and key_ref then says "literal".
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
 * What a provider's literal key is sealed for: its name and where it goes, so
 * that a row that was moved to another provider, or a provider whose URL was
 * changed without its key, opens nothing.
 */
extern char *eduai_gateway_keyref_context(const char *provider, const char *base_url);

/*
 * The literal, sealed.  Raises 55000 where there is no usable master key.  The
 * message holds nothing of the key.
 */
extern bytea *
eduai_gateway_keyref_seal(const char *api_key, const char *provider, const char *base_url);

/*
 * The key behind a stored reference, palloc'd, or NULL with *error set to
 * words that hold nothing of the content.  "sealed" is the stored literal or
 * NULL, "context" what it is sealed for.  Does not raise; needs no transaction.
 */
extern char *eduai_gateway_keyref_resolve(const char *key_ref, const bytea *sealed,
										  const char *context, char **error);

/* Is it a file's?  Then it may change while the server runs. */
extern bool eduai_gateway_keyref_is_file(const char *key_ref);

#endif
