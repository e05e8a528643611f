/*
 * guard.c: a subtransaction with a time limit.  See guard.h.
 *
 * There is one statement timeout in a session.  A guard whose limit comes
 * first replaces it and puts it back at its end; one whose limit comes later
 * leaves it alone.
 *
 * User code may catch its cancellation and go on.  Catching rolls back a
 * subtransaction, so once the time is over every such rollback cancels again:
 * code gets no further than it has nested exception blocks.
 */
#include "postgres.h"

#include "access/xact.h"
#include "core/clock.h"
#include "core/guard.h"
#include "core/xact.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/lock.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

/* What a guard found, to be put back at its end. */
typedef struct Limit
{
	int64 outer_us;       /* deadline_us of the guards around it */
	int64 mine_us;        /* monotonic; 0: no limit */
	bool replaced;        /* the statement timeout is this guard's */
	bool was_active;      /* there was one before, which ends at: */
	TimestampTz ended_at; /* when it was active */
} Limit;

/* The earliest end of the guards that run, monotonic; 0: none has a limit. */
static int64 deadline_us = 0;
static bool ran_out = false;
static bool cancelled_again = false; /* since the last guard with a limit ended */

static void
on_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && deadline_us != 0 && eduai_core_mono_us() >= deadline_us)
	{
		InterruptPending = true;
		QueryCancelPending = true;
		cancelled_again = true;
	}
}

static void
begin_limit(Limit *limit, int limit_ms)
{
	TimestampTz ends_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), limit_ms);

	*limit = (Limit){.outer_us = deadline_us};
	if (limit_ms == 0)
		return;
	limit->mine_us = eduai_core_mono_us() + (int64) limit_ms * 1000;
	if (deadline_us == 0 || limit->mine_us < deadline_us)
		deadline_us = limit->mine_us;
	limit->was_active = get_timeout_active(STATEMENT_TIMEOUT);
	if (limit->was_active)
		limit->ended_at = get_timeout_finish_time(STATEMENT_TIMEOUT);
	if (limit->was_active && limit->ended_at <= ends_at)
		return;
	limit->replaced = true;
	enable_timeout_at(STATEMENT_TIMEOUT, ends_at);
}

static void
end_limit(const Limit *limit)
{
	bool fired;

	deadline_us = limit->outer_us;
	if (!limit->replaced)
		return;
	fired = get_timeout_indicator(STATEMENT_TIMEOUT, false);
	disable_timeout(STATEMENT_TIMEOUT, false);
	/* it came as the work was ending: nobody else is meant by it */
	if (fired || cancelled_again)
		QueryCancelPending = false;
	cancelled_again = false;
	if (limit->was_active)
		enable_timeout_at(STATEMENT_TIMEOUT, limit->ended_at);
}

static bool
is_over(const Limit *limit, const ErrorData *error)
{
	return limit->replaced && error->sqlerrcode == ERRCODE_QUERY_CANCELED &&
		   eduai_core_mono_us() >= limit->mine_us;
}

ErrorData *
eduai_core_guard(void (*work)(void *arg), void *arg, int limit_ms)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;
	Limit limit;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	begin_limit(&limit, limit_ms);
	PG_TRY();
	{
		work(arg);
		end_limit(&limit);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		ran_out = is_over(&limit, error);
		end_limit(&limit);
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	/* they would outlive what took them, and its role's patience */
	if (MyBgworkerEntry != NULL)
		LockReleaseSession(USER_LOCKMETHOD);
	return error;
}

bool
eduai_core_guard_ran_out(void)
{
	return ran_out;
}

ErrorData *
eduai_core_catch(MemoryContext context)
{
	ErrorData *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(context);
	return error;
}

void
eduai_core_guard_init(void)
{
	static const EduaiXactHooks hooks = {
		.name = "guard", .rank = EDUAI_RANK_EVENTS, .subxact = on_subxact};

	eduai_core_xact_register(&hooks);
}
