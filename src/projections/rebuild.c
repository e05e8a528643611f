/*
 * rebuild.c: the process that rebuilds a projection.  See rebuild.h.
 *
 * Lock order: the projection's followers, then the gate.  A follower that
 * steps holds the first and then wants what the gate guards.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/pause.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/worker.h"
#include "events/projector.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "projections/catalog.h"
#include "projections/failing.h"
#include "projections/follow.h"
#include "projections/generation.h"
#include "projections/helper.h"
#include "projections/rebuild.h"
#include "projections/rebuild_state.h"
#include "projections/state_table.h"
#include "projections/tenants.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

/*
 * How long appenders may queue behind a cut-over, and followers of other
 * projections: at first, and at most.  Transactions that overlap, each longer
 * than that, would else keep it off for ever.
 */
#define CUT_OVER_MS      50
#define MOST_CUT_OVER_MS 1000
/* for steps of the projection that run */
#define FOLLOWERS_MS "5s"
/* between looks at who is in the way */
#define LOOK_MS      10
#define MOST_LOOK_MS 200

static int mine = 0; /* the projection that this process rebuilds; 0: it has ended that */

/* ---- transactions ---- */

static void
begin_own(EduaiPrivilege *saved)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	eduai_core_enter(saved);
	SPI_connect();
}

static void
commit_own(const EduaiPrivilege *saved)
{
	SPI_finish();
	eduai_core_leave(saved);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

static void
set_lock_timeout(const char *value)
{
	(void) set_config_option("lock_timeout", value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
							 true, 0, false);
}

/* ---- what is to be built ---- */

typedef struct Work
{
	int projection;
	int generation; /* 0: nothing is to be built (any more) */
	int lanes;
	bool is_inline;
	int cut_over_ms; /* how long appenders may queue behind the next attempt */
	char name[NAMEDATALEN * 2];
	char **tenants;
	int ntenants;
	MemoryContext context;
} Work;

static void
register_next(int projection)
{
	if (eduai_projections_by_id(projection) == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("it does not exist any more")));
	eduai_projections_generation_begin(projection);
}

/* Looks at the catalogue and lists the tenants, in a transaction of its own. */
static void
look(Work *work, bool begin)
{
	MemoryContext old = CurrentMemoryContext;
	const EduaiProjection *p;
	EduaiPrivilege saved;

	MemoryContextReset(work->context);
	begin_own(&saved);
	if (begin)
		register_next(work->projection);
	p = eduai_projections_by_id(work->projection);
	work->generation = p != NULL && p->kind != NULL ? p->next : 0;
	if (work->generation != 0)
	{
		work->lanes = p->lanes;
		work->is_inline = p->is_inline;
		strlcpy(work->name, p->name, sizeof(work->name));
		MemoryContextSwitchTo(work->context);
		work->tenants = eduai_projections_tenants(&work->ntenants);
	}
	commit_own(&saved);
	MemoryContextSwitchTo(old);
}

static EduaiFollower
follower_of(const Work *work, int tenant, int lane)
{
	return (EduaiFollower){work->projection, work->generation,      lane,
						   work->lanes,      work->tenants[tenant], true};
}

/* Steps until one follower has caught up; false when there is nothing to follow for any more. */
static bool
catch_up(const EduaiFollower *follower)
{
	while (!eduai_core_worker_should_stop())
	{
		EduaiStepOutcome outcome;

		CHECK_FOR_INTERRUPTS();
		outcome = eduai_projections_step(follower).outcome;
		if (outcome == EDUAI_STEP_DONE)
			return true;
		if (outcome == EDUAI_STEP_GONE)
			return false;
		if (outcome == EDUAI_STEP_BUSY)
			eduai_projections_nap(LOOK_MS);
	}
	return false;
}

static bool
catch_all_up(const Work *work)
{
	for (int t = 0; t < work->ntenants; t++)
		for (int lane = 0; lane < work->lanes; lane++)
		{
			EduaiFollower follower = follower_of(work, t, lane);

			if (!catch_up(&follower))
				return false;
		}
	return true;
}

/* ---- the cut-over ---- */

static int64
count_folded(const Work *work)
{
	static EduaiPlan count = {"SELECT coalesce(sum(events), 0)::bigint"
							  " FROM eduai.projection_position"
							  " WHERE projection = $1 AND generation = $2",
							  2,
							  {INT4OID, INT4OID}};
	Datum args[2] = {Int32GetDatum(work->projection), Int32GetDatum(work->generation)};

	(void) eduai_core_run_latest(&count, args, NULL);
	return eduai_core_int64(0, 1, 0);
}

/*
 * Folds what is left and flips; the followers are held, the gate is closed for
 * an inline projection.  Tenants are listed anew: one may have come since.
 */
static int64
fold_rest_and_flip(const Work *work)
{
	Work rest = *work;
	int64 folded;

	rest.tenants = eduai_projections_tenants(&rest.ntenants);
	for (int t = 0; t < rest.ntenants; t++)
		for (int lane = 0; lane < rest.lanes; lane++)
		{
			EduaiFollower follower = follower_of(&rest, t, lane);

			(void) eduai_projections_follow_rest(&follower);
		}
	EDUAI_PAUSE("projections-cut-over");
	folded = count_folded(work);
	return eduai_projections_generation_flip(work->projection, work->generation) ? folded : -1;
}

static int64
cut_over_as_owner(const Work *work)
{
	const EduaiProjection *p;

	set_lock_timeout(FOLLOWERS_MS);
	(void) eduai_projections_hold_followers(work->projection, false);
	if (work->is_inline)
	{
		set_lock_timeout(psprintf("%dms", work->cut_over_ms));
		(void) eduai_projections_gate_close(false);
	}
	p = eduai_projections_by_id(work->projection);
	if (p == NULL || p->next != work->generation || p->is_inline != work->is_inline)
		return -1;
	return fold_rest_and_flip(work);
}

/* In a PG_CATCH: swallows that a lock was not to be had, re-throws all else. */
static void
give_way(MemoryContext context)
{
	if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE)
		PG_RE_THROW();
	MemoryContextSwitchTo(context);
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(context);
}

/* True when tried to the end: *folded is -1 when the work has changed; false when somebody is in the way. */
static bool
cut_over(const Work *work, int64 *folded)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool done = false;
	EduaiPrivilege saved;

	PG_TRY();
	{
		begin_own(&saved);
		*folded = cut_over_as_owner(work);
		commit_own(&saved);
		done = true;
	}
	PG_CATCH();
	{
		give_way(context);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return done;
}

/* ---- who is in the way ---- */

/* In a transaction of its own; the answer is in the context given. */
static VirtualTransactionId *
list_holders(MemoryContext context, int *n)
{
	VirtualTransactionId *holders;
	VirtualTransactionId *copy;

	StartTransactionCommand();
	holders = eduai_projections_gate_holders(n);
	copy = MemoryContextAlloc(context, sizeof(VirtualTransactionId) * (*n + 1));
	memcpy(copy, holders, sizeof(VirtualTransactionId) * *n);
	CommitTransactionCommand();
	return copy;
}

static bool
held_by(const VirtualTransactionId *holders, int n)
{
	bool held;

	StartTransactionCommand();
	held = eduai_projections_gate_held_by(holders, n);
	CommitTransactionCommand();
	return held;
}

/*
 * Returns when none of those who hold the gate now does any more; whoever
 * comes meanwhile is in nobody's way.  Locks nothing.
 */
static void
wait_for_holders(const Work *work)
{
	long ms = LOOK_MS;
	int n;
	VirtualTransactionId *holders = list_holders(work->context, &n);

	if (n > 0)
		ereport(LOG, (errmsg("eduai waits for %d open transactions before it cuts over projection "
							 "\"%s\"",
							 n, work->name),
					  errhint("They have appended events, or write projections' states. It goes on "
							  "when they end.")));
	while (held_by(holders, n) && !eduai_core_worker_should_stop())
	{
		eduai_projections_nap(ms);
		ms = Min(ms * 2, MOST_LOOK_MS);
	}
}

/* ---- the process ---- */

/* Folds and cuts over until that is done; -1 when there is nothing to do or it was told to stop. */
static int64
rebuild(Work *work, bool begin)
{
	int64 folded = -1;

	work->cut_over_ms = CUT_OVER_MS;
	for (;;)
	{
		if (eduai_core_worker_should_stop())
			return -1;
		look(work, begin);
		begin = false;
		if (work->generation == 0)
			return -1;
		eduai_projections_rebuild_phase(work->projection, EDUAI_REBUILD_FOLDS);
		if (!catch_all_up(work))
			continue;
		eduai_projections_rebuild_phase(work->projection, EDUAI_REBUILD_CUTS_OVER);
		if (!cut_over(work, &folded))
		{
			eduai_projections_rebuild_phase(work->projection, EDUAI_REBUILD_WAITS);
			if (work->is_inline)
				wait_for_holders(work);
			work->cut_over_ms = Min(work->cut_over_ms * 2, MOST_CUT_OVER_MS);
		}
		else if (folded >= 0)
			return folded;
	}
}

static void
on_exit_early(int code, Datum arg)
{
	if (mine != 0)
		eduai_projections_rebuild_lost(mine);
	/* the projector sees to what is left */
	eduai_events_projector_wake_now();
}

static void
run_guarded(Work *work, bool begin)
{
	MemoryContext context = CurrentMemoryContext;
	int64 folded;

	PG_TRY();
	{
		folded = rebuild(work, begin);
		if (folded >= 0)
			eduai_projections_rebuild_end(work->projection, folded, NULL);
		else
			eduai_projections_rebuild_lost(work->projection);
		mine = 0;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (!eduai_core_worker_should_stop())
			eduai_projections_failing_note(work->projection, "", error);
		eduai_projections_rebuild_end(work->projection, 0, error);
		mine = 0;
		PG_RE_THROW();
	}
	PG_END_TRY();
	eduai_projections_failing_over(work->projection);
}

void
eduai_projections_rebuild_run(Datum argument)
{
	Work work = {0};
	int begin;

	eduai_core_worker_helper_attach();
	if (sscanf(DatumGetCString(argument), "%d %d", &work.projection, &begin) != 2 ||
		!eduai_projections_rebuild_claim(work.projection))
		return;
	mine = work.projection;
	before_shmem_exit(on_exit_early, (Datum) 0);
	work.context = AllocSetContextCreate(TopMemoryContext, "eduai rebuild", ALLOCSET_DEFAULT_SIZES);
	pgstat_report_activity(STATE_RUNNING, "rebuilds a projection");
	run_guarded(&work, begin != 0);
	(void) pgstat_report_stat(true);
}
