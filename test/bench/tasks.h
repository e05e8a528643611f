/*
 * tasks.h: what the benchmarks of the queue share: tasks of one size, and
 * workers that claim and complete them in batches.
 */
#ifndef BENCH_TASKS_H
#define BENCH_TASKS_H

#include "load.h"

#include <stdbool.h>

/* How many tasks are ready; is any left that lives? */
#define TASKS_READY                                                       \
	"SELECT (SELECT count(*) FROM eduai.task_live WHERE state = 'ready')" \
	" + (SELECT count(*) FROM eduai.fresh_task)"
#define TASKS_LEFT                                 \
	"SELECT (EXISTS (SELECT FROM eduai.task_live)" \
	" OR EXISTS (SELECT FROM eduai.fresh_task))::int"

/* with its zero byte; as jsonb about 1 KiB */
#define PAYLOAD_SIZE 1024

/* An object of text without much to compress; model may be NULL. */
extern void make_payload(char *payload, const char *model, uint64_t *random);

/*
 * No limit on the queue, and a type that applications serve, "bench", in a
 * pool of its own that holds nobody up.
 */
extern void define_bench_type(PGconn *db);

/* Adds n tasks by enqueue_batch(), 1,000 a commit; model may be NULL. */
extern void
fill_tasks(PGconn *db, const char *type, const char *model, const char *priority, int64_t n);

/* The array literal of n payloads; malloc'd. */
extern char *payload_array(int n, const char *model, uint64_t *random);

/* How a worker works. */
typedef struct Work
{
	const char *type;
	int batch;
	bool one_commit;    /* the completion of a batch and the claim of the next, in one round trip */
	const char *wait;   /* of the claim, such as "1 s"; "0" ends the load at an empty queue */
	int64_t *completed; /* shared, counted as it happens; or NULL */
	/* of another queue, with the parameters of eduai's (tasks.c); NULL: eduai's */
	const char *claim;
	const char *complete;
} Work;

/* open, step and close of a Load whose arg is a Work: a step is a batch. */
extern void work_open(LoadClient *client);
extern void work_open_with(LoadClient *client, const Work *work);
extern int work_step(LoadClient *client);
extern void work_close(LoadClient *client);

#endif
