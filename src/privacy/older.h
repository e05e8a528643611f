/*
 * older.h: waiting for the transactions of this database that run now, without
 * blocking: prepared ones, too.
 */
#ifndef EDUAI_PRIVACY_OLDER_H
#define EDUAI_PRIVACY_OLDER_H

#include "postgres.h"
#include "storage/lock.h"

/* Begins as zeros; the lists are in TopMemoryContext. */
typedef struct EduaiOlder
{
	VirtualTransactionId *running;
	int nrunning;
	TransactionId *prepared;
	int nprepared;
	int64 since_us; /* when some were added last, monotonic */
} EduaiOlder;

/* Adds whoever runs now; inside SPI, as the owner. */
extern void eduai_privacy_older_add(EduaiOlder *older);
/* Have all of them ended?  In a transaction. */
extern bool eduai_privacy_older_gone(EduaiOlder *older);
/* Were there some when it was asked last? */
extern bool eduai_privacy_older_left(const EduaiOlder *older);
extern void eduai_privacy_older_free(EduaiOlder *older);

#endif
