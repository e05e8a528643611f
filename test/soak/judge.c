/*
 * judge.c: the audit of what readers saw, in the order of positions; see ledger.h.
 *
 * Real-time order: of two transactions, if the first was known to be committed
 * (its client was told, or a reader saw it) before the COMMIT of the second was
 * sent, it has the lower positions.  So, walking up the positions, the latest
 * "COMMIT sent" so far must not be later than the "known" of the next event.
 */
#include "ledger_state.h"

#include <string.h>

static uint32_t *last_version; /* by stream, in the feed so far */

static struct
{
	int64_t at;
	int64_t latest_begun;
	uint32_t latest; /* the event of that transaction */
} audit;

void
judge_reset(void)
{
	memset(&audit, 0, sizeof(audit));
	last_version = reserve(last_version, sizeof(uint32_t) * LEDGER_STREAMS);
	for (int i = 0; i < n_subscriptions; i++)
		subscriptions[i].audited = 0;
}

int64_t
ledger_front(void)
{
	return front;
}

uint32_t
ledger_event_at(int64_t position)
{
	return at_position[position];
}

static void
judge(int64_t position, uint32_t number)
{
	const Event *event = &events[number];
	const Txn *txn = &txns[event->txn];

	if (event->position != position)
		ledger_violation("position %lld has %s", (long long) position, describe(number));
	if (event->dropped || txn->state == ROLLED_BACK)
		ledger_violation("in the feed, but rolled back: %s", describe(number));
	if (event->version != ++last_version[event->stream])
		ledger_violation("the feed's next version of the stream should be %u: %s",
						 last_version[event->stream], describe(number));
	if (audit.latest_begun > txn->ended)
		ledger_violation("order: %s is before %s, whose commit was known before the first's was "
						 "asked for",
						 describe(audit.latest), describe(number));
	if (txn->begun > audit.latest_begun)
	{
		audit.latest_begun = txn->begun;
		audit.latest = number;
	}
}

static void
audit_subscription(int index)
{
	Subscription *s = &subscriptions[index];
	int64_t through = audit.at;

	for (int m = 0; m < s->members; m++)
		if (s->through[m] < through)
			through = s->through[m];
	for (int64_t p = s->audited + 1; p <= through; p++)
	{
		uint32_t number = at_position[p];

		if (number != 0 && passes(s->types, s->category, &events[number]) &&
			(events[number].delivered & (1u << index)) == 0)
			ledger_violation("subscription %s, read up to %lld by all %d members, never got %s",
							 s->name, (long long) through, s->members, describe(number));
	}
	if (through > s->audited)
		s->audited = through;
}

void
ledger_audit(void)
{
	int64_t through = front;

	for (; audit.at < through; audit.at++)
	{
		uint32_t number = at_position[audit.at + 1];

		if (number != 0)
			judge(audit.at + 1, number);
	}
	for (int i = 0; i < n_subscriptions; i++)
		audit_subscription(i);
}

LedgerTotals
ledger_totals(void)
{
	return (LedgerTotals){.events = last_event,
						  .committed = n_committed,
						  .ambiguous = n_ambiguous,
						  .dropped = n_dropped,
						  .seen = n_seen,
						  .rows = n_rows,
						  .deliveries = n_deliveries,
						  .transactions = last_txn,
						  .front = front};
}

/* A transaction is in the feed with all its events, or with none. */
static void
check_whole(uint32_t number)
{
	const Event *event = &events[number];
	const Txn *txn = &txns[event->txn];
	bool there = event->position != 0;

	if (there && (event->dropped || txn->state == ROLLED_BACK))
		ledger_violation("rolled back, but seen: %s", describe(number));
	if (event->dropped || txn->state == ROLLED_BACK)
		return;
	if (!there && txn->state == COMMITTED)
		ledger_violation("committed, but lost: %s", describe(number));
	if (txn->seen != 0 && txn->seen != txn->live)
		ledger_violation("a transaction is there in part: %s", describe(number));
	if (there && event->position > front)
		ledger_violation("seen, but not by who read everything up to %lld: %s", (long long) front,
						 describe(number));
}

void
ledger_finish(void)
{
	judge_reset();
	ledger_audit();
	for (uint32_t number = 1; number <= last_event; number++)
		check_whole(number);
	for (int i = 0; i < n_subscriptions; i++)
		if (subscriptions[i].audited < audit.at)
			ledger_violation("subscription %s got no further than %lld of %lld",
							 subscriptions[i].name, (long long) subscriptions[i].audited,
							 (long long) audit.at);
}

void
ledger_stream_end(uint32_t stream, int n)
{
	if (last_version[stream] != (uint32_t) n)
		ledger_violation("read_stream of stream %u gives %d events, the feed %u", stream, n,
						 last_version[stream]);
}
