/*
 * follow.c: one step of a follower of the feed.  See follow.h.
 *
 * The follower's lock comes before the look at its position, and the latest
 * snapshot after the lock: so the step begins where the last one that
 * committed ended, in whatever process that was.
 *
 * A step that finds nothing writes nothing.  How far it looked is remembered
 * in shared memory, and the position moves only now and then.
 */
#include "postgres.h"

#include "access/xact.h"
#include "core/lock.h"
#include "core/pause.h"
#include "core/privilege.h"
#include "events/feed.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "projections/batch.h"
#include "projections/follow.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "storage/pmsignal.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* positions without anything wanted, after which the row is written all the same */
#define STORE_AFTER 10000

/* ---- locks ---- */

static bool
lock_projection(int projection, LOCKMODE mode, bool nowait)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, (uint32) projection, EDUAI_LOCK_FOLLOWER);
	return LockAcquire(&tag, mode, false, nowait) != LOCKACQUIRE_NOT_AVAIL;
}

bool
eduai_projections_hold_followers(int projection, bool nowait)
{
	return lock_projection(projection, ExclusiveLock, nowait);
}

static bool
lock_follower(const EduaiFollower *f)
{
	char name[64];
	uint64 key;

	if (!lock_projection(f->projection, ShareLock, true))
		return false;
	snprintf(name, sizeof(name), "%d %d %d", f->projection, f->generation, f->lane);
	key = eduai_core_lock_key(f->tenant, name);
	/* the tags with upper half 0 are those of projections */
	if (key >> 32 == 0)
		key |= UINT64CONST(1) << 32;
	return eduai_core_lock(EDUAI_LOCK_FOLLOWER, key, true);
}

/* ---- folding ---- */

bool
eduai_projections_followed(const EduaiProjection *p, int generation)
{
	if (generation == 0)
		return false;
	return generation == p->next || (generation == p->live && !p->is_inline);
}

/* Folds one batch and moves the place; false when that was all. */
static bool
fold_batch(const EduaiProjection *p, const EduaiFollower *f, const EduaiFeedView *view,
		   EduaiStep *step)
{
	EduaiPlace place;
	EduaiBatch *batch;
	EduaiFold fold;

	eduai_projections_place_read(f, &place);
	step->scanned = eduai_projections_place_passed(f, place.position);
	step->through = view->through;
	step->looked = step->folded = 0;
	if (step->scanned >= view->through)
		return false;
	p = eduai_projections_as_of(p, f->generation);
	batch = eduai_projections_batch_read(p, f, view, step->scanned);
	fold = (EduaiFold){.projection = p,
					   .generation = f->generation,
					   .tenant = f->tenant,
					   .events = batch->events,
					   .positions = batch->positions,
					   .nevents = batch->n};
	if (batch->n > 0)
		p->kind->fold(&fold);
	EDUAI_PAUSE("projections-folded");
	step->scanned = batch->scanned;
	step->looked = batch->looked;
	step->folded = batch->n;
	if (batch->n > 0 || batch->scanned - place.position >= STORE_AFTER)
	{
		place.position = batch->scanned;
		place.events += batch->n;
		eduai_projections_place_write(f, &place);
	}
	else
		eduai_projections_place_pass(f, place.position, batch->scanned);
	eduai_projections_batch_free(batch);
	return step->scanned < view->through;
}

static const EduaiProjection *
find_followed(const EduaiFollower *f)
{
	const EduaiProjection *p = eduai_projections_by_id(f->projection);

	if (p == NULL || !eduai_projections_followed(p, f->generation) || f->lanes != p->lanes)
		return NULL;
	return eduai_projections_as_of(p, f->generation);
}

/* In its transaction, as the owner, inside SPI. */
static void
step_as_owner(const EduaiFollower *f, EduaiStep *step)
{
	const EduaiProjection *p;
	EduaiFeedView view;

	if (!lock_follower(f))
	{
		step->outcome = EDUAI_STEP_BUSY;
		return;
	}
	/* after the lock: who changes a generation holds it */
	p = find_followed(f);
	if (p == NULL)
	{
		step->outcome = EDUAI_STEP_GONE;
		return;
	}
	view = eduai_events_feed_open(f->tenant);
	step->outcome = fold_batch(p, f, &view, step) ? EDUAI_STEP_MORE : EDUAI_STEP_DONE;
	eduai_events_feed_close(&view);
	EDUAI_PAUSE("projections-positioned");
}

EduaiStep
eduai_projections_step(const EduaiFollower *follower)
{
	EduaiStep step = {0};
	EduaiPrivilege saved;

	/* a log of hours is folded without a wait that would notice: the next server could not start */
	if (!PostmasterIsAlive())
		proc_exit(1);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	/* before anything is written; the setting ends with the transaction */
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	PushActiveSnapshot(GetTransactionSnapshot());
	eduai_core_enter(&saved);
	SPI_connect();
	step_as_owner(follower, &step);
	SPI_finish();
	eduai_core_leave(&saved);
	PopActiveSnapshot();
	CommitTransactionCommand();
	EDUAI_PAUSE("projections-committed");
	return step;
}

int64
eduai_projections_follow_rest(const EduaiFollower *follower)
{
	const EduaiProjection *p = find_followed(follower);
	EduaiFeedView view;
	EduaiStep step;
	int64 folded = 0;
	bool more = true;

	if (p == NULL)
		return 0;
	view = eduai_events_feed_open(follower->tenant);
	while (more)
	{
		CHECK_FOR_INTERRUPTS();
		more = fold_batch(p, follower, &view, &step);
		folded += step.folded;
	}
	eduai_events_feed_close(&view);
	return folded;
}
