/*
 * task.c: the queue's pure rules.  See task.h.
 */
#include "postgres.h"

#include "queue/task.h"

#define FIRST_BACKOFF_MS 1000
#define MOST_BACKOFF_MS  60000
#define MOST_WISH_MS     (30 * EDUAI_DAY_MS) /* longer is a mistake: nobody would wait for it */

static const char *const priorities[EDUAI_PRIORITIES] = {"critical", "high", "normal", "low"};

int
eduai_queue_priority(const char *name)
{
	for (int i = 0; i < EDUAI_PRIORITIES; i++)
		if (strcmp(name, priorities[i]) == 0)
			return i;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown priority \"%s\"", name),
			 errhint("Use critical, high, normal or low.")));
	return 0; /* not reached */
}

const char *
eduai_queue_priority_name(int priority)
{
	return priorities[priority];
}

int64
eduai_queue_patience_us(int priority)
{
	static const int64 seconds[EDUAI_PRIORITIES] = {1, 5, 30, 300};

	return seconds[priority] * USECS_PER_SEC;
}

int64
eduai_queue_interval_ms(const Interval *interval, const char *what, int64 least, int64 most)
{
	/* in double: the sum of extreme fields overflows int64 */
	double ms = interval->time / 1000.0 +
				((double) interval->month * DAYS_PER_MONTH + interval->day) * (double) EDUAI_DAY_MS;

	if (ms < (double) least || ms > (double) most)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid %s of %g seconds", what, ms / 1000.0),
						errhint("Use %g to %g seconds.", least / 1000.0, most / 1000.0)));
	return (int64) ms;
}

int64
eduai_queue_backoff_ms(int attempts, int64 wish_ms, double random)
{
	int doublings = Min(Max(attempts - 1, 0), 10);
	int64 backoff = Min((int64) FIRST_BACKOFF_MS << doublings, MOST_BACKOFF_MS);

	backoff = (int64) (backoff * (0.5 + 0.5 * random));
	wish_ms = Min(wish_ms, MOST_WISH_MS);
	if (wish_ms > backoff)
		backoff = wish_ms + (int64) (wish_ms * 0.1 * random);
	return backoff;
}
