/*
 * multi.c: libcurl's multi handle and the epoll set it lives on; see multi.h.
 *
 * libcurl resolves names in threads.  All signals are blocked around calls
 * that may start one, so that the server's handlers run in this thread only.
 */
#include "postgres.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include "core/clock.h"
#include "gateway/gateway.h"
#include "gateway/multi.h"
#include "storage/fd.h"

#define EVENTS_PER_POLL   256
#define SPARE_DESCRIPTORS 200

static CURLM *multi = NULL;
static int epoll_fd = -1;
static int places = 0;           /* as libcurl was told */
static int64 curl_timer_us = -1; /* when libcurl wants to be called, -1 never */

/* ---- what libcurl wishes: sockets and a timer ---- */

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
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, saved);
}

static void
restore_signals(const sigset_t *saved)
{
	pthread_sigmask(SIG_SETMASK, saved, NULL);
}

/* ---- settings ---- */

/* How many connections the descriptors allow, of those wished for. */
static int
affordable(int wished)
{
	struct rlimit limit;
	int64 reserved = max_safe_fds + SPARE_DESCRIPTORS;

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

int
eduai_gateway_multi_places(void)
{
	static int applied = 0;

	if (applied == eduai_gateway_http_connections)
		return places;
	applied = eduai_gateway_http_connections;
	places = Max(affordable(applied), 1);
	if (places < applied)
		ereport(LOG, (errmsg("eduai.http_connections is %d, but the limit on open files allows %d",
							 applied, places),
					  errhint("Raise the server's hard limit on open files (ulimit -Hn).")));
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) places);
	curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) places);
	curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long) places);
	return places;
}

/* ---- the handle ---- */

int
eduai_gateway_multi_open(void)
{
	if (multi != NULL)
		return epoll_fd;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR), errmsg("could not initialize libcurl")));
	if (epoll_fd < 0)
		epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		ereport(ERROR, (errcode_for_socket_access(), errmsg("could not create an epoll set: %m")));
	multi = curl_multi_init();
	if (multi == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long) CURLPIPE_MULTIPLEX);
	(void) eduai_gateway_multi_places();
	return epoll_fd;
}

bool
eduai_gateway_multi_add(Transfer *t)
{
	sigset_t saved;
	CURLMcode rc;

	block_signals(&saved);
	rc = curl_multi_add_handle(multi, t->easy);
	restore_signals(&saved);
	return rc == CURLM_OK;
}

void
eduai_gateway_multi_remove(Transfer *t)
{
	curl_multi_remove_handle(multi, t->easy);
}

Transfer *
eduai_gateway_multi_ended(CURLcode *result)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		Transfer *t = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		*result = message->data.result;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &t);
		/* the message is gone with the handle */
		curl_multi_remove_handle(multi, t->easy);
		return t;
	}
	return NULL;
}

void
eduai_gateway_multi_serve(void)
{
	sigset_t saved;
	struct epoll_event events[EVENTS_PER_POLL];
	int running;
	int n;

	if (multi == NULL)
		return;
	block_signals(&saved);
	n = epoll_wait(epoll_fd, events, EVENTS_PER_POLL, 0);
	for (int i = 0; i < n; i++)
	{
		int mask = 0;

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
	restore_signals(&saved);
}

int64
eduai_gateway_multi_timer_us(void)
{
	return curl_timer_us;
}
