/*
 * tasks.c: see tasks.h.
 */
#include "tasks.h"

#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILL_BATCH 1000
/* slots; more than any number of workers here takes at once */
#define POOL 5000

void
make_payload(char *payload, const char *model, uint64_t *random)
{
	static const char letters[] =
		"abcdefghijklmnopqrstuvwxyz ,.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	static const char tail[] = "\"}]}";
	char *end = payload + (PAYLOAD_SIZE - sizeof(tail));
	char *at =
		payload + snprintf(payload, PAYLOAD_SIZE / 2,
						   "{%s%s%s\"messages\": ["
						   "{\"role\": \"user\", \"content\": \"",
						   model ? "\"model\": \"" : "", model ? model : "", model ? "\", " : "");

	while (at < end)
	{
		uint64_t bits = next_random(random);

		for (int i = 0; i < 10 && at < end; i++, bits >>= 6)
			*at++ = letters[bits & 63];
	}
	memcpy(at, tail, sizeof(tail));
}

char *
payload_array(int n, const char *model, uint64_t *random)
{
	/* a quote in an array's literal takes a backslash */
	char *array = malloc((size_t) n * (PAYLOAD_SIZE + 32) + 3);
	char *at = array;
	char payload[PAYLOAD_SIZE];

	*at++ = '{';
	for (int i = 0; i < n; i++)
	{
		make_payload(payload, model, random);
		if (i > 0)
			*at++ = ',';
		*at++ = '"';
		for (const char *from = payload; *from != '\0'; from++)
		{
			if (*from == '"')
				*at++ = '\\';
			*at++ = *from;
		}
		*at++ = '"';
	}
	*at++ = '}';
	*at = '\0';
	return array;
}

void
define_bench_type(PGconn *db)
{
	char sql[256];

	run(db, "ALTER SYSTEM SET eduai.queue_max_size = 0");
	run(db, "SELECT pg_reload_conf()");
	snprintf(sql, sizeof(sql),
			 "SELECT eduai.configure_pool('bench', '{}', %d, reserved_critical => 0)", POOL);
	run(db, sql);
	run(db, "SELECT eduai.define_task_type('bench', 'application', 'bench')");
}

void
fill_tasks(PGconn *db, const char *type, const char *model, const char *priority, int64_t n)
{
	static const char fill[] = "SELECT cardinality(eduai.enqueue_batch($2, $1::jsonb[], $3))";
	uint64_t random = 4711;
	char *array = payload_array(FILL_BATCH, model, &random);
	PGresult *result;

	for (int64_t done = 0; done < n; done += FILL_BATCH)
	{
		if (n - done < FILL_BATCH)
		{
			free(array);
			array = payload_array((int) (n - done), model, &random);
		}
		result = PQexecParams(db, fill, 3, NULL, (const char *const[]){array, type, priority}, NULL,
							  NULL, 0);
		if (PQresultStatus(result) != PGRES_TUPLES_OK)
			fail("%s", PQerrorMessage(db));
		PQclear(result);
	}
	free(array);
}

/* ---- workers ---- */

#define NUMBER_ROOM 24

typedef struct Worker
{
	const Work *work;
	char name[32];
	char types[64];
	char batch[16];
	int claimed; /* not completed yet */
	char *ids;   /* array literals */
	char *attempts;
} Worker;

/* parameters: worker, types, most, wait; columns: id, attempt, payload */
#define CLAIM                               \
	"SELECT task_id, attempt, payload FROM" \
	" eduai.claim_tasks($1, $2::text[], $3::int, '60 s', $4::interval)"

/* parameters: ids, attempts */
static const char *
completion(PGconn *db, const Work *work)
{
	if (work->complete != NULL)
		return work->complete;
	return has_function(db, "eduai.complete_tasks")
			   ? "SELECT eduai.complete_tasks($1::bigint[], $2::int[])"
			   : "SELECT count(eduai.complete_task(task_id, attempt)) FROM"
				 " unnest($1::bigint[], $2::int[]) AS t (task_id, attempt)";
}

void
work_open(LoadClient *client)
{
	work_open_with(client, load_arg());
}

void
work_open_with(LoadClient *client, const Work *work)
{
	Worker *worker = calloc(1, sizeof(Worker));

	worker->work = work;
	snprintf(worker->name, sizeof(worker->name), "bench-%d", client->number);
	snprintf(worker->types, sizeof(worker->types), "{%s}", worker->work->type);
	snprintf(worker->batch, sizeof(worker->batch), "%d", worker->work->batch);
	worker->ids = malloc((size_t) worker->work->batch * NUMBER_ROOM + 3);
	worker->attempts = malloc((size_t) worker->work->batch * NUMBER_ROOM + 3);
	prepare(client->db, "claim", work->claim != NULL ? work->claim : CLAIM);
	prepare(client->db, "complete", completion(client->db, work));
	if (worker->work->one_commit && PQenterPipelineMode(client->db) != 1)
		fail("no pipeline: %s", PQerrorMessage(client->db));
	client->state = worker;
}

static void
note_claimed(Worker *worker, const PGresult *claimed)
{
	char *id = worker->ids;
	char *attempt = worker->attempts;

	worker->claimed = PQntuples(claimed);
	for (int i = 0; i < worker->claimed; i++)
	{
		id += sprintf(id, "%c%s", i == 0 ? '{' : ',', PQgetvalue(claimed, i, 0));
		attempt += sprintf(attempt, "%c%s", i == 0 ? '{' : ',', PQgetvalue(claimed, i, 1));
	}
	strcpy(id, "}");
	strcpy(attempt, "}");
}

static void
count_completed(const Worker *worker, int n)
{
	if (worker->work->completed != NULL)
		__atomic_add_fetch(worker->work->completed, n, __ATOMIC_RELAXED);
}

static void
claim(LoadClient *client, Worker *worker)
{
	const char *const values[4] = {worker->name, worker->types, worker->batch, worker->work->wait};
	PGresult *result = execute(client->db, "claim", 4, values);

	note_claimed(worker, result);
	PQclear(result);
}

static int
complete(LoadClient *client, Worker *worker)
{
	const char *const values[2] = {worker->ids, worker->attempts};
	int n = worker->claimed;

	PQclear(execute(client->db, "complete", 2, values));
	worker->claimed = 0;
	count_completed(worker, n);
	return n;
}

static void
send_prepared(PGconn *db, const char *name, int n, const char *const *values)
{
	if (PQsendQueryPrepared(db, name, n, values, NULL, NULL, 0) != 1)
		fail("%s: %s", name, PQerrorMessage(db));
}

/* The next statement's result in the pipeline. */
static PGresult *
receive(PGconn *db)
{
	PGresult *result = PQgetResult(db);
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
		fail("in a pipeline: %s", PQerrorMessage(db));
	PQclear(PQgetResult(db)); /* the end of the statement */
	return result;
}

static void
receive_sync(PGconn *db)
{
	PGresult *result = PQgetResult(db);

	if (PQresultStatus(result) != PGRES_PIPELINE_SYNC)
		fail("at the end of a pipeline: %s", PQerrorMessage(db));
	PQclear(result);
}

/* Completes what is claimed and claims more, in the one transaction that ends at the sync. */
static int
complete_and_claim(LoadClient *client, Worker *worker)
{
	const char *const done[2] = {worker->ids, worker->attempts};
	const char *const wanted[4] = {worker->name, worker->types, worker->batch, worker->work->wait};
	PGconn *db = client->db;
	int n = worker->claimed;
	PGresult *claimed;

	if (n > 0)
		send_prepared(db, "complete", 2, done);
	send_prepared(db, "claim", 4, wanted);
	if (PQpipelineSync(db) != 1)
		fail("%s", PQerrorMessage(db));
	if (n > 0)
		PQclear(receive(db));
	claimed = receive(db);
	receive_sync(db);
	note_claimed(worker, claimed);
	PQclear(claimed);
	count_completed(worker, n);
	return n > 0 ? n : worker->claimed > 0 ? complete_and_claim(client, worker) : 0;
}

int
work_step(LoadClient *client)
{
	Worker *worker = client->state;

	if (worker->work->one_commit)
		return complete_and_claim(client, worker);
	claim(client, worker);
	return worker->claimed > 0 ? complete(client, worker) : 0;
}

void
work_close(LoadClient *client)
{
	Worker *worker = client->state;

	if (worker->work->one_commit && PQexitPipelineMode(client->db) != 1)
		fail("%s", PQerrorMessage(client->db));
	if (worker->claimed > 0)
		(void) complete(client, worker);
}
