/*
 * older.c: waiting for the transactions that run now.  See older.h.
 */
#include "postgres.h"

#include "access/transam.h"
#include "core/clock.h"
#include "core/plan.h"
#include "privacy/older.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/memutils.h"

static EduaiPlan prepared_ones = {
	"SELECT p.transaction::text::bigint FROM pg_catalog.pg_prepared_xacts p"
	" WHERE p.database = pg_catalog.current_database()",
	0};

void
eduai_privacy_older_add(EduaiOlder *older)
{
	int n;
	VirtualTransactionId *now = GetCurrentVirtualXIDs(InvalidTransactionId, false, false, 0, &n);
	uint64 prepared = eduai_core_run_latest(&prepared_ones, NULL, NULL);
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	older->running =
		older->running
			? repalloc(older->running, sizeof(VirtualTransactionId) * (older->nrunning + n + 1))
			: palloc(sizeof(VirtualTransactionId) * (n + 1));
	for (int i = 0; i < n; i++)
		older->running[older->nrunning++] = now[i];
	older->prepared =
		older->prepared
			? repalloc(older->prepared, sizeof(TransactionId) * (older->nprepared + prepared + 1))
			: palloc(sizeof(TransactionId) * (prepared + 1));
	for (uint64 i = 0; i < prepared; i++)
		older->prepared[older->nprepared++] = (TransactionId) eduai_core_int64(i, 1, 0);
	MemoryContextSwitchTo(old);
	older->since_us = eduai_core_mono_us();
}

bool
eduai_privacy_older_gone(EduaiOlder *older)
{
	int left = 0;

	for (int i = 0; i < older->nrunning; i++)
		if (!VirtualXactLock(older->running[i], false))
			older->running[left++] = older->running[i];
	older->nrunning = left;
	left = 0;
	for (int i = 0; i < older->nprepared; i++)
		if (TransactionIdIsInProgress(older->prepared[i]))
			older->prepared[left++] = older->prepared[i];
	older->nprepared = left;
	return older->nrunning == 0 && older->nprepared == 0;
}

bool
eduai_privacy_older_left(const EduaiOlder *older)
{
	return older->nrunning > 0 || older->nprepared > 0;
}

void
eduai_privacy_older_free(EduaiOlder *older)
{
	if (older->running)
		pfree(older->running);
	if (older->prepared)
		pfree(older->prepared);
	memset(older, 0, sizeof(*older));
}
