/*
 * schedule.c: earliest deadline first with a share for each class, and pools
 * that scale.  See schedule.h.
 */
#include "postgres.h"

#include "queue/schedule.h"

#define CRITICAL 0

/* of eduai_queue_scale() */
#define GROW_EVERY_US   (1 * USECS_PER_SEC)
#define GROW_DIVISOR    10 /* by a tenth when that is more than one */
#define HALVE_EVERY_US  (5 * USECS_PER_SEC)
#define IDLE_US         (30 * USECS_PER_SEC)
#define SHRINK_EVERY_US (5 * USECS_PER_SEC)

/* Each class's earliest deadline, now if that is later; INT64_MAX where nothing waits. */
static void
class_deadlines(const ScheduleLane *lanes, int n, int64 now_us, int64 *deadlines)
{
	for (int class = 0; class < EDUAI_PRIORITIES; class ++)
		deadlines[class] = INT64_MAX;
	for (int i = 0; i < n; i++)
	{
		int class = lanes[i].priority;
		int64 deadline;

		if (!lanes[i].open)
			continue;
		deadline = Max(lanes[i].ready_us + eduai_queue_patience_us(class), now_us);
		deadlines[class] = Min(deadlines[class], deadline);
	}
}

/* The class passed over most often, if that is too often; else the first one due, of equals the most urgent. */
static int
choose_class(const ScheduleState *state, const int64 *deadlines, int classes)
{
	int starved = -1;
	int first = -1;

	for (int class = 0; class < classes; class ++)
	{
		if (deadlines[class] == INT64_MAX)
			continue;
		if (state->passed[class] >= EDUAI_SCHEDULE_PATIENCE - 1 &&
			(starved < 0 || state->passed[class] > state->passed[starved]))
			starved = class;
		if (first < 0 || deadlines[class] < deadlines[first])
			first = class;
	}
	return starved >= 0 ? starved : first;
}

static void
count_choice(ScheduleState *state, const int64 *deadlines, int chosen)
{
	for (int class = 0; class < EDUAI_PRIORITIES; class ++)
	{
		if (class == chosen || deadlines[class] == INT64_MAX)
			state->passed[class] = 0;
		else if (state->passed[class] < PG_UINT32_MAX)
			state->passed[class]++;
	}
}

/* The class's open lane that was served longest ago; of equals the one ready first. */
static int
choose_lane(const ScheduleLane *lanes, int n, int class)
{
	int best = -1;

	for (int i = 0; i < n; i++)
	{
		if (!lanes[i].open || lanes[i].priority != class)
			continue;
		if (best < 0 || lanes[i].served < lanes[best].served ||
			(lanes[i].served == lanes[best].served && lanes[i].ready_us < lanes[best].ready_us))
			best = i;
	}
	return best;
}

int
eduai_queue_schedule_next(ScheduleState *state, const ScheduleLane *lanes, int n, int slots,
						  int reserved)
{
	int64 deadlines[EDUAI_PRIORITIES];
	int class;

	if (slots <= 0)
		return -1;
	class_deadlines(lanes, n, state->now_us, deadlines);
	class = choose_class(state, deadlines, slots > reserved ? EDUAI_PRIORITIES : CRITICAL + 1);
	if (class < 0)
		return -1;
	count_choice(state, deadlines, class);
	return choose_lane(lanes, n, class);
}

/* A provider has too much: half the size, and no growth for a while. */
static void
shrink_fast(ScaleState *state, const ScaleInput *input)
{
	state->changed_us = input->now_us;
	if (state->halved_us != 0 && input->now_us - state->halved_us < HALVE_EVERY_US)
		return;
	state->size = Max(state->size / 2, input->least);
	state->halved_us = input->now_us;
}

void
eduai_queue_scale(ScaleState *state, const ScaleInput *input)
{
	int64 unchanged_us = state->changed_us == 0 ? PG_INT64_MAX : input->now_us - state->changed_us;

	state->size = Min(Max(state->size, input->least), input->most);
	if (input->waiting || input->running >= state->size)
		state->idle_since_us = 0;
	else if (state->idle_since_us == 0)
		state->idle_since_us = input->now_us;

	if (input->pushback)
		shrink_fast(state, input);
	else if (input->waiting)
	{
		if (state->size >= input->most || unchanged_us < GROW_EVERY_US)
			return;
		state->size = Min(state->size + Max(1, state->size / GROW_DIVISOR), input->most);
		state->changed_us = input->now_us;
	}
	else if (state->size > input->least && state->idle_since_us != 0 &&
			 input->now_us - state->idle_since_us >= IDLE_US && unchanged_us >= SHRINK_EVERY_US)
	{
		state->size--;
		state->changed_us = input->now_us;
	}
}
