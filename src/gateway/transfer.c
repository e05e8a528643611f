/*
 * transfer.c: many HTTP transfers at once; see transfer.h.
 *
 * A transfer is WAITING for one of eduai.http_connections places, RUNNING in
 * libcurl's multi handle, or, for a mock provider, sits on its timer; then
 * FINISHED, until it is handed back.  Lines are first in, first out.
 *
 * Time limits are our own.  Every unfinished transfer has one timer in a heap.
 * It is not moved when bytes arrive: when it fires, the true limit is worked
 * out from what happened meanwhile, and the timer set again if it lies ahead.
 * So a byte costs nothing, and a timer at most a few firings per transfer.
 *
 * libcurl resolves names in threads.  All signals are blocked around calls
 * that may start one, so that the server's handlers run in this thread only.
 *
 * Caveat: libcurl opens a resolver thread per name that is not in its cache,
 * so many first calls at once to one new host start as many threads.
 */
#include "postgres.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/clock.h"
#include "gateway/exchange.h"
#include "gateway/gateway.h"
#include "gateway/transfer.h"
#include "storage/fd.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define EVENTS_PER_POLL 256
#define SPARE_DESCRIPTORS 200

typedef struct TransferKey
{
	int64		task_id;
	int64		attempt;
} TransferKey;

typedef struct TransferEntry
{
	TransferKey key;
	Transfer   *transfer;
} TransferEntry;

static CURLM *multi = NULL;
static int	epoll_fd = -1;
static HTAB *by_key = NULL;
static pairingheap *timers = NULL;
static dlist_head waiting = DLIST_STATIC_INIT(waiting);
static dlist_head finished = DLIST_STATIC_INIT(finished);
static int	unreturned = 0;		/* started and not handed back */
static int	places_taken = 0;	/* RUNNING */
static int	places = 0;			/* as libcurl was told */
static int64 curl_timer_us = -1;	/* when libcurl wants to be called, -1 never */

/* ---- libcurl's wishes: sockets and a timer ---- */

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	struct epoll_event event = {0};

	if (what == CURL_POLL_REMOVE)
	{
		/* it fails where the descriptor is closed already, which is as well */
		(void) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, &event);
		return 0;
	}
	event.data.fd = fd;
	if (what & CURL_POLL_IN)
		event.events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		event.events |= EPOLLOUT;
	if (epoll_ctl(epoll_fd, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) != 0)
		(void) epoll_ctl(epoll_fd, known ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event);
	if (known == NULL)
		curl_multi_assign(multi, fd, &epoll_fd);
	return 0;
}

static int
on_timer(CURLM *which, long timeout_ms, void *arg)
{
	curl_timer_us = timeout_ms < 0 ? -1 : eduai_core_mono_us() + timeout_ms * INT64CONST(1000);
	return 0;
}

static void
block_signals(sigset_t *saved)
{
	sigset_t	all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, saved);
}

static void
restore_signals(const sigset_t *saved)
{
	pthread_sigmask(SIG_SETMASK, saved, NULL);
}

/* ---- opening ---- */

static int
timer_compare(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	int64		time_a = pairingheap_const_container(Transfer, timer, a)->timer_us;
	int64		time_b = pairingheap_const_container(Transfer, timer, b)->timer_us;

	/* the greatest is first in a pairing heap, the earliest is wanted */
	return time_a < time_b ? 1 : time_a > time_b ? -1 : 0;
}

/* How many connections the descriptors allow, of those wished for. */
static int
affordable(int wished)
{
	struct rlimit limit;
	int64		reserved = max_safe_fds + SPARE_DESCRIPTORS;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return wished;
	if (limit.rlim_cur != RLIM_INFINITY && (int64) limit.rlim_cur < wished + reserved)
	{
		struct rlimit more = limit;

		more.rlim_cur = limit.rlim_max == RLIM_INFINITY
							? (rlim_t) (wished + reserved)
							: Min(limit.rlim_max, (rlim_t) (wished + reserved));
		if (setrlimit(RLIMIT_NOFILE, &more) == 0)
			limit = more;
	}
	if (limit.rlim_cur == RLIM_INFINITY || (int64) limit.rlim_cur >= wished + reserved)
		return wished;
	return (int) Max((int64) limit.rlim_cur - reserved, (int64) limit.rlim_cur / 4);
}

static void
apply_settings(void)
{
	static int	applied = 0;

	if (applied == eduai_gateway_http_connections)
		return;
	applied = eduai_gateway_http_connections;
	places = Max(affordable(applied), 1);
	if (places < applied)
		ereport(LOG,
				(errmsg("eduai.http_connections is %d, but the limit on open files allows %d",
						applied, places),
				 errhint("Raise the server's hard limit on open files (ulimit -Hn).")));
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) places);
	curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) places);
	curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long) places);
}

int
eduai_gateway_transfer_open(void)
{
	HASHCTL		info = {0};
	MemoryContext caller;

	if (multi != NULL)
		return epoll_fd;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR), errmsg("could not initialize libcurl")));
	if (epoll_fd < 0)
		epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		ereport(ERROR,
				(errcode_for_socket_access(), errmsg("could not create an epoll set: %m")));

	caller = MemoryContextSwitchTo(TopMemoryContext);
	info.keysize = sizeof(TransferKey);
	info.entrysize = sizeof(TransferEntry);
	info.hcxt = TopMemoryContext;
	if (by_key == NULL)
		by_key = hash_create("eduai transfers", 1024, &info, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	if (timers == NULL)
		timers = pairingheap_allocate(timer_compare, NULL);
	MemoryContextSwitchTo(caller);

	multi = curl_multi_init();
	if (multi == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long) CURLPIPE_MULTIPLEX);
	apply_settings();
	return epoll_fd;
}

/* ---- time limits ---- */

static void
clear_timer(Transfer *t)
{
	if (t->has_timer)
		pairingheap_remove(timers, &t->timer);
	t->has_timer = false;
}

static void
set_timer(Transfer *t, int64 when_us)
{
	clear_timer(t);
	t->timer_us = when_us;
	t->has_timer = true;
	pairingheap_add(timers, &t->timer);
}

/* When the transfer must end as things stand, and what to call that. */
static int64
time_limit(const Transfer *t, TransferAbort *why)
{
	const Instance *instance = t->call->instance;
	int64		total = t->started_us + t->total_ms * 1000;
	int64		phase = PG_INT64_MAX;
	TransferAbort phase_why = ABORT_NONE;

	if (t->launched_us != 0 && t->connected_us == 0)
	{
		phase = t->launched_us + instance->connect_ms * 1000;
		phase_why = ABORT_CONNECT;
	}
	else if (t->connected_us != 0 && t->last_byte_us == 0)
	{
		phase = t->connected_us + instance->first_byte_ms * 1000;
		phase_why = ABORT_FIRST_BYTE;
	}
	else if (t->last_byte_us != 0)
	{
		phase = t->last_byte_us + instance->stall_ms * 1000;
		phase_why = ABORT_STALL;
	}
	*why = phase < total ? phase_why : ABORT_TOTAL;
	return Min(phase, total);
}

/*
 * A long upload may take longer than the first byte of an answer should.
 * While it proceeds, the answer's time has not begun.
 */
static bool
still_uploading(Transfer *t, int64 now_us)
{
	curl_off_t	sent = 0;
	size_t		length = t->request.file != NULL ? t->request.file_length
												 : t->request.body_length;

	if (t->easy == NULL || length < 1024 * 1024 ||
		curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &sent) != CURLE_OK ||
		sent >= (curl_off_t) length || sent <= t->uploaded)
		return false;
	t->uploaded = sent;
	t->connected_us = now_us;
	return true;
}

/* ---- the end of a transfer ---- */

static void
finish(Transfer *t)
{
	int64		now_us = eduai_core_mono_us();
	int64		since = t->launched_us != 0 ? t->launched_us : t->started_us;

	clear_timer(t);
	if (t->state == TRANSFER_RUNNING)
		places_taken--;
	t->state = TRANSFER_FINISHED;
	t->outcome->duration_us = now_us - since;
	t->outcome->first_byte_us = t->first_byte_us != 0 ? t->first_byte_us - since : -1;
	dlist_push_tail(&finished, &t->node);
	ereport(DEBUG2,
			(errmsg_internal("transfer of task " INT64_FORMAT " attempt %d: %s, status %d, "
							 INT64_FORMAT " us",
							 t->call->task_id, t->call->attempt, t->outcome->code,
							 t->outcome->http_status, t->outcome->duration_us)));
}

/* Ends a transfer that is not finished, for a reason of ours. */
static void
abort_transfer(Transfer *t, TransferAbort why)
{
	t->abort = why;
	if (t->state == TRANSFER_WAITING)
		dlist_delete(&t->node);
	if (t->easy != NULL)
	{
		curl_multi_remove_handle(multi, t->easy);
		eduai_gateway_exchange_judge(t, CURLE_ABORTED_BY_CALLBACK);
		eduai_gateway_exchange_release(t);
	}
	else
		eduai_gateway_exchange_aborted(t);
	finish(t);
}

/* What libcurl has ended. */
static void
harvest(void)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		Transfer   *t = NULL;
		CURLcode	result = message->data.result;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &t);
		/* the message is gone with the handle */
		curl_multi_remove_handle(multi, t->easy);
		eduai_gateway_exchange_judge(t, result);
		eduai_gateway_exchange_release(t);
		finish(t);
	}
}

static void
answer_mock(Transfer *t)
{
	int64		now_unix = (int64) timestamptz_to_time_t(eduai_core_now());

	eduai_gateway_mock_answer(t->call, eduai_core_random_unit(), now_unix, t->outcome);
	t->first_byte_us = eduai_core_mono_us();
	finish(t);
}

static void
expire(int64 now_us)
{
	while (!pairingheap_is_empty(timers))
	{
		Transfer   *t = pairingheap_container(Transfer, timer, pairingheap_first(timers));
		TransferAbort why;
		int64		limit_us;

		if (t->timer_us > now_us)
			break;
		if (t->state == TRANSFER_MOCK && t->abort == ABORT_NONE)
		{
			answer_mock(t);
			continue;
		}
		limit_us = time_limit(t, &why);
		if (t->state == TRANSFER_MOCK)
			abort_transfer(t, t->abort);
		else if (limit_us > now_us)
			set_timer(t, limit_us);
		else if (why == ABORT_FIRST_BYTE && still_uploading(t, now_us))
			set_timer(t, time_limit(t, &why));
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
	t->max_body = (size_t) eduai_gateway_max_response_kb * 1024;
	if (!eduai_gateway_request_build(t->call, &t->request, t->outcome) ||
		!eduai_gateway_exchange_prepare(t))
	{
		finish(t);
		return;
	}
	if (curl_multi_add_handle(multi, t->easy) != CURLM_OK)
	{
		t->abort = ABORT_OUT_OF_MEMORY;
		eduai_gateway_exchange_aborted(t);
		eduai_gateway_exchange_release(t);
		finish(t);
		return;
	}
	set_timer(t, time_limit(t, &why));
}

static void
launch_waiting(void)
{
	apply_settings();
	while (!dlist_is_empty(&waiting) && places_taken < places)
		launch(dlist_container(Transfer, node, dlist_pop_head_node(&waiting)));
}

/* A mock's timer rings for its answer, or earlier for the limit it would break. */
static void
start_mock(Transfer *t)
{
	int64		latency_ms = eduai_gateway_mock_latency_ms(t->call);
	int64		limit_ms = Min(t->total_ms, t->call->instance->first_byte_ms);

	t->state = TRANSFER_MOCK;
	t->launched_us = t->started_us;
	if (latency_ms > limit_ms)
		t->abort = limit_ms == t->total_ms ? ABORT_TOTAL : ABORT_FIRST_BYTE;
	set_timer(t, t->started_us + Min(latency_ms, limit_ms) * 1000);
}

static void
list(Transfer *t)
{
	TransferKey key = {t->call->task_id, t->call->attempt};
	TransferEntry *entry;
	bool		found;

	entry = hash_search(by_key, &key, HASH_ENTER, &found);
	if (found)
		return;
	entry->transfer = t;
	t->listed = true;
}

void
eduai_gateway_transfer_start(GatewayCall *call)
{
	Transfer   *t = MemoryContextAllocZero(call->context, sizeof(Transfer));
	int64		own_ms = call->instance->timeout_ms;
	TransferAbort why;

	t->call = call;
	t->outcome = eduai_gateway_outcome_new(call);
	t->started_us = eduai_core_mono_us();
	t->total_ms = own_ms > 0 ? Min(own_ms, call->timeout_ms) : call->timeout_ms;
	list(t);
	unreturned++;
	if (strcmp(call->instance->provider->kind, "mock") == 0)
	{
		start_mock(t);
		return;
	}
	t->state = TRANSFER_WAITING;
	dlist_push_tail(&waiting, &t->node);
	set_timer(t, time_limit(t, &why));
	if (places_taken < places)
	{
		sigset_t	saved;

		block_signals(&saved);
		launch_waiting();
		restore_signals(&saved);
	}
}

bool
eduai_gateway_transfer_cancel(int64 task_id, int attempt)
{
	TransferKey key = {task_id, attempt};
	TransferEntry *entry = hash_search(by_key, &key, HASH_FIND, NULL);

	if (entry == NULL || entry->transfer->state == TRANSFER_FINISHED)
		return false;
	abort_transfer(entry->transfer, ABORT_CANCELLED);
	return true;
}

/* ---- the loop's side ---- */

static void
serve_sockets(void)
{
	struct epoll_event events[EVENTS_PER_POLL];
	int			running;
	int			n = epoll_wait(epoll_fd, events, EVENTS_PER_POLL, 0);

	for (int i = 0; i < n; i++)
	{
		int			mask = 0;

		if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP))
			mask |= CURL_CSELECT_IN;
		if (events[i].events & EPOLLOUT)
			mask |= CURL_CSELECT_OUT;
		if (events[i].events & EPOLLERR)
			mask |= CURL_CSELECT_ERR;
		curl_multi_socket_action(multi, events[i].data.fd, mask, &running);
	}
	if (curl_timer_us >= 0 && curl_timer_us <= eduai_core_mono_us())
	{
		curl_timer_us = -1;
		curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
}

void
eduai_gateway_transfer_poll(void)
{
	sigset_t	saved;

	if (multi == NULL)
		return;
	block_signals(&saved);
	serve_sockets();
	restore_signals(&saved);

	harvest();
	expire(eduai_core_mono_us());
	if (!dlist_is_empty(&waiting) && places_taken < places)
	{
		block_signals(&saved);
		launch_waiting();
		restore_signals(&saved);
	}
}

long
eduai_gateway_transfer_timeout_ms(void)
{
	int64		next_us = curl_timer_us;
	int64		now_us;

	if (!dlist_is_empty(&finished))
		return 0;
	if (timers != NULL && !pairingheap_is_empty(timers))
	{
		int64		own = pairingheap_container(Transfer, timer, pairingheap_first(timers))->timer_us;

		if (next_us < 0 || own < next_us)
			next_us = own;
	}
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
	Transfer   *t;

	if (dlist_is_empty(&finished))
		return NULL;
	t = dlist_container(Transfer, node, dlist_pop_head_node(&finished));
	if (t->listed)
	{
		TransferKey key = {t->call->task_id, t->call->attempt};

		hash_search(by_key, &key, HASH_REMOVE, NULL);
	}
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
eduai_gateway_transfer_list(int64 **task_ids, int **attempts)
{
	HASH_SEQ_STATUS scan;
	TransferEntry *entry;
	int			n = 0;

	*task_ids = palloc(sizeof(int64) * Max(unreturned, 1));
	*attempts = palloc(sizeof(int) * Max(unreturned, 1));
	if (by_key == NULL)
		return 0;
	hash_seq_init(&scan, by_key);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		(*task_ids)[n] = entry->key.task_id;
		(*attempts)[n] = (int) entry->key.attempt;
		n++;
	}
	return n;
}
