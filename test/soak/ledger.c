/*
 * ledger.c: see ledger.h.
 *
 * The front is the position up to which some reader without a filter has read
 * everything.  A page's events are registered before the front moves over
 * them: whoever registers a new event at or below the front has found one
 * that a reader passed by.
 */
#include "ledger_state.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

const char *const ledger_category_names[] = {"alpha", "beta", "gamma", "delta"};
const char *const ledger_type_names[] = {"soak_one", "soak_two", "soak_three", "soak_four"};

Event *events;
Txn *txns;
_Atomic uint32_t *at_position;
_Atomic uint32_t last_event, last_txn;
_Atomic uint64_t n_committed, n_ambiguous, n_dropped, n_seen, n_rows, n_deliveries;
_Atomic int64_t front;
Subscription subscriptions[LEDGER_SUBSCRIPTIONS];
int n_subscriptions;

static void
end_run(const char *text)
{
	fprintf(stderr, "VIOLATION: %s\n", text);
	fflush(NULL);
	_exit(1);
}

void (*ledger_on_violation)(const char *text) = end_run;

void
ledger_violation(const char *format, ...)
{
	char text[2048];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	ledger_on_violation(text);
}

int64_t
ledger_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void
ledger_stream_name(uint32_t stream, char *name, int size)
{
	snprintf(name, size, "%s-%u", ledger_category_names[stream % LEDGER_CATEGORIES], stream);
}

bool
ledger_stream_number(const char *name, uint32_t *stream)
{
	const char *digits = strchr(name, '-');
	char again[64];

	if (digits == NULL)
		return false;
	*stream = (uint32_t) strtoul(digits + 1, NULL, 10);
	if (*stream >= LEDGER_STREAMS)
		return false;
	ledger_stream_name(*stream, again, sizeof(again));
	return strcmp(name, again) == 0;
}

void *
reserve(void *old, size_t size)
{
	void *memory;

	if (old != NULL)
		munmap(old, size);
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				  -1, 0);
	if (memory == MAP_FAILED)
	{
		perror("the ledger's memory");
		exit(2);
	}
	return memory;
}

void
ledger_init(void)
{
	events = reserve(events, sizeof(Event) * MAX_EVENTS);
	txns = reserve(txns, sizeof(Txn) * MAX_TXNS);
	at_position = reserve(at_position, sizeof(uint32_t) * MAX_POSITIONS);
	for (int i = 0; i < n_subscriptions; i++)
		munmap(subscriptions[i].member_of, LEDGER_STREAMS);
	n_subscriptions = 0;
	memset(subscriptions, 0, sizeof(subscriptions));
	last_event = last_txn = 0;
	n_committed = n_ambiguous = n_dropped = n_seen = n_rows = n_deliveries = 0;
	front = 0;
	judge_reset();
}

/* ---- writers ---- */

uint32_t
ledger_begin(int writer)
{
	uint32_t number = atomic_fetch_add(&last_txn, 1) + 1;

	if (number >= MAX_TXNS)
	{
		fprintf(stderr, "more than %u transactions: the ledger is full\n", MAX_TXNS);
		exit(2);
	}
	txns[number].ended = INT64_MAX;
	txns[number].writer = (uint8_t) writer;
	return number;
}

uint32_t
ledger_event(uint32_t txn, uint32_t stream, int type)
{
	uint32_t number = atomic_fetch_add(&last_event, 1) + 1;

	if (number >= MAX_EVENTS)
	{
		fprintf(stderr, "more than %u events: the ledger is full\n", MAX_EVENTS);
		exit(2);
	}
	events[number].txn = txn;
	events[number].stream = stream;
	events[number].type = (uint8_t) type;
	atomic_fetch_add(&txns[txn].live, 1);
	return number;
}

void
ledger_drop(uint32_t event)
{
	if (atomic_exchange(&events[event].dropped, 1) != 0)
		return;
	atomic_fetch_sub(&txns[events[event].txn].live, 1);
	atomic_fetch_add(&n_dropped, 1);
}

void
ledger_committing(uint32_t txn)
{
	txns[txn].begun = ledger_clock();
	txns[txn].state = COMMITTING;
}

/* The earliest moment at which anybody knew. */
static void
known_at(Txn *txn, int64_t at)
{
	int64_t old = txn->ended;

	while (at < old && !atomic_compare_exchange_weak(&txn->ended, &old, at))
		;
}

void
ledger_committed(uint32_t txn)
{
	uint8_t before = atomic_exchange(&txns[txn].state, COMMITTED);

	known_at(&txns[txn], ledger_clock());
	if (before == AMBIGUOUS)
		atomic_fetch_sub(&n_ambiguous, txns[txn].live);
	if (before != COMMITTED)
		atomic_fetch_add(&n_committed, txns[txn].live);
}

void
ledger_ambiguous(uint32_t txn)
{
	if (atomic_exchange(&txns[txn].state, AMBIGUOUS) != AMBIGUOUS)
		atomic_fetch_add(&n_ambiguous, txns[txn].live);
}

void
ledger_rolled_back(uint32_t txn)
{
	txns[txn].state = ROLLED_BACK;
	atomic_fetch_add(&n_dropped, txns[txn].live);
}

const char *
describe(uint32_t number)
{
	static _Thread_local char text[4][400];
	static _Thread_local int next;
	static const char *const states[] = {"open", "committing", "committed", "ambiguous",
										 "rolled back"};
	char *to = text[next++ % 4];
	const Event *event = &events[number];
	const Txn *txn = &txns[event->txn];
	char stream[64];

	ledger_stream_name(event->stream, stream, sizeof(stream));
	snprintf(to, sizeof(text[0]),
			 "event %u (%s version %u, position %lld, type %s%s) of transaction %u (writer %d, %s, "
			 "COMMIT sent %.6f, known %.6f, %u of %u events seen)",
			 number, stream, event->version, (long long) event->position,
			 ledger_type_names[event->type], event->dropped ? ", rolled back to a savepoint" : "",
			 event->txn, txn->writer, states[txn->state], (double) txn->begun / 1e9,
			 txn->ended == INT64_MAX ? 0.0 : (double) txn->ended / 1e9, txn->seen, txn->live);
	return to;
}

void
ledger_versioned(uint32_t event, int64_t version)
{
	uint32_t old = 0;

	if (!atomic_compare_exchange_strong(&events[event].version, &old, (uint32_t) version) &&
		old != version)
		ledger_violation("version %lld was told for %s", (long long) version, describe(event));
}

int
ledger_type_of(uint32_t event)
{
	return events[event].type;
}

uint32_t
ledger_stream_of(uint32_t event)
{
	return events[event].stream;
}

int64_t
ledger_begun_at(uint32_t event)
{
	return txns[events[event].txn].begun;
}

int64_t
ledger_ended_at(uint32_t event)
{
	return txns[events[event].txn].ended;
}

/* ---- readers ---- */

int
ledger_subscription(const char *name, unsigned types, int category, int members)
{
	Subscription *s = &subscriptions[n_subscriptions];

	snprintf(s->name, sizeof(s->name), "%s", name);
	s->types = types;
	s->category = category;
	s->members = members;
	s->member_of = reserve(NULL, LEDGER_STREAMS);
	return n_subscriptions++;
}

bool
passes(unsigned types, int category, const Event *event)
{
	return (types == 0 || (types & (1u << event->type)) != 0) &&
		   (category < 0 || (int) (event->stream % LEDGER_CATEGORIES) == category);
}

/* Is this what the writer made, and may it be seen? */
static bool
check_identity(const Reader *reader, const Sighting *s, int64_t seen_at)
{
	const Event *event = &events[s->event];
	Txn *txn;

	if (s->event == 0 || s->event > last_event || event->txn != s->txn ||
		event->stream != s->stream || event->type != s->type ||
		txns[event->txn].writer != s->writer)
	{
		ledger_violation("%s: at position %lld an event nobody made: event %u, transaction %u, "
						 "stream %u, type %d, writer %d",
						 reader->name, (long long) s->position, s->event, s->txn, s->stream,
						 s->type, s->writer);
		return false;
	}
	txn = &txns[event->txn];
	if (event->dropped || txn->state == ROLLED_BACK)
		ledger_violation("%s: saw at position %lld what was rolled back: %s", reader->name,
						 (long long) s->position, describe(s->event));
	if (txn->begun == 0)
		ledger_violation("%s: saw at position %lld what was not committed: %s", reader->name,
						 (long long) s->position, describe(s->event));
	known_at(txn, seen_at);
	ledger_versioned(s->event, s->version);
	return true;
}

/* Notes that the event is at the position: the first who sees it, or for good. */
static void
register_position(const Reader *reader, const Sighting *s)
{
	Event *event = &events[s->event];
	int64_t front_before = front; /* read before: see the top of the file */
	uint32_t other = 0;
	int64_t elsewhere = 0;

	if (s->position <= 0 || s->position >= MAX_POSITIONS)
	{
		ledger_violation("%s: position %lld: %s", reader->name, (long long) s->position,
						 describe(s->event));
		return;
	}
	if (!atomic_compare_exchange_strong(&at_position[s->position], &other, s->event))
	{
		if (other != s->event)
			ledger_violation("%s: position %lld is used twice: %s and %s", reader->name,
							 (long long) s->position, describe(s->event), describe(other));
		return;
	}
	if (!atomic_compare_exchange_strong(&event->position, &elsewhere, s->position))
		ledger_violation("%s: position %lld is the second of %s", reader->name,
						 (long long) s->position, describe(s->event));
	atomic_fetch_add(&txns[event->txn].seen, 1);
	atomic_fetch_add(&n_seen, 1);
	if (s->position <= front_before)
		ledger_violation("%s: appeared late, when a reader had read up to %lld: %s", reader->name,
						 (long long) front_before, describe(s->event));
}

/* Nothing that the reader should have got may lie between two positions. */
static void
check_hollow(const Reader *reader, int64_t after, int64_t before)
{
	for (int64_t p = after + 1; p < before; p++)
	{
		uint32_t number = at_position[p];

		if (number == 0 || !passes(reader->types, reader->category, &events[number]))
			continue;
		if (reader->subscription >= 0 && subscriptions[reader->subscription].members > 1 &&
			subscriptions[reader->subscription].member_of[events[number].stream] !=
				reader->member + 1)
			continue;
		ledger_violation("%s: skipped, between %lld and %lld: %s", reader->name, (long long) after,
						 (long long) before, describe(number));
	}
}

/* For the subscription this is delivered, to the only member its stream has. */
static void
deliver(const Reader *reader, const Sighting *s)
{
	Subscription *subscription = &subscriptions[reader->subscription];
	uint8_t member = 0;

	if ((atomic_fetch_or(&events[s->event].delivered, (uint16_t) (1u << reader->subscription)) &
		 (1u << reader->subscription)) == 0)
		atomic_fetch_add(&n_deliveries, 1);
	if (!atomic_compare_exchange_strong(&subscription->member_of[s->stream], &member,
										(uint8_t) (reader->member + 1)) &&
		member != reader->member + 1)
		ledger_violation("%s: member %d got an event of a stream of member %d: %s", reader->name,
						 reader->member, member - 1, describe(s->event));
}

static void
raise_to(_Atomic int64_t *value, int64_t to)
{
	int64_t old = *value;

	while (old < to && !atomic_compare_exchange_weak(value, &old, to))
		;
}

void
ledger_page(const Reader *reader, int64_t after, const Sighting *seen, int n, int64_t seen_at)
{
	int64_t last = after;

	atomic_fetch_add(&n_rows, (uint64_t) (n > 0 ? n : 0));
	for (int i = 0; i < n; i++)
	{
		const Sighting *s = &seen[i];

		if (s->position <= last)
			ledger_violation("%s: position %lld after %lld (a read after %lld)", reader->name,
							 (long long) s->position, (long long) last, (long long) after);
		if (!check_identity(reader, s, seen_at))
			return;
		register_position(reader, s);
		if (!passes(reader->types, reader->category, &events[s->event]))
			ledger_violation("%s: does not pass the filter: %s", reader->name, describe(s->event));
		if (reader->subscription >= 0)
			deliver(reader, s);
		check_hollow(reader, last, s->position);
		last = s->position;
	}
	if (reader->subscription >= 0)
		raise_to(&subscriptions[reader->subscription].through[reader->member], last);
	else if (reader->types == 0 && reader->category < 0 && after <= front)
		raise_to(&front, last);
}

void
ledger_drained(const Reader *reader)
{
	raise_to(&subscriptions[reader->subscription].through[reader->member], INT64_MAX);
}

void
ledger_stream_page(uint32_t stream, const Sighting *seen, int n, int64_t seen_at)
{
	static const Reader reader = {"read_stream", 0, -1, -1, 0};

	for (int i = 0; i < n; i++)
	{
		if (seen[i].version != i + 1 || seen[i].stream != stream)
			ledger_violation("read_stream of stream %u: version %lld of stream %u at place %d",
							 stream, (long long) seen[i].version, seen[i].stream, i + 1);
		check_identity(&reader, &seen[i], seen_at);
	}
}
