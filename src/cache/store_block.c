/*
 * store_block.c: blocks and the runs of bytes through them.
 */
#include "postgres.h"

#include "cache/store_internal.h"

static inline CacheBlock *
block_at(uint32 block)
{
	return (CacheBlock *) (eduai_cache_shared->blocks + (size_t) block * CACHE_BLOCK);
}

CacheCursor
eduai_cache_cursor(CacheEntry *entry)
{
	return (CacheCursor){entry->data, CACHE_BLOCK - CACHE_ENTRY_HEAD, entry->next};
}

CacheCursor
eduai_cache_cursor_plain(uint32 block)
{
	CacheBlock *b = block_at(block);

	return (CacheCursor){b->data, sizeof(b->data), b->next};
}

/* The bytes at hand, at most n; goes to the next block when there are none. */
static inline size_t
at_hand(CacheCursor *cursor, size_t n)
{
	if (cursor->left == 0)
		*cursor = eduai_cache_cursor_plain(cursor->next);
	return Min(cursor->left, n);
}

static inline void
advance(CacheCursor *cursor, size_t n)
{
	cursor->at += n;
	cursor->left -= n;
}

void
eduai_cache_read(CacheCursor *cursor, void *to, size_t n)
{
	for (char *p = to; n > 0;)
	{
		size_t part = at_hand(cursor, n);

		memcpy(p, cursor->at, part);
		advance(cursor, part);
		p += part;
		n -= part;
	}
}

void
eduai_cache_write(CacheCursor *cursor, const void *from, size_t n)
{
	for (const char *p = from; n > 0;)
	{
		size_t part = at_hand(cursor, n);

		memcpy(cursor->at, p, part);
		advance(cursor, part);
		p += part;
		n -= part;
	}
}

bool
eduai_cache_same(CacheCursor *cursor, const void *bytes, size_t n)
{
	for (const char *p = bytes; n > 0;)
	{
		size_t part = at_hand(cursor, n);

		if (memcmp(cursor->at, p, part) != 0)
			return false;
		advance(cursor, part);
		p += part;
		n -= part;
	}
	return true;
}

void
eduai_cache_skip(CacheCursor *cursor, size_t n)
{
	while (n > 0)
	{
		size_t part = at_hand(cursor, n);

		advance(cursor, part);
		n -= part;
	}
}

uint32
eduai_cache_blocks_for(size_t head, size_t n)
{
	size_t first = CACHE_BLOCK - head;
	size_t each = sizeof(block_at(0)->data);

	return n <= first ? 1 : 1 + (uint32) ((n - first + each - 1) / each);
}

uint32
eduai_cache_take(uint32 n)
{
	uint32 first = eduai_cache_shared->free;
	uint32 last = first;

	Assert(n > 0 && n <= eduai_cache_shared->free_blocks);
	for (uint32 i = 1; i < n; i++)
		last = block_at(last)->next;
	eduai_cache_shared->free = block_at(last)->next;
	eduai_cache_shared->free_blocks -= n;
	block_at(last)->next = CACHE_NO_BLOCK;
	return first;
}

void
eduai_cache_give(uint32 first)
{
	uint32 last = first;
	uint32 n = 1;

	for (; block_at(last)->next != CACHE_NO_BLOCK; n++)
		last = block_at(last)->next;
	block_at(last)->next = eduai_cache_shared->free;
	eduai_cache_shared->free = first;
	eduai_cache_shared->free_blocks += n;
}
