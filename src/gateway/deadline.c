/*
 * deadline.c: when a transfer has taken too long; see deadline.h.
 *
 * Every unfinished transfer has one timer in a heap.  It is moved when a phase
 * begins that may end sooner than it rings, but not when bytes arrive: when it
 * fires, the true limit is worked out from what happened meanwhile, and the
 * timer set again if that lies ahead.  So a byte costs nothing, and a transfer
 * a few firings.
 */
#include "postgres.h"

#include "gateway/deadline.h"

static int
timer_compare(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	int64 time_a = pairingheap_const_container(Transfer, timer, a)->timer_us;
	int64 time_b = pairingheap_const_container(Transfer, timer, b)->timer_us;

	/* the greatest is first in a pairing heap, the earliest is wanted */
	return time_a < time_b ? 1 : time_a > time_b ? -1 : 0;
}

static pairingheap timers = {timer_compare, NULL, NULL};

void
eduai_gateway_deadline_clear(Transfer *t)
{
	if (t->has_timer)
		pairingheap_remove(&timers, &t->timer);
	t->has_timer = false;
}

void
eduai_gateway_deadline_set(Transfer *t, int64 when_us)
{
	eduai_gateway_deadline_clear(t);
	t->timer_us = when_us;
	t->has_timer = true;
	pairingheap_add(&timers, &t->timer);
}

int64
eduai_gateway_deadline_limit(const Transfer *t, TransferAbort *why)
{
	const Instance *instance = t->call->instance;
	int64 total = t->started_us + t->total_ms * 1000;
	int64 phase = PG_INT64_MAX;
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

void
eduai_gateway_deadline_phase(Transfer *t)
{
	TransferAbort why;
	int64 limit_us = eduai_gateway_deadline_limit(t, &why);

	if (t->has_timer && limit_us < t->timer_us)
		eduai_gateway_deadline_set(t, limit_us);
}

bool
eduai_gateway_deadline_uploading(Transfer *t, int64 now_us)
{
	curl_off_t sent = 0;
	size_t length = t->request.file != NULL ? t->request.file_length : t->request.body_length;

	if (t->easy == NULL || length < 1024 * 1024 ||
		curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &sent) != CURLE_OK ||
		sent >= (curl_off_t) length || sent <= t->uploaded)
		return false;
	t->uploaded = sent;
	t->connected_us = now_us;
	return true;
}

Transfer *
eduai_gateway_deadline_due(int64 now_us)
{
	Transfer *t;

	if (pairingheap_is_empty(&timers))
		return NULL;
	t = pairingheap_container(Transfer, timer, pairingheap_first(&timers));
	return t->timer_us <= now_us ? t : NULL;
}

int64
eduai_gateway_deadline_next_us(void)
{
	if (pairingheap_is_empty(&timers))
		return -1;
	return pairingheap_container(Transfer, timer, pairingheap_first(&timers))->timer_us;
}
