/*
 * queue.c: starts the room, and wakes the dispatcher.
 */
#include "postgres.h"

#include "core/worker.h"
#include "queue/attachment.h"
#include "queue/board.h"
#include "queue/catalog.h"
#include "queue/due.h"
#include "queue/enqueue.h"
#include "queue/event.h"
#include "queue/finish.h"
#include "queue/fresh.h"
#include "queue/lane.h"
#include "queue/health.h"
#include "queue/history.h"
#include "queue/output.h"
#include "queue/personal.h"
#include "queue/queue.h"
#include "queue/quota.h"
#include "queue/running.h"
#include "queue/sensitive.h"

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
eduai_queue_wake_now(void)
{
	if (dispatcher_kind >= 0)
		eduai_core_worker_wake_now(dispatcher_kind);
}

void
eduai_queue_reload_at_commit(void)
{
	if (dispatcher_kind >= 0)
		eduai_core_worker_reconfigure_at_commit(dispatcher_kind);
}

void
eduai_queue_init(void)
{
	eduai_queue_catalog_init();
	eduai_queue_enqueue_init();
	eduai_queue_quota_init();
	eduai_queue_running_init();
	eduai_queue_board_init();
	eduai_queue_due_init();
	eduai_queue_finish_init();
	eduai_queue_lane_init();
	eduai_queue_fresh_init();
	eduai_queue_output_init();
	eduai_queue_attachment_init();
	eduai_queue_event_init();
	eduai_queue_history_init();
	eduai_queue_personal_init();
	eduai_queue_health_init();
	eduai_queue_sensitive_init();
}
