/*
 * access_ring.c: notes of reads on their way to the access log.  See
 * access_ring.h.
 *
 * A database may fill the places but for those that the others' share keeps:
 * one whose notes nobody takes leaves a quarter to the rest.
 */
#include "postgres.h"

#include "core/shmem.h"
#include "miscadmin.h"
#include "privacy/access_ring.h"
#include "storage/spin.h"
#include "utils/guc.h"

#define DATABASES 64
#define NO_PLACE  (-1)

typedef struct Place
{
	int32 next;
	EduaiAccessNote note;
} Place;

typedef struct Database
{
	Oid database; /* InvalidOid: free */
	int32 first;
	int32 last;
	int32 count;
	int64 lost_ever;
	EduaiAccessLoss losses[EDUAI_ACCESS_LOSSES];
} Database;

typedef struct Ring
{
	slock_t mutex; /* guards all of it */
	int32 free;    /* list */
	int32 nplaces;
	Database databases[DATABASES];
	Place places[FLEXIBLE_ARRAY_MEMBER];
} Ring;

static Ring *ring = NULL;
static int mine = NO_PLACE; /* of the databases, once known: a place is never given to another */
static int size = 16384;

static Size
ring_size(void)
{
	return offsetof(Ring, places) + sizeof(Place) * (Size) size;
}

static void
ring_shmem_init(void *ptr)
{
	Ring *r = ptr;

	memset(r, 0, ring_size());
	SpinLockInit(&r->mutex);
	r->nplaces = size;
	for (int i = 0; i < size; i++)
		r->places[i].next = i + 1 < size ? i + 1 : NO_PLACE;
	for (int i = 0; i < DATABASES; i++)
		r->databases[i].first = r->databases[i].last = NO_PLACE;
}

/* This database's list; with "make", one is made.  NULL: there is none.  Under the spinlock. */
static Database *
own(bool make)
{
	if (mine != NO_PLACE)
		return &ring->databases[mine];
	for (int i = 0; i < DATABASES; i++)
		if (ring->databases[i].database == MyDatabaseId)
			return &ring->databases[mine = i];
	for (int i = 0; make && i < DATABASES; i++)
		if (!OidIsValid(ring->databases[i].database))
		{
			ring->databases[i].database = MyDatabaseId;
			return &ring->databases[mine = i];
		}
	return NULL;
}

/* ---- putting in ---- */

static void
count_loss(Database *db, const char *tenant)
{
	EduaiAccessLoss *loss = NULL;

	db->lost_ever++;
	for (int i = 0; i < EDUAI_ACCESS_LOSSES - 1 && loss == NULL; i++)
		if (db->losses[i].lost == 0 || strcmp(db->losses[i].tenant, tenant) == 0)
			loss = &db->losses[i];
	if (loss == NULL)
		loss = &db->losses[EDUAI_ACCESS_LOSSES - 1];
	else if (loss->lost == 0)
		strlcpy(loss->tenant, tenant, sizeof(loss->tenant));
	loss->lost++;
}

static void
append(Database *db, const EduaiAccessNote *note)
{
	int32 at = ring->free;

	ring->free = ring->places[at].next;
	ring->places[at].note = *note;
	ring->places[at].next = NO_PLACE;
	if (db->count++ == 0)
		db->first = at;
	else
		ring->places[db->last].next = at;
	db->last = at;
}

EduaiAccessPut
eduai_privacy_access_put(const EduaiAccessNote *note, bool count)
{
	EduaiAccessPut result = EDUAI_ACCESS_FULL;
	Database *db;

	SpinLockAcquire(&ring->mutex);
	db = own(true);
	if (db != NULL && ring->free != NO_PLACE && db->count < ring->nplaces - ring->nplaces / 4)
	{
		append(db, note);
		result = db->count == ring->nplaces / 4 ? EDUAI_ACCESS_PUT_MANY : EDUAI_ACCESS_PUT;
	}
	else if (db != NULL && count)
		count_loss(db, note->tenant);
	SpinLockRelease(&ring->mutex);
	return result;
}

/* ---- taking out ---- */

int
eduai_privacy_access_look(EduaiAccessNote *notes, int limit)
{
	int n = 0;
	int32 at = NO_PLACE;

	if (ring == NULL)
		return 0;
	while (n < limit)
	{
		Database *db;

		SpinLockAcquire(&ring->mutex);
		db = own(false);
		at = db == NULL ? NO_PLACE : n == 0 ? db->first : ring->places[at].next;
		if (at != NO_PLACE)
			notes[n++] = ring->places[at].note;
		SpinLockRelease(&ring->mutex);
		if (at == NO_PLACE)
			break;
	}
	return n;
}

void
eduai_privacy_access_release(int n)
{
	for (int i = 0; i < n; i++)
	{
		Database *db;
		int32 at;

		SpinLockAcquire(&ring->mutex);
		db = own(false);
		at = db != NULL ? db->first : NO_PLACE;
		if (at != NO_PLACE)
		{
			db->first = ring->places[at].next;
			if (--db->count == 0)
				db->last = NO_PLACE;
			memset(&ring->places[at].note, 0, sizeof(EduaiAccessNote));
			ring->places[at].next = ring->free;
			ring->free = at;
		}
		SpinLockRelease(&ring->mutex);
	}
}

int
eduai_privacy_access_losses(EduaiAccessLoss *losses)
{
	Database *db;
	int n = 0;

	if (ring == NULL)
		return 0;
	SpinLockAcquire(&ring->mutex);
	db = own(false);
	for (int i = 0; db != NULL && i < EDUAI_ACCESS_LOSSES; i++)
		if (db->losses[i].lost > 0)
			losses[n++] = db->losses[i];
	SpinLockRelease(&ring->mutex);
	return n;
}

void
eduai_privacy_access_losses_written(const EduaiAccessLoss *losses, int n)
{
	Database *db;

	SpinLockAcquire(&ring->mutex);
	db = own(false);
	for (int i = 0; db != NULL && i < n; i++)
		for (int j = 0; j < EDUAI_ACCESS_LOSSES; j++)
			if (db->losses[j].lost > 0 && strcmp(db->losses[j].tenant, losses[i].tenant) == 0)
				db->losses[j].lost -= losses[i].lost;
	SpinLockRelease(&ring->mutex);
}

void
eduai_privacy_access_counts(int64 *waiting, int64 *places, int64 *lost)
{
	Database *db;

	*waiting = *places = *lost = 0;
	if (ring == NULL)
		return;
	SpinLockAcquire(&ring->mutex);
	db = own(false);
	*places = ring->nplaces;
	if (db != NULL)
	{
		*waiting = db->count;
		*lost = db->lost_ever;
	}
	SpinLockRelease(&ring->mutex);
}

void
eduai_privacy_access_ring_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_privacy_access",
										.size = ring_size,
										.init = ring_shmem_init,
										.address = (void **) &ring};

	DefineCustomIntVariable(
		"eduai.access_log_size", "How many notes of reads wait for the access log's chain at most.",
		"Half a kilobyte each, shared by all databases.", &size, 16384, 64, 1 << 20,
		process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP, 0, NULL, NULL,
		NULL);
	eduai_core_shmem_register(&part);
}
