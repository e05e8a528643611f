/*
 * rebuild_sql.c: rebuild_projection().
 *
 * The caller starts the process, or finds one at work, and waits for it.  He
 * can be cancelled: the rebuild goes on.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "events/order.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "projections/catalog.h"
#include "projections/rebuild.h"
#include "projections/rebuild_state.h"
#include "projections/state_table.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"

/* processes that may end without a word before the caller gives up */
#define MOST_STARTS 3

PG_FUNCTION_INFO_V1(eduai_rebuild_projection);

/* Whether the cut-over would wait for this transaction, which waits for it. */
static bool
is_in_the_way(void)
{
	LOCKTAG tag;
	Relation rel;
	bool held;

	if (TransactionIdIsValid(GetTopTransactionIdIfAny()) || eduai_events_order_noted())
		return true;
	eduai_projections_gate_tag(&tag);
	rel = table_open((Oid) tag.locktag_field2, AccessShareLock);
	held = CheckRelationLockedByMe(rel, RowExclusiveLock, true);
	table_close(rel, AccessShareLock);
	return held;
}

static void
check_call(const char *name)
{
	eduai_core_require_preload("rebuild_projection()");
	PreventCommandIfReadOnly("rebuild_projection()");
	if (is_in_the_way())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot rebuild projection \"%s\" in a transaction that has written", name),
				 errdetail("The rebuild ends when no open transaction is in its way, and this one "
						   "would wait for it."),
				 errhint("Call rebuild_projection() in a transaction of its own.")));
}

static void
raise_failure(const char *name, const EduaiRebuild *state)
{
	ereport(ERROR,
			(errcode(state->sqlstate),
			 errmsg("could not rebuild projection \"%s\": %s", name, state->message),
			 errhint("It is tried again by itself; eduai.projection_status tells how it fares.")));
}

static void
raise_no_process(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("could not start a process to rebuild projection \"%s\"", name),
			 errhint("Raise max_worker_processes, or call eduai.start_workers() where the workers "
					 "were stopped. The server log may say more.")));
}

static void
tell_phase(const char *name, EduaiRebuildPhase phase, EduaiRebuildPhase *told)
{
	if (phase == EDUAI_REBUILD_WAITS && *told != phase)
		ereport(NOTICE,
				(errmsg("projection \"%s\" waits for open transactions before it cuts over", name),
				 errdetail("They have appended events, and would go on with the old states."),
				 errhint("It goes on when they end.")));
	if (phase == EDUAI_REBUILD_WAITS || phase == EDUAI_REBUILD_FOLDS)
		*told = phase;
}

/* Returns once a rebuild has ended that is this caller's, or one that he found at work. */
static int64
wait_for_end(int projection, const char *name)
{
	EduaiRebuildPhase told = EDUAI_REBUILD_NONE;
	EduaiRebuildProcess process = {0};
	uint64 ended = eduai_projections_rebuild_get(projection).ended;
	int starts = 0;

	for (;;)
	{
		EduaiRebuild now = eduai_projections_rebuild_get(projection);

		if (now.ended != ended && now.sqlstate != 0)
			raise_failure(name, &now);
		if (now.ended != ended)
			return now.events;
		eduai_projections_rebuild_check(projection, &process);
		if (eduai_projections_rebuild_get(projection).phase == EDUAI_REBUILD_NONE)
		{
			/* it may have ended since */
			if (eduai_projections_rebuild_get(projection).ended != ended)
				continue;
			if (starts++ == MOST_STARTS)
				raise_no_process(name);
			if (eduai_projections_rebuild_start(projection, true, &process) &&
				process.handle == NULL)
				raise_no_process(name);
			continue;
		}
		tell_phase(name, now.phase, &told);
		eduai_projections_rebuild_wait(projection, &now);
		CHECK_FOR_INTERRUPTS();
	}
}

/* rebuild_projection(name) returns bigint */
Datum
eduai_rebuild_projection(PG_FUNCTION_ARGS)
{
	const EduaiProjection *p;
	char *name;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("name must not be null")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	check_call(name);
	p = eduai_projections_find(name);
	if (p == NULL || p->kind == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("projection \"%s\" does not exist", name)));
	PG_RETURN_INT64(wait_for_end(p->id, name));
}
