/*
 * key_sql.h: the key store's SQL functions and what health() says of it.
 */
#ifndef EDUAI_PRIVACY_KEY_SQL_H
#define EDUAI_PRIVACY_KEY_SQL_H

#include "postgres.h"
#include "privacy/key_file.h"

extern void eduai_privacy_key_sql_init(void);

/* What the key of an owner is wrapped for: it opens in this store, for this owner; palloc'd. */
extern char *eduai_privacy_key_context(const KeyFile *file, const uint8 *digest);

#endif
