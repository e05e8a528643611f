/*
 * queue_book.c: what is known of every enqueue, and whether the tables agree.
 */
#include "queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MOST (1u << 25)

typedef struct Entry
{
	int64_t task_id; /* as acknowledged; 0: none was */
	uint8_t fate;
	uint8_t keyed;
	uint8_t seen; /* in the tables */
} Entry;

static Entry *entries;
static _Atomic uint32_t used;

void
book_init(void)
{
	entries = mmap(NULL, sizeof(Entry) * MOST, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (entries == MAP_FAILED)
		fail("no memory for the book");
	used = 1;
}

uint32_t
book_new(void)
{
	uint32_t number = atomic_fetch_add(&used, 1);

	if (number >= MOST)
		fail("more than %u enqueues", MOST);
	entries[number].fate = FATE_OPEN;
	return number;
}

void
book_set(uint32_t number, Fate fate, int64_t task_id, bool keyed)
{
	Entry *entry = &entries[number];

	entry->fate = (uint8_t) fate;
	if (task_id != 0)
		entry->task_id = task_id;
	entry->keyed = entry->keyed || keyed;
}

uint32_t
book_size(void)
{
	return used - 1;
}

void
book_report(void)
{
	uint32_t counts[FATE_AMBIGUOUS + 1] = {0};

	for (uint32_t i = 1; i < used; i++)
		counts[entries[i].fate]++;
	printf("enqueues: %u committed, %u rolled back or refused, %u ambiguous, %u open\n",
		   counts[FATE_COMMITTED], counts[FATE_ROLLED_BACK], counts[FATE_AMBIGUOUS],
		   counts[FATE_OPEN]);
}

static int
compare_ids(const void *a, const void *b)
{
	int64_t x = *(const int64_t *) a;
	int64_t y = *(const int64_t *) b;

	return x < y ? -1 : x > y;
}

/* A task of the tables: its number, when it has one, was enqueued, and not rolled back. */
static void
check_task(int64_t number, int64_t id)
{
	Entry *entry;

	if (number == 0)
		return;
	if (number < 0 || number >= used)
		ledger_violation("task %lld has number %lld, which nobody enqueued", (long long) id,
						 (long long) number);
	entry = &entries[number];
	if (entry->seen)
		ledger_violation("enqueue %lld made two tasks", (long long) number);
	entry->seen = 1;
	if (entry->fate == FATE_ROLLED_BACK)
		ledger_violation("task %lld exists, but enqueue %lld was rolled back", (long long) id,
						 (long long) number);
	if (entry->fate == FATE_COMMITTED && !entry->keyed && entry->task_id != id)
		ledger_violation("enqueue %lld returned task %lld, but made task %lld", (long long) number,
						 (long long) entry->task_id, (long long) id);
}

static void
check_entry(uint32_t number, const int64_t *ids, size_t n)
{
	const Entry *entry = &entries[number];

	if (entry->fate == FATE_OPEN)
		fail("enqueue %u has no fate", number);
	if (entry->fate != FATE_COMMITTED)
		return;
	if (!entry->keyed && !entry->seen)
		ledger_violation("enqueue %u was acknowledged as task %lld, which does not exist", number,
						 (long long) entry->task_id);
	if (bsearch(&entry->task_id, ids, n, sizeof(int64_t), compare_ids) == NULL)
		ledger_violation("enqueue %u returned task %lld, which does not exist", number,
						 (long long) entry->task_id);
}

void
book_check(Session *session)
{
	Outcome outcome;
	PGresult *rows = session_ask(
		session,
		"SELECT coalesce((payload ->> 'number')::bigint, 0), task_id FROM eduai.task_request",
		&outcome);
	int64_t *ids;
	size_t n;

	if (outcome != DONE)
		fail("the tasks could not be read");
	n = (size_t) PQntuples(rows);
	ids = malloc(sizeof(int64_t) * (n + 1));
	for (size_t i = 0; i < n; i++)
	{
		ids[i] = atoll(PQgetvalue(rows, (int) i, 1));
		check_task(atoll(PQgetvalue(rows, (int) i, 0)), ids[i]);
	}
	PQclear(rows);
	qsort(ids, n, sizeof(int64_t), compare_ids);
	for (uint32_t i = 1; i < used; i++)
		check_entry(i, ids, n);
	free(ids);
	printf("checked: %u enqueues against %zu tasks\n", book_size(), n);
}
