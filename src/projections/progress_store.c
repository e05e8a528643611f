/*
 * progress_store.c: the table of the learners' progress.  See progress_store.h.
 *
 * A learner's lock, held to commit, makes the transactions that fold into the
 * same row take turns.  Rows are read and written with the latest snapshot,
 * so that the second in turn folds on what the first committed.
 *
 * Under REPEATABLE READ that is not enough: a transaction whose snapshot shows
 * an older version of the row would from then on see that one beside its own.
 * It gets 40001, as from an UPDATE.  A row that its snapshot does not show at
 * all does no such harm, so a learner's first events never fail.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/lock.h"
#include "core/plan.h"
#include "projections/progress_store.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* A learner of the batch and their events, a run of an array sorted by learner. */
typedef struct LearnerRun
{
	EduaiEvent **events;
	int nevents;
	EduaiProgress *progress;
	bool is_new; /* no row yet */
} LearnerRun;

static EduaiPlan read_one = {"SELECT 1::bigint, state, version, last_activity FROM eduai.progress"
							 " WHERE tenant_id = $1 AND user_id = $2",
							 2,
							 {TEXTOID, TEXTOID}};

/* OFFSET 0 keeps the lookups apart: a row at a time, by index, never a join of all */
static EduaiPlan read_many = {"SELECT u.place, p.state, p.version, p.last_activity"
							  " FROM unnest($2) WITH ORDINALITY AS u (user_id, place),"
							  " LATERAL (SELECT state, version, last_activity FROM eduai.progress"
							  "  WHERE tenant_id = $1 AND user_id = u.user_id OFFSET 0) AS p",
							  2,
							  {TEXTOID, TEXTARRAYOID}};

static EduaiPlan update_one = {
	"UPDATE eduai.progress SET state = $3, version = $4, last_activity = $5"
	" WHERE tenant_id = $1 AND user_id = $2",
	5,
	{TEXTOID, TEXTOID, JSONBOID, INT8OID, TIMESTAMPTZOID}};

static EduaiPlan insert_one = {
	"INSERT INTO eduai.progress (tenant_id, user_id, state, version, last_activity)"
	" VALUES ($1, $2, $3, $4, $5)",
	5,
	{TEXTOID, TEXTOID, JSONBOID, INT8OID, TIMESTAMPTZOID}};

static EduaiPlan write_many = {
	"INSERT INTO eduai.progress (tenant_id, user_id, state, version, last_activity)"
	" SELECT $1, u.* FROM unnest($2, $3, $4, $5) AS u"
	" ON CONFLICT (tenant_id, user_id) DO UPDATE SET state = excluded.state,"
	" version = excluded.version, last_activity = excluded.last_activity",
	5,
	{TEXTOID, TEXTARRAYOID, JSONBARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID}};

bool
eduai_projections_lock_learners(EduaiAppendBatch *batch)
{
	uint64 *keys = palloc(sizeof(uint64) * batch->nevents);
	int n = 0;

	for (int i = 0; i < batch->nevents; i++)
		if (batch->events[i].user_id != NULL)
			keys[n++] = eduai_core_lock_key(batch->tenant, batch->events[i].user_id);
	return eduai_core_lock_all(EDUAI_LOCK_LEARNER, keys, n, batch->nowait);
}

static int
compare_learners(const void *a, const void *b)
{
	const EduaiEvent *x = *(EduaiEvent *const *) a;
	const EduaiEvent *y = *(EduaiEvent *const *) b;
	int order = strcmp(x->user_id, y->user_id);

	/* events stand in one array: their addresses tell their order */
	return order != 0 ? order : x < y ? -1 : x > y;
}

/* The learners of the batch; n is their number. */
static LearnerRun *
group_by_learner(const EduaiAppendBatch *batch, int *n)
{
	EduaiEvent **events = palloc(sizeof(EduaiEvent *) * batch->nevents);
	LearnerRun *runs = palloc(sizeof(LearnerRun) * batch->nevents);
	int nevents = 0;

	for (int i = 0; i < batch->nevents; i++)
		if (batch->events[i].user_id != NULL)
			events[nevents++] = &batch->events[i];
	qsort(events, nevents, sizeof(EduaiEvent *), compare_learners);
	*n = 0;
	for (int i = 0; i < nevents; i++)
	{
		if (i == 0 || strcmp(events[i]->user_id, events[i - 1]->user_id) != 0)
			runs[(*n)++] = (LearnerRun){&events[i], 0, NULL, true};
		runs[*n - 1].nevents++;
	}
	return runs;
}

static Datum
user_array(const LearnerRun *runs, int n)
{
	char **users = palloc(sizeof(char *) * n);

	for (int i = 0; i < n; i++)
		users[i] = runs[i].events[0]->user_id;
	return eduai_core_text_array(users, n);
}

static uint64
query_rows(uint64 (*run)(EduaiPlan *plan, Datum *args, const char *nulls), const char *tenant,
		   const LearnerRun *runs, int n)
{
	Datum args[2] = {CStringGetTextDatum(tenant)};

	args[1] = n == 1 ? CStringGetTextDatum(runs[0].events[0]->user_id) : user_array(runs, n);
	return run(n == 1 ? &read_one : &read_many, args, NULL);
}

static void
read_rows(const char *tenant, LearnerRun *runs, int n)
{
	uint64 found = query_rows(eduai_core_run_latest, tenant, runs, n);
	bool isnull;

	for (uint64 row = 0; row < found; row++)
	{
		LearnerRun *run = &runs[eduai_core_int64(row, 1, 0) - 1];
		Jsonb *state = DatumGetJsonbP(eduai_core_value(row, 2, &isnull));
		int64 version = eduai_core_int64(row, 3, 0);
		TimestampTz last_activity = DatumGetTimestampTz(eduai_core_value(row, 4, &isnull));

		run->progress = eduai_projections_progress_read(state, version, last_activity);
		run->is_new = false;
	}
	for (int i = 0; i < n; i++)
		if (runs[i].is_new)
			runs[i].progress = eduai_projections_progress_read(NULL, 0, DT_NOBEGIN);
}

static void
refuse_changed(const LearnerRun *run)
{
	ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					errmsg("could not serialize access to the progress of learner \"%s\"",
						   run->events[0]->user_id),
					errdetail("It changed after this transaction's snapshot was taken."),
					errhint("The transaction might succeed if retried.")));
}

/* Raises 40001 when this transaction's snapshot shows another row than the latest. */
static void
check_snapshot(const char *tenant, const LearnerRun *runs, int n)
{
	uint64 found;

	if (!IsolationUsesXactSnapshot())
		return;
	found = query_rows(eduai_core_run, tenant, runs, n);
	for (uint64 row = 0; row < found; row++)
	{
		const LearnerRun *run = &runs[eduai_core_int64(row, 1, 0) - 1];
		int64 version = eduai_core_int64(row, 3, 0);

		if (run->is_new || version != eduai_projections_progress_version(run->progress))
			refuse_changed(run);
	}
}

static void
write_row(const char *tenant, const LearnerRun *run)
{
	Datum args[5] = {
		CStringGetTextDatum(tenant),
		CStringGetTextDatum(run->events[0]->user_id),
		JsonbPGetDatum(eduai_projections_progress_state(run->progress)),
		Int64GetDatum(eduai_projections_progress_version(run->progress)),
		TimestampTzGetDatum(eduai_projections_progress_last_activity(run->progress)),
	};

	eduai_core_run_latest(run->is_new ? &insert_one : &update_one, args, NULL);
}

static void
write_rows(const char *tenant, const LearnerRun *runs, int n)
{
	Datum args[5] = {CStringGetTextDatum(tenant), user_array(runs, n)};
	Datum *states = palloc(sizeof(Datum) * n);
	Datum *versions = palloc(sizeof(Datum) * n);
	Datum *times = palloc(sizeof(Datum) * n);

	for (int i = 0; i < n; i++)
	{
		const EduaiProgress *progress = runs[i].progress;

		states[i] = JsonbPGetDatum(eduai_projections_progress_state(progress));
		versions[i] = Int64GetDatum(eduai_projections_progress_version(progress));
		times[i] = TimestampTzGetDatum(eduai_projections_progress_last_activity(progress));
	}
	args[2] = eduai_core_datum_array(states, NULL, n, JSONBOID);
	args[3] = eduai_core_datum_array(versions, NULL, n, INT8OID);
	args[4] = eduai_core_datum_array(times, NULL, n, TIMESTAMPTZOID);
	eduai_core_run_latest(&write_many, args, NULL);
}

void
eduai_projections_fold_batch(EduaiAppendBatch *batch)
{
	int n;
	LearnerRun *runs = group_by_learner(batch, &n);

	if (n == 0)
		return;
	read_rows(batch->tenant, runs, n);
	check_snapshot(batch->tenant, runs, n);
	for (int i = 0; i < n; i++)
		for (int j = 0; j < runs[i].nevents; j++)
			eduai_projections_progress_fold(runs[i].progress, runs[i].events[j]);
	if (n == 1)
		write_row(batch->tenant, &runs[0]);
	else
		write_rows(batch->tenant, runs, n);
}
