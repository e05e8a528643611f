/*
 * ledger.h: what is known about every event of a run, and the judge of what
 * readers saw.
 *
 * Writers tell what they do before they do it: an event exists here before its
 * statement is sent, a transaction is "committing" before its COMMIT is sent.
 * Readers hand in pages: what a read returned after a position.  A page claims
 * to be complete: all there will ever be between that position and the page's
 * last one.  Whatever contradicts that, or an earlier page, or what the writers
 * know, is a violation.
 *
 * All times are of the monotonic clock of this process, in nanoseconds: the
 * clients' view, so a violation of the real-time order is one that an
 * application could have noticed.
 *
 * Everything is lock free but the audit, which one thread runs.  24 bytes an
 * event, 4 a position, 48 a transaction, in memory reserved and not touched
 * before it is used.
 */
#ifndef LEDGER_H
#define LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#define LEDGER_CATEGORIES    4
#define LEDGER_TYPES         4
#define LEDGER_SUBSCRIPTIONS 16
#define LEDGER_MEMBERS       8
#define LEDGER_STREAMS       (1u << 22)

extern const char *const ledger_category_names[LEDGER_CATEGORIES];
extern const char *const ledger_type_names[LEDGER_TYPES];

/* A stream is a number; its category is the remainder by LEDGER_CATEGORIES. */
extern void ledger_stream_name(uint32_t stream, char *name, int size);
/* False for a name that ledger_stream_name() did not make. */
extern bool ledger_stream_number(const char *name, uint32_t *stream);

/* Called with a violation's text; the default prints it and ends the process with 1. */
extern void (*ledger_on_violation)(const char *text);
extern void ledger_violation(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Forgets everything. */
extern void ledger_init(void);
extern int64_t ledger_clock(void);

/* ---- writers ---- */

extern uint32_t ledger_begin(int writer);
extern uint32_t ledger_event(uint32_t txn, uint32_t stream, int type);
/* Never to be seen: its savepoint was rolled back, its statement failed. */
extern void ledger_drop(uint32_t event);
/* Once, before COMMIT (or a statement that commits by itself) is sent. */
extern void ledger_committing(uint32_t txn);
extern void ledger_committed(uint32_t txn);
extern void ledger_ambiguous(uint32_t txn);
extern void ledger_rolled_back(uint32_t txn);
/* What an append returned. */
extern void ledger_versioned(uint32_t event, int64_t version);
extern int ledger_type_of(uint32_t event);
extern uint32_t ledger_stream_of(uint32_t event);
extern int64_t ledger_begun_at(uint32_t event); /* when its COMMIT was sent */
extern int64_t ledger_ended_at(uint32_t event); /* when that was known; INT64_MAX before */

/* ---- readers ---- */

/* An event as a reader got it; position 0 from read_stream. */
typedef struct Sighting
{
	int64_t position;
	int64_t version;
	uint32_t event;
	uint32_t txn;
	uint32_t stream;
	int writer;
	int type;
} Sighting;

/* What one kind of reader asks for. */
typedef struct Reader
{
	const char *name;
	unsigned types;   /* a bit for each type; 0: all */
	int category;     /* -1: all */
	int subscription; /* -1: none */
	int member;
} Reader;

extern int ledger_subscription(const char *name, unsigned types, int category, int members);

/*
 * A read after "after" returned these.  Everything that passes the reader's
 * filter between "after" and the last one must be among them.
 */
extern void
ledger_page(const Reader *reader, int64_t after, const Sighting *seen, int n, int64_t seen_at);
/* A subscription's member has been told that nothing is left. */
extern void ledger_drained(const Reader *reader);

/* read_stream from version 1: all versions, in order. */
extern void ledger_stream_page(uint32_t stream, const Sighting *seen, int n, int64_t seen_at);
/* The same at the end: as many as the feed had. */
extern void ledger_stream_end(uint32_t stream, int n);

/* ---- the judge ---- */

/* Up to where readers without a filter have read everything. */
extern int64_t ledger_front(void);
/* The event that was seen at the position; 0: none. */
extern uint32_t ledger_event_at(int64_t position);
/*
 * Walks on in the order of positions, up to the front: real-time order, dense
 * versions, no rolled back event; then each subscription, up to where all its
 * members have read.  Called by one thread.
 */
extern void ledger_audit(void);

typedef struct LedgerTotals
{
	uint64_t events;    /* made by writers */
	uint64_t committed; /* known to be */
	uint64_t ambiguous;
	uint64_t dropped;
	uint64_t seen;
	uint64_t rows;       /* that readers were given, again and again */
	uint64_t deliveries; /* of the rows: to subscriptions, each event once */
	uint64_t transactions;
	int64_t front;
} LedgerTotals;

/* Cheap, not exact while writers work. */
extern LedgerTotals ledger_totals(void);
/* The whole audit once more, when nobody writes or reads, and that nothing is missing. */
extern void ledger_finish(void);

#endif
