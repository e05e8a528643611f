/*
 * validity.c: rings in shared memory, snapshots and the judge.  See validity.h.
 *
 * Order.  A writer publishes at PRE_COMMIT, before its commit record and so
 * before anybody can see its rows: a snapshot that sees them was taken after
 * the id was in its rings.  A filler may store as late as it likes: its entry
 * keeps the snapshot of what it read.  PREPARE publishes too; the id stays in
 * progress in every snapshot until COMMIT PREPARED makes it visible, which is
 * what the rule asks for.
 *
 * A restart forgets the rings and the entries.  Transactions prepared before
 * it may become visible after it, unpublished: so every id that existed at the
 * first use after the start counts as lost by every ring, and nothing is
 * served while a snapshot still knows of such a transaction.
 *
 * Definitions and rights (the kind catalog) reach other sessions' caches a
 * moment after their transaction is visible.  Whoever computes in that moment
 * may use the old ones under a snapshot that sees the new: so two counters say
 * whether such a commit is under way (eduai_cache_catalog_steady).
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "cache/ring.h"
#include "cache/steady.h"
#include "cache/validity.h"
#include "cache/writes.h"
#include "common/hashfn.h"
#include "core/compat.h"
#include "core/pause.h"
#include "core/shmem.h"
#include "core/xact.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#define DEP_KIND    UINT64CONST(3)
#define DEP_TABLE   UINT64CONST(0)
#define DEP_CATALOG UINT64CONST(1)
#define DEP_TAG     UINT64CONST(2)
#define DEP_FAMILY  UINT64CONST(3)
#define DEP_HIGH    UINT64CONST(0xFFFFFFFF00000000)

typedef struct CacheValidity
{
	pg_atomic_uint64 start;   /* the newest id at the first use after the start */
	pg_atomic_uint64 changes; /* transactions that changed a catalog, from 1: about to commit */
	pg_atomic_uint64 changed; /* and known to everybody */
	CacheRing rings[FLEXIBLE_ARRAY_MEMBER];
} CacheValidity;

static CacheValidity *shared = NULL;
static int nrings = 16384;

/* This transaction is counted in "changes" and not yet in "changed". */
static bool changing = false;

/* The judge of the running statement. */
static CacheJudge judge;
static CacheDeps judge_own;

/* ---- dependencies ---- */

/* The end of MurmurHash3: each bit of x moves half of the bits. */
static uint64
mix(uint64 x)
{
	x = (x ^ (x >> 33)) * UINT64CONST(0xff51afd7ed558ccd);
	x = (x ^ (x >> 33)) * UINT64CONST(0xc4ceb9fe1a85ec53);
	return x ^ (x >> 33);
}

static uint64
tag_high(Oid database, const char *text, size_t length)
{
	return hash_bytes_extended((const unsigned char *) text, length, database) & DEP_HIGH;
}

uint64
eduai_cache_dep_tag(Oid database, const char *tenant, const char *tag)
{
	const char *colon = strchr(tag, ':');
	size_t family = colon ? (size_t) (colon - tag) + 1 : 0;
	uint64 low = hash_bytes_extended((const unsigned char *) tag, strlen(tag), database);

	return tag_high(database, tag, family) | (low & ~DEP_HIGH & ~DEP_KIND) | DEP_TAG;
}

uint64
eduai_cache_dep_family(Oid database, const char *prefix, size_t length)
{
	return tag_high(database, prefix, length) | DEP_FAMILY;
}

uint64
eduai_cache_dep_table(Oid database, Oid relid)
{
	return (mix(((uint64) database << 32) | relid) & ~DEP_KIND) | DEP_TABLE;
}

uint64
eduai_cache_dep_catalog(Oid database)
{
	return (mix((uint64) database << 32) & ~DEP_KIND) | DEP_CATALOG;
}

uint64
eduai_cache_dep_anything(Oid database)
{
	return eduai_cache_dep_table(database, InvalidOid);
}

uint64
eduai_cache_dep_uncounted(Oid database)
{
	return (mix(eduai_cache_dep_anything(database)) & ~DEP_KIND) | DEP_CATALOG;
}

bool
eduai_cache_deps_add(CacheDeps *deps, uint64 dep)
{
	for (int i = 0; i < deps->n; i++)
		if (deps->hash[i] == dep)
			return true;
	if (deps->n == CACHE_MAX_DEPS)
		return false;
	deps->hash[deps->n++] = dep;
	return true;
}

static uint64
family_of(uint64 tag)
{
	return (tag & DEP_HIGH) | DEP_FAMILY;
}

/* Of the kind catalog: rows that no snapshot sees any more. */
static uint64
truncated_of(uint64 tag)
{
	return (mix(family_of(tag)) & ~DEP_KIND) | DEP_CATALOG;
}

uint64
eduai_cache_dep_truncated(uint64 tag)
{
	return truncated_of(tag);
}

uint64
eduai_cache_dep_widen(uint64 dep)
{
	return (dep & DEP_KIND) == DEP_TAG ? family_of(dep) : dep;
}

static CacheRing *
ring_of(uint64 dep)
{
	return &shared->rings[mix(dep) % (uint64) nrings];
}

/* ---- snapshots ---- */

static int
compare_ids(const void *a, const void *b)
{
	uint64 x = *(const uint64 *) a;
	uint64 y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

/* The full id of one that a snapshot mentions, which "next" is not yet. */
static uint64
full_id(TransactionId xid, FullTransactionId next)
{
	uint32 epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return ((uint64) epoch << 32) | xid;
}

static void
add_id(CacheSnapshot *s, uint64 id)
{
	if (id < s->xmin || id >= s->xmax)
		return;
	if (s->n < CACHE_MAX_XIDS)
		s->xip[s->n++] = id;
	else
		s->vague = true;
}

static void
add_own(CacheSnapshot *s)
{
	FullTransactionId own = GetTopFullTransactionIdIfAny();

	if (FullTransactionIdIsValid(own))
	{
		/* an id below xmin would count as visible */
		s->xmin = Min(s->xmin, U64FromFullTransactionId(own));
		add_id(s, U64FromFullTransactionId(own));
	}
	qsort(s->xip, s->n, sizeof(uint64), compare_ids);
}

/* All that exists now counts as lost by each ring, at the first call after the start. */
static void
note_start(void)
{
	uint64 none = 0;

	if (shared == NULL || pg_atomic_read_u64(&shared->start) != 0 || RecoveryInProgress())
		return;
	pg_atomic_compare_exchange_u64(&shared->start, &none,
								   U64FromFullTransactionId(ReadNextFullTransactionId()) - 1);
}

static void
take(CacheSnapshot *s, Snapshot from)
{
	FullTransactionId next = ReadNextFullTransactionId();

	s->xmin = full_id(from->xmin, next);
	s->xmax = full_id(from->xmax, next);
	s->vague = from->takenDuringRecovery;
	s->n = 0;
	for (uint32 i = 0; i < from->xcnt; i++)
		add_id(s, full_id(from->xip[i], next));
	add_own(s);
}

bool
eduai_cache_snapshot_take(CacheSnapshot *snapshot)
{
	note_start();
	take(snapshot, GetActiveSnapshot());
	return true;
}

bool
eduai_cache_snapshot_import(CacheSnapshot *snapshot, Datum pg_snapshot)
{
	char *text = DatumGetCString(DirectFunctionCall1(pg_snapshot_out, pg_snapshot));
	uint64 next = U64FromFullTransactionId(ReadNextFullTransactionId());
	char *at;

	note_start();
	snapshot->xmin = strtou64(text, &at, 10);
	snapshot->xmax = strtou64(at + 1, &at, 10);
	snapshot->vague = true;
	snapshot->n = 0;
	if (snapshot->xmax > next || RecoveryInProgress())
		return false;
	while (*at != '\0' && at[1] != '\0')
		add_id(snapshot, strtou64(at + 1, &at, 10));
	add_own(snapshot);
	return true;
}

/* ---- the judge ---- */

/* Is it the snapshot, by content, that the judge was made of in this transaction? */
static bool
is_same_snapshot(Snapshot s)
{
	static LocalTransactionId lxid = InvalidLocalTransactionId;
	static TransactionId own, xmin, xmax;
	static uint32 n;
	static TransactionId xip[CACHE_MAX_XIDS];
	size_t size = Min(s->xcnt, CACHE_MAX_XIDS) * sizeof(TransactionId);

	if (lxid == eduai_my_lxid() && own == GetTopTransactionIdIfAny() && xmin == s->xmin &&
		xmax == s->xmax && n == s->xcnt && n <= CACHE_MAX_XIDS &&
		(size == 0 || memcmp(xip, s->xip, size) == 0))
		return true;
	lxid = eduai_my_lxid();
	own = GetTopTransactionIdIfAny();
	xmin = s->xmin;
	xmax = s->xmax;
	n = s->xcnt;
	if (size > 0)
		memcpy(xip, s->xip, size);
	return false;
}

const CacheJudge *
eduai_cache_judge(void)
{
	Snapshot active = GetActiveSnapshot();

	if (!is_same_snapshot(active))
	{
		note_start();
		judge.recovery = RecoveryInProgress();
		take(&judge.reader, active);
	}
	judge.own = NULL;
	judge.all_own = false;
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
	{
		judge.all_own = !eduai_cache_writes_own(&judge_own);
		if (judge_own.n > 0)
			judge.own = &judge_own;
	}
	return &judge;
}

static bool
wrote(const CacheDeps *own, uint64 dep)
{
	bool tag = (dep & DEP_KIND) == DEP_TAG;

	for (int i = 0; i < own->n; i++)
		if (own->hash[i] == dep ||
			(tag && (own->hash[i] == family_of(dep) || own->hash[i] == truncated_of(dep) ||
					 own->hash[i] == eduai_cache_dep_uncounted(MyDatabaseId))))
			return true;
	return false;
}

static bool
tag_agrees(const CacheJudge *by, const CacheSnapshot *built, uint64 dep)
{
	return eduai_cache_ring_agrees(ring_of(family_of(dep)), built, &by->reader, false) &&
		   eduai_cache_ring_agrees(ring_of(truncated_of(dep)), built, &by->reader, true) &&
		   eduai_cache_ring_agrees(ring_of(eduai_cache_dep_uncounted(MyDatabaseId)), built,
								   &by->reader, true);
}

bool
eduai_cache_valid(const CacheJudge *by, const CacheSnapshot *built, const CacheDeps *deps)
{
	uint64 start;

	if (deps == NULL || deps->n == 0)
		return true;
	if (by->recovery || by->all_own || shared == NULL)
		return false;
	start = pg_atomic_read_u64(&shared->start);
	if (start >= by->reader.xmin || start >= built->xmin)
		return false;
	for (int i = 0; i < deps->n; i++)
	{
		uint64 dep = deps->hash[i];

		if (by->own != NULL && wrote(by->own, dep))
			return false;
		if (!eduai_cache_ring_agrees(ring_of(dep), built, &by->reader,
									 (dep & DEP_KIND) == DEP_CATALOG))
			return false;
		if ((dep & DEP_KIND) == DEP_TAG && !tag_agrees(by, built, dep))
			return false;
	}
	return true;
}

bool
eduai_cache_may_store(const CacheSnapshot *built, const CacheDeps *deps)
{
	return eduai_cache_valid(eduai_cache_judge(), built, deps);
}

/* ---- publishing ---- */

static void
publish(uint64 dep, void *arg)
{
	CacheRing *ring = ring_of(dep);

	SpinLockAcquire(&ring->lock);
	eduai_cache_ring_add(ring, *(uint64 *) arg);
	SpinLockRelease(&ring->lock);
}

void
eduai_cache_catalog_change_begins(void)
{
	if (shared != NULL)
		pg_atomic_fetch_add_u64(&shared->changes, 1);
}

void
eduai_cache_catalog_change_ends(void)
{
	if (shared != NULL)
		pg_atomic_fetch_add_u64(&shared->changed, 1);
}

static void
publish_all(void)
{
	FullTransactionId own = GetTopFullTransactionIdIfAny();
	uint64 id = U64FromFullTransactionId(own);

	if (shared == NULL || !FullTransactionIdIsValid(own))
		return;
	EDUAI_PAUSE("cache_before_publish");
	if (eduai_cache_writes_catalog())
	{
		eduai_cache_catalog_change_begins();
		changing = true;
	}
	eduai_cache_writes_each(publish, &id);
	EDUAI_PAUSE("cache_after_publish");
}

static void
at_end(void)
{
	eduai_cache_writes_forget();
}

/* The last phase of the transaction's end: its invalidations are sent. */
static void
on_release(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	if (!changing || !is_top_level || phase != RESOURCE_RELEASE_AFTER_LOCKS)
		return;
	eduai_cache_catalog_change_ends();
	changing = false;
}

bool
eduai_cache_catalog_steady(uint64 *changes)
{
	/* the ended first: one that ends between the two looks is then under way */
	uint64 ended;

	*changes = 0;
	if (shared == NULL)
		return false;
	ended = pg_atomic_read_u64(&shared->changed);
	pg_read_barrier();
	*changes = pg_atomic_read_u64(&shared->changes);
	return *changes == ended;
}

/* ---- start ---- */

static Size
validity_size(void)
{
	return offsetof(CacheValidity, rings) + (Size) nrings * sizeof(CacheRing);
}

static void
validity_shmem_init(void *ptr)
{
	CacheValidity *v = ptr;

	pg_atomic_init_u64(&v->start, 0);
	pg_atomic_init_u64(&v->changes, 1);
	pg_atomic_init_u64(&v->changed, 1);
	for (int i = 0; i < nrings; i++)
		eduai_cache_ring_init(&v->rings[i]);
}

void
eduai_cache_validity_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_cache_rings",
										.size = validity_size,
										.init = validity_shmem_init,
										.address = (void **) &shared};
	static const EduaiXactHooks hooks = {.name = "cache",
										 .rank = EDUAI_RANK_CACHE,
										 .pre_commit = publish_all,
										 .pre_prepare = publish_all,
										 .commit = at_end,
										 .abort = at_end,
										 .prepare = at_end,
										 .subxact = eduai_cache_writes_subxact};

	DefineCustomIntVariable(
		"eduai.cache_rings",
		"Rings that remember which transactions wrote the tables and tags of cached values.",
		"Tables and tags share rings by hash; with too few, values are refused that were good.",
		&nrings, 16384, 64, 1024 * 1024,
		process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP, 0, NULL, NULL,
		NULL);
	eduai_core_shmem_register(&part);
	eduai_core_xact_register(&hooks);
	RegisterResourceReleaseCallback(on_release, NULL);
	eduai_cache_writes_init();
}
