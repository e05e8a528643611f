/*
 * lane_shared.c: the lanes' directory in shared memory.  See lane_internal.h.
 *
 * A lane is known by its hash.  It keeps its place until another wants it; only
 * a lane without tasks, scans and pins makes room.  When there is none, tasks
 * of new lanes wait until the sweep finds room for them.
 */
#include "postgres.h"

#include "access/twophase.h"
#include "common/hashfn.h"
#include "core/clock.h"
#include "core/shmem.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "queue/fresh_internal.h"
#include "queue/lane_internal.h"
#include "utils/guc.h"
#include "utils/syscache.h"

#define FULL_REST_US 100000

LaneShared *eduai_queue_lanes = NULL;
int eduai_queue_lane_count = 16384;
int eduai_queue_stray_count = 8192;

static LWLockPadded *directory = NULL;

static int
words(void)
{
	return (eduai_queue_lane_count + 63) / 64;
}

static int
prepared_places(void)
{
	return 2 * max_prepared_xacts + 16;
}

static Size
lane_size(void)
{
	Size size = MAXALIGN(sizeof(LaneShared));

	size = add_size(size, MAXALIGN(mul_size(sizeof(LanePrepared), prepared_places())));
	size = add_size(size, MAXALIGN(mul_size(sizeof(int), eduai_queue_lane_count)));
	size = add_size(size, MAXALIGN(mul_size(sizeof(pg_atomic_uint64), words())));
	size = add_size(size, MAXALIGN(mul_size(sizeof(Lane), eduai_queue_lane_count)));
	return add_size(size, MAXALIGN(mul_size(sizeof(Stray), eduai_queue_stray_count)));
}

static void *
carve(char **at, Size size)
{
	void *part = *at;

	*at += MAXALIGN(size);
	return part;
}

static void
lane_shmem_init(void *ptr)
{
	LaneShared *s = ptr;
	char *at = (char *) ptr + MAXALIGN(sizeof(LaneShared));

	memset(ptr, 0, lane_size());
	SpinLockInit(&s->mutex);
	SpinLockInit(&s->strays_mutex);
	pg_atomic_init_u64(&s->served, 0);
	s->nprepared = prepared_places();
	s->prepared = carve(&at, sizeof(LanePrepared) * s->nprepared);
	s->nbuckets = eduai_queue_lane_count;
	s->buckets = carve(&at, sizeof(int) * s->nbuckets);
	s->open = carve(&at, sizeof(pg_atomic_uint64) * words());
	s->lanes = carve(&at, sizeof(Lane) * eduai_queue_lane_count);
	s->strays = carve(&at, sizeof(Stray) * eduai_queue_stray_count);
	for (int i = 0; i < words(); i++)
		pg_atomic_init_u64(&s->open[i], 0);
	for (int i = 0; i < eduai_queue_lane_count; i++)
	{
		s->buckets[i] = LANE_NONE;
		SpinLockInit(&s->lanes[i].mutex);
		s->lanes[i].next = i + 1 < eduai_queue_lane_count ? i + 1 : LANE_NONE;
	}
	for (int i = 0; i < eduai_queue_stray_count; i++)
		s->strays[i].next = i + 1 < eduai_queue_stray_count ? i + 1 : LANE_NONE;
}

void
eduai_queue_lane_shared_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_lanes",
										.size = lane_size,
										.init = lane_shmem_init,
										.nlocks = 1,
										.address = (void **) &eduai_queue_lanes,
										.locks = &directory};

	DefineCustomIntVariable(
		"eduai.queue_lanes",
		"Lanes of ready tasks, one for each tenant, task type, model and priority in use.",
		"When all have tasks, those of further lanes wait until one is empty.",
		&eduai_queue_lane_count, 16384, 16, 1 << 22,
		process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP, 0, NULL, NULL,
		NULL);
	DefineCustomIntVariable(
		"eduai.queue_strays",
		"Ready tasks remembered one by one, because their transactions committed late or their "
		"claims were rolled back.",
		"When there are more, the lane of the next one is read again from it on.",
		&eduai_queue_stray_count, 8192, 16, 1 << 22,
		process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP, 0, NULL, NULL,
		NULL);
	eduai_core_shmem_register(&part);
}

uint64
eduai_queue_lane_word(const char *name)
{
	return DatumGetUInt64(
		hash_bytes_extended((const unsigned char *) name, (int) strlen(name), 0x6c616e65));
}

int64
eduai_queue_lane_hash(const char *tenant, const char *task_type, const char *model, int priority)
{
	LaneName name = {tenant, task_type, model, priority};
	LaneIdentity identity;

	eduai_queue_lane_identity(&name, &identity);
	return identity.hash;
}

void
eduai_queue_lane_identity(const LaneName *name, LaneIdentity *identity)
{
	uint64 model = name->model ? eduai_queue_lane_word(name->model) : 0;

	identity->tenant = eduai_queue_lane_word(name->tenant);
	identity->task_type = eduai_queue_lane_word(name->task_type);
	identity->priority = name->priority;
	identity->hash = (int64) hash_combine64(
		hash_combine64(hash_combine64(identity->tenant, identity->task_type), model),
		(uint64) name->priority + 1);
}

/* ---- databases ---- */

/* the entry, or a free one taken; NULL when there is none */
static LaneDatabase *
take_database(void)
{
	LaneDatabase *found = NULL;

	SpinLockAcquire(&eduai_queue_lanes->mutex);
	for (int i = 0; i < LANE_DATABASES; i++)
	{
		LaneDatabase *db = &eduai_queue_lanes->databases[i];

		if (db->database == MyDatabaseId)
		{
			found = db;
			break;
		}
		if (!OidIsValid(db->database) && found == NULL)
			found = db;
	}
	if (found != NULL && found->database != MyDatabaseId)
	{
		memset(found, 0, sizeof(LaneDatabase));
		pg_atomic_init_u64(&found->drawing, 0);
		pg_atomic_init_u64(&found->drawn, 0);
		pg_atomic_init_u64(&found->last_id, 0);
		found->database = MyDatabaseId;
	}
	SpinLockRelease(&eduai_queue_lanes->mutex);
	return found;
}

/* a database that was dropped leaves its entry; its lanes hold nothing any more */
static void
forget_dropped(void)
{
	for (int i = 0; i < LANE_DATABASES; i++)
	{
		LaneDatabase *db = &eduai_queue_lanes->databases[i];
		Oid oid = db->database;

		if (!OidIsValid(oid) || SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(oid)))
			continue;
		eduai_queue_fresh_drop(oid, PG_UINT32_MAX);
		LWLockAcquire(&directory->lock, LW_EXCLUSIVE);
		for (int l = 0; l < eduai_queue_lane_count; l++)
			if (eduai_queue_lanes->lanes[l].database == oid)
				eduai_queue_lane_empty(l);
		LWLockRelease(&directory->lock);
		SpinLockAcquire(&eduai_queue_lanes->mutex);
		if (db->database == oid)
			db->database = InvalidOid;
		SpinLockRelease(&eduai_queue_lanes->mutex);
	}
}

LaneDatabase *
eduai_queue_lane_database(void)
{
	static LaneDatabase *mine = NULL;

	if (mine != NULL && mine->database == MyDatabaseId)
		return mine;
	mine = take_database();
	if (mine == NULL)
	{
		forget_dropped();
		mine = take_database();
	}
	if (mine == NULL)
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						errmsg("too many databases use the queue"),
						errdetail("At most %d databases of a server can.", LANE_DATABASES)));
	return mine;
}

/* ---- lanes ---- */

static bool
pin_if(int lane, int64 hash)
{
	Lane *l = &eduai_queue_lanes->lanes[lane];
	bool same;

	SpinLockAcquire(&l->mutex);
	same = l->database == MyDatabaseId && l->hash == hash;
	if (same)
		l->pins++;
	SpinLockRelease(&l->mutex);
	return same;
}

int
eduai_queue_lanes_used(int *most)
{
	int used = 0;

	*most = eduai_queue_lanes == NULL ? 0 : eduai_queue_lane_count;
	for (int w = 0; *most > 0 && w < words(); w++)
		used += pg_popcount64(pg_atomic_read_u64(&eduai_queue_lanes->open[w]));
	return used;
}

static int *
bucket_of(Oid database, int64 hash)
{
	return &eduai_queue_lanes
				->buckets[((uint64) hash ^ murmurhash32(database)) % eduai_queue_lanes->nbuckets];
}

/* with the directory's lock, in either mode */
static int
find_and_pin(int64 hash)
{
	int at = *bucket_of(MyDatabaseId, hash);

	while (at != LANE_NONE && !pin_if(at, hash))
		at = eduai_queue_lanes->lanes[at].next;
	return at;
}

/* frees a lane if nothing needs it; with the directory's lock, exclusively */
static bool
evict(int lane)
{
	Lane *l = &eduai_queue_lanes->lanes[lane];
	int *link = bucket_of(l->database, l->hash);
	bool idle;

	SpinLockAcquire(&l->mutex);
	idle = !l->open && l->pins == 0 && l->scans == 0;
	if (idle)
		l->database = InvalidOid;
	SpinLockRelease(&l->mutex);
	if (!idle)
		return false;
	while (*link != lane)
		link = &eduai_queue_lanes->lanes[*link].next;
	*link = l->next;
	l->next = eduai_queue_lanes->free_lane;
	eduai_queue_lanes->free_lane = lane;
	return true;
}

/* a free lane, out of the list; LANE_NONE when nobody makes room */
static int
make_room(void)
{
	LaneShared *s = eduai_queue_lanes;
	int lane;

	if (s->free_lane == LANE_NONE && eduai_core_mono_us() < s->full_until_us)
		return LANE_NONE;
	for (int i = 0; s->free_lane == LANE_NONE && i < eduai_queue_lane_count; i++)
	{
		s->hand = (s->hand + 1) % eduai_queue_lane_count;
		(void) evict(s->hand);
	}
	lane = s->free_lane;
	if (lane != LANE_NONE)
		s->free_lane = s->lanes[lane].next;
	else
		s->full_until_us = eduai_core_mono_us() + FULL_REST_US;
	return lane;
}

/* makes a lane, pinned; with the directory's lock, exclusively */
static int
make_lane(const LaneIdentity *identity)
{
	int lane = make_room();
	int *bucket = bucket_of(MyDatabaseId, identity->hash);
	Lane *l;

	if (lane == LANE_NONE)
		return LANE_NONE;
	l = &eduai_queue_lanes->lanes[lane];
	SpinLockAcquire(&l->mutex);
	l->database = MyDatabaseId;
	l->hash = identity->hash;
	l->tenant = identity->tenant;
	l->task_type = identity->task_type;
	l->priority = identity->priority;
	l->mark = LANE_NO_KEY;
	l->frontier = l->reach = PG_INT64_MIN;
	l->served = 0;
	l->pins = 1;
	l->scans = l->takers = 0;
	l->stray = l->fresh = l->fresh_end = l->late = l->late_end = LANE_NONE;
	SpinLockRelease(&l->mutex);
	l->next = *bucket;
	*bucket = lane;
	return lane;
}

int
eduai_queue_lane_pin(const LaneIdentity *identity)
{
	/* where this backend's last lanes were */
	static int known[64];
	int *last = &known[(uint64) identity->hash % lengthof(known)];
	int lane;

	if (*last < eduai_queue_lane_count && pin_if(*last, identity->hash))
		return *last;
	LWLockAcquire(&directory->lock, LW_SHARED);
	lane = find_and_pin(identity->hash);
	LWLockRelease(&directory->lock);
	if (lane == LANE_NONE)
	{
		LWLockAcquire(&directory->lock, LW_EXCLUSIVE);
		lane = find_and_pin(identity->hash);
		if (lane == LANE_NONE)
			lane = make_lane(identity);
		LWLockRelease(&directory->lock);
	}
	if (lane != LANE_NONE)
		*last = lane;
	return lane;
}

int
eduai_queue_lane_find(int64 hash)
{
	int lane;

	LWLockAcquire(&directory->lock, LW_SHARED);
	lane = find_and_pin(hash);
	LWLockRelease(&directory->lock);
	return lane;
}

void
eduai_queue_lane_unpin(int lane)
{
	Lane *l = &eduai_queue_lanes->lanes[lane];

	SpinLockAcquire(&l->mutex);
	l->pins--;
	SpinLockRelease(&l->mutex);
}

void
eduai_queue_lane_missed(void)
{
	/* who announces has found the entry before */
	for (int i = 0; i < LANE_DATABASES; i++)
		if (eduai_queue_lanes->databases[i].database == MyDatabaseId)
			eduai_queue_lanes->databases[i].missed = true;
}

/* ---- prepared transactions ---- */

void
eduai_queue_lane_prepared(TransactionId xid)
{
	LaneShared *s = eduai_queue_lanes;
	int place = 0;

	SpinLockAcquire(&s->mutex);
	while (place < s->nprepared && OidIsValid(s->prepared[place].database))
		place++;
	if (place < s->nprepared)
	{
		s->prepared[place].database = MyDatabaseId;
		s->prepared[place].xid = xid;
	}
	else
		for (int i = 0; i < LANE_DATABASES; i++)
			if (s->databases[i].database == MyDatabaseId)
				s->databases[i].unsure = true;
	SpinLockRelease(&s->mutex);
}
