/*
 * parked_sql.c: retry_parked() and skip_parked().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "projections/admin.h"
#include "projections/park.h"
#include "projections/retry.h"
#include "projections/state_table.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

PG_FUNCTION_INFO_V1(eduai_retry_parked);
PG_FUNCTION_INFO_V1(eduai_skip_parked);

/*
 * The projection that the first argument names, with its parked events locked.
 * Not before the gate is the look at the catalogue good for the transaction.
 */
static const EduaiProjection *
lock_named(FunctionCallInfo fcinfo, const char *tenant)
{
	const EduaiProjection *projection;

	(void) eduai_projections_gate(false);
	projection = eduai_projections_named(fcinfo, 0, false);
	(void) eduai_projections_parked_lock(projection, tenant, false);
	return projection;
}

/* The generation that eduai.parked_event shows. */
static int
shown_generation(const EduaiProjection *projection)
{
	return projection->live != 0 ? projection->live : projection->next;
}

/* Takes up all keys of a generation. */
static int64
retry_generation(const EduaiProjection *projection, int generation, const char *tenant)
{
	static EduaiPlan list = {
		"SELECT DISTINCT key FROM eduai.projection_parked"
		" WHERE tenant_id = $1 AND projection = $2 AND generation = $3 ORDER BY key",
		3,
		{TEXTOID, INT4OID, INT4OID}};
	EduaiFold fold = eduai_projections_refold(projection, generation, tenant);
	Datum args[3] = {CStringGetTextDatum(tenant), Int32GetDatum(projection->id),
					 Int32GetDatum(generation)};
	uint64 n = eduai_core_run_latest(&list, args, NULL);
	char **keys = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * Max(n, 1));
	int64 folded = 0;

	for (uint64 row = 0; row < n; row++)
		keys[row] = eduai_core_text(row, 1);
	SPI_freetuptable(SPI_tuptable);
	for (uint64 i = 0; i < n; i++)
		folded += eduai_projections_retry_key(&fold, keys[i]);
	return folded;
}

/* retry_parked(projection) returns bigint */
Datum
eduai_retry_parked(PG_FUNCTION_ARGS)
{
	const EduaiProjection *projection;
	EduaiPrivilege saved;
	int64 folded;
	char *tenant;

	PreventCommandIfReadOnly("retry_parked()");
	tenant = eduai_core_tenant();
	projection = lock_named(fcinfo, tenant);
	eduai_core_enter(&saved);
	SPI_connect();
	folded = retry_generation(projection, shown_generation(projection), tenant);
	if (projection->live != 0 && projection->next != 0)
		(void) retry_generation(projection, projection->next, tenant);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_INT64(folded);
}

/* In SPI, as the owner: notes that the event is skipped; args: tenant, projection, id, role, time. */
static void
note_skipped(Datum *args)
{
	static EduaiPlan note = {
		"INSERT INTO eduai.projection_skipped (tenant_id, projection, event_id, role, skipped_at)"
		" VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
		5,
		{TEXTOID, INT4OID, UUIDOID, NAMEOID, TIMESTAMPTZOID}};

	eduai_core_run_latest(&note, args, NULL);
}

/* The key that a parked event of the generation blocks; NULL when it blocks none. */
static char *
blocked_key(Datum *args, int generation)
{
	static EduaiPlan find = {
		"SELECT key FROM eduai.projection_parked WHERE tenant_id = $1 AND projection = $2"
		" AND event_id = $3 AND generation = $4 AND error IS NOT NULL",
		4,
		{TEXTOID, INT4OID, UUIDOID, INT4OID}};
	Datum mine[4] = {args[0], args[1], args[2], Int32GetDatum(generation)};

	return eduai_core_run_latest(&find, mine, NULL) == 0 ? NULL : eduai_core_text(0, 1);
}

/* Goes on with the key; those that are skipped are passed over. */
static bool
go_on(const EduaiProjection *projection, int generation, const char *tenant, Datum *args)
{
	char *key = generation == 0 ? NULL : blocked_key(args, generation);
	EduaiFold fold = eduai_projections_refold(projection, generation, tenant);

	if (key != NULL)
		(void) eduai_projections_retry_key(&fold, key);
	return key != NULL;
}

/* skip_parked(projection, event_id) returns bigint */
Datum
eduai_skip_parked(PG_FUNCTION_ARGS)
{
	const EduaiProjection *projection;
	EduaiPrivilege saved;
	Datum args[5];
	char *tenant;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("event_id must not be null")));
	PreventCommandIfReadOnly("skip_parked()");
	tenant = eduai_core_tenant();
	projection = lock_named(fcinfo, tenant);
	args[0] = CStringGetTextDatum(tenant);
	args[1] = Int32GetDatum(projection->id);
	args[2] = PG_GETARG_DATUM(1);
	args[3] = DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetUserId(), false)));
	args[4] = TimestampTzGetDatum(eduai_core_now());
	eduai_core_enter(&saved);
	SPI_connect();
	note_skipped(args);
	if (!go_on(projection, shown_generation(projection), tenant, args))
		ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND),
						errmsg("projection \"%s\" has no parked event %s", projection->name,
							   DatumGetCString(DirectFunctionCall1(uuid_out, PG_GETARG_DATUM(1)))),
						errhint("eduai.parked_event lists them.")));
	if (projection->live != 0)
		(void) go_on(projection, projection->next, tenant, args);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_INT64(1);
}
