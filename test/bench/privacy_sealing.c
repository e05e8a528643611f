/*
 * privacy_sealing.c: what sealing costs: an append whose event has two sealed
 * fields beside one that has the same fields in clear, and the same for
 * reading; and a learner's first event, which makes a key.
 *
 * The server's processor time, of the one backend that works, by the scheduler's
 * account (/proc/PID/schedstat): appends of ROUND_EVENTS events, one statement
 * and one transaction each, without waiting for the disk (synchronous_commit
 * off); reads of 1,000 events a call.  Both sides have the same learners and the
 * same text (two fields of about 100 bytes); the types differ in what they call
 * sensitive.  The sides of a round run one after the other, in the opposite
 * order in every second round; ratios are of the same round.
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUND_EVENTS 2000
#define LEARNERS     200
#define READS        20
#define MAX_ROUNDS   100
/* of nobody: the bench's master key */
#define MASTER_KEY "bench AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

static PGconn *db;
static int backend;
static char store[200];

/* Nanoseconds on a processor since the backend began. */
static double
cpu_ns(void)
{
	char path[64];
	FILE *in;
	double ns;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", backend);
	in = fopen(path, "r");
	if (in == NULL || fscanf(in, "%lf", &ns) != 1)
		fail("cannot read %s", path);
	fclose(in);
	return ns;
}

static void
call(const char *name, int nargs, const char *const *args)
{
	PGresult *result = PQexecPrepared(db, name, nargs, args, NULL, NULL, 0);

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		fail("%s", PQerrorMessage(db));
	PQclear(result);
}

/* Microseconds of the backend for each of "n" events of "type". */
static double
append(const char *type, int n, const char *learners)
{
	double before = cpu_ns();

	for (int i = 0; i < n; i++)
	{
		char user[64];
		char data[400];
		const char *args[3] = {type, user, data};

		snprintf(user, sizeof(user), "%s-%d", learners, i % (n < LEARNERS ? n : LEARNERS));
		snprintf(
			data, sizeof(data),
			"{\"first\": \"%08d the quick brown fox jumps over the lazy dog and then some more of "
			"the same so that it has its length\", \"second\": \"%08d what the learner wrote in the "
			"second field which is about as long as the one before it was\"}",
			i, i);
		call("append", 3, args);
	}
	return (cpu_ns() - before) / 1000 / n;
}

static double
read_back(const char *stream)
{
	const char *args[1] = {stream};
	double before = cpu_ns();

	for (int i = 0; i < READS; i++)
		call("read", 1, args);
	return (cpu_ns() - before) / 1000 / READS / 1000;
}

static void
set_up(void)
{
	char sql[400];

	snprintf(store, sizeof(store), "/tmp/eduai-bench-%d.store", (int) getpid());
	run(db, "ALTER SYSTEM SET eduai.master_key_command = 'echo " MASTER_KEY "'");
	run(db, "ALTER SYSTEM SET eduai.master_key_file = ''");
	snprintf(sql, sizeof(sql), "ALTER SYSTEM SET eduai.key_store = '%s'", store);
	run(db, sql);
	run(db, "SELECT pg_reload_conf()");
	PQfinish(db);
	for (int i = 0; i < 500; i++)
	{
		db = connect_db();
		if (strcmp(ask(db, "SHOW eduai.key_store"), store) == 0)
			break;
		PQfinish(db);
		usleep(10000);
	}
	run(db, "SELECT eduai.create_key_store()");
	run(db, "SELECT eduai.register_event_type('bench_clear'), "
			"eduai.register_event_type('bench_sealed', '{first,second}')");
	run(db, "SET synchronous_commit = off");
	PQclear(PQprepare(db, "append", "SELECT eduai.publish_event($1, $2, NULL, $3)", 0, NULL));
	PQclear(PQprepare(db, "read", "SELECT count(data) FROM eduai.read_stream($1)", 0, NULL));
	backend = (int) ask_int(db, "SELECT pg_backend_pid()");
}

/* The key store goes with the bench, by the server's hand that made it. */
static void
clean_up(void)
{
	char sql[300];

	run(db, "ALTER SYSTEM RESET eduai.key_store");
	run(db, "ALTER SYSTEM RESET eduai.master_key_command");
	run(db, "ALTER SYSTEM RESET eduai.master_key_file");
	run(db, "SELECT pg_reload_conf()");
	snprintf(sql, sizeof(sql), "COPY (SELECT 1) TO PROGRAM 'rm -f %s; cat > /dev/null'", store);
	run(db, sql);
}

static void
report(const char *what, double *clear, double *sealed, double *ratio, int n)
{
	printf("%-10s  clear %7.2f us  sealed %7.2f us  ratio %.2f (%.2f to %.2f)\n", what,
		   median(clear, n), median(sealed, n), median(ratio, n), percentile(ratio, n, 0),
		   percentile(ratio, n, 1));
}

int
main(void)
{
	int rounds = env_int("ROUNDS", 7);
	double appends[3][MAX_ROUNDS];
	double reads[3][MAX_ROUNDS];
	double firsts[MAX_ROUNDS];

	if (rounds > MAX_ROUNDS)
		rounds = MAX_ROUNDS;
	db = connect_db();
	set_up();
	append("bench_clear", ROUND_EVENTS, "warm");
	append("bench_sealed", ROUND_EVENTS, "warm");
	run(db,
		"SELECT eduai.append_event(s, t, '{\"first\": \"the quick brown fox jumps over the lazy dog and so "
		"on until it is long\", \"second\": \"what the learner wrote in the second field, as long\"}', "
		"'reader') FROM (VALUES ('read-clear', 'bench_clear'), ('read-sealed', 'bench_sealed')) v (s, t), "
		"generate_series(1, 1000)");
	printf("privacy_sealing: processor time of the server for an event, %d rounds of %d events\n",
		   rounds, ROUND_EVENTS);
	for (int r = 0; r < rounds; r++)
	{
		char learners[32];

		for (int side = 0; side < 2; side++)
		{
			int sealed = (side + r) % 2;

			appends[sealed][r] =
				append(sealed ? "bench_sealed" : "bench_clear", ROUND_EVENTS, "warm");
			reads[sealed][r] = read_back(sealed ? "read-sealed" : "read-clear");
		}
		appends[2][r] = appends[1][r] / appends[0][r];
		reads[2][r] = reads[1][r] / reads[0][r];
		snprintf(learners, sizeof(learners), "new-%d", r);
		firsts[r] = append("bench_sealed", LEARNERS, learners);
	}
	report("append", appends[0], appends[1], appends[2], rounds);
	report("read", reads[0], reads[1], reads[2], rounds);
	printf("first event of a learner, sealed, with its progress and its key: %.2f us\n",
		   median(firsts, rounds));
	clean_up();
	return 0;
}
