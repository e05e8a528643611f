/*
 * show.c: partial text for those who wait for it; see show.h.
 *
 * Looked at in rounds, so that a thousand streams that grow by a token each
 * every few milliseconds cost one walk over them, not one wake-up each.
 *
 * Partial text is UTF-8 and is not converted, for that takes a catalog: in a
 * database of another encoding none is shown, and readers get the result's.
 */
#include "postgres.h"

#include "core/clock.h"
#include "gateway/redact.h"
#include "gateway/show.h"
#include "mb/pg_wchar.h"
#include "queue/output.h"

#define ROUND_US INT64CONST(20000)
#define EACH_US  INT64CONST(250000) /* at most four times a second */

static dlist_head noted = DLIST_STATIC_INIT(noted);
static int64 next_round_us = 0;

/* Does anybody read along?  Nobody does with what is for a program. */
static bool
is_shown(const GatewayCall *call)
{
	return call->task_id > 0 && !call->health_check && !call->muted &&
		   strcmp(call->task_type, "analysis") != 0 &&
		   (GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII);
}

void
eduai_gateway_show_note(Transfer *t)
{
	size_t length;

	if (t->noted)
		return;
	(void) eduai_gateway_stream_text(t->stream, &length);
	if (length <= t->shown || !is_shown(t->call))
		return;
	if (dlist_is_empty(&noted))
		next_round_us = eduai_core_mono_us() + ROUND_US;
	dlist_push_tail(&noted, &t->show_node);
	t->noted = true;
}

static void
append(const Transfer *t, const char *text, size_t length)
{
	eduai_queue_output_append(t->call->tenant, t->call->task_id, t->call->attempt, text, length);
}

/* Without the provider's key; what may be its beginning waits for more, unless this is all. */
static void
show(Transfer *t, bool all)
{
	const char *key = t->call->instance->provider->api_key;
	bool secret = eduai_gateway_is_secret(key);
	size_t length;
	const char *text = eduai_gateway_stream_text(t->stream, &length);

	if (secret && !all)
		length -= eduai_gateway_redact_held(text + t->shown, length - t->shown, key);
	while (t->shown < length)
	{
		const char *from = text + t->shown;
		const char *found = secret ? memmem(from, length - t->shown, key, strlen(key)) : NULL;

		append(t, from, found != NULL ? found - from : length - t->shown);
		if (found != NULL)
			append(t, EDUAI_REDACTED, strlen(EDUAI_REDACTED));
		t->shown = found != NULL ? found + strlen(key) - text : length;
	}
	eduai_gateway_show_forget(t);
}

void
eduai_gateway_show_poll(int64 now_us)
{
	dlist_mutable_iter i;

	if (dlist_is_empty(&noted) || now_us < next_round_us)
		return;
	dlist_foreach_modify (i, &noted)
	{
		Transfer *t = dlist_container(Transfer, show_node, i.cur);

		if (t->shown > 0 && now_us - t->shown_us < EACH_US)
			continue;
		t->shown_us = now_us;
		show(t, false);
	}
	next_round_us = now_us + ROUND_US;
}

int64
eduai_gateway_show_next_us(void)
{
	return dlist_is_empty(&noted) ? -1 : next_round_us;
}

void
eduai_gateway_show_end(Transfer *t)
{
	if (t->shown > 0)
		show(t, true);
}

void
eduai_gateway_show_forget(Transfer *t)
{
	if (t->noted)
		dlist_delete(&t->show_node);
	t->noted = false;
}
