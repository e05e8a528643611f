/*
 * key_sql.h: the key store's SQL functions and what health() says of it.
 */
#ifndef EDUAI_PRIVACY_KEY_SQL_H
#define EDUAI_PRIVACY_KEY_SQL_H

#include "postgres.h"

extern void eduai_privacy_key_sql_init(void);

#endif
