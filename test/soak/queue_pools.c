/*
 * queue_pools.c: never more running tasks than a pool's size, never two of one
 * concurrency key, and no slot lost.
 *
 * A pool's size changes while tasks run.  When it grows, the larger size is
 * allowed from before the call.  When it shrinks, what runs goes on: some time
 * after the call (claims that were under way have committed by then) the number
 * of running tasks may only fall until it is within the new size.
 */
#include "queue.h"

#include <stdio.h>
#include <stdlib.h>

#define SETTLED_NS INT64_C(5000000000)

const char *const pool_types[POOLS] = {"soak_app", "soak_scaled", "chat"};

static struct
{
	const char *name;
	int size;
	int scale_to; /* 0: none */
	int allowed;
	int64_t changed; /* when the last change ended; INT64_MAX while one is under way */
} pools[POOLS] = {
	{"soak_a", 8, 0, 8, 0},
	{"soak_b", 3, 9, 9, 0},
	{"chat", 6, 0, 6, 0},
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint64_t samples;

int
pools_size(int pool)
{
	return pools[pool].size;
}

uint64_t
pools_samples(void)
{
	return samples;
}

static void
configure(Session *session, int pool, int size)
{
	char sql[300];
	char scale[20] = "NULL";
	Outcome outcome;

	if (pools[pool].scale_to > 0)
		snprintf(scale, sizeof(scale), "%d", pools[pool].scale_to);
	snprintf(
		sql, sizeof(sql),
		"SELECT eduai.configure_pool('%s', '{%s}', %d, scale_to => %s, reserved_critical => %d)",
		pools[pool].name, pool == POOL_CHAT ? "chat" : "", size, scale, size > 2);
	/* a lost answer, or a deadlock or cancel: the same again */
	while ((outcome = session_do(session, sql)) != DONE)
		sleep_ms(50);
}

void
pools_change(Session *session, int pool, int size)
{
	pthread_mutex_lock(&lock);
	pools[pool].changed = INT64_MAX;
	if (size > pools[pool].allowed)
		pools[pool].allowed = size;
	pthread_mutex_unlock(&lock);
	configure(session, pool, size);
	pthread_mutex_lock(&lock);
	pools[pool].size = size;
	pools[pool].changed = ledger_clock();
	pthread_mutex_unlock(&lock);
}

void
pools_create(Session *session)
{
	char sql[300];

	for (int i = 0; i < POOLS; i++)
	{
		configure(session, i, pools[i].size);
		if (i == POOL_CHAT)
			continue;
		snprintf(sql, sizeof(sql),
				 "SELECT eduai.define_task_type('%s', 'application', '%s', timeout => '20 s')",
				 pool_types[i], pools[i].name);
		if (session_do(session, sql) != DONE)
			fail("the task type %s could not be defined", pool_types[i]);
	}
}

/* ---- samples ---- */

static const char *const sample_sql =
	"SELECT count(*) FILTER (WHERE task_type = 'soak_app'),"
	" count(*) FILTER (WHERE task_type = 'soak_scaled'),"
	" count(*) FILTER (WHERE task_type = 'chat'),"
	" (SELECT count(*) FROM (SELECT FROM eduai.task_live WHERE state = 'running'"
	"  AND concurrency_key IS NOT NULL GROUP BY tenant_id, concurrency_key"
	"  HAVING count(*) > 1) k),"
	" (SELECT count(*) FROM (SELECT FROM eduai.task_live WHERE unique_key IS NOT NULL"
	"  GROUP BY tenant_id, unique_key HAVING count(*) > 1) u)"
	" FROM eduai.task_live WHERE state = 'running'";

static void
judge(int pool, int running, int allowed_before)
{
	pthread_mutex_lock(&lock);
	if (running > allowed_before && running > pools[pool].allowed)
		ledger_violation("pool %s: %d tasks run, at most %d may", pools[pool].name, running,
						 pools[pool].allowed);
	if (pools[pool].scale_to == 0 && pools[pool].changed != INT64_MAX &&
		ledger_clock() - pools[pool].changed > SETTLED_NS)
	{
		if (running < pools[pool].allowed)
			pools[pool].allowed = running;
		if (pools[pool].allowed < pools[pool].size)
			pools[pool].allowed = pools[pool].size;
	}
	pthread_mutex_unlock(&lock);
}

static void
sample(Session *session)
{
	int allowed[POOLS];
	Outcome outcome;
	PGresult *row;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < POOLS; i++)
		allowed[i] = pools[i].allowed;
	pthread_mutex_unlock(&lock);
	row = session_ask(session, sample_sql, &outcome);
	if (outcome != DONE)
		return;
	for (int i = 0; i < POOLS; i++)
		judge(i, atoi(PQgetvalue(row, 0, i)), allowed[i]);
	if (atoi(PQgetvalue(row, 0, POOLS)) > 0)
		ledger_violation("two tasks of one concurrency key run at once");
	if (atoi(PQgetvalue(row, 0, POOLS + 1)) > 0)
		ledger_violation("two tasks of one unique key are alive");
	PQclear(row);
	atomic_fetch_add(&samples, 1);
}

void *
sampler_main(void *arg)
{
	Session session;

	(void) arg;
	session_init(&session, MAX_SESSIONS - 2);
	while (!closing)
	{
		sample(&session);
		sleep_ms(20);
	}
	session_close(&session);
	return NULL;
}

/* ---- at the end ---- */

static int64_t
claim(Session *session, int pool, int most)
{
	char sql[300];

	snprintf(sql, sizeof(sql),
			 "WITH c AS MATERIALIZED (SELECT * FROM eduai.claim_tasks('last', '{%s}', %d, '1 min'))"
			 ", i AS (INSERT INTO soak_last SELECT task_id, attempt FROM c RETURNING 1)"
			 " SELECT count(*) FROM i",
			 pool_types[pool], most);
	return session_number(session, sql);
}

/* A pool of applications' tasks that is empty: exactly its size can start. */
static void
check_pool(Session *session, int pool)
{
	int most = pools[pool].scale_to > 0 ? pools[pool].scale_to : pools[pool].size;
	char sql[300];
	int64_t got;
	int64_t more;

	snprintf(sql, sizeof(sql),
			 "SELECT cardinality(eduai.enqueue_batch('%s', array_fill('{}'::jsonb, ARRAY[%d]),"
			 " 'critical'))",
			 pool_types[pool], 2 * most);
	(void) session_number(session, sql);
	got = claim(session, pool, 2 * most);
	more = claim(session, pool, 1);
	/* one that scales may have grown between the two */
	if (got < pools[pool].size || got + more > most)
		ledger_violation("pool %s, empty, of size %d to %d: %lld tasks could start, then %lld more",
						 pools[pool].name, pools[pool].size, most, (long long) got,
						 (long long) more);
	while (session_number(session, "SELECT count(eduai.complete_task(task_id, attempt))"
								   " FROM soak_last") > 0 &&
		   session_do(session, "TRUNCATE soak_last") == DONE && claim(session, pool, 2 * most) > 0)
		;
	printf("pool %s: %lld of %d slots could be used at once\n", pools[pool].name, (long long) got,
		   most);
}

void
pools_check(Session *session)
{
	if (session_number(session, "SELECT count(*) FROM eduai.task_live WHERE state = 'running'") > 0)
		fail("something runs");
	if (session_do(session, "CREATE TABLE soak_last (task_id bigint, attempt int)") != DONE)
		fail("a table could not be made");
	check_pool(session, POOL_APP);
	check_pool(session, POOL_SCALED);
}
