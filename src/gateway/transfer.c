/*
 * transfer.c: many HTTP transfers at once; see transfer.h.
 *
 * A transfer is WAITING for one of eduai.http_connections places (line.c),
 * RUNNING in libcurl's multi handle (multi.c), or, for a mock provider, sits
 * on its timer (deadline.c); then FINISHED, until it is handed back, first in,
 * first out.
 */
#include "postgres.h"

#include "core/clock.h"
#include "gateway/deadline.h"
#include "gateway/exchange.h"
#include "gateway/gateway.h"
#include "gateway/keyring.h"
#include "gateway/line.h"
#include "gateway/multi.h"
#include "gateway/show.h"
#include "gateway/transfer.h"
#include "queue/output.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define HEALTH_CHECK_BODY (64 * 1024)

typedef struct TransferEntry
{
	int64 task_id;
	Transfer *newest; /* then by t->older */
} TransferEntry;

static HTAB *by_task = NULL;
static dlist_head finished = DLIST_STATIC_INIT(finished);
static int unreturned = 0;   /* started and not handed back */
static int places_taken = 0; /* RUNNING */

int
eduai_gateway_transfer_open(void)
{
	HASHCTL info = {0};

	if (by_task == NULL)
	{
		info.keysize = sizeof(int64);
		info.entrysize = sizeof(TransferEntry);
		info.hcxt = TopMemoryContext;
		by_task =
			hash_create("eduai transfers", 1024, &info, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	return eduai_gateway_multi_open();
}

/* ---- the end of a transfer ---- */

static void
finish(Transfer *t)
{
	int64 now_us = eduai_core_mono_us();
	int64 since = t->launched_us != 0 ? t->launched_us : t->started_us;

	eduai_gateway_deadline_clear(t);
	if (t->state == TRANSFER_RUNNING)
	{
		eduai_gateway_line_resolved(t);
		places_taken--;
	}
	t->state = TRANSFER_FINISHED;
	t->outcome->duration_us = now_us - since;
	t->outcome->first_byte_us = t->first_byte_us != 0 ? t->first_byte_us - since : -1;
	dlist_push_tail(&finished, &t->node);
	ereport(DEBUG2, (errmsg_internal("transfer of task " INT64_FORMAT
									 " attempt %d: %s, status %d, " INT64_FORMAT " us",
									 t->call->task_id, t->call->attempt, t->outcome->code,
									 t->outcome->http_status, t->outcome->duration_us)));
}

/* Ends a transfer that is not finished, for a reason of ours. */
static void
abort_transfer(Transfer *t, TransferAbort why)
{
	t->abort = why;
	if (t->state == TRANSFER_WAITING)
		eduai_gateway_line_leave(t);
	if (t->easy != NULL)
	{
		eduai_gateway_multi_remove(t);
		eduai_gateway_exchange_judge(t, CURLE_ABORTED_BY_CALLBACK);
		eduai_gateway_exchange_release(t);
	}
	else
		eduai_gateway_exchange_aborted(t);
	finish(t);
}

static void
answer_mock(Transfer *t)
{
	int64 now_unix = (int64) timestamptz_to_time_t(eduai_core_now());

	eduai_gateway_mock_answer(t->call, eduai_core_random_unit(), now_unix, t->outcome);
	t->first_byte_us = eduai_core_mono_us();
	finish(t);
}

static void
expire(int64 now_us)
{
	Transfer *t;

	while ((t = eduai_gateway_deadline_due(now_us)) != NULL)
	{
		TransferAbort why;
		int64 limit_us;

		if (t->state == TRANSFER_MOCK && t->abort == ABORT_NONE)
		{
			answer_mock(t);
			continue;
		}
		limit_us = eduai_gateway_deadline_limit(t, &why);
		if (t->state == TRANSFER_MOCK)
			abort_transfer(t, t->abort);
		else if (limit_us > now_us)
			eduai_gateway_deadline_set(t, limit_us);
		else if (why == ABORT_FIRST_BYTE && eduai_gateway_deadline_uploading(t, now_us))
			eduai_gateway_deadline_set(t, eduai_gateway_deadline_limit(t, &why));
		else
			abort_transfer(t, why);
	}
}

/* ---- the start of a transfer ---- */

static void
launch(Transfer *t)
{
	TransferAbort why;

	t->state = TRANSFER_RUNNING;
	places_taken++;
	t->launched_us = eduai_core_mono_us();
	/* of a health check only the head is of interest */
	t->max_body =
		t->call->health_check ? HEALTH_CHECK_BODY : (size_t) eduai_gateway_max_response_kb * 1024;
	if (!eduai_gateway_request_build(t->call, (int64) timestamptz_to_time_t(eduai_core_now()),
									 &t->request, t->outcome) ||
		!eduai_gateway_exchange_prepare(t))
	{
		finish(t);
		return;
	}
	if (!eduai_gateway_multi_add(t))
	{
		t->abort = ABORT_OUT_OF_MEMORY;
		eduai_gateway_exchange_aborted(t);
		eduai_gateway_exchange_release(t);
		finish(t);
		return;
	}
	eduai_gateway_deadline_set(t, eduai_gateway_deadline_limit(t, &why));
}

/*
 * Refused for a key that was replaced while the request was on its way?  Such a
 * refusal did no work, so that sending it again, once, is no second request.
 */
static bool
has_newer_key(Transfer *t)
{
	if (t->renewed || t->abort != ABORT_NONE || t->outcome->http_status < 400 ||
		strcmp(t->outcome->code, "auth") != 0)
		return false;
	t->renewed = eduai_gateway_keyring_renew(t->call);
	return t->renewed;
}

/* In the place that it has, within the time it has left. */
static void
send_again(Transfer *t)
{
	eduai_gateway_deadline_clear(t);
	eduai_gateway_line_resolved(t);
	places_taken--;
	t->outcome = eduai_gateway_outcome_new(t->call);
	memset(&t->request, 0, sizeof(t->request));
	/* what the callbacks wrote belongs to the exchange that is over */
	memset(&t->abort, 0, offsetof(Transfer, started_us) - offsetof(Transfer, abort));
	t->connected_us = t->first_byte_us = t->last_byte_us = 0;
	t->uploaded = 0;
	launch(t);
}

/* What libcurl has ended. */
static void
harvest(void)
{
	CURLcode result;
	Transfer *t;

	while ((t = eduai_gateway_multi_ended(&result)) != NULL)
	{
		eduai_gateway_exchange_judge(t, result);
		eduai_gateway_exchange_release(t);
		if (has_newer_key(t))
			send_again(t);
		else
			finish(t);
	}
}

static void
launch_waiting(void)
{
	Transfer *t;

	while (places_taken < eduai_gateway_multi_places() && (t = eduai_gateway_line_next()) != NULL)
		launch(t);
}

/* A mock's timer rings for its answer, or earlier for the limit it would break. */
static void
start_mock(Transfer *t)
{
	int64 latency_ms = eduai_gateway_mock_latency_ms(t->call);
	int64 limit_ms = Min(t->total_ms, t->call->instance->first_byte_ms);

	t->state = TRANSFER_MOCK;
	t->launched_us = t->started_us;
	if (latency_ms > limit_ms)
		t->abort = limit_ms == t->total_ms ? ABORT_TOTAL : ABORT_FIRST_BYTE;
	eduai_gateway_deadline_set(t, t->started_us + Min(latency_ms, limit_ms) * 1000);
}

static void
list(Transfer *t)
{
	TransferEntry *entry;
	bool found;

	entry = hash_search(by_task, &t->call->task_id, HASH_ENTER, &found);
	t->older = found ? entry->newest : NULL;
	entry->newest = t;
}

static void
unlist(Transfer *t)
{
	TransferEntry *entry = hash_search(by_task, &t->call->task_id, HASH_FIND, NULL);
	Transfer **link = &entry->newest;

	while (*link != t)
		link = &(*link)->older;
	*link = t->older;
	if (entry->newest == NULL)
		hash_search(by_task, &t->call->task_id, HASH_REMOVE, NULL);
}

void
eduai_gateway_transfer_start(GatewayCall *call)
{
	Transfer *t = MemoryContextAllocZero(call->context, sizeof(Transfer));
	int64 own_ms = call->instance->timeout_ms;
	TransferAbort why;

	t->call = call;
	t->outcome = eduai_gateway_outcome_new(call);
	t->started_us = eduai_core_mono_us();
	t->total_ms = own_ms > 0 ? Min(own_ms, call->timeout_ms) : call->timeout_ms;
	list(t);
	unreturned++;
	/* what an earlier attempt gave is nobody's answer any more */
	if (call->attempt > 1)
		eduai_queue_output_begin(call->task_id, call->attempt);
	if (!eduai_gateway_payload_render(call, t->outcome))
	{
		finish(t);
		return;
	}
	if (strcmp(call->instance->provider->kind, "mock") == 0)
	{
		start_mock(t);
		return;
	}
	t->state = TRANSFER_WAITING;
	eduai_gateway_line_join(t);
	eduai_gateway_deadline_set(t, eduai_gateway_deadline_limit(t, &why));
	launch_waiting();
}

bool
eduai_gateway_transfer_cancel(int64 task_id, int attempt)
{
	TransferEntry *entry = hash_search(by_task, &task_id, HASH_FIND, NULL);
	bool any = false;

	for (Transfer *t = entry != NULL ? entry->newest : NULL; t != NULL; t = t->older)
		if (t->call->attempt == attempt && t->state != TRANSFER_FINISHED)
		{
			abort_transfer(t, ABORT_CANCELLED);
			any = true;
		}
	return any;
}

/* NULL: it has its outcome. */
static Transfer *
find_open(const GatewayCall *call)
{
	TransferEntry *entry = hash_search(by_task, &call->task_id, HASH_FIND, NULL);
	Transfer *t = entry != NULL ? entry->newest : NULL;

	while (t != NULL && t->call != call)
		t = t->older;
	return t == NULL || t->state == TRANSFER_FINISHED ? NULL : t;
}

bool
eduai_gateway_transfer_give_up(const GatewayCall *call)
{
	Transfer *t = find_open(call);

	if (t != NULL)
		abort_transfer(t, ABORT_CANCELLED);
	return t != NULL;
}

bool
eduai_gateway_transfer_is_silent(const GatewayCall *call)
{
	Transfer *t = find_open(call);

	return t != NULL && t->last_byte_us == 0;
}

bool
eduai_gateway_transfer_speaks(const GatewayCall *call)
{
	Transfer *t = find_open(call);
	size_t length = 0;

	if (t != NULL && t->stream != NULL)
		(void) eduai_gateway_stream_text(t->stream, &length);
	return length > 0;
}

bool
eduai_gateway_transfer_of(int64 task_id, char **tenant, int *attempt)
{
	TransferEntry *entry = hash_search(by_task, &task_id, HASH_FIND, NULL);

	if (entry == NULL || entry->newest->call->health_check)
		return false;
	*tenant = entry->newest->call->tenant;
	*attempt = entry->newest->call->attempt;
	return true;
}

/* ---- the loop's side ---- */

void
eduai_gateway_transfer_poll(void)
{
	eduai_gateway_multi_serve();
	harvest();
	expire(eduai_core_mono_us());
	eduai_gateway_show_poll(eduai_core_mono_us());
	launch_waiting();
}

/* The earlier of two times, of which -1 is none. */
static int64
earlier(int64 a, int64 b)
{
	if (a < 0 || b < 0)
		return Max(a, b);
	return Min(a, b);
}

long
eduai_gateway_transfer_timeout_ms(void)
{
	int64 next_us = earlier(eduai_gateway_multi_timer_us(), eduai_gateway_deadline_next_us());
	int64 now_us;

	if (!dlist_is_empty(&finished))
		return 0;
	next_us = earlier(next_us, eduai_gateway_show_next_us());
	if (next_us < 0)
		return -1;
	now_us = eduai_core_mono_us();
	if (next_us <= now_us)
		return 0;
	/* rounded up: a millisecond early is a wake-up for nothing */
	return (long) Min((next_us - now_us + 999) / 1000, PG_INT32_MAX);
}

GatewayCall *
eduai_gateway_transfer_next(CallOutcome **outcome)
{
	Transfer *t;

	if (dlist_is_empty(&finished))
		return NULL;
	t = dlist_container(Transfer, node, dlist_pop_head_node(&finished));
	unlist(t);
	unreturned--;
	*outcome = t->outcome;
	return t->call;
}

int
eduai_gateway_transfer_running(void)
{
	return unreturned;
}

int
eduai_gateway_transfer_list(char ***tenants, int64 **task_ids, int **attempts)
{
	HASH_SEQ_STATUS scan;
	TransferEntry *entry;
	int n = 0;

	*tenants = palloc(sizeof(char *) * Max(unreturned, 1));
	*task_ids = palloc(sizeof(int64) * Max(unreturned, 1));
	*attempts = palloc(sizeof(int) * Max(unreturned, 1));
	if (by_task == NULL)
		return 0;
	hash_seq_init(&scan, by_task);
	while ((entry = hash_seq_search(&scan)) != NULL)
		for (Transfer *t = entry->newest; t != NULL; t = t->older)
		{
			if (t->call->health_check)
				continue;
			(*tenants)[n] = t->call->tenant;
			(*task_ids)[n] = t->call->task_id;
			(*attempts)[n++] = t->call->attempt;
		}
	return n;
}
