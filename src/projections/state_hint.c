/*
 * state_hint.c: where a background process last saw the rows of states.  See
 * state_hint.h.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "postmaster/bgworker.h"
#include "projections/state_hint.h"
#include "utils/memutils.h"

#define HINTS 65536 /* 1 MB; a power of two */

typedef struct Hint
{
	uint64 key;
	ItemPointerData tid; /* invalid: free */
} Hint;

static Hint *hints = NULL;

uint64
eduai_projections_hint_key(const char *tenant, size_t length, int projection, int generation,
						   const char *key)
{
	uint64 hash;

	if (MyBgworkerEntry == NULL)
		return 0;
	hash = hash_bytes_extended((const unsigned char *) tenant, (int) length,
							   ((uint64) projection << 32) ^ (uint64) generation);

	return hash_bytes_extended((const unsigned char *) key, (int) strlen(key), hash);
}

bool
eduai_projections_hint_get(uint64 key, ItemPointer tid)
{
	const Hint *hint;

	if (hints == NULL)
		return false;
	hint = &hints[key % HINTS];
	if (hint->key != key || !ItemPointerIsValid(&hint->tid))
		return false;
	*tid = hint->tid;
	return true;
}

void
eduai_projections_hint_put(uint64 key, const ItemPointerData *tid)
{
	if (MyBgworkerEntry == NULL)
		return;
	if (hints == NULL)
		hints = MemoryContextAllocZero(TopMemoryContext, sizeof(Hint) * HINTS);
	hints[key % HINTS] = (Hint){key, *tid};
}
