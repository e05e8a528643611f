/*
 * status.h: a task as callers see it.
 */
#ifndef EDUAI_QUEUE_STATUS_H
#define EDUAI_QUEUE_STATUS_H

#include "postgres.h"

/*
 * An expression over eduai.task t that makes an eduai.task_status; what it gives
 * goes through eduai_queue_open_status() before anybody sees it.
 */
#define EDUAI_TASK_STATUS                                                                \
	"ROW(t.task_id, t.task_type, "                                                       \
	"(ARRAY['critical', 'high', 'normal', 'low'])[t.priority + 1], t.state, t.attempt, " \
	"t.result, t.error, t.progress, "                                                    \
	"t.instance, t.cost_usd, t.enqueued_at, t.run_at, "                                  \
	"t.started_at, t.finished_at, t.user_id, t.metadata)::eduai.task_status"

#endif
