/*
 * dispatch_claim.c: filling the pools with routed tasks.
 *
 * Candidates are looked at most urgent first and routed one by one.  A class
 * of tasks (type and model) that finds no instance with room is left out when
 * the lanes are read again, so that one saturated model does not hide what
 * others could serve.  Slots are counted when a task is claimed and given
 * back if the transaction fails.
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
#include "queue/catalog.h"
#include "queue/claim.h"
#include "utils/memutils.h"

#define CLAIM_BATCH 512 /* per pass, so that no transaction grows long */
#define PASSES      4
#define MAX_BLOCKED 64

static MemoryContext claims_context = NULL;
static Flight *claims = NULL; /* claimed in this transaction */

typedef struct Blocked
{
	char *classes[MAX_BLOCKED];
	int nclasses;
	char *tenants[MAX_BLOCKED];
	int ntenants;
} Blocked;

static int
load_of(const Instance *instance)
{
	return eduai_gateway_load_of_instance(instance->name)->running;
}

void
eduai_gateway_dispatch_free_slot(Flight *f)
{
	Load *pool = eduai_gateway_load_of_pool(f->pool);

	pool->running--;
	pool->critical -= f->critical ? 1 : 0;
	eduai_gateway_load_of_instance(f->call.instance->name)->running--;
}

static void
take_slot(Flight *f)
{
	Load *pool = eduai_gateway_load_of_pool(f->pool);

	pool->running++;
	pool->critical += f->critical ? 1 : 0;
}

/* the room in each pool, in all at most a batch */
static PoolRoom *
rooms(int *n)
{
	const Pool *pools = eduai_queue_pools(n);
	PoolRoom *all = palloc(sizeof(PoolRoom) * *n);
	int kept = 0;

	for (int i = 0; i < *n; i++)
	{
		Load *load = eduai_gateway_load_of_pool(pools[i].name);
		int free_slots = Min(pools[i].max_concurrent - load->running, CLAIM_BATCH);

		if (free_slots <= 0)
			continue;
		all[kept].pool = pstrdup(pools[i].name);
		all[kept].slots = free_slots;
		all[kept++].reserved = Max(0, pools[i].reserved_critical - load->critical);
	}
	*n = kept;
	return all;
}

static bool
has_tenant_lists(const Fleet *fleet)
{
	for (int i = 0; i < fleet->ninstances; i++)
		if (fleet->instances[i].ntenants > 0)
			return true;
	return false;
}

static bool
listed(char **list, int n, const char *entry)
{
	for (int i = 0; i < n; i++)
		if (strcmp(list[i], entry) == 0)
			return true;
	return false;
}

/* leaves the candidate's class out of the next pass; false when there is no room to say so */
static bool
block(Blocked *b, const Fleet *fleet, const Candidate *c)
{
	char *class = psprintf("%s\x01%s", c->task_type, c->model ? c->model : "");

	if (!has_tenant_lists(fleet))
	{
		if (listed(b->classes, b->nclasses, class))
			return true;
		if (b->nclasses < MAX_BLOCKED)
			b->classes[b->nclasses++] = class;
		return b->nclasses < MAX_BLOCKED;
	}
	class = psprintf("%s\x01%s", c->tenant, class);
	if (listed(b->tenants, b->ntenants, class))
		return true;
	if (b->ntenants < MAX_BLOCKED)
		b->tenants[b->ntenants++] = class;
	return b->ntenants < MAX_BLOCKED;
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
	f->call.timeout_ms = t->timeout_ms;
	f->call.instance = instance;
	f->call.idempotency_key = idempotency_key(t->task_id);
	f->tid = t->tid;
	f->pool = t->pool;
	f->model = t->model;
	f->critical = t->priority == 0;
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

/*
 * Routes the candidates, counting each at its instance so that the next one
 * sees it; keeps the routed ones in place and returns how many.
 */
static int
route_all(const Fleet *fleet, Candidate *candidates, int n, Blocked *blocked, bool *blocked_some)
{
	int routed = 0;

	for (int i = 0; i < n; i++)
	{
		Instance *instance = eduai_gateway_route(fleet, &candidates[i], load_of);

		if (instance == NULL)
		{
			*blocked_some = block(blocked, fleet, &candidates[i]) || *blocked_some;
			continue;
		}
		eduai_gateway_load_of_instance(instance->name)->running++;
		candidates[routed] = candidates[i];
		candidates[routed++].instance = instance->name;
	}
	return routed;
}

/* claims the routed ones; gives back the instances of those that were held */
static int
claim_routed(Fleet *fleet, Candidate *candidates, int n)
{
	ClaimedTask *tasks = palloc(sizeof(ClaimedTask) * Max(n, 1));
	int got;

	/* routing counted them; from here on only what is claimed counts */
	for (int i = 0; i < n; i++)
		eduai_gateway_load_of_instance(candidates[i].instance)->running--;
	got = eduai_queue_claim(candidates, n, claims_context, tasks);
	for (int i = 0; i < got; i++)
	{
		Flight *f = make_flight(&tasks[i], instance_named(fleet, tasks[i].instance));

		fleet->refs++;
		take_slot(f);
		eduai_gateway_load_of_instance(tasks[i].instance)->running++;
		f->next = claims;
		claims = f;
	}
	return got;
}

ClaimLeft
eduai_gateway_dispatch_claim(Fleet *fleet)
{
	Blocked blocked = {0};
	ClaimLeft left = CLAIM_ALL;

	if (claims_context == NULL)
		claims_context =
			AllocSetContextCreate(TopMemoryContext, "eduai claims", ALLOCSET_DEFAULT_SIZES);
	if (!fleet->adopted || fleet->ninstances == 0)
		return CLAIM_ALL;
	for (int pass = 0; pass < PASSES; pass++)
	{
		Candidate *candidates;
		bool blocked_some = false;
		int nrooms;
		PoolRoom *free_rooms = rooms(&nrooms);
		int n;
		int routed;

		if (nrooms == 0)
			break;
		n = eduai_queue_candidates(free_rooms, nrooms, blocked.classes, blocked.nclasses,
								   blocked.tenants, blocked.ntenants, &candidates);
		routed = route_all(fleet, candidates, n, &blocked, &blocked_some);
		if (routed > 0 && claim_routed(fleet, candidates, routed) < routed && left == CLAIM_ALL)
			left = CLAIM_HELD;
		if (n >= CLAIM_BATCH)
			left = CLAIM_MORE;
		if (n >= CLAIM_BATCH || !blocked_some)
			break;
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
		eduai_gateway_dispatch_free_slot(f);
		f->call.instance->fleet->refs--;
		MemoryContextDelete(f->call.context);
	}
	claims = NULL;
	/* contexts of rows that were read before the error */
	if (claims_context != NULL)
		MemoryContextDeleteChildren(claims_context);
}

void
eduai_gateway_dispatch_start_claims(void)
{
	Flight *first = NULL;
	Flight *next;

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
	}
}
