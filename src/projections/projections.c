/*
 * projections.c: the room's start.
 */
#include "postgres.h"

#include "core/hooks.h"
#include "core/xact.h"
#include "projections/progress_store.h"
#include "projections/projections.h"

/* Only events about a learner change anybody's progress. */
static bool
wants(const EduaiAppendBatch *batch)
{
	for (int i = 0; i < batch->nevents; i++)
		if (batch->events[i].user_id != NULL)
			return true;
	return false;
}

static const EduaiAppendHooks append_hooks = {
	.name = "progress",
	.rank = EDUAI_RANK_PROJECTIONS,
	.wants = wants,
	.lock = eduai_projections_lock_learners,
	.after = eduai_projections_fold_batch,
};

void
eduai_projections_init(void)
{
	eduai_core_append_hooks_register(&append_hooks);
}
