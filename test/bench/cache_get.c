/*
 * cache_get.c: a read from the cache beside Redis and beside a statement that
 * does nothing.
 *
 * All over loopback TCP, 8 clients with a connection each, values of 512 bytes
 * under 1000 keys drawn at random:
 *   GET         Redis, without persistence, one command at a time;
 *   cache_get   SELECT eduai.cache_get($1), prepared;
 *   SELECT      SELECT $1::text, prepared, of 512 bytes: what a round trip costs;
 *   jsonb       a jsonb of 512 bytes that the statement holds, prepared: what
 *               any jsonb costs, of which writing it as text is most;
 *   MGET        of 100 keys, and SELECT key, value FROM eduai.cache_mget($1);
 *   table       the same 100 rows from a table;
 *   rows        100 rows of two texts that the statement holds: what rows cost;
 *   bytes       as many bytes in one text that the statement holds: what any answer
 *               of that size costs;
 *   SET         and SELECT eduai.cache_set($1, $2).
 * What a client does with the answer is the same on all sides: it reads it to
 * its end.  Redis is spoken to by hand, so PostgreSQL is, too (wire.h); the
 * first ones once more by libpq.  All cells of a round run one after the other,
 * in the opposite order in every second round; ratios are of the same round.
 *
 * Then what a call costs inside a statement, of the backend's processor time:
 * a million calls beside the same statement without them.
 *
 * Without EDUAI_REDIS (scripts/bench.sh) Redis is left out, and the program
 * says so.
 */
#include "bench.h"
#include "load.h"
#include "wire.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLIENTS    8
#define KEYS       1000
#define VALUE      512
#define AT_ONCE    100
#define REDIS_PORT 16389
#define CALLS      1000000
#define CALLS_TEXT "1000000"

static char value_text[VALUE + 1]; /* a JSON string of 512 bytes */
static pid_t redis_pid = 0;

/* ---- Redis ---- */

typedef struct Redis
{
	int fd;
	char *buffer;
	size_t size;
} Redis;

static void
start_redis(const char *program)
{
	char port[16];

	snprintf(port, sizeof(port), "%d", REDIS_PORT);
	redis_pid = fork();
	if (redis_pid == 0)
	{
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl(program, program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly",
			  "no", "--loglevel", "warning", (char *) NULL);
		_exit(127);
	}
}

static int
try_redis(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(REDIS_PORT)};
	int on = 1;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
	if (connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0)
	{
		close(fd);
		return -1;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

static Redis *
connect_redis(void)
{
	Redis *redis = calloc(1, sizeof(Redis));

	for (int i = 0; i < 500; i++)
	{
		redis->fd = try_redis();
		if (redis->fd >= 0)
			break;
		usleep(10000);
	}
	if (redis->fd < 0)
		fail("Redis does not answer");
	redis->size = AT_ONCE * (VALUE + 64) + 4096;
	redis->buffer = malloc(redis->size);
	return redis;
}

static void
send_all(Redis *redis, const char *bytes, size_t n)
{
	while (n > 0)
	{
		ssize_t sent = write(redis->fd, bytes, n);

		if (sent <= 0)
			fail("Redis went away");
		bytes += sent;
		n -= sent;
	}
}

/* Reads exactly n bytes of an answer, whose length is known. */
static void
receive(Redis *redis, size_t n)
{
	size_t have = 0;

	while (have < n)
	{
		ssize_t got = read(redis->fd, redis->buffer + have, redis->size - have);

		if (got <= 0)
			fail("Redis went away");
		have += got;
	}
	if (have != n)
		fail("Redis answered %zu bytes instead of %zu: %.40s", have, n, redis->buffer);
}

/* How long the answer to a GET is: "$512\r\n", the value, "\r\n". */
#define BULK (6 + VALUE + 2)

static void
key_name(char *name, uint64_t number)
{
	sprintf(name, "key:%06d", (int) (number % KEYS));
}

static void
open_redis(LoadClient *client)
{
	client->state = connect_redis();
}

static int
step_redis_get(LoadClient *client)
{
	char key[32];
	char command[128];

	key_name(key, next_random(&client->random));
	send_all(client->state, command,
			 sprintf(command, "*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n", strlen(key), key));
	receive(client->state, BULK);
	if (memcmp(((Redis *) client->state)->buffer, "$512\r\n\"", 7) != 0)
		fail("Redis has no value");
	return 1;
}

static int
step_redis_set(LoadClient *client)
{
	char key[32];
	char command[VALUE + 128];

	key_name(key, next_random(&client->random));
	send_all(client->state, command,
			 sprintf(command, "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%d\r\n%s\r\n", strlen(key), key,
					 VALUE, value_text));
	receive(client->state, 5);
	return 1;
}

static int
step_redis_mget(LoadClient *client)
{
	char command[AT_ONCE * 32 + 64];
	size_t at = sprintf(command, "*%d\r\n$4\r\nMGET\r\n", AT_ONCE + 1);

	for (int i = 0; i < AT_ONCE; i++)
	{
		char key[32];

		key_name(key, next_random(&client->random));
		at += sprintf(command + at, "$%zu\r\n%s\r\n", strlen(key), key);
	}
	send_all(client->state, command, at);
	receive(client->state, 6 + AT_ONCE * BULK); /* "*100\r\n" */
	return 1;
}

/* ---- PostgreSQL ---- */

static void
open_libpq(LoadClient *client)
{
	prepare(client->db, "statement", load_arg());
}

static void
open_pg(LoadClient *client)
{
	prepare(client->db, "statement", load_arg());
	client->state = open_wire(client->db, "statement");
}

static int
step_get(LoadClient *client)
{
	char key[32];

	key_name(key, next_random(&client->random));
	if (call_wire(client->state, 1, (const char *const[]){key}) != 1 ||
		wire_length(client->state, 0) != VALUE)
		fail("the cache has no value");
	return 1;
}

static int
step_select(LoadClient *client)
{
	if (call_wire(client->state, 1, (const char *const[]){value_text}) != 1)
		fail("no answer");
	return 1;
}

static int
step_get_libpq(LoadClient *client)
{
	char key[32];
	PGresult *result;

	key_name(key, next_random(&client->random));
	result = execute(client->db, "statement", 1, (const char *const[]){key});
	if (PQgetlength(result, 0, 0) != VALUE)
		fail("the cache has no value");
	PQclear(result);
	return 1;
}

static int
step_select_libpq(LoadClient *client)
{
	PQclear(execute(client->db, "statement", 1, (const char *const[]){value_text}));
	return 1;
}

static int
step_set(LoadClient *client)
{
	char key[32];

	key_name(key, next_random(&client->random));
	(void) call_wire(client->state, 2, (const char *const[]){key, value_text});
	return 1;
}

/* With the names of as many keys, whatever the statement makes of them; the rows. */
static int
call_with_keys(LoadClient *client)
{
	char keys[AT_ONCE * 16 + 8] = "{";
	size_t at = 1;

	for (int i = 0; i < AT_ONCE; i++)
	{
		char key[32];

		key_name(key, next_random(&client->random));
		at += sprintf(keys + at, "%s%s", i > 0 ? "," : "", key);
	}
	strcpy(keys + at, "}");
	return call_wire(client->state, 1, (const char *const[]){keys});
}

static int
step_mget(LoadClient *client)
{
	if (call_with_keys(client) != AT_ONCE || wire_length(client->state, 1) != VALUE)
		fail("the cache has no values");
	return 1;
}

static int
step_bytes(LoadClient *client)
{
	if (call_with_keys(client) != 1 || wire_length(client->state, 0) != AT_ONCE * VALUE)
		fail("no answer");
	return 1;
}

static int
step_calls(LoadClient *client)
{
	PQclear(execute(client->db, "statement", 0, NULL));
	return CALLS;
}

/* ---- the cells ---- */

typedef struct Cell
{
	Load load;
	int clients;
	bool redis;
	const char *what;
	Series per_second;
	Series cpu_us;
} Cell;

enum
{
	GET,
	CACHE_GET,
	SELECT,
	JSONB,
	MGET,
	CACHE_MGET,
	TABLE,
	ROWS,
	BYTES,
	SET,
	CACHE_SET,
	CACHE_GET_LIBPQ,
	SELECT_LIBPQ,
	CALLS_GET,
	CALLS_NONE,
	CELLS
};

static Cell cells[CELLS] = {
	[GET] = {{.open = open_redis, .step = step_redis_get}, CLIENTS, true, "Redis GET"},
	[CACHE_GET] = {{.open = open_pg, .step = step_get, .arg = "SELECT eduai.cache_get($1)"},
				   CLIENTS,
				   false,
				   "cache_get"},
	[SELECT] = {{.open = open_pg, .step = step_select, .arg = "SELECT $1::text"},
				CLIENTS,
				false,
				"SELECT $1::text"},
	[JSONB] = {{.open = open_pg,
				.step = step_get,
				.arg = "SELECT to_jsonb(repeat('x', 510)) WHERE $1::text IS NOT NULL"},
			   CLIENTS,
			   false,
			   "a constant jsonb"},
	[MGET] = {{.open = open_redis, .step = step_redis_mget}, CLIENTS, true, "Redis MGET of 100"},
	[CACHE_MGET] = {{.open = open_pg,
					 .step = step_mget,
					 .arg = "SELECT key, value FROM eduai.cache_mget($1)"},
					CLIENTS,
					false,
					"cache_mget of 100"},
	[SET] = {{.open = open_redis, .step = step_redis_set}, CLIENTS, true, "Redis SET"},
	[CACHE_SET] = {{.open = open_pg, .step = step_set, .arg = "SELECT eduai.cache_set($1, $2)"},
				   CLIENTS,
				   false,
				   "cache_set"},
	[TABLE] = {{.open = open_pg,
				.step = step_mget,
				.arg = "SELECT key, value FROM bench_cache_jsonb WHERE $1::text[] IS NOT NULL"},
			   CLIENTS,
			   false,
			   "the same 100 rows of a table"},
	[ROWS] = {{.open = open_pg,
			   .step = step_mget,
			   .arg = "SELECT 'key:000000', repeat('x', 512) FROM generate_series(1, 100)"
					  " WHERE $1::text[] IS NOT NULL"},
			  CLIENTS,
			  false,
			  "100 rows of two constant texts"},
	[BYTES] = {{.open = open_pg,
				.step = step_bytes,
				.arg = "SELECT repeat('x', 51200) WHERE $1::text[] IS NOT NULL"},
			   CLIENTS,
			   false,
			   "as many bytes in one text"},
	[CACHE_GET_LIBPQ] = {{.open = open_libpq,
						  .step = step_get_libpq,
						  .arg = "SELECT eduai.cache_get($1)"},
						 CLIENTS,
						 false,
						 "cache_get by libpq"},
	[SELECT_LIBPQ] = {{.open = open_libpq, .step = step_select_libpq, .arg = "SELECT $1::text"},
					  CLIENTS,
					  false,
					  "SELECT $1::text by libpq"},
	[CALLS_GET] =
		{{.open = open_libpq,
		  .step = step_calls,
		  .arg = "SELECT count(eduai.cache_get('key:000042')) FROM generate_series(1, " CALLS_TEXT
				 ") i"},
		 1,
		 false,
		 "a call of cache_get in a statement"},
	[CALLS_NONE] = {{.open = open_libpq,
					 .step = step_calls,
					 .arg = "SELECT count(i) FROM generate_series(1, " CALLS_TEXT ") i"},
					1,
					false,
					"the same statement without it"},
};

static void
fill(PGconn *db)
{
	PGresult *result;

	memset(value_text, 'x', VALUE);
	for (int i = 1; i < VALUE - 1; i++)
		value_text[i] = "0123456789abcdefghijklmnopqrstuvwxyz     "[(i * 7919 + i * i) % 41];
	value_text[0] = value_text[VALUE - 1] = '"';
	result = PQexecParams(
		db,
		"SELECT count(*) FILTER (WHERE eduai.cache_set('key:' || lpad(i::text, 6, '0'), $1::jsonb, "
		"'1 day')) FROM generate_series(0, 999) i",
		1, NULL, (const char *const[]){value_text}, NULL, NULL, 0);
	if (PQresultStatus(result) != PGRES_TUPLES_OK || atoi(PQgetvalue(result, 0, 0)) != KEYS)
		fail("could not fill the cache: %s", PQerrorMessage(db));
	PQclear(result);
	run(db, "DROP TABLE IF EXISTS bench_cache_jsonb");
	run(db,
		"CREATE TABLE bench_cache_jsonb AS SELECT 'key:' || lpad(i::text, 6, '0') AS key,"
		" eduai.cache_get('key:' || lpad(i::text, 6, '0')) AS value FROM generate_series(0, 99) i");
	run(db, "VACUUM ANALYZE bench_cache_jsonb");
	if (redis_pid != 0)
	{
		LoadClient client = {.state = connect_redis()};
		char command[VALUE + 128];

		for (int i = 0; i < KEYS; i++)
		{
			char key[32];

			key_name(key, i);
			send_all(client.state, command,
					 sprintf(command, "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%d\r\n%s\r\n", strlen(key),
							 key, VALUE, value_text));
			receive(client.state, 5);
		}
	}
}

static void
run_cell(int number, double seconds, uint64_t seed)
{
	Cell *cell = &cells[number];
	LoadResult result;

	if (cell->redis && redis_pid == 0)
		return;
	cell->load.warm_steps = cell->clients > 1 ? 100 : 1;
	result = run_load(&cell->load, cell->clients, seconds, seed);
	add_figure(&cell->per_second, result.per_second);
	add_figure(&cell->cpu_us, result.cpu_us);
}

static void
print_ratio(const char *what, int a, int b)
{
	Series ratio;

	if (cells[b].redis && redis_pid == 0)
		return;
	ratio = quotient(what, &cells[a].per_second, &cells[b].per_second);
	print_series(&ratio);
}

int
main(void)
{
	int rounds = env_int("ROUNDS", 7);
	double seconds = env_int("SECONDS", 3);
	const char *redis = getenv("EDUAI_REDIS");
	Series difference = new_series("cache_get inside a statement", "%.3f us of processor", rounds);
	PGconn *db;

	setenv("PGHOST", "127.0.0.1", 1);
	db = connect_db();
	if (redis != NULL && *redis != '\0')
		start_redis(redis);
	else
		printf("no Redis here: it is left out\n");
	fill(db);
	for (int i = 0; i < CELLS; i++)
	{
		cells[i].per_second = new_series(cells[i].what, "%.0f /s", rounds);
		cells[i].cpu_us = new_series(cells[i].what, "%.2f us of a backend each", rounds);
	}
	for (int round = 0; round < rounds; round++)
	{
		for (int i = 0; i < CELLS; i++)
			run_cell(round % 2 == 0 ? i : CELLS - 1 - i, seconds, round + 1);
		add_figure(&difference,
				   cells[CALLS_GET].cpu_us.values[round] - cells[CALLS_NONE].cpu_us.values[round]);
	}
	printf("%d clients over loopback TCP, values of %d bytes, %d keys\n", CLIENTS, VALUE, KEYS);
	for (int i = 0; i < CALLS_GET; i++)
		if (!cells[i].redis || redis_pid != 0)
		{
			print_series(&cells[i].per_second);
			if (!cells[i].redis)
				print_series(&cells[i].cpu_us);
		}
	print_ratio("cache_get / Redis GET", CACHE_GET, GET);
	print_ratio("SELECT $1::text / Redis GET", SELECT, GET);
	print_ratio("a constant jsonb / Redis GET", JSONB, GET);
	print_ratio("cache_get / SELECT $1::text", CACHE_GET, SELECT);
	print_ratio("cache_get / a constant jsonb", CACHE_GET, JSONB);
	print_ratio("cache_get / SELECT $1::text, by libpq", CACHE_GET_LIBPQ, SELECT_LIBPQ);
	print_ratio("cache_mget / Redis MGET", CACHE_MGET, MGET);
	print_ratio("100 rows of a table / Redis MGET", TABLE, MGET);
	print_ratio("cache_mget / 100 rows of a table", CACHE_MGET, TABLE);
	print_ratio("100 rows of two constant texts / Redis MGET", ROWS, MGET);
	print_ratio("cache_mget / 100 rows of two constant texts", CACHE_MGET, ROWS);
	print_ratio("as many bytes in one text / Redis MGET", BYTES, MGET);
	print_ratio("cache_mget / as many bytes in one text", CACHE_MGET, BYTES);
	print_ratio("cache_set / Redis SET", CACHE_SET, SET);
	print_series(&difference);
	run(db, "SELECT eduai.cache_clear()");
	run(db, "DROP TABLE bench_cache_jsonb");
	PQfinish(db);
	if (redis_pid != 0)
	{
		kill(redis_pid, SIGTERM);
		waitpid(redis_pid, NULL, 0);
	}
	return 0;
}
