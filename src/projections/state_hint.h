/*
 * state_hint.h: where a background process last saw the rows of states.
 *
 * An index finds every version of a row that a snapshot somewhere keeps; after
 * an hour of a held one these are thousands of a key that is written often.  A
 * follower wrote the last version itself, mostly, and goes there directly.  A
 * hint may be wrong: the caller looks whether the row there is the one.
 */
#ifndef EDUAI_PROJECTIONS_STATE_HINT_H
#define EDUAI_PROJECTIONS_STATE_HINT_H

#include "postgres.h"
#include "storage/itemptr.h"

/* A number for a row, which others may have, too; 0 but in a background process. */
extern uint64 eduai_projections_hint_key(const char *tenant, size_t length, int projection,
										 int generation, const char *key);

/* False when nothing is known. */
extern bool eduai_projections_hint_get(uint64 key, ItemPointer tid);

/* Remembers it, in a background process; another row's hint may give way. */
extern void eduai_projections_hint_put(uint64 key, const ItemPointerData *tid);

#endif
