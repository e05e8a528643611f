/*
 * schedule.h: which lane a pool serves next, and how many slots it has.
 *
 * Pure: no clock, shared memory or SQL inside.  Claims, tests and simulations
 * call the same symbols.
 *
 * A lane holds tasks of one tenant, type, model and priority.  The class (the
 * priority) is chosen first: the one whose oldest task's time (readiness plus
 * 1 s, 5 s, 30 s or 5 min) is over first.  Of those whose time is over already
 * the more urgent is first: else a mountain of old low tasks would hold up
 * critical ones until it is gone.  But no class that has work is passed
 * over more than EDUAI_SCHEDULE_PATIENCE times in a row, so that each gets its
 * share of an overloaded pool.  Within the class tenants take turns: the lane
 * that was served longest ago is next.
 */
#ifndef EDUAI_QUEUE_SCHEDULE_H
#define EDUAI_QUEUE_SCHEDULE_H

#include "postgres.h"
#include "queue/task.h"

/* a class is served at least once in so many choices of its pool, plus one per other waiting class */
#define EDUAI_SCHEDULE_PATIENCE 15

typedef struct ScheduleLane
{
	int priority;
	int64 ready_us; /* of its oldest task, on the steady clock; at most that */
	uint64 served;  /* a stamp that grows: when it was served last */
	bool open;      /* has, or may have, a task that can start now */
} ScheduleLane;

/* of one pool, kept between choices */
typedef struct ScheduleState
{
	int64 now_us;                    /* on the steady clock; eduai_queue_pool_choices() sets it */
	uint32 passed[EDUAI_PRIORITIES]; /* choices since the class was served while it had work */
} ScheduleState;

/*
 * The lane to take a task from, -1 for none; counts the choice in "state".
 * "slots" of the pool are free, of which "reserved" are for critical tasks.
 */
extern int eduai_queue_schedule_next(ScheduleState *state, const ScheduleLane *lanes, int n,
									 int slots, int reserved);

/*
 * The size of a pool between max_concurrent and scale_to: additive increase
 * while tasks wait longer than they should, multiplicative decrease when
 * providers push back, slow decrease when idle.
 */
typedef struct ScaleState
{
	int size;
	int64 changed_us;    /* when it grew or shrank, or was pushed back; 0: never */
	int64 halved_us;     /* 0: never */
	int64 idle_since_us; /* 0: not idle */
} ScaleState;

typedef struct ScaleInput
{
	int64 now_us; /* monotonic, above 0 */
	int least;    /* max_concurrent */
	int most;     /* scale_to */
	int running;  /* slots in use */
	bool
		waiting; /* a task waits although its time (a tenth of its patience, at least 200 ms) is over */
	bool pushback; /* a provider said 429, 503 or 529 since the last call */
} ScaleInput;

/* Adjusts state->size; call at most every 100 ms, at least every second while waiting or larger than least. */
extern void eduai_queue_scale(ScaleState *state, const ScaleInput *input);

#endif
