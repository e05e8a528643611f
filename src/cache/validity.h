/*
 * validity.h: when an entry may be served.
 *
 * An entry was built under a snapshot B and depends on a set D of tables and
 * tags, each known by a 64-bit hash (of database and name).  A reader with
 * snapshot R may have it only if every transaction that wrote something of D
 * is visible in R exactly when it is in B, and the reader's own transaction
 * wrote nothing of D.
 *
 * Writers publish their top transaction id, at PRE_COMMIT, in a ring of the
 * dependency (cache/ring.h): a fixed table of rings in shared memory, found by
 * hash.  Two dependencies in one ring, a ring that lost its oldest ids, a
 * writer that aborted: each can only refuse what was good.
 *
 * A dependency is of one of four kinds, in the two lowest bits of its hash:
 *
 *   table    written rows.
 *   catalog  what statements mean: definitions, rights, rewritten tables.  It
 *            has no versions that a snapshot chooses, so a transaction that
 *            changed it must be visible in B and in R both.
 *   tag      of values set by hand or of rows (cache_watch()).  A tag belongs
 *            to its family, the text up to its first colon, and what is
 *            published for the family concerns all of its tags.  Tags are of
 *            the database, not of a tenant: a row written under one tenant's
 *            name reaches the values of all.
 *   family   only published, never depended upon.
 */
#ifndef EDUAI_CACHE_VALIDITY_H
#define EDUAI_CACHE_VALIDITY_H

#include "postgres.h"
#include "utils/snapshot.h"

#define CACHE_MAX_DEPS 64 /* more: not stored */
#define CACHE_MAX_XIDS 64 /* in progress in a snapshot; more: vague */

typedef struct CacheDeps
{
	int n;
	uint64 hash[CACHE_MAX_DEPS];
} CacheDeps;

/* A snapshot as an entry keeps it: full transaction ids, xip sorted. */
typedef struct CacheSnapshot
{
	uint64 xmin;
	uint64 xmax;
	bool vague; /* what of [xmin, xmax) is not in xip may be visible or not: refuse */
	int n;
	uint64 xip[CACHE_MAX_XIDS];
} CacheSnapshot;

typedef struct CacheJudge
{
	CacheSnapshot reader; /* taken once a statement */
	bool recovery; /* on a standby nothing is published: what depends on anything is refused */
	bool all_own;  /* this transaction may have written anything */
	const CacheDeps *own; /* what it wrote; NULL when nothing */
} CacheJudge;

/* The dependency on a tag; "tenant" is not part of it.  On a table. */
extern uint64 eduai_cache_dep_tag(Oid database, const char *tenant, const char *tag);
extern uint64 eduai_cache_dep_table(Oid database, Oid relid);
/* On all tags with the prefix, which ends in a colon. */
extern uint64 eduai_cache_dep_family(Oid database, const char *prefix, size_t length);
/* On definitions and rights of the database; with InvalidOid, of the server. */
extern uint64 eduai_cache_dep_catalog(Oid database);
/* On rows of the database written by who cannot say which. */
extern uint64 eduai_cache_dep_anything(Oid database);

/* What a tag's family has lost by TRUNCATE, which old snapshots see, too. */
extern uint64 eduai_cache_dep_truncated(uint64 tag);
/* The same of who cannot say whether it truncated what: every tag depends on it. */
extern uint64 eduai_cache_dep_uncounted(Oid database);
/* The family of a tag; another dependency as it is. */
extern uint64 eduai_cache_dep_widen(uint64 dep);

/* False when there is no room for it. */
extern bool eduai_cache_deps_add(CacheDeps *deps, uint64 dep);

/*
 * Fills *snapshot from the active one.  The own transaction counts as not
 * visible in it: what it writes after it stored is not in what it stored.
 */
extern bool eduai_cache_snapshot_take(CacheSnapshot *snapshot);

/*
 * The same from a pg_snapshot.  Who took it may have written since, under an
 * id that it does not tell, so it is vague.  False: from a standby, or of an
 * id that does not exist yet.
 */
extern bool eduai_cache_snapshot_import(CacheSnapshot *snapshot, Datum pg_snapshot);

/* The judge of the running statement, made once and kept while it lasts. */
extern const CacheJudge *eduai_cache_judge(void);

/* The rule above; no lock is needed, nothing raises, nothing waits. */
extern bool
eduai_cache_valid(const CacheJudge *judge, const CacheSnapshot *built, const CacheDeps *deps);

/*
 * May what was built under "built" be stored?  Not what depends on something
 * that this transaction wrote, nor on a standby what depends on anything, nor
 * what the rings refuse already.
 */
extern bool eduai_cache_may_store(const CacheSnapshot *built, const CacheDeps *deps);

/* This transaction wrote it: published at PRE_COMMIT, bypassed by this session until then. */
extern void eduai_cache_wrote(uint64 dep);

extern void eduai_cache_validity_init(void);

#endif
