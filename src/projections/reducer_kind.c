/*
 * reducer_kind.c: the kind of users' projections.
 *
 * A fold reads its keys' rows, has their events folded (reduce.c), and writes
 * the rows.  The rows are read and written outside the guard: what it rolls
 * back is only what reducers did.
 */
#include "postgres.h"

#include "projections/catalog.h"
#include "projections/group.h"
#include "projections/park.h"
#include "projections/reduce.h"
#include "projections/reducer_kind.h"
#include "projections/state_table.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* The keys of a fold. */
typedef struct Keys
{
	EduaiKeyRun *runs;
	EduaiStateRow *rows; /* of the runs */
	int n;
	EduaiStateTable *table;
	bool locked; /* the parked events' lock is held */
} Keys;

static void
lock_parked(const EduaiFold *fold, Keys *keys)
{
	bool nowait = fold->batch != NULL && fold->batch->nowait;

	if (!keys->locked && !eduai_projections_parked_lock(fold->projection, fold->tenant, nowait))
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						errmsg("could not lock the parked events of projection \"%s\"",
							   fold->projection->name)));
	keys->locked = true;
}

/* True when one of the rows is parked. */
static bool
read_rows(const EduaiFold *fold, Keys *keys)
{
	bool parked = false;

	keys->table =
		eduai_projections_states_open(fold->tenant, fold->projection->id, fold->generation);
	for (int i = 0; i < keys->n; i++)
	{
		eduai_projections_states_read(keys->table, keys->runs[i].key, &keys->rows[i]);
		parked = parked || keys->rows[i].parked;
	}
	return parked;
}

/* The keys' rows; those that were parked may have been taken up by who had the lock. */
static Keys
read_keys(const EduaiFold *fold)
{
	Keys keys = {0};

	keys.runs = eduai_projections_group(fold, &keys.n);
	keys.rows = palloc_array(EduaiStateRow, Max(keys.n, 1));
	if (!read_rows(fold, &keys))
		return keys;
	eduai_projections_states_close(keys.table);
	lock_parked(fold, &keys);
	(void) read_rows(fold, &keys);
	return keys;
}

/* What came of a key: its row, and whether its events are parked from some place on. */
static void
write_key(EduaiStateTable *table, const EduaiReduction *r)
{
	EduaiStateRow row = r->after;

	row.parked = r->error != NULL;
	eduai_projections_states_write(table, r->run.key, &row);
}

static void
park_rest(const EduaiFold *fold, const EduaiReduction *reductions, int n)
{
	for (int i = 0; i < n; i++)
		if (reductions[i].error != NULL)
			eduai_projections_park(fold, &reductions[i].run, reductions[i].folded,
								   reductions[i].error);
}

static void
fold_keys(const EduaiFold *fold)
{
	Keys keys = read_keys(fold);
	EduaiReduction *reductions = palloc0(sizeof(EduaiReduction) * Max(keys.n, 1));
	int n = 0;

	for (int i = 0; i < keys.n; i++)
		if (!keys.rows[i].parked)
			reductions[n++] = (EduaiReduction){.run = keys.runs[i], .row = keys.rows[i]};
	eduai_projections_reduce(fold, reductions, n);
	for (int i = 0; i < n; i++)
		if (reductions[i].error != NULL)
			lock_parked(fold, &keys);
	for (int i = 0; i < n; i++)
		write_key(keys.table, &reductions[i]);
	eduai_projections_states_close(keys.table);
	for (int i = 0; i < keys.n; i++)
		if (keys.rows[i].parked)
			eduai_projections_park(fold, &keys.runs[i], 0, NULL);
	park_rest(fold, reductions, n);
}

static void
fold_events(const EduaiFold *fold)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "eduai projection", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	EduaiFold mine = *fold;

	mine.projection = eduai_projections_as_of(fold->projection, fold->generation);
	/* what is appended now cannot have been skipped */
	if (fold->batch == NULL)
		eduai_projections_drop_skipped(&mine, &mine);
	fold_keys(&mine);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

void
eduai_projections_reducer_init(void)
{
	static const EduaiProjectionKind kind = {
		.name = "reducer", .fold = fold_events, .clear = eduai_projections_states_clear};

	eduai_projections_kind_register(0, &kind);
	eduai_projections_reduce_init();
	eduai_projections_park_init();
}
