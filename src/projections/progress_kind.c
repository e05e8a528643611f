/*
 * progress_kind.c: the learners' progress as a projection of eduai's own.
 */
#include "postgres.h"

#include "projections/catalog.h"
#include "projections/group.h"
#include "projections/progress.h"
#include "projections/progress_kind.h"
#include "projections/state_table.h"

static void
fold_run(EduaiStateTable *table, const EduaiKeyRun *run)
{
	EduaiStateRow row;
	EduaiProgress *progress;

	eduai_projections_states_read(table, run->key, &row);
	progress = eduai_projections_progress_read(row.state, row.version, row.last_at);
	for (int i = 0; i < run->nevents; i++)
		eduai_projections_progress_fold(progress, run->events[i]);
	row.state = eduai_projections_progress_state(progress);
	row.version = eduai_projections_progress_version(progress);
	row.last_at = eduai_projections_progress_last_activity(progress);
	eduai_projections_states_write(table, run->key, &row);
}

static void
fold_progress(const EduaiFold *fold)
{
	EduaiStateTable *table =
		eduai_projections_states_open(fold->tenant, fold->projection->id, fold->generation);
	int n;
	EduaiKeyRun *runs = eduai_projections_group(fold, &n);

	for (int i = 0; i < n; i++)
		fold_run(table, &runs[i]);
	eduai_projections_states_close(table);
}

void
eduai_projections_progress_init(void)
{
	static const EduaiProjectionKind kind = {
		.name = "progress", .fold = fold_progress, .clear = eduai_projections_states_clear};

	eduai_projections_kind_register(EDUAI_PROJECTION_PROGRESS, &kind);
}
