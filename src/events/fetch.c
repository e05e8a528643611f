/*
 * fetch.c: fetch_events(), ack_events() and what subscription_status shows.
 *
 * A look first asks how far it may go and then where the member stands (the
 * order matters, see subscription.h), and reads from the end of what is known
 * to hold nothing for it (passed.h).  Ordinarily it writes nothing, so that it
 * works on standbys and costs no flush.  It writes when nothing came of many
 * positions, so that a restart does not pass them all again, and while the
 * member is resetting.  These writes never wait: a member whose lock is not
 * free keeps what it has.
 *
 * An acknowledgement past the last event that was fetched goes on to the end
 * of what is known to hold nothing after it.
 *
 * Waiting is for the safe mark, whoever moves it; each look under READ
 * COMMITTED has a fresh snapshot.  With a snapshot that cannot be refreshed
 * one wait ends the call.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/pause.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "core/tenant.h"
#include "events/feed.h"
#include "events/position.h"
#include "events/read.h"
#include "events/record.h"
#include "events/subscription.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* how long one call may wait, in seconds */
#define MAX_WAIT_S 3600
/* positions with nothing in them, after which a fetch writes where it is */
#define STORE_AFTER 10000

PG_FUNCTION_INFO_V1(eduai_fetch_events);
PG_FUNCTION_INFO_V1(eduai_ack_events);
PG_FUNCTION_INFO_V1(eduai_subscription_members);

/* A fetch at work. */
typedef struct Fetch
{
	char *tenant;
	char *name;
	int member;
	int64 limit;
	EduaiReader reader;
	int64 first; /* positions of the first and last event of this look */
	int64 last;
	int64 looked_to; /* how far the last look might go */
} Fetch;

static bool
put(const EduaiRecord *record, void *arg)
{
	Fetch *fetch = arg;

	if (fetch->first == 0)
		fetch->first = record->position;
	fetch->last = record->position;
	return eduai_events_put_for_reader(record, &fetch->reader);
}

/* What this look adds to what is known of the member. */
static void
note_passed(const Fetch *fetch, const EduaiMember *member, EduaiPassed *passed, int64 found,
			int64 scanned)
{
	passed->lead = (EduaiFact){member->position, found > 0 ? fetch->first - 1 : scanned};
	if (found > 0)
		passed->tail = (EduaiFact){fetch->last, scanned};
	passed->fetched_at = eduai_core_now();
	eduai_events_passed_put(&member->key, passed);
}

static bool
may_write(void)
{
	return !XactReadOnly && !RecoveryInProgress() && eduai_core_preloaded();
}

/* The member moves to a position; beyond the reset all acknowledgements count. */
static void
move_to(EduaiMember *member, int64 position)
{
	member->position = position;
	if (member->resetting && member->reset_until != EDUAI_EVENTS_UNKNOWN &&
		position >= member->reset_until)
		member->resetting = false;
}

/*
 * Writes down what a look came to, where that is due and can be done without
 * waiting.  "seen" is the member as the look saw it: one that stands elsewhere
 * by now, or in another arrangement, is left alone.
 */
static void
write_look(const Fetch *fetch, const EduaiMember *seen, int64 found, int64 scanned)
{
	EduaiMember now;

	if (!seen->resetting &&
		(found > 0 || scanned - seen->position < STORE_AFTER || IsolationIsSerializable()))
		return;
	if (!may_write() || !eduai_events_member_lock(fetch->tenant, fetch->name, fetch->member, true))
		return;
	eduai_events_member_read(fetch->tenant, fetch->name, fetch->member, &now);
	if (now.key.generation != seen->key.generation || now.position != seen->position)
		return;
	/* read after the arrangement was seen committed: nobody of the one before got further */
	if (now.resetting && now.reset_until == EDUAI_EVENTS_UNKNOWN && !now.own_change)
		now.reset_until = eduai_events_position_mark();
	if (found > 0)
		now.delivered = Max(now.delivered, fetch->last);
	else
		move_to(&now, Max(now.position, scanned));
	eduai_events_member_write(fetch->tenant, fetch->name, &now);
}

/* Looks once; returns how many events it found. */
static int64
look(Fetch *fetch)
{
	EduaiPrivilege saved;
	EduaiFeedView view;
	EduaiMember member;
	EduaiPassed passed;
	int64 found = 0;
	int64 scanned;

	eduai_core_enter(&saved);
	SPI_connect();
	view = eduai_events_feed_open(fetch->tenant);
	eduai_events_member_read(fetch->tenant, fetch->name, fetch->member, &member);
	passed = eduai_events_passed_get(&member.key);
	scanned = eduai_events_passed_from(&passed, member.position);
	fetch->first = fetch->last = 0;
	if (scanned < view.through)
		found = eduai_events_feed_read(&view, fetch->tenant, scanned, &member.filter, fetch->limit,
									   put, fetch, &scanned);
	fetch->looked_to = view.through;
	eduai_events_feed_close(&view);
	note_passed(fetch, &member, &passed, found, scanned);
	EDUAI_PAUSE("fetch-looked");
	write_look(fetch, &member, found, scanned);
	SPI_finish();
	eduai_core_leave(&saved);
	return found;
}

/*
 * Waits until another look may see more; false when the time is over, or when
 * no look of this transaction ever will.
 */
static bool
wait_for_more(const Fetch *fetch, int64 deadline_us)
{
	if (!IsolationUsesXactSnapshot())
		return eduai_events_position_wait(fetch->looked_to, deadline_us);
	(void) eduai_events_position_wait(eduai_events_position_mark(), deadline_us);
	return false;
}

/* ---- fetch_events ---- */

static void
require_arguments(FunctionCallInfo fcinfo)
{
	static const char *const names[] = {"subscription", "max_count", "member", "wait"};

	for (int i = 1; i < PG_NARGS(); i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("%s must not be null", names[i])));
}

static char *
name_arg(FunctionCallInfo fcinfo)
{
	char *name = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));

	eduai_events_check_subscription(name);
	return name;
}

/* How long to wait, in microseconds. */
static int64
wait_arg(const Interval *wait)
{
	/* in double: the sum of extreme fields overflows int64 */
	double us = (double) wait->time +
				((double) wait->month * DAYS_PER_MONTH + wait->day) * (double) USECS_PER_DAY;

	if (us < 0 || us > (double) MAX_WAIT_S * USECS_PER_SEC)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid wait of %g seconds", us / USECS_PER_SEC),
						errhint("Wait 0 to %d seconds.", MAX_WAIT_S)));
	if (us > 0 && RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot wait for events during recovery"),
						errhint("Fetch without wait, or wait on the primary server.")));
	if (us > 0)
		eduai_core_require_preload("waiting for events");
	return (int64) us;
}

/* fetch_events(subscription, max_count, member, wait) returns setof event_record */
Datum
eduai_fetch_events(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext each;
	Fetch fetch = {.name = name_arg(fcinfo)};
	int64 wait_us;
	int64 deadline_us;

	require_arguments(fcinfo);
	fetch.limit = eduai_events_page_size(PG_GETARG_INT32(1));
	fetch.member = PG_GETARG_INT32(2);
	wait_us = wait_arg(PG_GETARG_INTERVAL_P(3));
	fetch.tenant = eduai_core_tenant();
	InitMaterializedSRF(fcinfo, 0);
	fetch.reader = (EduaiReader){fetch.tenant, GetUserId(), result->setResult, result->setDesc};
	deadline_us = eduai_core_mono_us() + wait_us;
	each = AllocSetContextCreate(caller, "eduai fetch", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(each);
	while (look(&fetch) == 0 && wait_us > 0 && wait_for_more(&fetch, deadline_us))
		MemoryContextReset(each);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(each);
	eduai_events_note_read(fetch.tenant, NULL, fcinfo);
	return (Datum) 0;
}

/* ---- ack_events ---- */

static void
check_delivered(const char *name, const EduaiMember *member, int64 through)
{
	if (!member->resetting || through <= member->delivered)
		return;
	if (member->reset_until != EDUAI_EVENTS_UNKNOWN && through > member->reset_until)
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 errmsg("what is acknowledged was not fetched since subscription \"%s\" was changed", name),
		 errdetail("Position %lld of member %d: its events may have gone to another member, or "
				   "are to come again.",
				   (long long) through, member->key.member),
		 errhint("Fetch again, in a transaction that may write, and acknowledge what that "
				 "returns.")));
}

/* The acknowledgement itself, in SPI as the extension's owner. */
static void
acknowledge(const char *tenant, const char *name, int member_number, int64 through)
{
	EduaiMember member;
	EduaiPassed passed;

	eduai_events_member_lock(tenant, name, member_number, false);
	eduai_events_member_read(tenant, name, member_number, &member);
	if (through <= member.position)
		return;
	check_delivered(name, &member, through);
	passed = eduai_events_passed_get(&member.key);
	move_to(&member, eduai_events_passed_from(&passed, through));
	eduai_events_member_write(tenant, name, &member);
}

/* ack_events(subscription, through_position, member) returns void */
Datum
eduai_ack_events(PG_FUNCTION_ARGS)
{
	EduaiPrivilege saved;
	char *name = name_arg(fcinfo);
	char *tenant;
	int64 through;
	int64 mark;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", PG_ARGISNULL(1) ? "through_position" : "member")));
	PreventCommandIfReadOnly("ack_events()");
	eduai_core_require_preload("acknowledging events");
	tenant = eduai_core_tenant();
	through = PG_GETARG_INT64(1);
	eduai_core_enter(&saved);
	SPI_connect();
	mark = eduai_events_position_mark();
	if (through < 0 || through > mark)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("position %lld was never delivered", (long long) through),
						errhint("Acknowledge the position of an event that eduai.fetch_events() "
								"returned.")));
	acknowledge(tenant, name, PG_GETARG_INT32(2), through);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

/* ---- subscription_status ---- */

typedef struct Lag
{
	int64 from;
	int64 events;
} Lag;

/* The tenant's events after a position; members often stand at the same one. */
static int64
count_lag(const EduaiFeedView *view, const char *tenant, int64 from, Lag *last)
{
	if (from >= view->through)
		return 0;
	if (from != last->from)
		*last = (Lag){from, eduai_events_feed_count(view, tenant, from, view->through)};
	return last->events;
}

static void
put_member(ReturnSetInfo *result, uint64 row, const EduaiFeedView *view, const char *tenant,
		   Lag *lag)
{
	bool isnull;
	EduaiPassedKey key = {MyDatabaseId, DatumGetObjectId(eduai_core_value(row, 4, &isnull)),
						  eduai_core_int64(row, 5, 0), (int32) eduai_core_int64(row, 2, 0)};
	EduaiPassed passed = eduai_events_passed_get(&key);
	int64 position = eduai_core_int64(row, 3, 0);
	Datum values[5] = {eduai_core_value(row, 1, &isnull), Int32GetDatum(key.member),
					   Int64GetDatum(position)};
	bool nulls[5] = {false, false, false, false, passed.fetched_at == 0};

	values[3] =
		Int64GetDatum(count_lag(view, tenant, eduai_events_passed_from(&passed, position), lag));
	values[4] = TimestampTzGetDatum(passed.fetched_at);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* subscription_members() returns setof subscription_member_status */
Datum
eduai_subscription_members(PG_FUNCTION_ARGS)
{
	static EduaiPlan list = {"SELECT s.name, m.member, m.position, s.tableoid, s.generation"
							 " FROM eduai.subscription s JOIN eduai.subscription_member m"
							 "  ON m.tenant_id = s.tenant_id AND m.name = s.name"
							 " WHERE s.tenant_id = $1 ORDER BY s.name, m.member",
							 1,
							 {TEXTOID}};
	EduaiPrivilege saved;
	EduaiFeedView view;
	SPITupleTable *members;
	Lag lag = {EDUAI_EVENTS_UNKNOWN, 0};
	char *tenant = eduai_core_tenant();
	Datum args[1] = {CStringGetTextDatum(tenant)};
	uint64 n;

	InitMaterializedSRF(fcinfo, 0);
	eduai_core_enter(&saved);
	SPI_connect();
	view = eduai_events_feed_open(tenant);
	n = eduai_core_query(&list, args, NULL);
	members = SPI_tuptable;
	for (uint64 row = 0; row < n; row++)
	{
		/* counting may have run statements of its own */
		SPI_tuptable = members;
		put_member((ReturnSetInfo *) fcinfo->resultinfo, row, &view, tenant, &lag);
	}
	eduai_events_feed_close(&view);
	SPI_finish();
	eduai_core_leave(&saved);
	return (Datum) 0;
}
