/*
 * inline.c: folding in the transaction that appends.
 *
 * A key's lock, held to commit, makes the transactions that fold into the same
 * state take turns, in the order in which they commit: so the order of a
 * key's events here is that of their positions, in which a rebuild folds
 * them.  A stream's lock is the append's own.
 *
 * The gate comes first, then the look at the catalogue: see state_table.h.
 */
#include "postgres.h"

#include "core/hooks.h"
#include "core/lock.h"
#include "core/xact.h"
#include "projections/catalog.h"
#include "projections/generation.h"
#include "projections/inline.h"
#include "projections/park.h"
#include "projections/signal.h"
#include "projections/state_table.h"

static bool
enter(const EduaiAppendBatch *batch)
{
	eduai_projections_signal_append(batch);
	return eduai_projections_gate(batch->nowait);
}

static bool
is_live(const EduaiProjection *projection)
{
	return projection->is_inline && projection->live != 0;
}

static bool
wants_any(const EduaiProjection *projection, const EduaiAppendBatch *batch)
{
	for (int i = 0; i < batch->nevents; i++)
		if (eduai_projections_wants(projection, &batch->events[i]))
			return true;
	return false;
}

static EduaiAppendInterest
wants(const EduaiAppendBatch *batch)
{
	const EduaiProjectionList *all = eduai_projections_all();
	EduaiAppendInterest most = EDUAI_APPEND_NONE;

	for (int i = 0; i < all->n; i++)
	{
		const EduaiProjection *projection = &all->projections[i];

		if (is_live(projection) && wants_any(projection, batch))
			most = Max(most, projection->kind->sql ? EDUAI_APPEND_SQL : EDUAI_APPEND_DIRECT);
	}
	return most;
}

static bool
lock_keys(EduaiAppendBatch *batch, EduaiLockClass class, bool by_user)
{
	uint64 *keys = palloc(sizeof(uint64) * batch->nevents);
	int n = 0;
	bool locked;

	for (int i = 0; i < batch->nevents; i++)
	{
		const char *key = by_user ? batch->events[i].user_id : batch->events[i].session_id;

		if (key != NULL)
			keys[n++] = eduai_core_lock_key(batch->tenant, key);
	}
	locked = eduai_core_lock_all(class, keys, n, batch->nowait);
	pfree(keys);
	return locked;
}

static bool
lock_sessions(EduaiAppendBatch *batch, const EduaiProjectionList *all)
{
	for (int i = 0; i < all->n; i++)
		if (is_live(&all->projections[i]) && all->projections[i].key == EDUAI_KEY_SESSION)
			return lock_keys(batch, EDUAI_LOCK_SESSION, false);
	return true;
}

/* For whoever may not wait later, when a reducer raises or a key is found parked (park.h). */
static bool
lock_parked(EduaiAppendBatch *batch, const EduaiProjectionList *all)
{
	for (int i = 0; i < all->n; i++)
	{
		const EduaiProjection *projection = &all->projections[i];

		if (is_live(projection) && projection->reducer != NULL && wants_any(projection, batch) &&
			!eduai_projections_parked_lock(projection, batch->tenant, true))
			return false;
	}
	return true;
}

/* Learners always, as progress is folded inline; sessions when somebody wants them. */
static bool
lock(EduaiAppendBatch *batch)
{
	const EduaiProjectionList *all = eduai_projections_all();

	return lock_keys(batch, EDUAI_LOCK_LEARNER, true) && lock_sessions(batch, all) &&
		   (!batch->nowait || lock_parked(batch, all));
}

static void
fold_into(const EduaiProjection *projection, EduaiAppendBatch *batch, EduaiEvent **wanted)
{
	EduaiFold fold = {.projection = projection,
					  .generation = projection->live,
					  .tenant = batch->tenant,
					  .events = wanted,
					  .batch = batch};

	for (int i = 0; i < batch->nevents; i++)
		if (eduai_projections_wants(projection, &batch->events[i]))
			wanted[fold.nevents++] = &batch->events[i];
	if (fold.nevents == 0)
		return;
	if (IsolationUsesXactSnapshot())
		eduai_projections_generation_check(projection);
	projection->kind->fold(&fold);
}

static void
after(EduaiAppendBatch *batch)
{
	const EduaiProjectionList *all = eduai_projections_all();
	EduaiEvent **wanted = palloc(sizeof(EduaiEvent *) * batch->nevents);

	for (int i = 0; i < all->n; i++)
		if (is_live(&all->projections[i]))
			fold_into(&all->projections[i], batch, wanted);
	pfree(wanted);
}

void
eduai_projections_inline_init(void)
{
	static const EduaiAppendHooks hooks = {.name = "projections",
										   .rank = EDUAI_RANK_PROJECTIONS,
										   .enter = enter,
										   .wants = wants,
										   .lock = lock,
										   .after = after};

	eduai_core_append_hooks_register(&hooks);
}
