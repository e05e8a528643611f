/*
 * state_table.h: the table of states, eduai.projection_state, by heap and
 * index calls.  No SPI, no switch of role: the caller has checked what may be
 * done, and has the keys that it writes to itself (their lock, or a follower's).
 */
#ifndef EDUAI_PROJECTIONS_STATE_TABLE_H
#define EDUAI_PROJECTIONS_STATE_TABLE_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "storage/itemptr.h"
#include "storage/lock.h"
#include "utils/jsonb.h"
#include "utils/snapshot.h"

/* A key's row; version 0 and state NULL when it has none. */
typedef struct EduaiStateRow
{
	bool found;
	ItemPointerData tid; /* when found */
	Jsonb *state;        /* in the context of the read */
	int64 version;       /* events folded */
	TimestampTz last_at; /* the latest occurred_at among them; DT_NOBEGIN without any */
	bool parked;
} EduaiStateRow;

/* Open for one generation of a tenant's projection. */
typedef struct EduaiStateTable EduaiStateTable;

/*
 * The lock that whoever folds inline takes in the mode RowExclusiveLock,
 * before he looks at the catalogue, and keeps to the end of his transaction.
 * A cut-over takes it in ShareLock (rebuild.c).  It is the table's.  False
 * only with nowait.
 */
extern bool eduai_projections_gate(bool nowait);

/*
 * The same lock in ShareLock, to the end of the transaction: nobody folds
 * inline meanwhile, nor anybody who has and did not end yet.  False only with
 * nowait; subject to lock_timeout.
 */
extern bool eduai_projections_gate_close(bool nowait);

/*
 * Who holds the gate now, but for this transaction: *n of them, in the current
 * context.  In a transaction.
 */
extern VirtualTransactionId *eduai_projections_gate_holders(int *n);

/* Whether one of them holds it now. */
extern bool eduai_projections_gate_held_by(const VirtualTransactionId *holders, int n);

/* The gate's tag. */
extern void eduai_projections_gate_tag(LOCKTAG *tag);

/* For writing: reads the rows as they stand, whatever a snapshot shows. */
extern EduaiStateTable *
eduai_projections_states_open(const char *tenant, int projection, int generation);

/* For reading in a snapshot that the caller keeps registered. */
extern EduaiStateTable *eduai_projections_states_view(const char *tenant, int projection,
													  int generation, Snapshot snapshot);

/*
 * Reads a key's row.  When open for writing and the transaction's snapshot
 * (REPEATABLE READ) shows another version of the row than the latest, raises
 * 40001 naming the projection and the key.
 */
extern void
eduai_projections_states_read(EduaiStateTable *table, const char *key, EduaiStateRow *row);

/* Writes the row that was read, with what the caller has put into it; each key once until close. */
extern void
eduai_projections_states_write(EduaiStateTable *table, const char *key, const EduaiStateRow *row);

/* Ends the command: what was written is visible to what follows. */
extern void eduai_projections_states_close(EduaiStateTable *table);

/* EduaiProjectionKind.clear for kinds that keep their states here. */
extern int64 eduai_projections_states_clear(int projection, int generation, int64 limit);

#endif
