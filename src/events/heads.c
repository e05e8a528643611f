/*
 * heads.c: the last versions of recently written streams.  See heads.h.
 *
 * A fixed table of buckets of four entries, each bucket under a spinlock.  A
 * stream is told by 128 bits of hash with seeds drawn at the server's start,
 * so that nobody can make two names meet.  When a bucket is full, the entry
 * that was written longest ago gives way.
 *
 * A database's generation is part of its keys: raising it voids its entries.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "core/xact.h"
#include "events/heads.h"
#include "events/shared.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/spin.h"

#define BUCKETS 65536 /* a power of two */
#define WAYS    4

typedef struct Key
{
	uint64 low;
	uint64 high;
} Key;

typedef struct Bucket
{
	slock_t mutex;
	uint8 next; /* the way that gives way */
	Key keys[WAYS];
	int64 versions[WAYS]; /* 0: free */
} Bucket;

typedef struct Heads
{
	Key seed;
	Bucket buckets[BUCKETS];
} Heads;

static Heads *heads = NULL;
static bool forget_at_commit = false;

PG_FUNCTION_INFO_V1(eduai_event_removed);

static Size
heads_size(void)
{
	return sizeof(Heads);
}

static void
heads_shmem_init(void *ptr)
{
	Heads *all = ptr;

	memset(all, 0, sizeof(*all));
	if (!pg_strong_random(&all->seed, sizeof(all->seed)))
		elog(ERROR, "could not draw a random seed");
	for (int i = 0; i < BUCKETS; i++)
		SpinLockInit(&all->buckets[i].mutex);
}

static Key
key_of(EduaiEventsSlot *slot, const char *tenant, const char *stream)
{
	const unsigned char *name = (const unsigned char *) stream;
	int length = strlen(stream);
	uint64 owner = hash_bytes_extended((const unsigned char *) tenant, strlen(tenant),
									   ((uint64) slot->database << 32) ^ slot->installation);
	uint64 generation = pg_atomic_read_u32(&slot->generation);

	return (Key){hash_bytes_extended(name, length, owner ^ heads->seed.low) + generation,
				 hash_bytes_extended(name, length, owner ^ heads->seed.high) + generation};
}

static Bucket *
bucket_of(Key key)
{
	return &heads->buckets[key.low & (BUCKETS - 1)];
}

/* The way that holds the key, or -1.  The caller holds the mutex. */
static int
find_way(const Bucket *bucket, Key key)
{
	for (int i = 0; i < WAYS; i++)
		if (bucket->keys[i].low == key.low && bucket->keys[i].high == key.high)
			return i;
	return -1;
}

bool
eduai_events_head_get(const char *tenant, const char *stream, int64 *version)
{
	EduaiEventsSlot *slot = eduai_events_slot_if_any();
	Bucket *bucket;
	Key key;
	int way;

	if (heads == NULL || slot == NULL || forget_at_commit)
		return false;
	key = key_of(slot, tenant, stream);
	bucket = bucket_of(key);
	SpinLockAcquire(&bucket->mutex);
	way = find_way(bucket, key);
	*version = way >= 0 ? bucket->versions[way] : 0;
	SpinLockRelease(&bucket->mutex);
	return *version > 0;
}

void
eduai_events_head_put(const char *tenant, const char *stream, int64 version)
{
	EduaiEventsSlot *slot = eduai_events_slot_if_any();
	Bucket *bucket;
	Key key;
	int way;

	if (heads == NULL || slot == NULL)
		return;
	key = key_of(slot, tenant, stream);
	bucket = bucket_of(key);
	SpinLockAcquire(&bucket->mutex);
	way = find_way(bucket, key);
	if (way < 0)
	{
		way = bucket->next;
		bucket->next = (bucket->next + 1) % WAYS;
	}
	bucket->keys[way] = key;
	bucket->versions[way] = version;
	SpinLockRelease(&bucket->mutex);
}

static void
void_all(void)
{
	EduaiEventsSlot *slot = eduai_events_slot_if_any();

	if (slot)
		pg_atomic_fetch_add_u32(&slot->generation, 1);
}

void
eduai_events_heads_forget(void)
{
	(void) eduai_events_slot();
	void_all();
	forget_at_commit = true;
}

static void
on_commit(void)
{
	if (forget_at_commit)
		void_all();
	forget_at_commit = false;
}

static void
on_abort(void)
{
	forget_at_commit = false;
}

/* The trigger of DELETE, UPDATE and TRUNCATE on eduai.event, by an administrator's hand. */
Datum
eduai_event_removed(PG_FUNCTION_ARGS)
{
	if (eduai_core_preloaded())
		eduai_events_heads_forget();
	/* a null pointer, not an SQL null: the protocol of triggers */
	return PointerGetDatum(NULL);
}

void
eduai_events_heads_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_event_heads",
										.size = heads_size,
										.init = heads_shmem_init,
										.address = (void **) &heads};
	/* after the appends' own callback, which writes entries */
	static const EduaiXactHooks hooks = {
		.name = "heads", .rank = EDUAI_RANK_EVENTS, .commit = on_commit, .abort = on_abort};

	eduai_core_shmem_register(&part);
	eduai_core_xact_register(&hooks);
}
