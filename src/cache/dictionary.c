/*
 * dictionary.c: places of dictionaries.  See dictionary.h.
 */
#include "postgres.h"

#include "cache/dictionary.h"
#include "cache/squeeze.h"
#include "cache/trainer.h"

static CacheDictionary *
place_of(uint32 id)
{
	for (int i = 0; i < CACHE_DICTIONARIES; i++)
		if (eduai_cache_shared->dictionaries[i].id == id)
			return &eduai_cache_shared->dictionaries[i];
	return NULL;
}

static void
free_place(CacheDictionary *place)
{
	eduai_cache_give(place->first);
	place->id = 0;
}

static void
retire(CacheDictionary *place)
{
	place->current = false;
	eduai_cache_shared->shelves[place->shelf].dictionary = 0;
	if (place->users == 0)
		free_place(place);
}

bool
eduai_cache_dictionary_join(uint32 id)
{
	CacheDictionary *place = place_of(id);

	if (place == NULL)
		return false;
	place->users++;
	return true;
}

void
eduai_cache_dictionary_leave(uint32 id)
{
	CacheDictionary *place = place_of(id);

	place->users--;
	if (place->users == 0 && !place->current)
		free_place(place);
}

void
eduai_cache_dictionary_retire(Oid database)
{
	for (int i = 0; i < CACHE_DICTIONARIES; i++)
	{
		CacheDictionary *place = &eduai_cache_shared->dictionaries[i];

		if (place->id != 0 && place->current &&
			eduai_cache_shared->shelves[place->shelf].database == database)
		{
			CacheShelf *shelf = &eduai_cache_shared->shelves[place->shelf];

			shelf->next_training = shelf->puts + TRAINER_FIRST;
			retire(place);
		}
	}
}

void
eduai_cache_dictionary_forget(int shelf)
{
	for (int i = 0; i < CACHE_DICTIONARIES; i++)
		if (eduai_cache_shared->dictionaries[i].id != 0 &&
			eduai_cache_shared->dictionaries[i].shelf == shelf)
			free_place(&eduai_cache_shared->dictionaries[i]);
}

bool
eduai_cache_dictionary_fetch(uint32 id)
{
	CacheDictionary *place;
	size_t length = 0;
	char *bytes;

	if (eduai_cache_dictionary_known(id))
		return true;
	LWLockAcquire(CACHE_WRITER, LW_SHARED);
	place = place_of(id);
	length = place != NULL ? place->length : 0;
	LWLockRelease(CACHE_WRITER);
	bytes = length > 0 ? palloc_extended(length, MCXT_ALLOC_NO_OOM) : NULL;
	if (bytes == NULL)
		return false;
	LWLockAcquire(CACHE_WRITER, LW_SHARED);
	place = place_of(id); /* the same length: ids are not used twice */
	if (place != NULL)
	{
		CacheCursor cursor = eduai_cache_cursor_plain(place->first);

		eduai_cache_read(&cursor, bytes, length);
	}
	LWLockRelease(CACHE_WRITER);
	if (place != NULL && !eduai_cache_dictionary_learn(id, bytes, length))
		place = NULL;
	pfree(bytes);
	return place != NULL;
}

uint32
eduai_cache_dictionary_current(Oid database, const char *kind)
{
	CacheShelf *shelf;
	uint32 id = 0;

	LWLockAcquire(CACHE_WRITER, LW_SHARED);
	shelf = eduai_cache_shelf(database, kind, false);
	if (shelf != NULL && shelf->dictionary != 0)
		id = eduai_cache_shared->dictionaries[shelf->dictionary - 1].id;
	LWLockRelease(CACHE_WRITER);
	return id != 0 && eduai_cache_dictionary_fetch(id) ? id : 0;
}

static CacheDictionary *
new_place(void)
{
	for (int i = 0; i < CACHE_DICTIONARIES; i++)
		if (eduai_cache_shared->dictionaries[i].id == 0)
			return &eduai_cache_shared->dictionaries[i];
	return NULL;
}

bool
eduai_cache_dictionary_publish(int shelf, const char *bytes, size_t length)
{
	uint32 nblocks = eduai_cache_blocks_for(sizeof(uint32), length);
	CacheDictionary *place;
	CacheCursor cursor;

	LWLockAcquire(CACHE_WRITER, LW_EXCLUSIVE);
	if (eduai_cache_shared->shelves[shelf].dictionary != 0)
		retire(
			&eduai_cache_shared->dictionaries[eduai_cache_shared->shelves[shelf].dictionary - 1]);
	place = new_place();
	if (place != NULL && eduai_cache_make_room(nblocks))
	{
		place->first = eduai_cache_take(nblocks);
		cursor = eduai_cache_cursor_plain(place->first);
		eduai_cache_write(&cursor, bytes, length);
		place->id = ++eduai_cache_shared->dictionary_id;
		place->length = (uint32) length;
		place->users = 0;
		place->shelf = (uint8) shelf;
		place->current = true;
		eduai_cache_shared->shelves[shelf].dictionary =
			(uint32) (place - eduai_cache_shared->dictionaries) + 1;
	}
	else
		place = NULL;
	LWLockRelease(CACHE_WRITER);
	return place != NULL;
}
