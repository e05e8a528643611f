/*
 * erase.c: erase_user().  See erase.h.
 *
 * The call writes the intent and its steps, a handful of rows whatever the
 * learner has, and says what is expected where; the keeper does the rest after
 * the commit.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/errors.h"
#include "core/json.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "core/tenant.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "privacy/erase.h"
#include "privacy/keeper.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define MAX_USER_ID 1024
#define MAX_REASON  1000

PG_FUNCTION_INFO_V1(eduai_erase_user);
PG_FUNCTION_INFO_V1(eduai_user_ref);

/* ---- the intent ---- */

static EduaiPlan insert_intent = {
	"INSERT INTO eduai.erasure (tenant_id, user_ref, user_id, reason, requested_at, requested_by,"
	" probe, key_id) VALUES ($1, $2, $3, $4, pg_catalog.clock_timestamp(), $5, $6, $7)"
	" ON CONFLICT DO NOTHING",
	7,
	{TEXTOID, TEXTOID, TEXTOID, TEXTOID, NAMEOID, INT4OID, UUIDOID}};
static EduaiPlan insert_step = {
	"INSERT INTO eduai.erasure_step (tenant_id, user_ref, source, rank, expected, exact)"
	" VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
	6,
	{TEXTOID, TEXTOID, TEXTOID, INT4OID, INT8OID, BOOLOID}};
static EduaiPlan insert_table_steps = {
	"INSERT INTO eduai.erasure_step (tenant_id, user_ref, source, rank, expected, exact)"
	" SELECT $1, $2, 'table:' || t.tbl || '.' || t.user_column, 30, 0, false"
	" FROM eduai.personal_table t WHERE t.tenant_id = $1 ON CONFLICT DO NOTHING",
	2,
	{TEXTOID, TEXTOID}};

static void
add_steps(const char *tenant, const char *user_id, const char *user_ref)
{
	const EduaiPersonalStore *store;
	Datum args[6] = {CStringGetTextDatum(tenant), CStringGetTextDatum(user_ref)};

	for (int i = 0; (store = eduai_core_personal_store(i)) != NULL; i++)
	{
		if (store->erase == NULL && store->erase_part == NULL)
			continue;
		args[2] = CStringGetTextDatum(store->name);
		args[3] = Int32GetDatum(store->rank);
		args[4] = Int64GetDatum(store->remaining ? store->remaining(tenant, user_id) : 0);
		args[5] = BoolGetDatum(store->exact);
		eduai_core_run_latest(&insert_step, args, NULL);
	}
	eduai_core_run_latest(&insert_table_steps, args, NULL);
}

bool
eduai_privacy_erase_intend(const char *tenant, const char *user_id, const char *reason,
						   const EduaiErasedDigest *digest)
{
	NameData role;
	Datum args[] = {CStringGetTextDatum(tenant),  CStringGetTextDatum(digest->ref),
					CStringGetTextDatum(user_id), reason ? CStringGetTextDatum(reason) : (Datum) 0,
					NameGetDatum(&role),          Int32GetDatum(digest->probe),
					UUIDPGetDatum(&digest->key)};
	char nulls[] = "       ";

	namestrcpy(&role, GetUserNameFromId(GetSessionUserId(), false));
	nulls[3] = reason ? ' ' : 'n';
	/* the mark first: who sees the row sees it, too */
	eduai_privacy_erased_mark(digest);
	if (eduai_core_run_latest(&insert_intent, args, nulls) == 0)
		return false;
	add_steps(tenant, user_id, digest->ref);
	eduai_privacy_keeper_wake_at_commit();
	return true;
}

void
eduai_privacy_erasures_hold(const char *mode)
{
	if (SPI_execute(psprintf("LOCK TABLE eduai.erasure IN %s MODE", mode), false, 0) < 0)
		elog(ERROR, "could not lock the erasures");
}

bool
eduai_privacy_erase_wants_blocks(const char *tenant)
{
	static EduaiPlan wants = {"SELECT FROM eduai.erasure_step s WHERE s.tenant_id = $1"
							  " AND s.source = 'events' AND NOT s.done AND s.failures = 0 LIMIT 1",
							  1,
							  {TEXTOID}};
	Datum arg = CStringGetTextDatum(tenant);

	return eduai_core_run_latest(&wants, &arg, NULL) > 0;
}

/* ---- the answer ---- */

static EduaiPlan intent = {"SELECT e.requested_at, e.completed_at, e.removed FROM eduai.erasure e"
						   " WHERE e.tenant_id = $1 AND e.user_ref = $2",
						   2,
						   {TEXTOID, TEXTOID}};
static EduaiPlan steps = {"SELECT s.source, s.expected, s.exact, s.removed, s.done"
						  " FROM eduai.erasure_step s WHERE s.tenant_id = $1 AND s.user_ref = $2"
						  " ORDER BY s.rank, s.source",
						  2,
						  {TEXTOID, TEXTOID}};

static void
put_steps(EduaiJson *j, Datum *args)
{
	uint64 n = eduai_core_run_latest(&steps, args, NULL);
	bool isnull;

	eduai_core_json_open_object(j, "sources");
	for (uint64 i = 0; i < n; i++)
	{
		eduai_core_json_open_object(j, eduai_core_text(i, 1));
		eduai_core_json_put_int(j, "rows", eduai_core_int64(i, 2, 0));
		eduai_core_json_put_text(
			j, "count", DatumGetBool(eduai_core_value(i, 3, &isnull)) ? "exact" : "at least");
		eduai_core_json_put_int(j, "removed", eduai_core_int64(i, 4, 0));
		eduai_core_json_put_bool(j, "done", DatumGetBool(eduai_core_value(i, 5, &isnull)));
		eduai_core_json_close_object(j);
	}
	eduai_core_json_close_object(j);
}

static Jsonb *
answer(const char *tenant, const char *user_ref)
{
	Datum args[] = {CStringGetTextDatum(tenant), CStringGetTextDatum(user_ref)};
	EduaiJson j;
	bool isnull;
	bool pending;

	if (eduai_core_run_latest(&intent, args, NULL) == 0)
		elog(ERROR, "the erasure is not there");
	eduai_core_json_begin(&j);
	eduai_core_json_put_text(&j, "user_ref", user_ref);
	eduai_core_json_put_time(&j, "requested_at",
							 DatumGetTimestampTz(eduai_core_value(0, 1, &isnull)));
	(void) eduai_core_value(0, 2, &pending);
	eduai_core_json_put_text(&j, "state", pending ? "pending" : "complete");
	if (pending)
		put_steps(&j, args);
	else
		eduai_core_json_put_json(&j, "removed", DatumGetJsonbP(eduai_core_value(0, 3, &isnull)));
	return eduai_core_json_end(&j);
}

/* ---- SQL ---- */

char *
eduai_privacy_user_argument(FunctionCallInfo fcinfo)
{
	char *user_id;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("user_id must not be null")));
	user_id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (user_id[0] == '\0' || strlen(user_id) > MAX_USER_ID)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid user_id \"%.64s\"", user_id),
						errhint("Give 1 to %d bytes.", MAX_USER_ID)));
	return user_id;
}

static char *
reason_argument(FunctionCallInfo fcinfo, const char *user_id)
{
	char *reason = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));

	if (reason != NULL && (strlen(reason) > MAX_REASON || strstr(reason, user_id) != NULL))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid reason of %zu bytes", strlen(reason)),
						errhint("It is kept for ever: at most %d bytes, and not the user_id.",
								MAX_REASON)));
	return reason;
}

/* erase_user(user_id, reason) returns jsonb */
Datum
eduai_erase_user(PG_FUNCTION_ARGS)
{
	char *user_id = eduai_privacy_user_argument(fcinfo);
	char *reason = reason_argument(fcinfo, user_id);
	char *tenant = eduai_core_tenant();
	MemoryContext caller = CurrentMemoryContext;
	EduaiErasedDigest digest;
	EduaiPrivilege saved;
	Jsonb *result;
	Jsonb *copy;

	PreventCommandIfReadOnly("erase_user()");
	eduai_core_require_preload("erasure");
	eduai_core_enter(&saved);
	SPI_connect();
	eduai_privacy_digest(EDUAI_ERASED_LEARNER, tenant, user_id, &digest);
	(void) eduai_privacy_erase_intend(tenant, user_id, reason, &digest);
	result = answer(tenant, digest.ref);
	copy = MemoryContextAlloc(caller, VARSIZE(result));
	memcpy(copy, result, VARSIZE(result));
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_JSONB_P(copy);
}

/* user_ref(user_id) returns text */
Datum
eduai_user_ref(PG_FUNCTION_ARGS)
{
	char *user_id = eduai_privacy_user_argument(fcinfo);
	char *tenant = eduai_core_tenant();
	EduaiErasedDigest digest;
	EduaiPrivilege saved;

	PreventCommandIfReadOnly("user_ref()");
	eduai_core_enter(&saved);
	SPI_connect();
	eduai_privacy_digest(EDUAI_ERASED_LEARNER, tenant, user_id, &digest);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_TEXT_P(cstring_to_text(digest.ref));
}
