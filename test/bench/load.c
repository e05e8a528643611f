/*
 * load.c: see load.h.
 */
#include "load.h"

#include "bench.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct Slot
{
	int64_t count;
	int64_t cpu_ns;
	int64_t elapsed_us;
} Slot;

typedef struct Arena
{
	int ready;
	int64_t start_us; /* 0: not yet */
	Slot slots[];
} Arena;

static const void *running_arg;

const void *
load_arg(void)
{
	return running_arg;
}

void *
shared_memory(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		fail("no shared memory of %zu bytes", size);
	return memory;
}

uint64_t
next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

PGconn *
connect_to(const char *dbname)
{
	char conninfo[128] = "";
	PGconn *db;

	if (dbname != NULL)
		snprintf(conninfo, sizeof(conninfo), "dbname=%s", dbname);
	db = PQconnectdb(conninfo);
	if (PQstatus(db) != CONNECTION_OK)
		fail("%s", PQerrorMessage(db));
	return db;
}

void
prepare(PGconn *db, const char *name, const char *sql)
{
	PGresult *result = PQprepare(db, name, sql, 0, NULL);

	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		fail("%s: %s", sql, PQerrorMessage(db));
	PQclear(result);
}

PGresult *
execute(PGconn *db, const char *name, int n, const char *const *values)
{
	PGresult *result = PQexecPrepared(db, name, n, values, NULL, NULL, 0);
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
		fail("%s: %s", name, PQerrorMessage(db));
	return result;
}

int
has_function(PGconn *db, const char *name)
{
	char sql[256];

	snprintf(sql, sizeof(sql), "SELECT (to_regproc('%s') IS NOT NULL)::int", name);
	return ask_int(db, sql) != 0;
}

/* What a process has used so far; the kernel's own nanoseconds. */
static int64_t
cpu_of(int pid)
{
	char path[64];
	long long ns = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
	file = fopen(path, "r");
	if (file == NULL || fscanf(file, "%lld", &ns) != 1)
		ns = 0;
	if (file != NULL)
		fclose(file);
	return ns;
}

static void
work(const Load *load, LoadClient *client, Arena *arena, double seconds)
{
	Slot *slot = &arena->slots[client->number];
	int64_t end_us;
	int64_t now_us;
	int64_t cpu_ns;
	int done = 1;

	for (int i = 0; i < load->warm_steps; i++)
		load->step(client);
	__atomic_add_fetch(&arena->ready, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&arena->start_us, __ATOMIC_SEQ_CST) == 0)
		usleep(500);
	while (wall_us() < arena->start_us)
		usleep(100);
	cpu_ns = cpu_of(PQbackendPID(client->db));
	end_us = arena->start_us + (int64_t) (seconds * 1e6);
	do
	{
		done = load->step(client);
		slot->count += done;
		now_us = wall_us();
	} while (done > 0 && now_us < end_us);
	slot->elapsed_us = now_us - arena->start_us;
	slot->cpu_ns = cpu_of(PQbackendPID(client->db)) - cpu_ns;
}

static void
be_client(const Load *load, int number, int clients, Arena *arena, double seconds, uint64_t seed)
{
	LoadClient client = {.number = number, .clients = clients, .random = seed * 1000 + number};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	running_arg = load->arg;
	client.db = connect_to(load->dbname);
	if (load->open != NULL)
		load->open(&client);
	work(load, &client, arena, seconds);
	if (load->close != NULL)
		load->close(&client);
	PQfinish(client.db);
	fflush(stderr);
	_exit(0);
}

static void
await_clients(Arena *arena, int clients)
{
	int status;

	while (__atomic_load_n(&arena->ready, __ATOMIC_SEQ_CST) < clients)
	{
		usleep(1000);
		if (waitpid(-1, &status, WNOHANG) > 0)
			fail("a client failed");
	}
}

LoadResult
run_load(const Load *load, int clients, double seconds, uint64_t seed)
{
	size_t size = sizeof(Arena) + sizeof(Slot) * clients;
	Arena *arena = shared_memory(size);
	LoadResult result = {0, 0};
	int64_t count = 0;
	int64_t cpu_ns = 0;
	int status;

	fflush(stdout);
	for (int i = 0; i < clients; i++)
		if (fork() == 0)
			be_client(load, i, clients, arena, seconds, seed);
	await_clients(arena, clients);
	__atomic_store_n(&arena->start_us, wall_us() + 5000, __ATOMIC_SEQ_CST);
	for (int i = 0; i < clients; i++)
		if (wait(&status) < 0 || status != 0)
			fail("a client failed");
	for (int i = 0; i < clients; i++)
	{
		const Slot *slot = &arena->slots[i];

		result.per_second += slot->count / (slot->elapsed_us / 1e6);
		count += slot->count;
		cpu_ns += slot->cpu_ns;
	}
	result.cpu_us = count > 0 ? cpu_ns / 1000.0 / count : 0;
	munmap(arena, size);
	return result;
}

Series
new_series(const char *what, const char *format, int rounds)
{
	return (Series){what, format, calloc(rounds, sizeof(double)), 0};
}

void
add_figure(Series *series, double value)
{
	series->values[series->n++] = value;
}

void
print_series(Series *series)
{
	double *sorted = malloc(sizeof(double) * (series->n + 1));
	char middle[64];
	char least[64];
	char most[64];

	if (series->n > 0)
	{
		memcpy(sorted, series->values, sizeof(double) * series->n);
		snprintf(least, sizeof(least), series->format, percentile(sorted, series->n, 0));
		snprintf(most, sizeof(most), series->format, percentile(sorted, series->n, 1));
		snprintf(middle, sizeof(middle), series->format, median(sorted, series->n));
		printf("  %-46s median %12s   (%s to %s)\n", series->what, middle, least, most);
	}
	free(sorted);
}

Series
quotient(const char *what, const Series *a, const Series *b)
{
	Series q = new_series(what, "%.2f", a->n + 1);

	for (int i = 0; i < a->n && i < b->n; i++)
		add_figure(&q, a->values[i] / b->values[i]);
	return q;
}
