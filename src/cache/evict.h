/*
 * evict.h: which entry gives way.
 *
 * A pure core: nodes live wherever the caller keeps them, at a fixed stride,
 * known by number.  The store, the simulation and the tests run the same code.
 *
 * S3-FIFO (Yang et al., SOSP 2023): new entries enter a small queue that holds
 * a tenth; what was used at least twice by the time it reaches the end moves to
 * the main queue, what was not leaves only a trace, the ghost.  An entry that
 * comes back while its trace is there goes to the main queue at once.  The main
 * queue gives those that were used another round for each use.  A use writes
 * one counter, and nothing once it is at its most.
 *
 * Deviations: sizes are counted in weights (blocks of memory), not entries; the
 * small queue's tenth is of what is there, not of a capacity; traces are in
 * sets of four that overwrite each other, so some are lost early; one call
 * moves at most EVICT_MOVES entries before it takes the oldest as it is.
 */
#ifndef EDUAI_CACHE_EVICT_H
#define EDUAI_CACHE_EVICT_H

#include "postgres.h"
#include "port/atomics.h"

#define EVICT_NONE     UINT32_MAX
#define EVICT_MAX_USES 3
#define EVICT_MOVES    256
#define EVICT_WAYS     4

typedef enum EvictAlgorithm
{
	EVICT_S3FIFO,
	EVICT_LRU,
} EvictAlgorithm;

typedef enum EvictPlace
{
	EVICT_OUT,
	EVICT_SMALL,
	EVICT_MAIN,
} EvictPlace;

typedef struct EvictNode
{
	uint32 older; /* neighbours in its queue, or EVICT_NONE */
	uint32 newer;
	uint32 weight;
	uint32 print; /* of its key */
	pg_atomic_uint32 uses;
	uint32 place;
} EvictNode;

/* Where the nodes are: number i at base + i * stride. */
typedef struct EvictSpace
{
	char *base;
	size_t stride;
} EvictSpace;

typedef struct EvictQueue
{
	uint32 oldest;
	uint32 newest;
	uint32 count;
	uint64 weight;
} EvictQueue;

/* The queues of what shares a limit: a kind. */
typedef struct EvictState
{
	EvictQueue small;
	EvictQueue main;
	uint32 left; /* how many left a trace so far */
} EvictState;

typedef struct EvictTrace
{
	uint32 print; /* 0: none */
	uint32 left;  /* the state's count when it was left */
} EvictTrace;

/* Shared by all states; prints must differ between them. */
typedef struct EvictGhost
{
	uint32 nsets; /* a power of two */
	EvictTrace *traces;
} EvictGhost;

extern void eduai_cache_evict_reset(EvictState *state);

/* A new node, its weight, print and uses set, becomes the newest of a queue. */
extern void eduai_cache_evict_insert(EvictState *state, EvictSpace space, EvictGhost ghost,
									 EvictAlgorithm algorithm, uint32 node);

/* Puts a node where the one was that it replaces, which leaves. */
extern void eduai_cache_evict_replace(EvictState *state, EvictSpace space, uint32 old, uint32 node);

extern void eduai_cache_evict_remove(EvictState *state, EvictSpace space, uint32 node);

/* A use, under S3-FIFO: needs no hold on the queues. */
static inline void
eduai_cache_evict_use(EvictNode *node)
{
	if (pg_atomic_read_u32(&node->uses) < EVICT_MAX_USES)
		pg_atomic_fetch_add_u32(&node->uses, 1);
}

/* A use, under LRU. */
extern void eduai_cache_evict_renew(EvictState *state, EvictSpace space, uint32 node);

/* The one that gives way, out of its queue; EVICT_NONE when there is none. */
extern uint32 eduai_cache_evict_victim(EvictState *state, EvictSpace space, EvictGhost ghost,
									   EvictAlgorithm algorithm);

#endif
