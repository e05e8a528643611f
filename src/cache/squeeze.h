/*
 * squeeze.h: values made small, by zstd with a dictionary where a kind has one.
 *
 * Nothing here touches shared memory.  What zstd needs is allocated once in a
 * process and kept; when it cannot be, values stay as they are.
 */
#ifndef EDUAI_CACHE_SQUEEZE_H
#define EDUAI_CACHE_SQUEEZE_H

#include "postgres.h"

/*
 * Shorter values stay as they are; with a dictionary, those shorter than the
 * second.  Memory comes in blocks and an open value is read twice as fast: so
 * packing must save two blocks, and a tenth.
 */
#define SQUEEZE_LEAST            1024
#define SQUEEZE_LEAST_DICTIONARY 600
#define SQUEEZE_SAVES            504

typedef struct Squeezed
{
	const char *bytes; /* the value itself, or this module's until the next call */
	size_t length;
	bool packed;
} Squeezed;

/* Packs it if that saves enough; dictionary 0: none. */
extern Squeezed eduai_cache_squeeze(const char *raw, size_t length, uint32 dictionary);

/* Opens "length" bytes into exactly raw_length; false when that cannot be. */
extern bool eduai_cache_unsqueeze(const char *bytes, size_t length, uint32 dictionary, char *raw,
								  size_t raw_length);

/* Dictionaries of this process, by id: is it here; here it is. */
extern bool eduai_cache_dictionary_known(uint32 id);
extern bool eduai_cache_dictionary_learn(uint32 id, const char *bytes, size_t length);

/* At least n bytes that last until the next call; NULL when there are none. */
extern char *eduai_cache_scratch(size_t n);

#endif
