/*
 * lane.h: where ready tasks are found, at the same cost whatever is waiting,
 * done or held.
 *
 * A lane is the ready tasks of one tenant, task type, model and priority, in
 * the order of their keys: the entries of the index task_live_lane with its
 * hash.  Entries of tasks that were started or ended stay in the index until
 * vacuum may remove them; a scan from a lane's beginning would pass them all,
 * each time, for as long as somebody holds a snapshot.  So shared memory has
 * for each lane
 *
 *   mark    a key: no task that can be claimed has a smaller one, but the strays;
 *           "none" when there is nothing
 *   strays  ranges of keys below what scans have passed that may have ready tasks:
 *           those of transactions that committed late, and those given back by
 *           claims that aborted.  A key finds the row wherever an update has put
 *           it, by one descent of the index, and a batch needs one stray
 *
 * Who scans a lane takes it from the mark on (the mark becomes "none"), or takes
 * a stray, and on leaving lowers the mark again to the first key he did not look
 * at, or to where he began if he failed.  Others who come meanwhile look further
 * on than he has come, and do the same.  Each scan reads the rows
 * as they are when it comes to them, after it took its range.  A commit that made a task ready lowers the mark
 * to its key, or, when scans have passed that, adds a stray.  So whatever
 * happens at once, each ready task is at or above the mark, or a stray, or in
 * the hands of one scan.  A row that somebody has locked is passed: whoever
 * made it so (a claim, a cancellation) gives it back when he aborts.
 *
 * What no callback sees (COMMIT PREPARED, a restore, a superuser's hand, a row
 * lock taken by hand) is found by the sweep, which reads lanes from their
 * beginnings; it takes at most a hundredth of the time, but for looking once when
 * a prepared transaction has ended.  After a server start the first claim or
 * enqueue discovers the lanes from the index, two probes each.
 *
 * When the directory is full (eduai.queue_lanes), tasks of further lanes wait
 * until a lane is empty and the sweep has seen them.
 *
 * The keys are of the steady clock: the wall clock's time at the server start,
 * or what the newest key in the table says if that is later, plus what the
 * monotonic clock counted since.  No step of the wall clock reorders a lane.
 */
#ifndef EDUAI_QUEUE_LANE_H
#define EDUAI_QUEUE_LANE_H

#include "postgres.h"
#include "datatype/timestamp.h"

#define EDUAI_LANE_KEY_STEP INT64CONST(1024) /* keys a microsecond */

extern void eduai_queue_lane_init(void);

/* Microseconds since 2000 (as timestamptz) on the steady clock; the wall clock's without preload. */
extern int64 eduai_queue_steady_us(void);

/* The lane's hash, as in task_live.lane; model NULL: any. */
extern int64
eduai_queue_lane_hash(const char *tenant, const char *task_type, const char *model, int priority);

/* The key of the nth (from 0) task made ready now by one call. */
extern int64 eduai_queue_lane_key(int nth);

typedef struct LaneName
{
	const char *tenant;
	const char *task_type;
	const char *model; /* NULL: any */
	int priority;
} LaneName;

/*
 * This transaction made a task ready: it can be claimed when it commits, also
 * by COMMIT PREPARED; who waits for it is woken then.  Savepoints heeded.  SPI
 * connected, as the owner; so for the next.  No-ops without preload.  Those of
 * one call, with keys one after the other, are announced as one range.
 */
extern void eduai_queue_lane_ready(const LaneName *name, int64 key);

/* The same; of a call's, in the order of lanes and keys, all of a lane are announced as one range. */
extern void eduai_queue_lane_ready_among(const LaneName *name, int64 key);

/*
 * This transaction took a ready task out of its lane (claimed, cancelled,
 * expired it): it can be claimed again when the transaction, or the savepoint,
 * is rolled back.
 */
extern void eduai_queue_lane_taken(const LaneName *name, int64 key);

/*
 * For the dispatcher's sweep: looks for what no callback saw; SPI connected.
 * True when there may be something to claim that there was not.
 */
extern bool eduai_queue_lane_sweep(void);

/* How many lanes of the server have tasks, and how many may; 0 of 0 without preload. */
extern int eduai_queue_lanes_used(int *most);

#endif
