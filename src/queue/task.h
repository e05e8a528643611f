/*
 * task.h: the words of the queue, and its pure rules.
 */
#ifndef EDUAI_QUEUE_TASK_H
#define EDUAI_QUEUE_TASK_H

#include "postgres.h"
#include "datatype/timestamp.h"

#define EDUAI_PRIORITIES 4
#define EDUAI_DAY_MS     INT64CONST(86400000)

/* 0 critical, 1 high, 2 normal, 3 low; raises 22023 for another name. */
extern int eduai_queue_priority(const char *name);
extern const char *eduai_queue_priority_name(int priority);

/*
 * The time within which a task of a priority should start once it is ready:
 * 1 s, 5 s, 30 s, 5 min.  Lanes are served in order of readiness plus this.
 */
extern int64 eduai_queue_patience_us(int priority);

/* An interval as ms; raises 22023 outside least..most (months count 30 days). */
extern int64
eduai_queue_interval_ms(const Interval *interval, const char *what, int64 least, int64 most);

/*
 * The wait before attempt n + 1, after n failed attempts: 1 s doubled n - 1
 * times, at most 60 s, times a factor between 0.5 and 1 chosen by "random" in
 * [0, 1).  A provider's wish (wish_ms, -1 for none; at most 30 days) is kept when it is longer,
 * with up to a tenth added so that those told the same do not all come back
 * at once.  Pure.
 */
extern int64 eduai_queue_backoff_ms(int attempts, int64 wish_ms, double random);

#endif
