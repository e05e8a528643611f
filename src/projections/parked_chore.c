/*
 * parked_chore.c: the projector tries parked events again when their time has
 * come, each key in a transaction of its own, and health() tells of those that
 * wait for a person.
 *
 * It never waits for an application: a projection whose parked events somebody
 * has is left for a second.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/health.h"
#include "core/json.h"
#include "core/plan.h"
#include "events/projector.h"
#include "projections/park.h"
#include "projections/parked_chore.h"
#include "projections/retry.h"
#include "projections/state_table.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* keys taken up in one run, before the other chores get their turn, and for how long */
#define MAX_KEYS 50
#define RUN_MS   200
/* until a projection that is locked is looked at again */
#define BUSY_MS 1000

/* a generation that is read or being built; others are only waiting to be deleted */
#define IN_USE                                                                 \
	" FROM eduai.projection_parked AS p JOIN eduai.projection_generation AS g" \
	" ON g.projection = p.projection AND p.generation IN (g.live, g.next)"     \
	" WHERE p.error IS NOT NULL"

typedef struct DueKey
{
	char *tenant;
	char *key;
	int projection;
	int generation;
} DueKey;

/* of the run at hand: what its transactions' functions work on */
static MemoryContext due_context = NULL;
static DueKey due[MAX_KEYS];
static int ndue;
static const DueKey *current;
static bool busy;
static long next_ms;

static void
list_due(void)
{
	static EduaiPlan list = {"SELECT p.tenant_id, p.key, p.projection, p.generation" IN_USE
							 " AND p.next_try_at <= $1 ORDER BY p.next_try_at LIMIT $2",
							 2,
							 {TIMESTAMPTZOID, INT4OID}};
	Datum args[2] = {TimestampTzGetDatum(eduai_core_now()), Int32GetDatum(MAX_KEYS)};
	MemoryContext old;

	ndue = (int) eduai_core_run(&list, args, NULL);
	old = MemoryContextSwitchTo(due_context);
	for (int i = 0; i < ndue; i++)
		due[i] = (DueKey){.tenant = eduai_core_text(i, 1),
						  .key = eduai_core_text(i, 2),
						  .projection = (int) eduai_core_int64(i, 3, 0),
						  .generation = (int) eduai_core_int64(i, 4, 0)};
	MemoryContextSwitchTo(old);
}

static void
take_up(void)
{
	const EduaiProjection *projection;
	EduaiFold fold;

	if (!eduai_projections_gate(true))
	{
		busy = true;
		return;
	}
	projection = eduai_projections_by_id(current->projection);
	if (projection == NULL ||
		(current->generation != projection->live && current->generation != projection->next))
		return;
	if (!eduai_projections_parked_lock(projection, current->tenant, true))
	{
		busy = true;
		return;
	}
	fold = eduai_projections_refold(projection, current->generation, current->tenant);
	(void) eduai_projections_retry_key(&fold, current->key);
}

static void
find_next(void)
{
	static EduaiPlan find = {"SELECT min(p.next_try_at)" IN_USE " AND p.next_try_at IS NOT NULL",
							 0};
	bool isnull;
	Datum at;

	eduai_core_run(&find, NULL, NULL);
	at = eduai_core_value(0, 1, &isnull);
	next_ms =
		isnull ? -1 : TimestampDifferenceMilliseconds(eduai_core_now(), DatumGetTimestampTz(at));
}

static long
retry_due(void)
{
	int64 end_us = eduai_core_mono_us() + RUN_MS * 1000;

	if (due_context == NULL)
		due_context =
			AllocSetContextCreate(TopMemoryContext, "eduai due keys", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(due_context);
	busy = false;
	eduai_events_as_owner(list_due);
	for (int i = 0; i < ndue; i++)
	{
		if (eduai_core_mono_us() > end_us)
			return 0;
		current = &due[i];
		eduai_events_as_owner(take_up);
	}
	eduai_events_as_owner(find_next);
	return busy && next_ms >= 0 ? Max(next_ms, BUSY_MS) : next_ms;
}

/* ---- health ---- */

static const char *
name_of(int id)
{
	const EduaiProjection *projection = eduai_projections_by_id(id);

	return projection ? projection->name : "";
}

static void
report(EduaiHealth *health)
{
	static EduaiPlan count = {"SELECT p.projection, count(*), min(p.parked_at)" IN_USE
							  " AND p.next_try_at IS NULL GROUP BY p.projection"
							  " ORDER BY p.projection",
							  0};
	uint64 n = eduai_core_query(&count, NULL, NULL);
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 row = 0; row < n; row++)
	{
		const char *name = name_of((int) eduai_core_int64(row, 1, 0));
		bool isnull;

		SPI_tuptable = rows;
		eduai_core_health_problem(
			health, "projection_parked", "warning",
			DatumGetTimestampTz(eduai_core_value(row, 3, &isnull)),
			psprintf("Events that projection \"%s\" could not fold: %lld.", name,
					 (long long) eduai_core_int64(row, 2, 0)),
			"eduai.parked_event says why. Mend the reducer and call eduai.retry_parked(), or leave "
			"an event out with eduai.skip_parked().");
	}
}

void
eduai_projections_parked_chore_init(void)
{
	static const EduaiChore chore = {.name = "parked", .run = retry_due};

	eduai_events_chore_register(&chore);
	eduai_core_health_register(report);
}
