/*
 * orphan.h: attempts that nobody will end: those of dispatchers that died, and
 * those that came with rows from elsewhere (a restore).
 *
 * In the dispatcher, inside a transaction, SPI connected; nothing waits.
 */
#ifndef EDUAI_QUEUE_ORPHAN_H
#define EDUAI_QUEUE_ORPHAN_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "storage/itemptr.h"

typedef struct Orphan
{
	int64 task_id;
	ItemPointerData tid;
	int attempt;
	bool leased; /* an application's: its lease is not known here */
	char *tenant;
	char *instance;
	char *model;
	TimestampTz started_at;
} Orphan;

/*
 * At the dispatcher's start: what former dispatchers left running, by the table
 * of running attempts, so that waiting tasks cost nothing.  Call it until it
 * finds none.  At most "most" of them, palloc'd.
 */
extern int eduai_queue_orphans(int most, Orphan **orphans);

/* An attempt without a lease, as the running table has it. */
typedef struct Unleased
{
	int64 task_id;
	int attempt;
	char tenant[NAMEDATALEN];
} Unleased;

/* The dispatchers' attempts whose claim has committed and that nobody is ending; palloc'd. */
extern int eduai_queue_unleased(Unleased **found);

/*
 * For the sweep: running rows that the table does not know.  Reads a slice of
 * eduai.task_live, going on where it stopped, and rests a hundred times as long
 * as it took.
 */
extern int eduai_queue_forgotten(int most, Orphan **orphans);

#endif
