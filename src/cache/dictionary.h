/*
 * dictionary.h: the dictionaries of kinds, in the cache's blocks.
 *
 * A dictionary never changes; a new one of its kind gets a new id, and the old
 * one stays until the last entry that was packed with it is gone.
 */
#ifndef EDUAI_CACHE_DICTIONARY_H
#define EDUAI_CACHE_DICTIONARY_H

#include "postgres.h"
#include "cache/store_internal.h"

/* The id of a kind's current dictionary, known to this process; 0 when there is none. */
extern uint32 eduai_cache_dictionary_current(Oid database, const char *kind);

/* Makes the dictionary known to this process; false when it is gone. */
extern bool eduai_cache_dictionary_fetch(uint32 id);

/* Makes it the kind's; false when there is no room.  Takes the writer lock. */
extern bool eduai_cache_dictionary_publish(int shelf, const char *bytes, size_t length);

/* Under the writer lock: one more entry has it; false when it is gone. */
extern bool eduai_cache_dictionary_join(uint32 id);
extern void eduai_cache_dictionary_leave(uint32 id);

/* Under the writer lock: those of the database are for no new entries. */
extern void eduai_cache_dictionary_retire(Oid database);
/* Under the writer lock: those of a shelf without entries go. */
extern void eduai_cache_dictionary_forget(int shelf);

#endif
