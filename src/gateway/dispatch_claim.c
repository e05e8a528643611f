/*
 * dispatch_claim.c: claiming tasks for instances that can take them.
 *
 * The queue chooses (queue/claim.h), dispatch_place.c says where a candidate
 * goes; the calls of a turn's claims leave when it has committed.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "core/clock.h"
#include "gateway/attachments.h"
#include "gateway/dispatch.h"
#include "gateway/dispatch_place.h"
#include "gateway/gateway.h"
#include "gateway/hedge.h"
#include "gateway/route_trace.h"
#include "gateway/stand.h"
#include "gateway/tier_feed.h"
#include "gateway/transfer.h"
#include "miscadmin.h"
#include "queue/claim.h"
#include "queue/running.h"
#include "utils/memutils.h"

static MemoryContext claims_context = NULL;
static Flight *claims = NULL; /* claimed in this transaction */

/* did the provider say that it is too much? */
static bool
is_pushback(const CallOutcome *outcome)
{
	return outcome->http_status == 429 || outcome->http_status == 503 ||
		   outcome->http_status == 529;
}

void
eduai_gateway_dispatch_leave(const Flight *f)
{
	eduai_gateway_stand_leave(f->call.instance, f->call.tokens, f->outcome, eduai_core_mono_us(),
							  f->call.probe);
	eduai_gateway_tier_feed(f->call.instance, f->call.tenant, f->call.task_type, f->outcome);
	if (is_pushback(f->outcome))
		eduai_queue_pool_pushback(f->pool);
}

/*
 * The same for all attempts of a task: a provider that knows it answers twice
 * for one price.  Without the fleet's name, which may have any characters.
 */
static char *
idempotency_key(int64 task_id)
{
	return psprintf("eduai-" UINT64_FORMAT "-%u-%lld", GetSystemIdentifier(), MyDatabaseId,
					(long long) task_id);
}

static Flight *
make_flight(const ClaimedTask *t, const Placement *p)
{
	Flight *f = MemoryContextAllocZero(t->context, sizeof(Flight));
	MemoryContext old = MemoryContextSwitchTo(t->context);

	f->call.context = t->context;
	f->call.task_id = t->task_id;
	f->call.attempt = t->attempt;
	f->call.tenant = t->tenant;
	f->call.task_type = t->task_type;
	f->call.user_id = t->user_id;
	f->call.payload = t->payload;
	f->call.metadata = t->metadata;
	f->call.parents = t->parents;
	f->call.timeout_ms = t->timeout_ms;
	f->call.instance = p->instance;
	f->call.tokens = p->tokens;
	f->call.probe = p->probe;
	f->call.idempotency_key = idempotency_key(t->task_id);
	f->tid = t->tid;
	f->pool = t->pool;
	f->ask = p->ask;
	f->ask.tenant = t->tenant;
	f->ask.task_type = t->task_type;
	f->ask.model = t->model;
	f->ask.session = NULL;
	f->ask.failures = eduai_gateway_copy_failures(&p->ask);
	f->started_at = eduai_core_now();
	MemoryContextSwitchTo(old);
	return f;
}

ClaimLeft
eduai_gateway_dispatch_claim(Fleet *fleet)
{
	ClaimOrder order = {.by_gateway = true,
						.most = CLAIM_BATCH,
						.route = eduai_gateway_place,
						.unroute = eduai_gateway_unplace,
						.arg = fleet};
	ClaimedTask *tasks;
	ClaimLeft left;
	int got;

	if (claims_context == NULL)
		claims_context =
			AllocSetContextCreate(TopMemoryContext, "eduai claims", ALLOCSET_DEFAULT_SIZES);
	eduai_gateway_place_begin();
	eduai_gateway_trace_begin();
	if (!fleet->adopted || fleet->ninstances == 0)
		return CLAIM_ALL;
	tasks = palloc(sizeof(ClaimedTask) * CLAIM_BATCH);
	got = eduai_queue_claim(&order, claims_context, tasks, &left);
	eduai_gateway_trace_end();
	for (int i = 0; i < got; i++)
	{
		const Placement *placed = eduai_gateway_placement(i);
		Flight *f = make_flight(&tasks[i], placed);

		Assert(placed->task_id == tasks[i].task_id);
		eduai_gateway_attachments_load(&f->call);
		fleet->refs++;
		f->next = claims;
		claims = f;
	}
	return left;
}

void
eduai_gateway_dispatch_forget_claims(void)
{
	Flight *next;

	for (Flight *f = claims; f != NULL; f = next)
	{
		next = f->next;
		f->call.instance->fleet->refs--;
		MemoryContextDelete(f->call.context);
	}
	claims = NULL;
	eduai_gateway_place_end(false);
	/* contexts of rows that were read before the error */
	if (claims_context != NULL)
		MemoryContextDeleteChildren(claims_context);
}

int
eduai_gateway_dispatch_start_claims(void)
{
	Flight *first = NULL;
	Flight *next;
	int n = 0;

	eduai_gateway_place_end(true);
	/* the list was built backwards: the most urgent leaves first */
	for (Flight *f = claims; f != NULL; f = next)
	{
		next = f->next;
		f->next = first;
		first = f;
	}
	claims = NULL;
	for (Flight *f = first; f != NULL; f = next)
	{
		next = f->next;
		MemoryContextSetParent(f->call.context, TopMemoryContext);
		eduai_gateway_hedge_watch(f);
		eduai_gateway_transfer_start(&f->call);
		n++;
	}
	return n;
}
