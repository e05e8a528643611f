/*
 * keeper.c: the worker "eduai keeper".  See keeper.h.
 */
#include "postgres.h"

#include "core/worker.h"
#include "privacy/keeper.h"

static EduaiChores chores = {.worker = "keeper"};
static int kind = -1;

static void
run(void)
{
	eduai_core_chores_run(&chores);
}

void
eduai_privacy_keeper_register(const EduaiChore *chore)
{
	eduai_core_chores_add(&chores, chore);
}

void
eduai_privacy_keeper_wake_at_commit(void)
{
	eduai_core_worker_wake_at_commit(kind);
}

void
eduai_privacy_keeper_wake_now(void)
{
	eduai_core_worker_wake_now(kind);
}

void
eduai_privacy_keeper_init(void)
{
	static const EduaiWorkerKind keeper = {"keeper", run};

	kind = eduai_core_worker_register(&keeper);
}
