/*
 * queue.c: starts the room, and says how it is.
 */
#include "postgres.h"

#include "core/health.h"
#include "core/json.h"
#include "core/plan.h"
#include "core/worker.h"
#include "queue/board.h"
#include "queue/catalog.h"
#include "queue/enqueue.h"
#include "queue/finish.h"
#include "queue/queue.h"
#include "queue/quota.h"

static int dispatcher_kind = -1;

void
eduai_queue_set_dispatcher(int kind)
{
	dispatcher_kind = kind;
}

void
eduai_queue_wake_at_commit(void)
{
	if (dispatcher_kind >= 0)
		eduai_core_worker_wake_at_commit(dispatcher_kind);
}

void
eduai_queue_reload_at_commit(void)
{
	if (dispatcher_kind >= 0)
		eduai_core_worker_reconfigure_at_commit(dispatcher_kind);
}

static void
report(EduaiHealth *health)
{
	static EduaiPlan count = {
		"SELECT count(*) FILTER (WHERE state = 'ready'), count(*) FILTER (WHERE state = 'running'), "
		"count(*) FILTER (WHERE state = 'scheduled'), count(*) FILTER (WHERE state = 'waiting'), "
		"(SELECT count(*) FROM eduai.task WHERE state = 'uncertain') "
		"FROM eduai.task WHERE state IN ('ready', 'running', 'scheduled', 'waiting')",
		0};
	EduaiJson j;
	int64 uncertain;

	eduai_core_run(&count, NULL, NULL);
	eduai_core_json_begin(&j);
	eduai_core_json_put_int(&j, "ready", eduai_core_int64(0, 1, 0));
	eduai_core_json_put_int(&j, "running", eduai_core_int64(0, 2, 0));
	eduai_core_json_put_int(&j, "scheduled", eduai_core_int64(0, 3, 0));
	eduai_core_json_put_int(&j, "waiting", eduai_core_int64(0, 4, 0));
	uncertain = eduai_core_int64(0, 5, 0);
	eduai_core_json_put_int(&j, "uncertain", uncertain);
	eduai_core_health_section(health, "queue", eduai_core_json_end(&j));
	if (uncertain > 0)
		eduai_core_health_problem(
			health, "uncertain_tasks", "warning", 0,
			psprintf("%lld tasks have an attempt whose answer was lost.", (long long) uncertain),
			"Look at eduai.dead_letter; eduai.retry_task() runs one again.");
}

void
eduai_queue_init(void)
{
	eduai_queue_catalog_init();
	eduai_queue_enqueue_init();
	eduai_queue_quota_init();
	eduai_queue_board_init();
	eduai_queue_finish_init();
	eduai_core_health_register(report);
}
