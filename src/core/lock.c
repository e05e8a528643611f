/*
 * lock.c: eduai's advisory lock classes.  See lock.h for the protocol.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "core/lock.h"
#include "core/lock_room.h"
#include "miscadmin.h"
#include "storage/lock.h"

uint64
eduai_core_lock_key(const char *tenant, const char *name)
{
	uint64 h = hash_bytes_extended((const unsigned char *) tenant, strlen(tenant), 0);

	return hash_bytes_extended((const unsigned char *) name, strlen(name), h);
}

/* The place of a class of keys among its like, -1 for the other classes. */
static int
class_index(EduaiLockClass class)
{
	if (class < EDUAI_LOCK_EVENT_ID || class > EDUAI_LOCK_UNIQUE_KEY)
		return -1;
	return class - EDUAI_LOCK_EVENT_ID;
}

static LOCKTAG
lock_tag(EduaiLockClass class, uint64 key)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (key >> 32), (uint32) key, class);
	return tag;
}

/* The turn and the door belong to a ground, which databases may share. */
static LOCKTAG
bulk_tag(EduaiLockClass class)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, InvalidOid, 0, (uint32) eduai_core_lock_room_ground(), class);
	return tag;
}

static LockAcquireResult
acquire(EduaiLockClass class, uint64 key, bool nowait)
{
	LOCKTAG tag = lock_tag(class, key);

	return LockAcquire(&tag, ExclusiveLock, false, nowait);
}

static void
release(EduaiLockClass class, uint64 key)
{
	LOCKTAG tag = lock_tag(class, key);

	LockRelease(&tag, ExclusiveLock, false);
}

static bool
become_bulk(bool nowait)
{
	LOCKTAG turn = bulk_tag(EDUAI_LOCK_BULK_TURN);
	LOCKTAG door = bulk_tag(EDUAI_LOCK_BULK_DOOR);

	if (LockAcquire(&turn, ExclusiveLock, false, nowait) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	if (LockAcquire(&door, ExclusiveLock, false, nowait) == LOCKACQUIRE_NOT_AVAIL)
	{
		LockRelease(&turn, ExclusiveLock, false);
		return false;
	}
	eduai_core_lock_room_begin_bulk();
	return true;
}

/* Waits for the end of the bulk, if there is one, and keeps the next one out. */
static bool
enter_door(bool nowait)
{
	LOCKTAG door = bulk_tag(EDUAI_LOCK_BULK_DOOR);

	return LockAcquire(&door, ShareLock, false, nowait) != LOCKACQUIRE_NOT_AVAIL;
}

static void
leave_door(void)
{
	LOCKTAG door = bulk_tag(EDUAI_LOCK_BULK_DOOR);

	LockRelease(&door, ShareLock, false);
}

bool
eduai_core_lock_expect(int n, bool nowait)
{
	return eduai_core_lock_room_is_bulk() || eduai_core_lock_room_has(n) || become_bulk(nowait);
}

/* Fine locks of all keys; says how many are new, or -1 with none of them taken. */
static int
acquire_keys(EduaiLockClass class, const uint64 *keys, int n, bool nowait)
{
	int fresh = 0;

	for (int i = 0; i < n; i++)
	{
		LockAcquireResult result = acquire(class, keys[i], nowait);

		if (result == LOCKACQUIRE_NOT_AVAIL)
		{
			while (--i >= 0)
				release(class, keys[i]);
			return -1;
		}
		fresh += result == LOCKACQUIRE_OK ? 1 : 0;
	}
	return fresh;
}

/*
 * Fine locks of keys of one group.  Nothing of the group is held while it
 * waits at the door, and the door is not held while it waits for a key.
 */
static bool
lock_group(EduaiLockClass class, const uint64 *keys, int n, bool nowait)
{
	for (;;)
	{
		int fresh = acquire_keys(class, keys, n, nowait);

		if (fresh < 0)
			return false;
		if (fresh > 0 && eduai_core_lock_room_is_closed(class_index(class), keys[0]))
		{
			for (int i = 0; i < n; i++)
				release(class, keys[i]);
			if (!enter_door(nowait))
				return false;
			fresh = acquire_keys(class, keys, n, true);
			leave_door();
			if (fresh < 0)
				continue;
		}
		eduai_core_lock_room_use(fresh);
		return true;
	}
}

/* As the bulk: closes the keys' groups, one after the other, and keeps nothing. */
static bool
lock_as_bulk(EduaiLockClass class, const uint64 *keys, int n, bool nowait)
{
	for (int i = 0; i < n; i++)
	{
		if (i == 0 || !eduai_core_lock_room_same_group(keys[i], keys[i - 1]))
			eduai_core_lock_room_close(class_index(class), keys[i]);
		if (acquire(class, keys[i], nowait) == LOCKACQUIRE_NOT_AVAIL)
			return false;
		release(class, keys[i]);
	}
	return true;
}

/* Keys in ascending order, each once. */
static bool
lock_keys(EduaiLockClass class, const uint64 *keys, int n, bool nowait)
{
	int first = 0;

	if (!eduai_core_lock_expect(n, nowait))
		return false;
	if (eduai_core_lock_room_is_bulk())
		return lock_as_bulk(class, keys, n, nowait);
	while (first < n)
	{
		int next = first + 1;

		while (next < n && eduai_core_lock_room_same_group(keys[first], keys[next]))
			next++;
		if (!lock_group(class, &keys[first], next - first, nowait))
			return false;
		first = next;
	}
	return true;
}

bool
eduai_core_lock(EduaiLockClass class, uint64 key, bool nowait)
{
	if (class_index(class) < 0)
		return acquire(class, key, nowait) != LOCKACQUIRE_NOT_AVAIL;
	return lock_keys(class, &key, 1, nowait);
}

static int
compare_keys(const void *a, const void *b)
{
	uint64 x = *(const uint64 *) a;
	uint64 y = *(const uint64 *) b;

	return x < y ? -1 : x > y ? 1 : 0;
}

bool
eduai_core_lock_all(EduaiLockClass class, uint64 *keys, int n, bool nowait)
{
	int distinct = 0;

	Assert(class_index(class) >= 0);
	if (n > 1)
		qsort(keys, n, sizeof(uint64), compare_keys);
	for (int i = 0; i < n; i++)
		if (i == 0 || keys[i] != keys[distinct - 1])
			keys[distinct++] = keys[i];
	return lock_keys(class, keys, distinct, nowait);
}

bool
eduai_core_lock_session(EduaiLockClass class, uint64 key, bool nowait)
{
	LOCKTAG tag = lock_tag(class, key);

	return LockAcquire(&tag, ExclusiveLock, true, nowait) != LOCKACQUIRE_NOT_AVAIL;
}

void
eduai_core_unlock_session(EduaiLockClass class, uint64 key)
{
	LOCKTAG tag = lock_tag(class, key);

	LockRelease(&tag, ExclusiveLock, true);
}
