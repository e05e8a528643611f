/*-------------------------------------------------------------------------
 * journal.h
 *		What the simulator was asked, and what became of it.
 *
 * A ring of the latest entries in memory, counters, and optionally a file
 * with a line per request.  Every request counts once in requests and, at
 * any time, once in exactly one of open, completed, aborted and broken.
 *-------------------------------------------------------------------------
 */
#ifndef SIM_JOURNAL_H
#define SIM_JOURNAL_H

#include "buf.h"

#define JOURNAL_ENTRIES 1000000
#define JOURNAL_TEXT    64

typedef enum Outcome
{
	OUTCOME_PENDING,
	OUTCOME_SENT,    /* all of the answer went to the kernel */
	OUTCOME_ABORTED, /* the client closed before that */
	OUTCOME_BROKEN   /* cut or reset, as the behaviour asked */
} Outcome;

typedef struct JournalEntry
{
	uint64_t seq;          /* from 1, never reused */
	int64_t first_byte_us; /* wall clock */
	int64_t arrival_us;    /* when the request had been read fully */
	int64_t done_us;       /* 0 while pending */
	uint64_t body_bytes;
	uint64_t body_fnv64;
	uint64_t sent_bytes;  /* of the answer, that the kernel took; 0 while pending */
	const char *endpoint; /* static */
	const char *plan;     /* static: how it was decided to answer */
	int status;           /* 0: no status was to be sent */
	Outcome outcome;
	char model[JOURNAL_TEXT];
	char user[JOURNAL_TEXT];
	char idempotency_key[JOURNAL_TEXT];
} JournalEntry;

extern void journal_open(const char *path);
extern uint64_t journal_next_seq(void);
extern void journal_add(const JournalEntry *entry);
extern void journal_finish(uint64_t seq, Outcome outcome, uint64_t sent_bytes);
extern void journal_flush(void);
extern void journal_reset(void);

/* Connections, for the statistics. */
extern void journal_connection(int opened);
extern void journal_used_connection(void);
extern void journal_incomplete(void);

extern void journal_write_stats(Buf *out);
extern void journal_write_entries(Buf *out, uint64_t after, uint64_t limit);

extern int64_t wall_clock_us(void);

#endif /* SIM_JOURNAL_H */
