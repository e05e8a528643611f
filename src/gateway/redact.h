/*
 * redact.h: keeps a provider's key out of what the provider says.
 *
 * A debugging proxy, or a provider that means ill, could have the key anywhere
 * in its answer: none of it gets further.  Each occurrence becomes "[key]".
 * Short keys are no secrets ("none", "ollama"), and words.
 */
#ifndef EDUAI_GATEWAY_REDACT_H
#define EDUAI_GATEWAY_REDACT_H

#include "postgres.h"
#include "utils/jsonb.h"

#define EDUAI_REDACTED "[key]"

/* Is it a secret?  NULL is none. */
extern bool eduai_gateway_is_secret(const char *key);

/* Palloc'd, without a zero byte to end it. */
extern char *
eduai_gateway_redact(const char *text, size_t length, const char *key, size_t *clean_length);

/* The strings and keys of a json, whatever escapes they came with.  The same one when there is nothing to do. */
extern Jsonb *eduai_gateway_redact_json(Jsonb *json, const char *key);

/*
 * Of a text that goes on: how many of its last bytes may be the beginning of
 * the key, and so may not be shown before more has come.  Never allocates.
 */
extern size_t eduai_gateway_redact_held(const char *text, size_t length, const char *key);

#endif
