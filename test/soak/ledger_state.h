/*
 * ledger_state.h: the ledger's memory, for ledger.c and judge.c only.
 */
#ifndef LEDGER_STATE_H
#define LEDGER_STATE_H

#include "ledger.h"

#include <stdatomic.h>
#include <stddef.h>

#define MAX_EVENTS    (1u << 27)
#define MAX_TXNS      (1u << 26)
#define MAX_POSITIONS (INT64_C(1) << 30)

typedef struct Event
{
	_Atomic int64_t position; /* 0 until seen */
	uint32_t txn;
	uint32_t stream;
	_Atomic uint32_t version;   /* 0 until known */
	_Atomic uint16_t delivered; /* a bit for each subscription */
	uint8_t type;
	_Atomic uint8_t dropped;
} Event;

typedef enum TxnState
{
	OPEN,
	COMMITTING,
	COMMITTED,
	AMBIGUOUS,
	ROLLED_BACK
} TxnState;

typedef struct Txn
{
	_Atomic int64_t begun; /* when COMMIT was sent; 0 before */
	_Atomic int64_t ended; /* when it was known to be committed; INT64_MAX before */
	_Atomic uint32_t live; /* its events that were not dropped */
	_Atomic uint32_t seen;
	_Atomic uint8_t state;
	uint8_t writer;
} Txn;

typedef struct Subscription
{
	char name[64];
	unsigned types;
	int category;
	int members;
	_Atomic int64_t through[LEDGER_MEMBERS];
	int64_t audited;
	_Atomic uint8_t *member_of; /* by stream; member + 1 */
} Subscription;

extern Event *events;
extern Txn *txns;
extern _Atomic uint32_t *at_position; /* the event seen there; 0: none */
extern _Atomic uint32_t last_event, last_txn;
extern _Atomic uint64_t n_committed, n_ambiguous, n_dropped, n_seen, n_rows, n_deliveries;
extern _Atomic int64_t front;
extern Subscription subscriptions[LEDGER_SUBSCRIPTIONS];
extern int n_subscriptions;

/* Where an event stands, for a violation's text: one of four buffers of the thread. */
extern const char *describe(uint32_t event);
/* Does the event pass a filter? */
extern bool passes(unsigned types, int category, const Event *event);
/* Memory that costs nothing before it is touched; gives back the old. */
extern void *reserve(void *old, size_t size);
/* judge.c: the audit begins at position 1 again. */
extern void judge_reset(void);

#endif
