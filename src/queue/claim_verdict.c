/*
 * claim_verdict.c: tasks that the router does not start: later, or never.
 *
 * Both take the task out of its lane without an attempt, so that it keeps
 * nobody behind it waiting.  What follows from the ends of one claim is done
 * when its scans are over: it changes rows that a scan may be at.
 */
#include "postgres.h"

#include "access/xact.h"
#include "core/clock.h"
#include "core/json.h"
#include "queue/board.h"
#include "queue/claim_internal.h"
#include "queue/dependency.h"
#include "queue/finish_internal.h"
#include "queue/lane.h"
#include "queue/quota.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define SOONEST_US 10000 /* a time that is over must not make a busy loop */

/* its error: that of earlier attempts, if any, with another reason */
static Jsonb *
describe(const LiveTask *live, const Routing *routing)
{
	EduaiJson j;
	Jsonb *earlier = live->error ? eduai_core_json_child(live->error, "attempts") : NULL;

	eduai_core_json_begin(&j);
	eduai_core_json_put_text(&j, "code", routing->code);
	eduai_core_json_put_text(&j, "message", routing->message);
	if (earlier != NULL)
		eduai_core_json_put_json(&j, "attempts", earlier);
	else
	{
		eduai_core_json_open_array(&j, "attempts");
		eduai_core_json_close_array(&j);
	}
	return eduai_core_json_end(&j);
}

bool
eduai_queue_claim_defer(Claim *c, LiveTask *live, const Routing *routing)
{
	LiveChange change = {0};
	bool steady = routing->wait_us > 0;
	int64 wait_us = steady ? routing->wait_us : routing->until - c->now;
	TimestampTz run_at = c->now + Max(wait_us, SOONEST_US);

	eduai_queue_change_text(&change, LIVE_STATE, "scheduled");
	eduai_queue_change_null(&change, LIVE_LANE);
	eduai_queue_change_null(&change, LIVE_READY_KEY);
	eduai_queue_change_to(
		&change, LIVE_DUE_AT,
		TimestampTzGetDatum(steady ? eduai_queue_steady_us() + Max(wait_us, SOONEST_US) : run_at));
	eduai_queue_change_to(&change, LIVE_RUN_AT, TimestampTzGetDatum(run_at));
	eduai_queue_change_to(&change, LIVE_BACKOFF, BoolGetDatum(steady));
	if (routing->code != NULL)
		eduai_queue_change_to(&change, LIVE_ERROR, JsonbPGetDatum(describe(live, routing)));
	if (eduai_queue_live_update(c->tasks, live, &change, false) != WRITE_DONE)
		return false;
	c->held++;
	return true;
}

/* beyond the row and this claim's memory */
static void
remember(Claim *c, const LiveTask *live)
{
	MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(c->pools));

	if (c->nrefused == c->refused_room)
	{
		c->refused_room = Max(16, c->refused_room * 2);
		c->refused = c->refused ? repalloc(c->refused, sizeof(EndedParent) * c->refused_room)
								: palloc(sizeof(EndedParent) * c->refused_room);
	}
	c->refused[c->nrefused++] = (EndedParent){pstrdup(live->tenant), live->task_id, false};
	MemoryContextSwitchTo(old);
}

bool
eduai_queue_claim_refuse(Claim *c, LiveTask *live, const Routing *routing)
{
	EndedRow end;

	if (eduai_queue_live_delete(c->tasks, live, false) != WRITE_DONE)
		return false;
	eduai_queue_end_of_live(live, &end);
	end.state = "dead";
	end.finished_at = c->now;
	end.error = describe(live, routing);
	eduai_queue_end_insert(c->tasks, &end);
	eduai_queue_quota_release(live->tenant, 1);
	eduai_queue_board_ended(live->task_id);
	eduai_queue_notify(live->tenant, live->task_id, "dead");
	remember(c, live);
	c->held++;
	return true;
}

void
eduai_queue_claim_follow_refused(Claim *c)
{
	if (c->nrefused == 0)
		return;
	CommandCounterIncrement();
	eduai_queue_release_children(c->refused, c->nrefused);
	c->nrefused = 0;
}
