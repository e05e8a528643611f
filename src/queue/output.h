/*
 * output.h: text that tasks give while they run, in shared memory, for
 * eduai.task_output().
 *
 * A task that streams has a place with the deltas of its last attempt.  Those
 * of attempt n are numbered from (n - 1) * 1,000,000 + 1 on, without gaps: so a
 * new attempt's are beyond any of an earlier one, whatever memory has forgotten
 * in between, and what a reader has read says of which attempt it was.
 *
 * A place is kept after the end of its task until another needs it.  While the
 * buffer (eduai.output_buffer) is full, the longest running stream loses its
 * beginning: readers that follow miss nothing, late ones see a gap in seq.
 *
 * A place is a database's and tenant's; readers of another tenant find none.
 */
#ifndef EDUAI_QUEUE_OUTPUT_H
#define EDUAI_QUEUE_OUTPUT_H

#include "postgres.h"
#include "storage/condition_variable.h"
#include "utils/jsonb.h"

extern void eduai_queue_output_init(void);

/*
 * Adds text to what an attempt of a task has given and wakes its readers.  A
 * new attempt starts anew; text of an earlier one, or after the end, is left
 * out.  The text is in the server's encoding and may end within a character,
 * which is held back until its rest comes; bytes that are no character become
 * question marks.  Needs no transaction; never raises or allocates, and waits
 * for no more than a lock that is held for microseconds.
 */
extern void eduai_queue_output_append(const char *tenant, int64 task_id, int attempt,
									  const char *text, size_t length);

/*
 * An attempt begins: what earlier ones gave is discarded, though this one may
 * never give anything.  Needs no transaction; never raises or allocates.
 */
extern void eduai_queue_output_begin(int64 task_id, int attempt);

/*
 * The task ended, and so its last attempt's text: readers look at the tables,
 * which say how.  Not for an attempt that another will follow.  From commit
 * callbacks, once the end is visible; also of tasks that gave no text, for whose
 * end readers wait.  Never raises or allocates.
 */
extern void eduai_queue_output_end(int64 task_id);
/* Forgets the text of this database's tasks from one id to another. */
extern void eduai_queue_output_forget(int64 from, int64 to);

/* ---- for readers ---- */

/* The number before an attempt's first delta. */
extern int eduai_queue_output_base(int attempt);

#define EDUAI_OUTPUT_CHUNK      1024
#define EDUAI_OUTPUT_READ_BYTES (32 * EDUAI_OUTPUT_CHUNK)

/* What one look found; zeroed by the reader before the first. */
typedef struct OutputLook
{
	/* private: the chunks taken, allocated by the first look, and where next() is */
	char *bytes;
	int length;
	int at;
	int nth;
	int within;
	int after_seq;

	bool found; /* the task has a place, and it is this tenant's */
	bool done;  /* it ended: perhaps no more will come */
	bool whole; /* what was taken is all that there is after after_seq */
	int attempt;
	int first_seq; /* the first that is kept; last_seq + 1: none */
	int last_seq;
} OutputLook;

/* Takes what there is after a number, as far as one look's room goes. */
extern void
eduai_queue_output_look(const char *tenant, int64 task_id, int after_seq, OutputLook *look);

/* The next delta of what was taken, inside look; false when there is none. */
extern bool eduai_queue_output_next(OutputLook *look, int *seq, const char **text, int *length);

/*
 * The progress (NULL: none) of a running task with the text that it has given so
 * far as "text", unless its worker has set one; itself when there is nothing to add.
 */
extern Jsonb *
eduai_queue_progress_with_text(const char *tenant, int64 task_id, int attempt, Jsonb *progress);

/* Broadcast when a task's text grows and when it ends, and now and then for nothing. */
extern ConditionVariable *eduai_queue_output_waiters(int64 task_id);

/* Changes when the task ends, and now and then for nothing. */
extern uint64 eduai_queue_output_ends(int64 task_id);

#endif
