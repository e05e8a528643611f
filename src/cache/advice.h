/*
 * advice.h: what each cached query costs and brings, for the view cache_advice.
 *
 * A part of shared memory of its own has 512 places, in sets of eight: one for
 * each query text of a tenant and kind in a database.  In a full set the one
 * called longest ago gives way, and its counts are gone.
 *
 * A place has a number that is never another's soon again.  Who holds an old
 * number counts nothing.  Counts that many add to are atomic, and one may go
 * astray while a place changes hands; what entries there are changes under the
 * store's writer lock, as places do, and is exact.
 *
 * Texts are kept as the callers gave them, the first kilobyte, never parameters.
 */
#ifndef EDUAI_CACHE_ADVICE_H
#define EDUAI_CACHE_ADVICE_H

#include "postgres.h"
#include "cache/store.h"

/* Why a query was computed. */
typedef enum AdviceReason
{
	ADVICE_ABSENT,   /* no value was there */
	ADVICE_EXPIRED,  /* one past its time was */
	ADVICE_STALE,    /* the judge refused it */
	ADVICE_BYPASSED, /* the caller's transaction may not have one */
	ADVICE_REASONS
} AdviceReason;

/* The number of the query's place, made at need; 0 without preload. */
extern uint32
eduai_cache_advice_place(const char *text, uint64 text_hash, const char *tenant, const char *kind);

/* Is the number that of a place of this tenant and kind? Of which query only who has it knows. */
extern bool eduai_cache_advice_is(uint32 place, const char *tenant, const char *kind);

/* Hits are added when the transaction ends or another query's come. */
extern void eduai_cache_advice_hit(uint32 place);
extern void
eduai_cache_advice_computed(uint32 place, AdviceReason reason, int64 took_us, bool stored);

/* Under the writer lock: a value came, or left. */
extern void eduai_cache_advice_entered(uint32 place, uint64 bytes);
extern void eduai_cache_advice_left(uint32 place, uint64 bytes);
/* Under the writer lock: it left because it gave way, or was deleted. */
extern void eduai_cache_advice_evicted(uint32 place);
extern void eduai_cache_advice_invalidated(uint32 place);

/* Forgets the tenant's queries, whose texts may name a learner. */
extern void eduai_cache_advice_forget(Oid database, const char *tenant);

extern void eduai_cache_advice_init(void);

#endif
