/*
 * subscription.c: making, changing and dropping subscriptions.  See
 * subscription.h for arrangements and locks.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/lock.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "events/position.h"
#include "events/subscription.h"
#include "events/validate.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(eduai_create_subscription);
PG_FUNCTION_INFO_V1(eduai_drop_subscription);
PG_FUNCTION_INFO_V1(eduai_set_subscription_members);
PG_FUNCTION_INFO_V1(eduai_seek_subscription);

/* the number that stands for the subscription itself among the locks' keys */
#define SUBSCRIPTION_ITSELF (-1)

/* A change at work: its arguments and what it found. */
typedef struct Change
{
	char *tenant;
	char *name;
	int members;
} Change;

/* ---- locks ---- */

static uint64
lock_key(const char *tenant, const char *name, int member)
{
	return eduai_core_lock_key(tenant, psprintf("%d %s", member, name));
}

bool
eduai_events_member_lock(const char *tenant, const char *name, int member, bool nowait)
{
	return eduai_core_lock(EDUAI_LOCK_SUBSCRIPTION, lock_key(tenant, name, member), nowait);
}

/* Changes take turns by the subscription's own lock, so any order will do. */
static void
lock_members(const Change *change, int members)
{
	for (int i = 0; i < members; i++)
		eduai_events_member_lock(change->tenant, change->name, i, false);
}

/* ---- reading and writing a member ---- */

static void
read_filter(EduaiFeedFilter *filter)
{
	bool isnull;
	Datum types = eduai_core_value(0, 4, &isnull);

	filter->event_types = NULL;
	filter->ntypes = 0;
	if (!isnull)
		filter->event_types = eduai_events_type_names(DatumGetArrayTypeP(types), &filter->ntypes);
	filter->category = eduai_core_text(0, 5);
}

static void
refuse_unknown(const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("subscription \"%s\" does not exist", name)));
}

void
eduai_events_member_read(const char *tenant, const char *name, int member, EduaiMember *found)
{
	static EduaiPlan read = {
		"SELECT s.tableoid, s.generation, s.members, s.event_types, s.category, s.xmin,"
		" m.position, m.resetting, m.reset_until, m.delivered"
		" FROM eduai.subscription s LEFT JOIN eduai.subscription_member m"
		"  ON m.tenant_id = s.tenant_id AND m.name = s.name AND m.member = $3"
		" WHERE s.tenant_id = $1 AND s.name = $2",
		3,
		{TEXTOID, TEXTOID, INT4OID}};
	Datum args[3] = {CStringGetTextDatum(tenant), CStringGetTextDatum(name), Int32GetDatum(member)};
	bool isnull;

	if (eduai_core_run_latest(&read, args, NULL) == 0)
		refuse_unknown(name);
	found->filter.members = (int) eduai_core_int64(0, 3, 1);
	found->filter.member = member;
	if (member < 0 || member >= found->filter.members)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("subscription \"%s\" has no member %d", name, member),
						errhint("Its members are 0 to %d.", found->filter.members - 1)));
	read_filter(&found->filter);
	found->key.database = MyDatabaseId;
	found->key.table = DatumGetObjectId(eduai_core_value(0, 1, &isnull));
	found->key.generation = eduai_core_int64(0, 2, 0);
	found->key.member = member;
	found->own_change =
		TransactionIdIsCurrentTransactionId(DatumGetTransactionId(eduai_core_value(0, 6, &isnull)));
	found->position = eduai_core_int64(0, 7, 0);
	found->resetting = DatumGetBool(eduai_core_value(0, 8, &isnull));
	found->reset_until = eduai_core_int64(0, 9, EDUAI_EVENTS_UNKNOWN);
	found->delivered = eduai_core_int64(0, 10, EDUAI_EVENTS_UNKNOWN);
}

void
eduai_events_member_write(const char *tenant, const char *name, const EduaiMember *member)
{
	static EduaiPlan write = {"UPDATE eduai.subscription_member"
							  " SET position = $4, resetting = $5, reset_until = $6, delivered = $7"
							  " WHERE tenant_id = $1 AND name = $2 AND member = $3",
							  7,
							  {TEXTOID, TEXTOID, INT4OID, INT8OID, BOOLOID, INT8OID, INT8OID}};
	Datum args[7] = {CStringGetTextDatum(tenant),       CStringGetTextDatum(name),
					 Int32GetDatum(member->key.member), Int64GetDatum(member->position),
					 BoolGetDatum(member->resetting),   Int64GetDatum(member->reset_until),
					 Int64GetDatum(member->delivered)};
	char nulls[7] = {' ', ' ', ' ', ' ', ' ', ' ', ' '};

	if (!member->resetting || member->reset_until == EDUAI_EVENTS_UNKNOWN)
		nulls[5] = 'n';
	if (!member->resetting || member->delivered == EDUAI_EVENTS_UNKNOWN)
		nulls[6] = 'n';
	eduai_core_run_latest(&write, args, nulls);
}

/* ---- arguments ---- */

void
eduai_events_check_subscription(const char *name)
{
	eduai_events_check_name("subscription", name, true);
}

static void
check_members(int members)
{
	if (members < 1 || members > EDUAI_EVENTS_MAX_MEMBERS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid number of members %d", members),
						errhint("A subscription has 1 to %d members.", EDUAI_EVENTS_MAX_MEMBERS)));
}

static void
check_position(int64 position)
{
	int64 mark = eduai_events_position_mark();

	if (position < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid position %lld", (long long) position),
						errhint("Use 0 to start before the first event.")));
	if (position > mark)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("position %lld lies in the future", (long long) position),
				 errdetail("The last position that may be read is %lld.", (long long) mark)));
}

static void
check_category(const char *category)
{
	if (category && category[0] != '\0')
		eduai_events_check_name("category", category, false);
	if (category && (category[0] == '\0' || strchr(category, '-')))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid category \"%s\"", category),
						errhint("A category is a stream's name up to the first \"-\".")));
}

static void
check_event_types(ArrayType *array)
{
	int n;

	(void) eduai_events_type_names(array, &n);
	if (n == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("event_types is empty"),
						errhint("Use NULL for events of all types.")));
}

static void
require(FunctionCallInfo fcinfo, int n, const char *what)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", what)));
}

/* Checks the name and the right to change; what every change begins with. */
static Change
begin_change(FunctionCallInfo fcinfo, const char *what)
{
	Change change = {0};

	PreventCommandIfReadOnly(what);
	if (!PG_ARGISNULL(0))
		change.name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	eduai_events_check_subscription(change.name);
	change.tenant = eduai_core_tenant();
	return change;
}

/* ---- changes; in SPI, as the extension's owner ---- */

/* Locks the subscription and says whether it exists, with how many members. */
static bool
lock_subscription(Change *change)
{
	static EduaiPlan look = {
		"SELECT members FROM eduai.subscription WHERE tenant_id = $1 AND name = $2",
		2,
		{TEXTOID, TEXTOID}};
	Datum args[2] = {CStringGetTextDatum(change->tenant), CStringGetTextDatum(change->name)};

	eduai_events_member_lock(change->tenant, change->name, SUBSCRIPTION_ITSELF, false);
	if (eduai_core_run_latest(&look, args, NULL) == 0)
		return false;
	change->members = (int) eduai_core_int64(0, 1, 0);
	return true;
}

static void
delete_members(const Change *change)
{
	static EduaiPlan forget = {
		"DELETE FROM eduai.subscription_member WHERE tenant_id = $1 AND name = $2",
		2,
		{TEXTOID, TEXTOID}};
	Datum args[2] = {CStringGetTextDatum(change->tenant), CStringGetTextDatum(change->name)};

	eduai_core_run_latest(&forget, args, NULL);
}

static void
insert_members(const Change *change, int members, int64 position, bool resetting)
{
	static EduaiPlan insert = {
		"INSERT INTO eduai.subscription_member (tenant_id, name, member, position, resetting)"
		" SELECT $1, $2, n, $4, $5 FROM generate_series(0, $3 - 1) AS n",
		5,
		{TEXTOID, TEXTOID, INT4OID, INT8OID, BOOLOID}};
	Datum args[5] = {CStringGetTextDatum(change->tenant), CStringGetTextDatum(change->name),
					 Int32GetDatum(members), Int64GetDatum(position), BoolGetDatum(resetting)};

	eduai_core_run_latest(&insert, args, NULL);
}

/* A new arrangement of an existing subscription, whose members are locked. */
static void
rearrange(const Change *change, int members, int64 position)
{
	static EduaiPlan update = {
		"UPDATE eduai.subscription SET generation = $3, members = $4, after_position = $5"
		" WHERE tenant_id = $1 AND name = $2",
		5,
		{TEXTOID, TEXTOID, INT8OID, INT4OID, INT8OID}};
	Datum args[5] = {CStringGetTextDatum(change->tenant), CStringGetTextDatum(change->name),
					 Int64GetDatum((int64) eduai_core_random()), Int32GetDatum(members),
					 Int64GetDatum(position)};

	eduai_core_run_latest(&update, args, NULL);
	delete_members(change);
	insert_members(change, members, position, true);
}

static int64
least_position(const Change *change)
{
	static EduaiPlan least = {"SELECT min(position) FROM eduai.subscription_member"
							  " WHERE tenant_id = $1 AND name = $2",
							  2,
							  {TEXTOID, TEXTOID}};
	Datum args[2] = {CStringGetTextDatum(change->tenant), CStringGetTextDatum(change->name)};

	eduai_core_run_latest(&least, args, NULL);
	return eduai_core_int64(0, 1, 0);
}

/* ---- the functions ---- */

static void
insert_subscription(FunctionCallInfo fcinfo, const Change *change)
{
	static EduaiPlan insert = {
		"INSERT INTO eduai.subscription (tenant_id, name, event_types, category, after_position,"
		" members, generation, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
		8,
		{TEXTOID, TEXTOID, TEXTARRAYOID, TEXTOID, INT8OID, INT4OID, INT8OID, TIMESTAMPTZOID}};
	Datum args[8] = {
		CStringGetTextDatum(change->tenant),
		CStringGetTextDatum(change->name),
		PG_GETARG_DATUM(1),
		PG_GETARG_DATUM(2),
		PG_GETARG_DATUM(3),
		PG_GETARG_DATUM(4),
		Int64GetDatum((int64) eduai_core_random()),
		TimestampTzGetDatum(eduai_core_now()),
	};
	char nulls[8] = {' ', ' ', PG_ARGISNULL(1) ? 'n' : ' ', PG_ARGISNULL(2) ? 'n' : ' ', ' ', ' ',
					 ' ', ' '};

	eduai_core_run_latest(&insert, args, nulls);
	insert_members(change, PG_GETARG_INT32(4), PG_GETARG_INT64(3), false);
}

/* create_subscription(name, event_types, category, after_position, members) */
Datum
eduai_create_subscription(PG_FUNCTION_ARGS)
{
	Change change = begin_change(fcinfo, "create_subscription()");
	EduaiPrivilege saved;

	require(fcinfo, 3, "after_position");
	require(fcinfo, 4, "members");
	if (!PG_ARGISNULL(1))
		check_event_types(PG_GETARG_ARRAYTYPE_P(1));
	if (!PG_ARGISNULL(2))
		check_category(text_to_cstring(PG_GETARG_TEXT_PP(2)));
	check_members(PG_GETARG_INT32(4));
	eduai_core_enter(&saved);
	SPI_connect();
	check_position(PG_GETARG_INT64(3));
	if (lock_subscription(&change))
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
						errmsg("subscription \"%s\" already exists", change.name)));
	insert_subscription(fcinfo, &change);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

/* drop_subscription(name) */
Datum
eduai_drop_subscription(PG_FUNCTION_ARGS)
{
	static EduaiPlan drop = {
		"DELETE FROM eduai.subscription WHERE tenant_id = $1 AND name = $2", 2, {TEXTOID, TEXTOID}};
	Change change = begin_change(fcinfo, "drop_subscription()");
	Datum args[2] = {CStringGetTextDatum(change.tenant), CStringGetTextDatum(change.name)};
	EduaiPrivilege saved;

	eduai_core_enter(&saved);
	SPI_connect();
	if (!lock_subscription(&change))
		refuse_unknown(change.name);
	lock_members(&change, change.members);
	eduai_core_run_latest(&drop, args, NULL);
	delete_members(&change);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

/* set_subscription_members(name, members) */
Datum
eduai_set_subscription_members(PG_FUNCTION_ARGS)
{
	Change change = begin_change(fcinfo, "set_subscription_members()");
	EduaiPrivilege saved;
	int members;

	require(fcinfo, 1, "members");
	members = PG_GETARG_INT32(1);
	check_members(members);
	eduai_core_enter(&saved);
	SPI_connect();
	if (!lock_subscription(&change))
		refuse_unknown(change.name);
	if (members != change.members)
	{
		lock_members(&change, Max(members, change.members));
		rearrange(&change, members, least_position(&change));
	}
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

/* seek_subscription(name, after_position) */
Datum
eduai_seek_subscription(PG_FUNCTION_ARGS)
{
	Change change = begin_change(fcinfo, "seek_subscription()");
	EduaiPrivilege saved;

	require(fcinfo, 1, "after_position");
	eduai_core_enter(&saved);
	SPI_connect();
	check_position(PG_GETARG_INT64(1));
	if (!lock_subscription(&change))
		refuse_unknown(change.name);
	lock_members(&change, change.members);
	rearrange(&change, change.members, PG_GETARG_INT64(1));
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}
