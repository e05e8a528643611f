/*
 * soak.c: see soak.h.
 */
#include "soak.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

Options options;
atomic_bool stopping;
atomic_bool calm;
atomic_bool holding;
atomic_bool closing;
_Atomic int backend_pids[MAX_SESSIONS];
_Atomic uint64_t connections_lost;

/* What a writer or reader may be told in the course of a run like this. */
static const char *const expected_states[] = {
	"40001", /* serialization */
	"40P01", /* deadlock: transactions of several calls */
	"57014", /* cancelled */
	"UE001", /* the version that a writer expected was overtaken, or wrong on purpose */
	"UE006", /* wrong on purpose */
};
#define N_STATES ((int) (sizeof(expected_states) / sizeof(expected_states[0])))

static _Atomic uint64_t refusals[N_STATES];
static _Atomic uint64_t more_refusals;

void
fail(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s (seed %llu): ", options.program, (unsigned long long) options.seed);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	fflush(NULL);
	_exit(2);
}

int64_t
env_number(const char *name, int64_t otherwise)
{
	const char *value = getenv(name);

	return value != NULL && *value != '\0' ? atoll(value) : otherwise;
}

Random
random_of(int stream)
{
	Random r = {options.seed * 1000003 + (uint64_t) stream};

	for (int i = 0; i < 4; i++)
		random_below(&r, 2);
	return r;
}

/* splitmix64 */
uint32_t
random_below(Random *r, uint32_t n)
{
	uint64_t z = r->state += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return (uint32_t) (((z ^ (z >> 31)) >> 32) * n >> 32);
}

bool
random_chance(Random *r, int percent)
{
	return random_below(r, 100) < (uint32_t) percent;
}

void
sleep_ms(int ms)
{
	struct timespec ts = {ms / 1000, (long) (ms % 1000) * 1000000};

	nanosleep(&ts, NULL);
}

void
text_clear(Text *text)
{
	text->length = 0;
}

void
text_add(Text *text, const char *format, ...)
{
	while (true)
	{
		size_t room = text->size - text->length;
		va_list args;
		int n;

		va_start(args, format);
		n = vsnprintf(text->data == NULL ? NULL : text->data + text->length, room, format, args);
		va_end(args);
		if ((size_t) n < room)
		{
			text->length += (size_t) n;
			return;
		}
		text->size = (text->size + (size_t) n + 64) * 2;
		text->data = realloc(text->data, text->size);
		if (text->data == NULL)
			fail("out of memory");
	}
}

void
session_init(Session *session, int slot)
{
	memset(session, 0, sizeof(*session));
	session->slot = slot;
	session->random = random_of(slot);
}

/* A server that falls says so to everybody. */
static void
ignore_notice(void *arg, const char *message)
{
	(void) arg;
	(void) message;
}

static bool
try_connect(Session *session)
{
	PGresult *result;
	bool ready;

	session->db = PQconnectdb("connect_timeout=5");
	PQsetNoticeProcessor(session->db, ignore_notice, NULL);
	if (PQstatus(session->db) == CONNECTION_OK)
	{
		result =
			PQexec(session->db, "SET deadlock_timeout = '20ms'; SET statement_timeout = '60s'");
		ready = PQresultStatus(result) == PGRES_COMMAND_OK;
		PQclear(result);
		if (ready && session->setup != NULL)
		{
			result = PQexec(session->db, session->setup);
			ready = PQresultStatus(result) == PGRES_COMMAND_OK;
			PQclear(result);
		}
		if (ready)
		{
			backend_pids[session->slot] = PQbackendPID(session->db);
			return true;
		}
	}
	PQfinish(session->db);
	session->db = NULL;
	return false;
}

void
session_connect(Session *session)
{
	int64_t deadline = ledger_clock() + INT64_C(120000000000);

	while (session->db == NULL && !try_connect(session))
	{
		if (ledger_clock() > deadline)
			fail("no connection within two minutes");
		sleep_ms(50);
	}
}

void
session_close(Session *session)
{
	backend_pids[session->slot] = 0;
	PQfinish(session->db);
	session->db = NULL;
}

static void
note_refusal(Session *session, const PGresult *result, const char *sql)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	snprintf(session->sqlstate, sizeof(session->sqlstate), "%s", state ? state : "?????");
	for (int i = 0; i < N_STATES; i++)
		if (strcmp(session->sqlstate, expected_states[i]) == 0)
		{
			atomic_fetch_add(&refusals[i], 1);
			return;
		}
	if (options.expected != NULL && strstr(options.expected, session->sqlstate) != NULL)
	{
		atomic_fetch_add(&more_refusals, 1);
		return;
	}
	ledger_violation("an error that nothing explains: %s: %sfor %.400s", session->sqlstate,
					 PQresultErrorMessage(result), sql);
}

PGresult *
session_ask(Session *session, const char *sql, Outcome *outcome)
{
	PGresult *result;
	ExecStatusType status;
	const char *state;

	session_connect(session);
	result = PQexec(session->db, sql);
	status = PQresultStatus(result);
	if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
	{
		*outcome = DONE;
		return result;
	}
	state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
	if (PQstatus(session->db) == CONNECTION_OK && state != NULL && strncmp(state, "57P", 3) != 0)
	{
		*outcome = REFUSED;
		note_refusal(session, result, sql);
	}
	else
	{
		*outcome = LOST;
		atomic_fetch_add(&connections_lost, 1);
		session_close(session);
	}
	PQclear(result);
	return NULL;
}

Outcome
session_do(Session *session, const char *sql)
{
	Outcome outcome;

	PQclear(session_ask(session, sql, &outcome));
	return outcome;
}

int64_t
session_number(Session *session, const char *sql)
{
	while (true)
	{
		Outcome outcome;
		PGresult *result = session_ask(session, sql, &outcome);
		int64_t number = 0;

		if (outcome == DONE && PQntuples(result) > 0)
		{
			number = atoll(PQgetvalue(result, 0, 0));
			PQclear(result);
			return number;
		}
		PQclear(result);
		sleep_ms(50);
	}
}

void
report_refusals(void)
{
	printf("refused: ");
	for (int i = 0; i < N_STATES; i++)
		printf(" %s %llu", expected_states[i], (unsigned long long) refusals[i]);
	if (options.expected != NULL)
		printf(" %s %llu", options.expected, (unsigned long long) more_refusals);
	printf("; connections lost %llu\n", (unsigned long long) connections_lost);
}
