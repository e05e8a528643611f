/*
 * pressure.c: see pressure.h.
 */
#include "pressure.h"

#include "bench.h"
#include "load.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* reserved, not touched before it is used */
#define MAX_CALLS   (1 << 23)
#define MAX_CLIENTS 64

typedef struct Call
{
	int64_t due_us;
	int64_t took_us;
} Call;

typedef struct Client
{
	int n;
	Call calls[MAX_CALLS];
} Client;

struct Pressure
{
	int stop;
	int ready;
	int n;
	pid_t pids[MAX_CLIENTS];
	Client clients[];
};

static size_t
size_of(int n)
{
	return sizeof(Pressure) + sizeof(Client) * n;
}

static void
call(PGconn *db, const PressureClient *what, uint64_t *random)
{
	char key[64];
	const char *values[1] = {key};

/* the format is the benchmark's own */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(key, sizeof(key), what->keys, (int) (next_random(random) % what->nkeys));
#pragma GCC diagnostic pop
	PQclear(execute(db, "call", 1, values));
}

static void
be_client(Pressure *pressure, const PressureClient *what, int number)
{
	Client *client = &pressure->clients[number];
	PGconn *db = connect_db();
	uint64_t random = 1000 + number;
	int64_t start;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prepare(db, "call", what->statement);
	call(db, what, &random);
	__atomic_add_fetch(&pressure->ready, 1, __ATOMIC_SEQ_CST);
	start = wall_us() + (int64_t) (1e6 / what->per_second * number / pressure->n);
	while (!__atomic_load_n(&pressure->stop, __ATOMIC_SEQ_CST))
	{
		int n = client->n;
		int64_t due = start + (int64_t) (n * 1e6 / what->per_second);
		int64_t now = wall_us();

		if (now < due)
			usleep(due - now);
		call(db, what, &random);
		if (n == MAX_CALLS)
			fail("more than %d calls", MAX_CALLS);
		client->calls[n] = (Call){due, wall_us() - due};
		__atomic_store_n(&client->n, n + 1, __ATOMIC_RELEASE);
	}
	PQfinish(db);
	_exit(0);
}

Pressure *
pressure_start(const PressureClient *clients, int n)
{
	Pressure *pressure;

	if (n > MAX_CLIENTS)
		fail("more than %d clients", MAX_CLIENTS);
	pressure = mmap(NULL, size_of(n), PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (pressure == MAP_FAILED)
		fail("no shared memory");
	pressure->n = n;
	fflush(stdout);
	for (int i = 0; i < n; i++)
	{
		pid_t pid = fork(); /* the memory is the child's, too */

		if (pid == 0)
			be_client(pressure, &clients[i], i);
		pressure->pids[i] = pid;
	}
	while (__atomic_load_n(&pressure->ready, __ATOMIC_SEQ_CST) < n)
	{
		if (waitpid(-1, NULL, WNOHANG) > 0)
			fail("a client failed");
		usleep(1000);
	}
	return pressure;
}

void
pressure_stop(Pressure *pressure)
{
	int status;

	__atomic_store_n(&pressure->stop, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < pressure->n; i++)
		if (waitpid(pressure->pids[i], &status, 0) < 0 || status != 0)
			fail("a client failed");
}

void
pressure_free(Pressure *pressure)
{
	munmap(pressure, size_of(pressure->n));
}

Waits
pressure_waits(const Pressure *pressure, int first, int n, int64_t from_us, int64_t until_us)
{
	size_t room = 0;
	double *ms;
	Waits waits = {0};

	for (int i = first; i < first + n; i++)
		room += pressure->clients[i].n;
	ms = malloc(sizeof(double) * (room + 1));
	for (int i = first; i < first + n; i++)
		for (int c = 0; c < pressure->clients[i].n; c++)
		{
			const Call *one = &pressure->clients[i].calls[c];

			if (one->due_us + one->took_us >= from_us && one->due_us < until_us)
				ms[waits.n++] = one->took_us / 1000.0;
		}
	waits.p50_ms = percentile(ms, waits.n, 0.5);
	waits.p99_ms = percentile(ms, waits.n, 0.99);
	waits.longest_ms = percentile(ms, waits.n, 1);
	free(ms);
	return waits;
}
