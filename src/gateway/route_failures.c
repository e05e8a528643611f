/*
 * route_failures.c: what a task's failures say of the instances.  Pure.
 *
 *   code                       where it happened       elsewhere
 *   auth quota no_key          hopeless                the provider's others are tainted
 *   model_not_found, answers   hopeless
 *     that are too large
 *   context_length_exceeded    hopeless                so is what has no larger context
 *   timeouts after connecting  silent
 *   no connection              failed                  the provider's others are tainted
 *   anything else              failed
 *
 * An attempt that nobody saw end (uncertain) says nothing.
 */
#include "postgres.h"

#include "gateway/route_failures.h"

#define REST_FIRST_US INT64CONST(500000)
#define REST_MOST_US  INT64CONST(30000000)

typedef struct Meaning
{
	const char *code;
	RouteRank rank;
	bool of_provider;
} Meaning;

static const Meaning meanings[] = {
	{"auth", RANK_HOPELESS, true},
	{"quota", RANK_HOPELESS, true},
	{"no_key", RANK_HOPELESS, true},
	{"address_refused", RANK_HOPELESS, true},
	{"bad_url", RANK_HOPELESS, true},
	{"model_not_found", RANK_HOPELESS, false},
	{"context_length_exceeded", RANK_HOPELESS, false},
	{"body_too_large", RANK_HOPELESS, false},
	{"headers_too_large", RANK_HOPELESS, false},
	{"timeout_first_byte", RANK_SILENT, false},
	{"timeout_stall", RANK_SILENT, false},
	{"timeout_total", RANK_SILENT, false},
	{"timeout_connect", RANK_FAILED, true},
	{"connect_failed", RANK_FAILED, true},
	{"dns_failed", RANK_FAILED, true},
	{"tls_failed", RANK_FAILED, true},
	{"uncertain", RANK_FRESH, false},
	{"lease_lapsed", RANK_FRESH, false},
};

static Meaning
meaning_of(const char *code)
{
	for (size_t i = 0; i < lengthof(meanings); i++)
		if (strcmp(meanings[i].code, code) == 0)
			return meanings[i];
	return (Meaning){code, RANK_FAILED, false};
}

static const Instance *
find(const Fleet *fleet, const char *name)
{
	for (int i = 0; i < fleet->ninstances; i++)
		if (strcmp(fleet->instances[i].name, name) == 0)
			return &fleet->instances[i];
	return NULL;
}

/* The context of "small" did not suffice: what does that say of another? */
static RouteRank
after_overflow(const Instance *small, const Instance *other)
{
	bool known = small->context_tokens > 0 && other->context_tokens > 0;

	if (known)
		return other->context_tokens > small->context_tokens ? RANK_FRESH : RANK_HOPELESS;
	return strcmp(small->model, other->model) == 0 ? RANK_HOPELESS : RANK_TAINTED;
}

RouteRank
eduai_gateway_route_rank(const Fleet *fleet, const RouteAsk *ask, const Instance *instance)
{
	RouteRank rank = RANK_FRESH;

	for (int k = 0; k < ask->nfailures; k++)
	{
		const RouteFailure *f = &ask->failures[k];
		Meaning meaning = meaning_of(f->code);
		const Instance *where;

		if (strcmp(f->instance, instance->name) == 0)
		{
			rank = Max(rank, meaning.rank);
			continue;
		}
		where = find(fleet, f->instance);
		if (where == NULL)
			continue;
		if (meaning.of_provider && where->provider == instance->provider)
			rank = Max(rank, RANK_TAINTED);
		if (strcmp(f->code, "context_length_exceeded") == 0)
			rank = Max(rank, after_overflow(where, instance));
	}
	return rank;
}

int64
eduai_gateway_route_rest_us(const RouteAsk *ask, const char *instance, TimestampTz now)
{
	int64 rest_us = REST_FIRST_US / 2;
	TimestampTz last = 0;

	for (int k = 0; k < ask->nfailures; k++)
	{
		if (strcmp(ask->failures[k].instance, instance) != 0)
			continue;
		rest_us = Min(rest_us * 2, REST_MOST_US);
		last = Max(last, ask->failures[k].at);
	}
	return last == 0 || last > now ? 0 : Max(last + rest_us - now, 0);
}

/* ---- steps ---- */

static bool
is_among(const char *text, char *const *texts, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(texts[i], text) == 0)
			return true;
	return false;
}

static bool
is_called(const Instance *i, const char *name)
{
	return strcmp(i->name, name) == 0 || strcmp(i->model, name) == 0 ||
		   is_among(name, i->aliases, i->naliases);
}

static const char *
space_of(const Instance *i)
{
	return i->embedding_space != NULL ? i->embedding_space : i->model;
}

/* An alias may mean several: the model's own name decides, then the tier, then the name. */
static const char *
space_asked_for(const RouteAsk *ask, const RouteOption *options, int n)
{
	const Instance *found = NULL;

	for (int i = 0; i < n; i++)
	{
		const Instance *x = options[i].instance;

		if (options[i].step != 0)
			continue;
		if (ask->model != NULL && strcmp(x->model, ask->model) == 0)
			return space_of(x);
		if (found == NULL || x->tier < found->tier)
			found = x;
	}
	return found != NULL ? space_of(found) : NULL;
}

/* Vectors of different models cannot be compared: only the same space serves. */
static void
keep_space(const RouteAsk *ask, RouteOption *options, int n)
{
	const char *space = space_asked_for(ask, options, n);

	for (int i = 0; i < n; i++)
	{
		RouteOption *o = &options[i];
		bool same = space != NULL && strcmp(space_of(o->instance), space) == 0;

		if (o->step == 0 && !same)
		{
			o->step = -1;
			o->out = OUT_SPACE;
		}
		else if (o->out == OUT_MODEL && same && o->instance->embedding_space != NULL)
		{
			o->step = 1;
			o->out = ROUTE_IN;
		}
	}
}

/* The chains of those asked for: the first of each, then the second of each ... */
static void
add_fallbacks(const Fleet *fleet, RouteOption *options)
{
	int longest = 0;

	for (int i = 0; i < fleet->ninstances; i++)
		if (options[i].step == 0)
			longest = Max(longest, fleet->instances[i].nfallback);
	for (int k = 0; k < longest; k++)
		for (int i = 0; i < fleet->ninstances; i++)
		{
			const Instance *wanted = &fleet->instances[i];

			if (options[i].step != 0 || k >= wanted->nfallback)
				continue;
			for (int j = 0; j < fleet->ninstances; j++)
				if (options[j].out == OUT_MODEL &&
					is_called(&fleet->instances[j], wanted->fallback[k]))
				{
					options[j].step = k + 1;
					options[j].out = ROUTE_IN;
				}
		}
}

void
eduai_gateway_route_steps(const Fleet *fleet, const RouteAsk *ask, RouteOption *options)
{
	for (int i = 0; i < fleet->ninstances; i++)
	{
		const Instance *x = &fleet->instances[i];
		RouteOption *o = &options[i];

		o->step = -1;
		if (!is_among(ask->task_type, x->task_types, x->ntask_types))
			o->out = OUT_TYPE;
		else if (x->ntenants > 0 && !is_among(ask->tenant, x->tenants, x->ntenants))
			o->out = OUT_TENANT;
		else if (!eduai_gateway_instance_serves(x, ask->task_type, ask->model, ask->tenant))
			o->out = OUT_MODEL;
		else
			o->step = 0;
	}
	if (strcmp(ask->task_type, "embeddings") == 0)
		keep_space(ask, options, fleet->ninstances);
	else
		add_fallbacks(fleet, options);
}
