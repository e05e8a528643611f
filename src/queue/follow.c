/*
 * follow.c: the dispatcher follows the news of sessions.  See board.h.
 */
#include "postgres.h"

#include "queue/board.h"
#include "queue/dependency.h"
#include "queue/finish_internal.h"
#include "queue/queue.h"

#define NEWS_BATCH 1024
#define NEWS_TURN  8192 /* the rest comes next turn: calls are waiting, too */

/* What was lost asks for a look at every task that waits, some of them each turn. */
static bool look_at_all = false;

static void
follow(const EndedTask *news, int n, CallsEnded calls_ended)
{
	EndedParent *ended = palloc(sizeof(EndedParent) * n);
	const char **waiting = palloc(sizeof(char *) * n);
	int64 *waiting_ids = palloc(sizeof(int64) * n);
	int64 *called = palloc(sizeof(int64) * n);
	int nended = 0;
	int nwaiting = 0;
	int ncalled = 0;

	for (int i = 0; i < n; i++)
	{
		const EndedTask *t = &news[i];

		if (t->how == BEGAN_WAITING)
		{
			waiting[nwaiting] = t->tenant;
			waiting_ids[nwaiting++] = t->task_id;
			continue;
		}
		eduai_queue_notify(t->tenant, t->task_id, eduai_queue_ended_name(t->how));
		ended[nended++] = (EndedParent){t->tenant, t->task_id, t->how == ENDED_COMPLETED};
		if (t->called)
			called[ncalled++] = t->task_id;
	}
	if (ncalled > 0)
		calls_ended(called, ncalled);
	eduai_queue_release_children(ended, nended);
	(void) eduai_queue_look_again(waiting, waiting_ids, nwaiting);
}

bool
eduai_queue_follow_board(CallsEnded calls_ended)
{
	static EndedTask news[NEWS_BATCH];
	bool anew = false;
	bool again = false;
	int left = NEWS_TURN;

	for (;;)
	{
		bool overflow;
		int n = eduai_queue_board_take(news, Min(NEWS_BATCH, left), &overflow);

		/* cancelled calls may be among what was lost */
		if (overflow)
			calls_ended(NULL, 0);
		look_at_all |= overflow;
		anew |= overflow;
		if (n > 0)
			follow(news, n, calls_ended);
		left -= n;
		again = n > 0;
		if (n < NEWS_BATCH || left == 0)
			break;
	}
	if (look_at_all)
	{
		bool all;

		(void) eduai_queue_release_orphans(anew, &all);
		look_at_all = !all;
	}
	if (look_at_all || left == 0)
		eduai_queue_wake_at_commit();
	return again;
}
