/*
 * reduce.c: folding keys' events with a user's reducer.  See reduce.h.
 *
 * States are made in memory: the guard's subtransaction writes nothing unless
 * the reducer does, so it costs no transaction id.
 *
 * All keys are folded under one guard.  Only when that fails is each folded
 * under its own, and the one that fails up to the event it failed at.
 */
#include "postgres.h"

#include "core/guard.h"
#include "projections/reduce.h"
#include "projections/reducer.h"
#include "utils/guc.h"
#include "utils/memutils.h"

/* What a guard runs: a fold's reductions, or the first events of one. */
typedef struct Work
{
	const EduaiFold *fold;
	EduaiReduction *reductions;
	int n;
	int nevents; /* of each; -1: all */
	int at;      /* the event of the last reduction that was begun */
	bool opened; /* the reducer could be called */
} Work;

static int reducer_timeout_ms = 10000;
static bool reducing = false;

/* Written by eduai itself, in its dispatcher: never refused, never waiting. */
static bool
is_own(const EduaiFold *fold)
{
	return fold->batch != NULL && (fold->batch->own || fold->batch->nowait);
}

static Jsonb *
state_of(const EduaiProjection *projection, const EduaiStateRow *row)
{
	return row->found ? row->state : unconstify(Jsonb *, projection->initial);
}

static void
reduce_key(Work *work, EduaiReducer *reducer, EduaiReduction *r)
{
	int n = work->nevents < 0 ? r->run.nevents : work->nevents;
	Jsonb *state = state_of(work->fold->projection, &r->row);

	work->at = 0;
	r->after = r->row;
	for (int i = 0; i < n; i++)
	{
		const EduaiEvent *event = r->run.events[i];

		work->at = i;
		state = eduai_projections_reducer_call(reducer, state, event);
		r->after.last_at = Max(r->after.last_at, event->occurred_at);
	}
	r->after.version += n;
	r->after.state = memcpy(palloc(VARSIZE(state)), state, VARSIZE(state));
	r->folded = n;
	r->error = NULL;
}

static void
reduce_all(Work *work)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "eduai reduce", ALLOCSET_DEFAULT_SIZES);
	EduaiReducer *reducer;

	work->at = 0;
	work->opened = false;
	MemoryContextSwitchTo(context);
	reducer = eduai_projections_reducer_open(work->fold->projection, work->fold->tenant,
											 is_own(work->fold));
	work->opened = true;
	MemoryContextSwitchTo(caller);
	for (int i = 0; i < work->n; i++)
		reduce_key(work, reducer, &work->reductions[i]);
	eduai_projections_reducer_close(reducer);
	MemoryContextDelete(context);
}

/* A reducer that appends an event would fold into states that are being folded. */
static void
reduce(void *arg)
{
	if (reducing)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("a reducer cannot append events"),
				 errhint("It computes the new state and does nothing else.")));
	reducing = true;
	PG_TRY();
	{
		reduce_all(arg);
	}
	PG_FINALLY();
	{
		reducing = false;
	}
	PG_END_TRY();
}

/*
 * Whether an error is the appender's to hear, as it says nothing about the
 * event and another try may well succeed.  A follower, and who appends what
 * eduai itself writes, go on: the parked event is tried again.
 */
static bool
is_raised(const Work *work, int sqlstate, bool ran_out)
{
	/* nothing is wrong with the events of a reducer that is gone: they wait in the log */
	if (work->fold->batch == NULL)
		return !work->opened;
	if (is_own(work->fold))
		return false;
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
		case ERRCODE_SYSTEM_ERROR:
		case ERRCODE_INTERNAL_ERROR:
			return true;
		case ERRCODE_OPERATOR_INTERVENTION:
			return !ran_out;
	}
	return false;
}

static ErrorData *
try_reduce(Work *work)
{
	ErrorData *error = eduai_core_guard(reduce, work, reducer_timeout_ms);

	if (error != NULL && is_raised(work, error->sqlerrcode, eduai_core_guard_ran_out()))
		ReThrowError(error);
	return error;
}

/* Folds up to the event that fails; one that fails now and then, up to the first such. */
static void
reduce_apart(const EduaiFold *fold, EduaiReduction *r)
{
	Work work = {.fold = fold, .reductions = r, .n = 1, .nevents = r->run.nevents};
	ErrorData *why = NULL;
	ErrorData *error;

	while ((error = try_reduce(&work)) != NULL)
	{
		why = error;
		work.nevents = work.at;
		if (work.nevents == 0)
		{
			r->after = r->row;
			r->after.state = state_of(fold->projection, &r->row);
			r->folded = 0;
			break;
		}
	}
	r->error = why;
}

void
eduai_projections_reduce(const EduaiFold *fold, EduaiReduction *reductions, int n)
{
	Work work = {.fold = fold, .reductions = reductions, .n = n, .nevents = -1};

	if (n == 0)
		return;
	/* its event would be folded into states that are being folded */
	if (reducing)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("a reducer cannot append events that a projection folds inline"),
						errhint("It computes the new state and does nothing else.")));
	if (fold->batch != NULL && fold->projection->raises && !is_own(fold))
		reduce(&work);
	else if (try_reduce(&work) != NULL)
		for (int i = 0; i < n; i++)
			reduce_apart(fold, &reductions[i]);
}

int
eduai_projections_reducer_timeout(void)
{
	return reducer_timeout_ms;
}

void
eduai_projections_reduce_init(void)
{
	DefineCustomIntVariable(
		"eduai.reducer_timeout", "The longest that a projection's reducer may run.",
		"For all events of an append or of a follower's step; when it is over, for those of each "
		"key.",
		&reducer_timeout_ms, 10000, 10, 600000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}
