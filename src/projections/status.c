/*
 * status.c: eduai.projection_status, and what health() says of following.
 *
 * Catalogue and positions are read in the calling statement's snapshot; what
 * the processes are at comes from shared memory.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/health.h"
#include "core/json.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "events/feed.h"
#include "fmgr.h"
#include "funcapi.h"
#include "projections/catalog.h"
#include "projections/failing.h"
#include "projections/place.h"
#include "projections/rebuild_state.h"
#include "projections/status.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(eduai_projection_statuses);

enum
{
	SHOWN_NAME,
	SHOWN_MODE,
	SHOWN_POSITION,
	SHOWN_LAG_EVENTS,
	SHOWN_LAG_SECONDS,
	SHOWN_PARKED,
	SHOWN_REBUILDING,
	SHOWN_LIVE,
	SHOWN_REBUILD_POSITION,
	SHOWN_REBUILD_PHASE,
	SHOWN_ERROR,
	SHOWN_LANES,
	SHOWN_COLUMNS,
};

/* A projection as the statement's snapshot shows it. */
typedef struct Shown
{
	int id;
	char *name;
	bool is_inline;
	int lanes;
	int live;
	int next;
	int64 parked;
} Shown;

/* ---- reading ---- */

/* eduai's own come as arrays: ids, names, whether inline, lanes */
static EduaiPlan read_all = {
	"SELECT p.id, p.name, p.inline, p.lanes, coalesce(g.live, 1), coalesce(g.next, 0),"
	" (SELECT count(*) FROM eduai.projection_parked k WHERE k.tenant_id = $1"
	"  AND k.projection = p.id AND k.error IS NOT NULL"
	"  AND k.generation = CASE g.live WHEN 0 THEN g.next ELSE g.live END)"
	" FROM (SELECT * FROM unnest($2, $3, $4, $5)"
	"  UNION ALL SELECT u.projection, u.name, (u.mode = 'inline')::int, u.lanes"
	"  FROM eduai.projection u) AS p (id, name, inline, lanes)"
	" LEFT JOIN eduai.projection_generation g ON g.projection = p.id ORDER BY p.name",
	5,
	{TEXTOID, INT4ARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID}};

static EduaiPlan read_places = {"SELECT lane, position FROM eduai.projection_position"
								" WHERE tenant_id = $1 AND projection = $2 AND generation = $3",
								3,
								{TEXTOID, INT4OID, INT4OID}};

/* The furthest that all lanes of a generation have come. */
static int64
position_of(const Shown *shown, int generation, const char *tenant)
{
	Datum args[3] = {CStringGetTextDatum(tenant), Int32GetDatum(shown->id),
					 Int32GetDatum(generation)};
	uint64 n = eduai_core_query(&read_places, args, NULL);
	int64 *positions = palloc0_array(int64, shown->lanes);
	int64 least = PG_INT64_MAX;

	for (uint64 row = 0; row < n; row++)
	{
		int64 lane = eduai_core_int64(row, 1, 0);

		if (lane < shown->lanes)
			positions[lane] = eduai_core_int64(row, 2, 0);
	}
	for (int lane = 0; lane < shown->lanes; lane++)
	{
		EduaiFollower follower = {shown->id, generation, lane, shown->lanes, tenant};

		least = Min(least, eduai_projections_place_passed(&follower, positions[lane]));
	}
	return least;
}

static bool
take_time(const EduaiRecord *record, void *arg)
{
	*(TimestampTz *) arg = record->recorded_at;
	return false;
}

/* How old the first event after a position is, in seconds; 0 without one. */
static double
lag_seconds(const EduaiFeedView *view, const char *tenant, int64 position)
{
	EduaiFeedFilter everything = {0};
	TimestampTz recorded_at = 0;
	int64 scanned;

	if (eduai_events_feed_read(view, tenant, position, &everything, 1, take_time, &recorded_at,
							   &scanned) == 0)
		return 0;
	return Max(0, (double) (eduai_core_now() - recorded_at) / USECS_PER_SEC);
}

/* ---- rows ---- */

static const char *
phase_name(EduaiRebuildPhase phase)
{
	switch (phase)
	{
		case EDUAI_REBUILD_NONE:
		case EDUAI_REBUILD_STARTS:
			return "waiting for a process";
		case EDUAI_REBUILD_FOLDS:
			return "folding";
		case EDUAI_REBUILD_WAITS:
			return "waiting for open transactions";
		case EDUAI_REBUILD_CUTS_OVER:
			return "cutting over";
	}
	return NULL;
}

static void
put_lag(const Shown *shown, const char *tenant, Datum *values, bool *nulls)
{
	EduaiFeedView view;
	int64 position;
	int64 lag;

	nulls[SHOWN_POSITION] = shown->is_inline || shown->live == 0;
	values[SHOWN_LAG_EVENTS] = Int64GetDatum(0);
	values[SHOWN_LAG_SECONDS] = Float8GetDatum(0);
	if (nulls[SHOWN_POSITION])
		return;
	position = position_of(shown, shown->live, tenant);
	view = eduai_events_feed_open(tenant);
	lag = position < view.through ? eduai_events_feed_count(&view, tenant, position, view.through)
								  : 0;
	values[SHOWN_POSITION] = Int64GetDatum(position);
	values[SHOWN_LAG_EVENTS] = Int64GetDatum(lag);
	if (lag > 0)
		values[SHOWN_LAG_SECONDS] = Float8GetDatum(lag_seconds(&view, tenant, position));
	eduai_events_feed_close(&view);
}

static void
put_row(ReturnSetInfo *result, const Shown *shown, const char *tenant)
{
	Datum values[SHOWN_COLUMNS] = {0};
	bool nulls[SHOWN_COLUMNS] = {0};
	EduaiFailing failing;

	values[SHOWN_NAME] = CStringGetTextDatum(shown->name);
	values[SHOWN_MODE] = CStringGetTextDatum(shown->is_inline ? "inline" : "async");
	put_lag(shown, tenant, values, nulls);
	values[SHOWN_PARKED] = Int64GetDatum(shown->parked);
	values[SHOWN_REBUILDING] = BoolGetDatum(shown->next != 0);
	values[SHOWN_LIVE] = Int32GetDatum(shown->live);
	nulls[SHOWN_LIVE] = shown->live == 0;
	nulls[SHOWN_REBUILD_POSITION] = nulls[SHOWN_REBUILD_PHASE] = shown->next == 0;
	if (shown->next != 0)
	{
		EduaiRebuild rebuild = eduai_projections_rebuild_get(shown->id);

		values[SHOWN_REBUILD_POSITION] = Int64GetDatum(position_of(shown, shown->next, tenant));
		values[SHOWN_REBUILD_PHASE] = CStringGetTextDatum(phase_name(rebuild.phase));
	}
	nulls[SHOWN_ERROR] = !eduai_projections_failing_get(shown->id, &failing);
	if (!nulls[SHOWN_ERROR])
		values[SHOWN_ERROR] = CStringGetTextDatum(failing.message);
	values[SHOWN_LANES] = Int32GetDatum(shown->lanes);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* The arguments that describe eduai's own. */
static void
describe_own(Datum *args)
{
	const EduaiProjectionList *all = eduai_projections_all();
	int32 *ids = palloc_array(int32, all->n + 1);
	char **names = palloc_array(char *, all->n + 1);
	int32 *inlines = palloc_array(int32, all->n + 1);
	int32 *lanes = palloc_array(int32, all->n + 1);
	int n = 0;

	for (int i = 0; i < all->n; i++)
	{
		const EduaiProjection *p = &all->projections[i];

		if (p->id >= EDUAI_PROJECTION_USERS)
			continue;
		ids[n] = p->id;
		names[n] = pstrdup(p->name);
		inlines[n] = p->is_inline ? 1 : 0;
		lanes[n++] = p->lanes;
	}
	args[0] = eduai_core_int4_array(ids, NULL, n);
	args[1] = eduai_core_text_array(names, n);
	args[2] = eduai_core_int4_array(inlines, NULL, n);
	args[3] = eduai_core_int4_array(lanes, NULL, n);
}

/* All projections in the statement's snapshot.  Inside SPI, as the owner. */
static Shown *
read_shown(const char *tenant, uint64 *n)
{
	Datum args[5] = {CStringGetTextDatum(tenant)};
	Shown *shown;

	describe_own(&args[1]);
	*n = eduai_core_query(&read_all, args, NULL);
	shown = palloc_array(Shown, *n + 1);
	for (uint64 row = 0; row < *n; row++)
		shown[row] = (Shown){.id = (int) eduai_core_int64(row, 1, 0),
							 .name = eduai_core_text(row, 2),
							 .is_inline = eduai_core_int64(row, 3, 0) != 0,
							 .lanes = (int) eduai_core_int64(row, 4, 1),
							 .live = (int) eduai_core_int64(row, 5, 0),
							 .next = (int) eduai_core_int64(row, 6, 0),
							 .parked = eduai_core_int64(row, 7, 0)};
	return shown;
}

/* projection_statuses() returns setof projection_status_row */
Datum
eduai_projection_statuses(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *tenant = eduai_core_tenant();
	EduaiPrivilege saved;
	Shown *shown;
	uint64 n;

	InitMaterializedSRF(fcinfo, 0);
	eduai_core_enter(&saved);
	SPI_connect();
	shown = read_shown(tenant, &n);
	for (uint64 i = 0; i < n; i++)
		put_row(result, &shown[i], tenant);
	SPI_finish();
	eduai_core_leave(&saved);
	return (Datum) 0;
}

/* ---- health ---- */

static void
put_failing(EduaiHealth *health, const EduaiProjection *p, const EduaiFailing *failing)
{
	char *tenant = failing->tenant[0] ? psprintf(" for tenant \"%s\"", failing->tenant) : "";

	eduai_core_health_problem(
		health, "projection_failing", "warning", failing->since,
		psprintf("Projection \"%s\" stands still%s: %s (SQLSTATE %s).", p->name, tenant,
				 failing->message, unpack_sql_state(failing->sqlstate)),
		"It is tried again at least once a minute. The server log has the details.");
}

static void
report(EduaiHealth *health)
{
	const EduaiProjectionList *all = eduai_projections_all();
	EduaiJson j;
	int failures = 0;
	int rebuilding = 0;

	for (int i = 0; i < all->n; i++)
	{
		EduaiFailing failing;

		rebuilding += all->projections[i].next != 0 ? 1 : 0;
		if (!eduai_projections_failing_get(all->projections[i].id, &failing))
			continue;
		failures++;
		put_failing(health, &all->projections[i], &failing);
	}
	eduai_core_json_begin(&j);
	eduai_core_json_put_int(&j, "projections", all->n);
	eduai_core_json_put_int(&j, "failing", failures);
	eduai_core_json_put_int(&j, "rebuilding", rebuilding);
	eduai_core_health_section(health, "projections", eduai_core_json_end(&j));
}

void
eduai_projections_status_init(void)
{
	eduai_core_health_register(report);
}
