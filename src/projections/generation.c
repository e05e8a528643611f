/*
 * generation.c: live, next and retired generations.  See generation.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/heap.h"
#include "core/pause.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "events/order.h"
#include "events/projector.h"
#include "miscadmin.h"
#include "projections/follow.h"
#include "projections/generation.h"
#include "projections/state_table.h"
#include "projections/tenants.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* rows deleted in one transaction */
#define CLEAR_ROWS 5000
/* how soon it tries again where a step was running */
#define CLEAR_LATER_MS 1000
/* events of all tenants that creating a projection may fold by itself */
#define SMALL_LOG 10000

enum
{
	GENERATION_PROJECTION,
	GENERATION_LIVE,
};

static EduaiTable generation_table = {"projection_generation", "projection_generation_pkey"};

static void
run_for(EduaiPlan *plan, int projection)
{
	Datum args[1] = {Int32GetDatum(projection)};

	(void) eduai_core_run_latest(plan, args, NULL);
}

/* eduai's own have no row before their first rebuild: generation 1 is live */
static EduaiPlan begin_next = {
	"INSERT INTO eduai.projection_generation AS g (projection, live, next) VALUES ($1, 1, 2)"
	" ON CONFLICT (projection) DO UPDATE SET"
	" next = 1 + greatest(g.live, (SELECT max(r) FROM unnest(g.retired) r)) WHERE g.next = 0",
	1,
	{INT4OID}};

void
eduai_projections_rebuild_wanted(int projection)
{
	EduaiPrivilege saved;

	eduai_core_enter(&saved);
	SPI_connect();
	eduai_projections_generation_begin(projection);
	SPI_finish();
	eduai_core_leave(&saved);
}

void
eduai_projections_generation_begin(int projection)
{
	run_for(&begin_next, projection);
	eduai_projections_forget();
}

bool
eduai_projections_generation_flip(int projection, int generation)
{
	static EduaiPlan flip = {"UPDATE eduai.projection_generation SET live = next, next = 0,"
							 " retired = CASE WHEN live = 0 THEN retired ELSE retired || live END"
							 " WHERE projection = $1 AND next = $2",
							 2,
							 {INT4OID, INT4OID}};
	static EduaiPlan forget_positions = {
		"DELETE FROM eduai.projection_position WHERE projection = $1 AND generation = $2",
		2,
		{INT4OID, INT4OID}};
	const EduaiProjection *p = eduai_projections_by_id(projection);
	Datum args[2] = {Int32GetDatum(projection), Int32GetDatum(generation)};

	if (eduai_core_run_latest(&flip, args, NULL) == 0)
		return false;
	/* nobody follows for it from now on */
	if (p != NULL && p->is_inline)
		(void) eduai_core_run_latest(&forget_positions, args, NULL);
	eduai_projections_forget();
	return true;
}

/* ---- creating ---- */

/* Whether the log has few enough events to be folded at once. */
static bool
is_log_small(void)
{
	static EduaiPlan count = {"SELECT coalesce(sum(o.events), 0) FROM"
							  " (SELECT r.events FROM eduai.event_order r LIMIT $1 + 1) o"
							  " WHERE NOT EXISTS (SELECT FROM eduai.event_block)",
							  1,
							  {INT8OID}};
	static EduaiPlan compacted = {"SELECT FROM eduai.event_block LIMIT 1", 0};
	Datum args[1] = {Int64GetDatum(SMALL_LOG)};

	if (eduai_core_run_latest(&compacted, NULL, NULL) > 0)
		return false;
	(void) eduai_core_run_latest(&count, args, NULL);
	return eduai_core_int64(0, 1, 0) <= SMALL_LOG;
}

/*
 * Without waiting: nobody else may be appending, this transaction's own events
 * have no positions before it commits, and its snapshot must not be old.
 */
static bool
can_be_built(const EduaiProjection *p)
{
	return p->next != 0 && p->is_inline && !IsolationUsesXactSnapshot() &&
		   !eduai_events_order_noted() && is_log_small() && eduai_projections_gate_close(true);
}

static void
build(const EduaiProjection *p)
{
	int n;
	char **tenants = eduai_projections_tenants(&n);

	for (int t = 0; t < n; t++)
		for (int lane = 0; lane < p->lanes; lane++)
		{
			EduaiFollower follower = {p->id, p->next, lane, p->lanes, tenants[t]};

			(void) eduai_projections_follow_rest(&follower);
		}
}

void
eduai_projections_created(int projection)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eduai created projection",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	EduaiPrivilege saved;
	const EduaiProjection *p;

	eduai_projections_forget();
	eduai_core_enter(&saved);
	SPI_connect();
	p = eduai_projections_by_id(projection);
	if (p == NULL)
		elog(ERROR, "there is no projection %d", projection);
	if (can_be_built(p))
	{
		build(p);
		(void) eduai_projections_generation_flip(projection, p->next);
	}
	SPI_finish();
	eduai_core_leave(&saved);
	eduai_projections_forget();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* ---- REPEATABLE READ ---- */

void
eduai_projections_generation_check(const EduaiProjection *p)
{
	ScanKeyData key;
	EduaiScan scan;
	int seen = p->id < EDUAI_PROJECTION_USERS ? 1 : 0;

	eduai_core_table_open(&scan, &generation_table, GetTransactionSnapshot(), 1);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(p->id));
	eduai_core_scan_seek(&scan, &key);
	if (eduai_core_scan_next(&scan, ForwardScanDirection))
		seen = DatumGetInt32(scan.slot->tts_values[GENERATION_LIVE]);
	eduai_core_scan_close(&scan);
	/* 0: this transaction sees none of its states, whoever folds them */
	if (seen == 0 || seen == p->live)
		return;
	ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					errmsg("could not serialize access to projection \"%s\"", p->name),
					errdetail("It was rebuilt after this transaction's snapshot was taken."),
					errhint("The transaction might succeed if retried.")));
}

/* ---- deleting what is retired ---- */

typedef struct Retired
{
	int projection;
	int generation;
} Retired;

/* In a transaction, inside SPI, as the owner; one of them, if there is any. */
static bool
find_retired(Retired *retired, int skip)
{
	static EduaiPlan read = {"SELECT g.projection, r.generation FROM eduai.projection_generation g,"
							 " unnest(g.retired) AS r (generation) ORDER BY 1, 2 OFFSET $1 LIMIT 1",
							 1,
							 {INT8OID}};
	Datum args[1] = {Int64GetDatum(skip)};

	if (eduai_core_run_latest(&read, args, NULL) == 0)
		return false;
	*retired = (Retired){(int) eduai_core_int64(0, 1, 0), (int) eduai_core_int64(0, 2, 0)};
	return true;
}

static int64
clear_parked(const Retired *retired)
{
	static EduaiPlan clear = {
		"DELETE FROM eduai.projection_parked WHERE ctid = ANY (ARRAY(SELECT ctid"
		" FROM eduai.projection_parked WHERE projection = $1 AND generation = $2 LIMIT $3))",
		3,
		{INT4OID, INT4OID, INT8OID}};
	Datum args[3] = {Int32GetDatum(retired->projection), Int32GetDatum(retired->generation),
					 Int64GetDatum(CLEAR_ROWS)};

	return (int64) eduai_core_run_latest(&clear, args, NULL);
}

/* Nothing is left of it: so nobody has to remember it. */
static void
forget_retired(const Retired *retired)
{
	static EduaiPlan positions = {
		"DELETE FROM eduai.projection_position WHERE projection = $1 AND generation = $2",
		2,
		{INT4OID, INT4OID}};
	static EduaiPlan remove = {
		"UPDATE eduai.projection_generation SET retired = pg_catalog.array_remove(retired, $2)"
		" WHERE projection = $1",
		2,
		{INT4OID, INT4OID}};
	static EduaiPlan drop = {
		"DELETE FROM eduai.projection_generation g WHERE g.projection = $1 AND $2 > 0"
		" AND g.retired = '{}' AND g.live = 0 AND g.next = 0"
		" AND NOT EXISTS (SELECT FROM eduai.projection p WHERE p.projection = g.projection)",
		2,
		{INT4OID, INT4OID}};
	Datum args[2] = {Int32GetDatum(retired->projection), Int32GetDatum(retired->generation)};

	(void) eduai_core_run_latest(&positions, args, NULL);
	(void) eduai_core_run_latest(&remove, args, NULL);
	(void) eduai_core_run_latest(&drop, args, NULL);
}

/*
 * Who appended before a projection was dropped may still fold into it, as long
 * as he holds the gate: its last rows come when he commits.
 */
typedef struct Stragglers
{
	Retired retired; /* projection 0: nobody is awaited */
	VirtualTransactionId *holders;
	int n;
} Stragglers;

static Stragglers stragglers = {0};

static void
list_stragglers(const Retired *retired)
{
	int n;
	VirtualTransactionId *holders = eduai_projections_gate_holders(&n);

	if (stragglers.holders != NULL)
		pfree(stragglers.holders);
	stragglers.holders =
		MemoryContextAlloc(TopMemoryContext, sizeof(VirtualTransactionId) * (n + 1));
	memcpy(stragglers.holders, holders, sizeof(VirtualTransactionId) * n);
	stragglers.n = n;
	stragglers.retired = *retired;
}

/* True once all who held the gate when it was first asked do so no more. */
static bool
no_stragglers(const Retired *retired)
{
	if (stragglers.retired.projection != retired->projection ||
		stragglers.retired.generation != retired->generation)
		list_stragglers(retired);
	return !eduai_projections_gate_held_by(stragglers.holders, stragglers.n);
}

static long clear_again_ms; /* of clear_some() */

/* A batch of the first retired generation that nobody is stepping for. */
static void
clear_some(void)
{
	Retired retired;
	int skip = 0;

	clear_again_ms = -1;
	while (find_retired(&retired, skip))
	{
		const EduaiProjectionKind *kind = eduai_projections_kind(retired.projection);
		bool last;

		skip++;
		if (kind == NULL)
			continue;
		/* a step that began before it was retired may still be writing rows */
		if (!eduai_projections_hold_followers(retired.projection, true))
		{
			clear_again_ms = CLEAR_LATER_MS;
			continue;
		}
		EDUAI_PAUSE("projections-clear");
		last = no_stragglers(&retired);
		if (kind->clear(retired.projection, retired.generation, CLEAR_ROWS) > 0 ||
			clear_parked(&retired) > 0)
			clear_again_ms = 0;
		else if (last)
		{
			forget_retired(&retired);
			clear_again_ms = 0;
		}
		else
		{
			clear_again_ms = CLEAR_LATER_MS;
			continue;
		}
		return;
	}
}

static long
clear_retired(void)
{
	eduai_events_as_owner(clear_some);
	return clear_again_ms;
}

void
eduai_projections_generation_init(void)
{
	static const EduaiChore chore = {"retired projections", clear_retired, NULL};

	eduai_events_chore_register(&chore);
}
