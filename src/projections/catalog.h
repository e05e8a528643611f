/*
 * catalog.h: the projections that there are.
 *
 * Terms
 *
 *   projection  a fold over the events that it wants, one state for each key.
 *   key         what an event belongs to: its learner, its stream, its session.
 *   inline      folded in the transaction that appends the event.
 *   async       folded by the projector, in the order of the feed.
 *   kind        what the states are and how they are folded: a user's reducer
 *               (reducer.c), eduai's own progress or learner model.
 *   generation  a complete set of states.  Readers and inline appenders use the
 *               live one; a rebuild makes the next one beside it and then
 *               makes that the live one (rebuild.c).
 *   lane        the keys of an async projection are divided among its lanes by
 *               a hash; each follows the feed by itself (follow.c).
 */
#ifndef EDUAI_PROJECTIONS_CATALOG_H
#define EDUAI_PROJECTIONS_CATALOG_H

#include "postgres.h"
#include "core/hooks.h"
#include "utils/jsonb.h"

typedef enum EduaiProjectionKey
{
	EDUAI_KEY_USER,
	EDUAI_KEY_STREAM,
	EDUAI_KEY_SESSION,
} EduaiProjectionKey;

/* eduai's own projections; a user's begin at 100. */
#define EDUAI_PROJECTION_PROGRESS 1
#define EDUAI_PROJECTION_MODEL    2
#define EDUAI_PROJECTION_USERS    100

typedef struct EduaiProjection EduaiProjection;

/* Events of one tenant that a projection wants, to be folded into one generation. */
typedef struct EduaiFold
{
	const EduaiProjection *projection;
	int generation;
	const char *tenant;
	EduaiEvent **events;    /* in the order of their positions; inline, of the batch */
	const int64 *positions; /* of the events; NULL inline, where nobody knows them yet */
	int nevents;
	const EduaiAppendBatch *batch; /* inline: the append; else NULL */
} EduaiFold;

typedef struct EduaiProjectionKind
{
	const char *name;
	/* whether fold() runs SQL: it is then called inside SPI, as the owner */
	bool sql;
	/*
	 * Folds the events and writes the states, for a caller that has their keys
	 * to itself to the end of the transaction.  What it raises undoes all of it.
	 */
	void (*fold)(const EduaiFold *fold);
	/*
	 * Deletes at most "limit" rows of a retired generation, all tenants';
	 * returns how many.  Inside SPI, as the owner.
	 */
	int64 (*clear)(int projection, int generation, int64 limit);
	/*
	 * Whether the projector is to follow for it, by a setting of the server;
	 * while not, events wait.  NULL: always.
	 */
	bool (*is_on)(void);
} EduaiProjectionKind;

struct EduaiProjection
{
	int id;
	const char *name;
	const EduaiProjectionKind *kind;
	EduaiProjectionKey key;
	bool is_inline;
	bool raises;              /* inline: a reducer's error fails the append */
	const char **event_types; /* NULL: all */
	int ntypes;
	int lanes;
	int live; /* 0: no generation is complete */
	int next; /* 0: none is being built */

	/* of a user's reducer, else NULL and 0 */
	const char *reducer; /* qualified and quoted, without arguments */
	const char *role;
	const Jsonb *initial;
	int schema_version;

	/* eduai.alter_projection(): what its generations from there on are folded with; or NULL */
	const EduaiProjection *altered;
	int altered_from;
};

typedef struct EduaiProjectionList
{
	const EduaiProjection *projections; /* by id */
	int n;
	bool any_async; /* but for eduai's own */
} EduaiProjectionList;

/*
 * The kind of id's projection, from <room>_init() only: one for each of
 * eduai's own, id 0 for users' reducers.
 */
extern void eduai_projections_kind_register(int id, const EduaiProjectionKind *kind);

/* The kind of a projection, also of one that is dropped; NULL when nobody registered it. */
extern const EduaiProjectionKind *eduai_projections_kind(int projection);

/*
 * All projections, as last committed (and as this transaction changed them).
 * What is returned lives to the end of the transaction.  When an invalidation
 * has come it reads tables, by itself, as the owner.
 */
extern const EduaiProjectionList *eduai_projections_all(void);

/* NULL when there is none. */
extern const EduaiProjection *eduai_projections_find(const char *name);
extern const EduaiProjection *eduai_projections_by_id(int id);

/* Whether the name is one of eduai's own, there or not. */
extern bool eduai_projections_is_own(const char *name);

/* The projection, or what it was altered to, as the generation is folded. */
extern const EduaiProjection *
eduai_projections_as_of(const EduaiProjection *projection, int generation);

/* Whether the projection wants the event: by its type and by having a key. */
extern bool eduai_projections_wants(const EduaiProjection *projection, const EduaiEvent *event);

/* The event's key in the projection; NULL when it has none. */
extern const char *
eduai_projections_key(const EduaiProjection *projection, const EduaiEvent *event);

/*
 * Tells every backend, at commit, that projections have changed, and this one
 * now; wakes the projector.
 */
extern void eduai_projections_forget(void);

/*
 * In the projector, outside a transaction: it was woken by a commit whose
 * invalidations may come later than that, so it looks at the tables again.
 */
extern void eduai_projections_refresh(void);

extern void eduai_projections_catalog_init(void);

#endif
