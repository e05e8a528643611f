/*
 * gateway_dispatch.c: how long from a commit to the provider's request, and
 * how many tasks a second go the whole way.
 *
 * Latency, one client, an idle dispatcher: in each sample, in turn,
 *   insert	  an INSERT of the same payload into a plain table, committed: the
 *			  floor of any durable enqueue;
 *   enqueue  eduai.enqueue(), committed;
 *	request  from the end of that commit, as the client sees it, to the
 *			  request's arrival in the simulator's journal (wall clock, one
 *			  machine).  The dispatcher commits the attempt in between, so a
 *			  commit is its floor;
 *   direct	  the same request sent by this program with libcurl: from the send
 *			  to the arrival.
 *
 * Throughput: rounds that alternate
 *   tables	  one client does to plain tables with the same indexes what a task
 *			  needs (insert, to running, to completed and a ledger row), in
 *			  batches of the same size, three commits a batch: the floor of the
 *			  database's part with no provider at all;
 *   tasks	  two clients enqueue batches, the simulator answers after 1 ms;
 *			  from the first enqueue to the last result committed.
 */
#include "bench.h"
#include "simulator.h"
#include "tasks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAYLOAD \
	"{\"messages\": [{\"role\": \"user\", \"content\": \"Explain fractions to a pupil of ten.\"}], \"user\": \"%s\"}"
#define BATCH 500

static PGconn *db;

static void
set_up(void)
{
	char sql[1024];

	snprintf(sql, sizeof(sql),
			 "SELECT eduai.add_provider('bench', 'openai', '%s', NULL,"
			 " '{\"allow_loopback\": true}')",
			 simulator_url("/v1"));
	run(db, sql);
	run(db,
		"SELECT eduai.add_instance('bench', 'bench', 'sim-chat', '{chat}', max_concurrent => 500, "
		"price_input => 0.15, price_output => 0.60)");
	run(db, "SELECT eduai.configure_pool('chat', '{chat}', 500)");
	run(db, "ALTER SYSTEM SET eduai.queue_max_size = 0");
	run(db, "SELECT pg_reload_conf()");
	run(db,
		"CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb)");
	run(db, "CREATE TABLE floor_request (LIKE eduai.task_request INCLUDING ALL)");
	run(db, "CREATE TABLE floor_live (LIKE eduai.task_live INCLUDING ALL)");
	run(db, "CREATE TABLE floor_end (LIKE eduai.task_end INCLUDING ALL)");
	run(db, "CREATE SEQUENCE floor_id");
	run(db, "CREATE TABLE floor_call (LIKE eduai.provider_call INCLUDING ALL)");
	simulator_reset();
	simulator_behave("sim-chat", "latency=1");
}

/* ---- latency ---- */

typedef struct Sample
{
	double insert_ms;
	double enqueue_ms;
	double request_ms;
	double whole_ms;
	double direct_ms;
} Sample;

static Sample
take_sample(int i, int64_t *after)
{
	char payload[512];
	char body[700];
	char nonce[64];
	Sample s;
	const char *values[1] = {payload};
	PGresult *result;
	int64_t start;
	int64_t end;

	snprintf(nonce, sizeof(nonce), "plain-%d", i);
	snprintf(payload, sizeof(payload), PAYLOAD, nonce);
	start = wall_us();
	result =
		PQexecParams(db, "INSERT INTO plain (payload) VALUES ($1)", 1, NULL, values, NULL, NULL, 0);
	s.insert_ms = (wall_us() - start) / 1000.0;
	PQclear(result);
	usleep(3000);

	snprintf(nonce, sizeof(nonce), "direct-%d", i);
	snprintf(payload, sizeof(payload), PAYLOAD, nonce);
	snprintf(body, sizeof(body), "{\"model\": \"sim-chat\", %s", payload + 1);
	start = wall_us();
	free(http(simulator_url("/v1/chat/completions"), body));
	s.direct_ms = (simulator_await(nonce, after, 10000) - start) / 1000.0;

	snprintf(nonce, sizeof(nonce), "task-%d", i);
	snprintf(payload, sizeof(payload), PAYLOAD, nonce);
	start = wall_us();
	result = PQexecParams(db, "SELECT eduai.enqueue('chat', $1)", 1, NULL, values, NULL, NULL, 0);
	end = wall_us();
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		fail("%s", PQerrorMessage(db));
	PQclear(result);
	s.enqueue_ms = (end - start) / 1000.0;
	usleep(5000);
	s.request_ms = (simulator_await(nonce, after, 10000) - end) / 1000.0;
	s.whole_ms = s.enqueue_ms + s.request_ms;
	usleep(15000); /* the result is committed, the dispatcher idle again */
	return s;
}

static void
report_latency(const char *what, double *values, int n)
{
	double p50 = percentile(values, n, 0.50);
	double p99 = percentile(values, n, 0.99);

	printf("  %-34s p50 %7.3f ms   p99 %7.3f ms\n", what, p50, p99);
}

static void
measure_latency(int n)
{
	double *insert_ms = malloc(sizeof(double) * n);
	double *enqueue_ms = malloc(sizeof(double) * n);
	double *request_ms = malloc(sizeof(double) * n);
	double *whole_ms = malloc(sizeof(double) * n);
	double *direct_ms = malloc(sizeof(double) * n);
	int64_t after = 0;

	for (int i = -20; i < n; i++) /* the first warm up plans and connections */
	{
		Sample s = take_sample(i, &after);

		if (i < 0)
			continue;
		insert_ms[i] = s.insert_ms;
		enqueue_ms[i] = s.enqueue_ms;
		request_ms[i] = s.request_ms;
		whole_ms[i] = s.whole_ms;
		direct_ms[i] = s.direct_ms;
	}
	printf("\nlatency, %d samples, idle dispatcher\n", n);
	report_latency("plain INSERT, committed (floor)", insert_ms, n);
	report_latency("enqueue, committed", enqueue_ms, n);
	report_latency("commit to request", request_ms, n);
	report_latency("start of enqueue to request", whole_ms, n);
	report_latency("direct request (floor)", direct_ms, n);
	free(insert_ms);
	free(enqueue_ms);
	free(request_ms);
	free(whole_ms);
	free(direct_ms);
}

/* ---- throughput ---- */

static double
round_of_tables(int n)
{
	static const char *const steps[] = {
		"WITH r AS (INSERT INTO floor_request (tenant_id, task_id, task_type, priority, max_attempts,"
		" timeout_ms, owner, enqueued_at, payload, metadata) SELECT 'default', nextval('floor_id'),"
		" 'chat', 2, 3, 300000, 'postgres', now(), '{\"messages\": [{\"role\": \"user\","
		" \"content\": \"Explain fractions to a pupil of ten.\"}], \"user\": \"x\"}', '{}'"
		" FROM generate_series(1, %d) RETURNING task_id) INSERT INTO floor_live (tenant_id, task_id,"
		" task_type, priority, state, attempt, attempt_base, lane, ready_key, run_at, backoff, held)"
		" SELECT 'default', task_id, 'chat', 2, 'ready', 0, 0, 1, task_id, now(), false, false FROM r",
		"UPDATE floor_live SET state = 'running', attempt = 1, worker = 1, instance = 'bench',"
		" started_at = now() WHERE state = 'ready'",
		"WITH done AS (DELETE FROM floor_live WHERE state = 'running' RETURNING *), e AS (INSERT INTO"
		" floor_end (tenant_id, task_id, state, attempt, run_at, started_at, finished_at, instance,"
		" cost_usd, result) SELECT tenant_id, task_id, 'completed', attempt, run_at, started_at, now(),"
		" instance, 0.00001, '{\"text\": \"simulated answer to Explain fractions to a pupil of ten.\","
		" \"model\": \"sim-chat\", \"usage\": {\"input\": 20, \"cached\": 0, \"output\": 20},"
		" \"finish_reason\": \"stop\"}' FROM done) INSERT INTO floor_call (tenant_id, task_id, attempt,"
		" instance, provider, model, tokens_in, tokens_cached, tokens_out, cost_usd, outcome,"
		" http_status, started_at, ms, first_byte_ms) SELECT tenant_id, task_id, 1, 'bench', 'bench',"
		" 'sim-chat', 20, 0, 20, 0.00001, 'completed', 200, now(), 1.5, 1.4 FROM done"};
	char sql[2048];
	int64_t start = wall_us();

	for (int done = 0; done < n; done += BATCH)
	{
		snprintf(sql, sizeof(sql), steps[0], BATCH);
		run(db, sql);
		run(db, steps[1]);
		run(db, steps[2]);
	}
	return n / ((wall_us() - start) / 1e6);
}

static void
enqueue_share(int n)
{
	PGconn *own = connect_db();
	char payload[512];
	char sql[1024];

	snprintf(payload, sizeof(payload), PAYLOAD, "load");
	snprintf(sql, sizeof(sql),
			 "SELECT cardinality(eduai.enqueue_batch('chat', array_fill('%s'::jsonb, ARRAY[%d])))",
			 payload, BATCH);
	for (int done = 0; done < n; done += BATCH)
		run(own, sql);
	PQfinish(own);
	_exit(0);
}

static double
round_of_tasks(int n, double *enqueue_rate)
{
	int64_t start = wall_us();
	int64_t give_up = start + 300 * (int64_t) 1000000;

	for (int client = 0; client < 2; client++)
		if (fork() == 0)
			enqueue_share(n / 2);
	for (int client = 0; client < 2; client++)
		wait(NULL);
	*enqueue_rate = n / ((wall_us() - start) / 1e6);
	while (ask_int(db, TASKS_LEFT) > 0)
	{
		if (wall_us() > give_up)
			fail("the tasks did not end within 300 s");
		usleep(20000);
	}
	return n / ((wall_us() - start) / 1e6);
}

static void
print_rounds(const char *what, double *values, int n)
{
	double low = percentile(values, n, 0);
	double high = percentile(values, n, 1);

	printf("  %-34s median %7.0f /s   (%.0f to %.0f)\n", what, median(values, n), low, high);
}

static void
measure_throughput(int rounds, int n)
{
	double *tables = malloc(sizeof(double) * rounds);
	double *tasks = malloc(sizeof(double) * rounds);
	double *enqueues = malloc(sizeof(double) * rounds);
	double *ratios = malloc(sizeof(double) * rounds);
	double warm;

	(void) round_of_tables(BATCH * 4);
	(void) round_of_tasks(BATCH * 4, &warm);
	for (int i = 0; i < rounds; i++)
	{
		tables[i] = round_of_tables(n);
		tasks[i] = round_of_tasks(n, &enqueues[i]);
		ratios[i] = tasks[i] / tables[i];
		printf("  round %d: tables %.0f /s, tasks %.0f /s (enqueued at %.0f /s)\n", i + 1,
			   tables[i], tasks[i], enqueues[i]);
		fflush(stdout);
	}
	printf("\nthroughput, %d rounds of %d tasks, pool 500, no queue limit, provider 1 ms\n", rounds,
		   n);
	print_rounds("tables alone, 1 client (floor)", tables, rounds);
	print_rounds("enqueue to result committed", tasks, rounds);
	print_rounds("enqueue_batch of 500, 2 clients", enqueues, rounds);
	printf("  tasks / tables, median of rounds: %.2f\n", median(ratios, rounds));
	printf(
		"  all completed: %s\n",
		ask(db,
			"SELECT count(*) FILTER (WHERE state = 'completed') || ' of ' || count(*) FROM eduai.task_end"));
}

int
main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	db = connect_db();
	set_up();
	measure_latency(env_int("SAMPLES", 400));
	measure_throughput(env_int("ROUNDS", 5), env_int("TASKS", 20000));
	PQfinish(db);
	return 0;
}
