/*
 * evict.c: S3-FIFO and LRU over numbered nodes.  See evict.h.
 */
#include "postgres.h"

#include "cache/evict.h"

#define SMALL_SHARE 10 /* the small queue's target: one part in ten */

static inline EvictNode *
at(EvictSpace space, uint32 node)
{
	return (EvictNode *) (space.base + (size_t) node * space.stride);
}

static void
queue_reset(EvictQueue *queue)
{
	*queue = (EvictQueue){.oldest = EVICT_NONE, .newest = EVICT_NONE};
}

void
eduai_cache_evict_reset(EvictState *state)
{
	queue_reset(&state->small);
	queue_reset(&state->main);
	state->left = 0;
}

static void
push(EvictQueue *queue, EvictSpace space, uint32 node, EvictPlace place)
{
	EvictNode *n = at(space, node);

	n->place = place;
	n->newer = EVICT_NONE;
	n->older = queue->newest;
	if (queue->newest != EVICT_NONE)
		at(space, queue->newest)->newer = node;
	else
		queue->oldest = node;
	queue->newest = node;
	queue->count++;
	queue->weight += n->weight;
}

static void
unlink_node(EvictQueue *queue, EvictSpace space, uint32 node)
{
	EvictNode *n = at(space, node);

	if (n->older != EVICT_NONE)
		at(space, n->older)->newer = n->newer;
	else
		queue->oldest = n->newer;
	if (n->newer != EVICT_NONE)
		at(space, n->newer)->older = n->older;
	else
		queue->newest = n->older;
	queue->count--;
	queue->weight -= n->weight;
	n->place = EVICT_OUT;
}

static EvictTrace *
trace_set(const EvictGhost *ghost, uint32 print)
{
	/* the multiplier spreads prints over the sets: Knuth's, 2^32 over the golden ratio */
	return ghost->traces + (size_t) ((print * 2654435769U) & (ghost->nsets - 1)) * EVICT_WAYS;
}

static void
leave_trace(EvictState *state, EvictGhost ghost, uint32 print)
{
	EvictTrace *set = trace_set(&ghost, print);
	int way = state->left % EVICT_WAYS;

	for (int i = 0; i < EVICT_WAYS; i++)
		if (set[i].print == 0 || set[i].print == print)
		{
			way = i;
			break;
		}
	set[way] = (EvictTrace){print, ++state->left};
}

/* True when there is a trace no older than as many departures as there are entries; takes it. */
static bool
take_trace(EvictState *state, EvictGhost ghost, uint32 print)
{
	EvictTrace *set = trace_set(&ghost, print);

	for (int i = 0; i < EVICT_WAYS; i++)
		if (set[i].print == print)
		{
			set[i].print = 0;
			return state->left - set[i].left <= state->main.count + state->small.count;
		}
	return false;
}

void
eduai_cache_evict_insert(EvictState *state, EvictSpace space, EvictGhost ghost,
						 EvictAlgorithm algorithm, uint32 node)
{
	if (algorithm == EVICT_LRU || take_trace(state, ghost, at(space, node)->print))
		push(&state->main, space, node, EVICT_MAIN);
	else
		push(&state->small, space, node, EVICT_SMALL);
}

void
eduai_cache_evict_remove(EvictState *state, EvictSpace space, uint32 node)
{
	EvictPlace place = at(space, node)->place;

	if (place != EVICT_OUT)
		unlink_node(place == EVICT_SMALL ? &state->small : &state->main, space, node);
}

void
eduai_cache_evict_replace(EvictState *state, EvictSpace space, uint32 old, uint32 node)
{
	EvictPlace place = at(space, old)->place;

	pg_atomic_write_u32(&at(space, node)->uses, pg_atomic_read_u32(&at(space, old)->uses));
	eduai_cache_evict_remove(state, space, old);
	push(place == EVICT_SMALL ? &state->small : &state->main, space, node, place);
}

void
eduai_cache_evict_renew(EvictState *state, EvictSpace space, uint32 node)
{
	eduai_cache_evict_remove(state, space, node);
	push(&state->main, space, node, EVICT_MAIN);
}

/* The small queue's oldest, unless it earned the main queue: then EVICT_NONE. */
static uint32
from_small(EvictState *state, EvictSpace space, EvictGhost ghost, bool may_move)
{
	uint32 node = state->small.oldest;
	EvictNode *n = at(space, node);

	unlink_node(&state->small, space, node);
	if (may_move && pg_atomic_read_u32(&n->uses) > 1)
	{
		pg_atomic_write_u32(&n->uses, 0);
		push(&state->main, space, node, EVICT_MAIN);
		return EVICT_NONE;
	}
	leave_trace(state, ghost, n->print);
	return node;
}

/* The main queue's oldest, unless it was used: then another round and EVICT_NONE. */
static uint32
from_main(EvictState *state, EvictSpace space, bool may_move)
{
	uint32 node = state->main.oldest;
	EvictNode *n = at(space, node);
	uint32 uses = Min(pg_atomic_read_u32(&n->uses), EVICT_MAX_USES);

	unlink_node(&state->main, space, node);
	if (may_move && uses > 0)
	{
		pg_atomic_write_u32(&n->uses, uses - 1);
		push(&state->main, space, node, EVICT_MAIN);
		return EVICT_NONE;
	}
	return node;
}

static uint32
lru_victim(EvictState *state, EvictSpace space)
{
	EvictQueue *queue = state->small.count > 0 ? &state->small : &state->main;
	uint32 node = queue->oldest;

	unlink_node(queue, space, node);
	return node;
}

uint32
eduai_cache_evict_victim(EvictState *state, EvictSpace space, EvictGhost ghost,
						 EvictAlgorithm algorithm)
{
	uint32 victim = EVICT_NONE;

	if (state->small.count + state->main.count == 0)
		return EVICT_NONE;
	if (algorithm == EVICT_LRU)
		return lru_victim(state, space);
	for (int moves = 0; victim == EVICT_NONE; moves++)
	{
		bool small = state->main.count == 0 ||
					 (state->small.count > 0 && state->small.weight * SMALL_SHARE >=
													state->small.weight + state->main.weight);

		victim = small ? from_small(state, space, ghost, moves < EVICT_MOVES)
					   : from_main(state, space, moves < EVICT_MOVES);
	}
	return victim;
}
