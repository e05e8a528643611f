/*
 * failing.c: which projections cannot be followed, and why.  See failing.h.
 *
 * A small table under one lock; nothing raises or allocates under it.  When it
 * is full, the one that failed longest ago gives way.
 */
#include "postgres.h"

#include "core/shmem.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "projections/failing.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"

#define PLACES 64

static EduaiFailing *table = NULL;
static LWLockPadded *lock = NULL;

static Size
table_size(void)
{
	return sizeof(EduaiFailing) * PLACES;
}

static void
table_init(void *ptr)
{
	memset(ptr, 0, table_size());
}

void
eduai_projections_failing_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_projections_failing",
										.size = table_size,
										.init = table_init,
										.nlocks = 1,
										.address = (void **) &table,
										.locks = &lock};

	eduai_core_shmem_register(&part);
}

/* The caller holds the lock. */
static EduaiFailing *
find(int projection)
{
	for (int i = 0; i < PLACES; i++)
		if (table[i].database == MyDatabaseId && table[i].projection == projection)
			return &table[i];
	return NULL;
}

/* The caller holds the lock. */
static EduaiFailing *
make(int projection)
{
	EduaiFailing *oldest = &table[0];

	for (int i = 0; i < PLACES; i++)
		if (!OidIsValid(table[i].database) || table[i].last_at < oldest->last_at)
			oldest = &table[i];
	*oldest = (EduaiFailing){MyDatabaseId, projection, .since = GetCurrentTimestamp()};
	return oldest;
}

void
eduai_projections_failing_note(int projection, const char *tenant, const ErrorData *error)
{
	int length =
		pg_mbcliplen(error->message, (int) strlen(error->message), EDUAI_FAILING_MESSAGE - 1);
	EduaiFailing *f;

	if (table == NULL)
		return;
	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	f = find(projection);
	if (f == NULL)
		f = make(projection);
	f->last_at = GetCurrentTimestamp();
	f->sqlstate = error->sqlerrcode;
	strlcpy(f->tenant, tenant, sizeof(f->tenant));
	memcpy(f->message, error->message, length);
	f->message[length] = '\0';
	LWLockRelease(&lock->lock);
}

void
eduai_projections_failing_over(int projection)
{
	EduaiFailing *f;

	if (table == NULL)
		return;
	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	f = find(projection);
	if (f != NULL)
		memset(f, 0, sizeof(*f));
	LWLockRelease(&lock->lock);
}

void
eduai_projections_failing_forget(void)
{
	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	for (int i = 0; i < PLACES; i++)
		if (table[i].database == MyDatabaseId)
			memset(&table[i], 0, sizeof(EduaiFailing));
	LWLockRelease(&lock->lock);
}

bool
eduai_projections_failing_get(int projection, EduaiFailing *failing)
{
	EduaiFailing *f;

	if (table == NULL)
		return false;
	LWLockAcquire(&lock->lock, LW_SHARED);
	f = find(projection);
	if (f != NULL)
		*failing = *f;
	LWLockRelease(&lock->lock);
	return f != NULL;
}
