/*
 * route.c: least connections within the lowest tier that has room.  See route.h.
 */
#include "postgres.h"

#include "gateway/route.h"

static bool
usable(const Instance *i, const char *task_type, const char *model, const char *tenant)
{
	return i->active && i->provider->key_error == NULL &&
		   eduai_gateway_instance_serves(i, task_type, model, tenant);
}

/* is x a better choice than y? */
static bool
better(const Instance *x, int load_x, bool x_failed, const Instance *y, int load_y, bool y_failed)
{
	if (x_failed != y_failed)
		return y_failed;
	if (x->tier != y->tier)
		return x->tier < y->tier;
	return (int64) load_x * y->max_concurrent < (int64) load_y * x->max_concurrent;
}

Instance *
eduai_gateway_route(const Fleet *fleet, const Candidate *task, RouteLoad load)
{
	static unsigned turn = 0; /* where the next round begins: ties go round */
	Instance *best = NULL;
	int best_load = 0;
	bool best_failed = false;

	turn++;
	for (int k = 0; k < fleet->ninstances; k++)
	{
		Instance *i = &fleet->instances[(turn + k) % fleet->ninstances];
		int now;
		bool failed;

		if (!usable(i, task->task_type, task->model, task->tenant))
			continue;
		now = load(i);
		if (now >= i->max_concurrent)
			continue;
		failed = task->failed_last != NULL && strcmp(task->failed_last, i->name) == 0;
		if (best == NULL || better(i, now, failed, best, best_load, best_failed))
		{
			best = i;
			best_load = now;
			best_failed = failed;
		}
	}
	return best;
}

bool
eduai_gateway_route_elsewhere(const Fleet *fleet, const char *task_type, const char *model,
							  const char *tenant, const char *name)
{
	for (int k = 0; k < fleet->ninstances; k++)
	{
		const Instance *i = &fleet->instances[k];

		if (strcmp(i->name, name) != 0 && usable(i, task_type, model, tenant))
			return true;
	}
	return false;
}
