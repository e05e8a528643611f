/*
 * kind.h: kinds of cached values: how long they last and how many there are.
 *
 * Kept per backend; define_cache_kind() invalidates them everywhere at its
 * commit.  Names point into that copy: use them before the next call that may
 * run SQL.
 */
#ifndef EDUAI_CACHE_KIND_H
#define EDUAI_CACHE_KIND_H

#include "postgres.h"

typedef struct CacheKind
{
	const char *name;
	int64 ttl_us;
	int max_entries; /* 0: eduai.cache_max_entries */
	bool train;      /* may its values make a dictionary */
} CacheKind;

/* The kind; raises 22023 when there is none.  SQL runs only after a change. */
extern const CacheKind *eduai_cache_kind(const char *name);

/* What the store needs: no SQL, nothing raised; defaults for a kind not known here. */
extern void eduai_cache_kind_limits(const char *name, int *max_entries, bool *train);

extern void eduai_cache_kind_each(void (*each)(const CacheKind *kind, void *arg), void *arg);

extern void eduai_cache_kind_init(void);

#endif
