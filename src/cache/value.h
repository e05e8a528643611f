/*
 * value.h: what the functions on values set by hand share.
 */
#ifndef EDUAI_CACHE_VALUE_H
#define EDUAI_CACHE_VALUE_H

#include "postgres.h"
#include "cache/store.h"
#include "fmgr.h"

#define CACHE_LONGEST_KEY 1024
#define CACHE_LONGEST_TAG 256

/* The session's key of a text; raises 22023 unless it has 1 to 1024 bytes, UE012. */
extern CacheKey eduai_cache_value_key(const text *key, const char *tenant);

/* Raises 22004 when the argument is null. */
extern void eduai_cache_refuse_null(FunctionCallInfo fcinfo, int argument, const char *what);

/* The tag, palloc'd; raises 22023 unless it has 1 to 256 bytes. */
extern char *eduai_cache_check_tag(const text *tag);

/* Did this transaction delete what the key would find? */
extern bool eduai_cache_deleted_here(const CacheKey *key);

extern void eduai_cache_delete_init(void);
extern void eduai_cache_get_init(void);

#endif
