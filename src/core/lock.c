/*
 * lock.c: eduai's advisory lock classes.  See lock.h.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "core/lock.h"
#include "miscadmin.h"
#include "storage/lock.h"

uint64
eduai_core_lock_key(const char *tenant, const char *name)
{
	uint64 h = hash_bytes_extended((const unsigned char *) tenant, strlen(tenant), 0);

	return hash_bytes_extended((const unsigned char *) name, strlen(name), h);
}

static bool
acquire(EduaiLockClass class, uint64 key, bool session, bool nowait)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (key >> 32), (uint32) key, class);
	return LockAcquire(&tag, ExclusiveLock, session, nowait) != LOCKACQUIRE_NOT_AVAIL;
}

bool
eduai_core_lock(EduaiLockClass class, uint64 key, bool nowait)
{
	return acquire(class, key, false, nowait);
}

bool
eduai_core_lock_session(EduaiLockClass class, uint64 key, bool nowait)
{
	return acquire(class, key, true, nowait);
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
	qsort(keys, n, sizeof(uint64), compare_keys);
	for (int i = 0; i < n; i++)
	{
		if (i > 0 && keys[i] == keys[i - 1])
			continue;
		if (!acquire(class, keys[i], false, nowait))
			return false;
	}
	return true;
}

void
eduai_core_unlock_session(EduaiLockClass class, uint64 key)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (key >> 32), (uint32) key, class);
	LockRelease(&tag, ExclusiveLock, true);
}
