/*
 * dispatch_claim.c: claiming tasks for instances that have room.
 *
 * The queue chooses (queue/claim.h), the router says which instance takes a
 * candidate.  Instances are counted when a task is routed, and given back when
 * the claim or its transaction fails.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "core/clock.h"
#include "gateway/dispatch.h"
#include "gateway/gateway.h"
#include "gateway/load.h"
#include "gateway/route.h"
#include "gateway/transfer.h"
#include "miscadmin.h"
#include "queue/claim.h"
#include "utils/memutils.h"

#define CLAIM_BATCH 512 /* so that no transaction grows long */

static MemoryContext claims_context = NULL;
static Flight *claims = NULL; /* claimed in this transaction */

static int
load_of(const Instance *instance)
{
	return eduai_gateway_load_of_instance(instance->name)->running;
}

void
eduai_gateway_dispatch_free_slot(Flight *f)
{
	eduai_gateway_load_of_instance(f->call.instance->name)->running--;
}

static void
count(const char *instance, int n)
{
	Load *load = eduai_gateway_load_of_instance(instance);

	load->running += n;
	load->pending += n;
}

/* the claim's router: counts the task at its instance */
static const char *
route(void *arg, const Candidate *candidate)
{
	Instance *instance = eduai_gateway_route(arg, candidate, load_of);

	if (instance == NULL)
		return NULL;
	count(instance->name, 1);
	return instance->name;
}

static void
unroute(void *arg, const Candidate *candidate, const char *instance)
{
	count(instance, -1);
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
make_flight(const ClaimedTask *t, Instance *instance)
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
	f->call.instance = instance;
	f->call.idempotency_key = idempotency_key(t->task_id);
	f->tid = t->tid;
	f->pool = t->pool;
	f->model = t->model;
	f->started_at = eduai_core_now();
	MemoryContextSwitchTo(old);
	return f;
}

static Instance *
instance_named(const Fleet *fleet, const char *name)
{
	for (int i = 0; i < fleet->ninstances; i++)
		if (strcmp(fleet->instances[i].name, name) == 0)
			return &fleet->instances[i];
	return NULL;
}

ClaimLeft
eduai_gateway_dispatch_claim(Fleet *fleet)
{
	ClaimOrder order = {
		.by_gateway = true, .most = CLAIM_BATCH, .route = route, .unroute = unroute, .arg = fleet};
	ClaimedTask *tasks;
	ClaimLeft left;
	int got;

	if (claims_context == NULL)
		claims_context =
			AllocSetContextCreate(TopMemoryContext, "eduai claims", ALLOCSET_DEFAULT_SIZES);
	if (!fleet->adopted || fleet->ninstances == 0)
		return CLAIM_ALL;
	tasks = palloc(sizeof(ClaimedTask) * CLAIM_BATCH);
	got = eduai_queue_claim(&order, claims_context, tasks, &left);
	for (int i = 0; i < got; i++)
	{
		Flight *f = make_flight(&tasks[i], instance_named(fleet, tasks[i].instance));

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
	eduai_gateway_load_settle(false);
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

	eduai_gateway_load_settle(true);
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
		eduai_gateway_transfer_start(&f->call);
		n++;
	}
	return n;
}
