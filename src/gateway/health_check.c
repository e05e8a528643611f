/*
 * health_check.c: see health_check.h.
 *
 * A provider's checks are between 0.8 and 1 times eduai.health_interval apart,
 * by chance, so that many databases do not ask in step and a recovery is still
 * noticed within the interval.  The first one follows a new provider within
 * two seconds.  A check that has not come back is not repeated.
 */
#include "postgres.h"

#include "core/clock.h"
#include "gateway/adapter.h"
#include "gateway/health_check.h"
#include "gateway/stand.h"
#include "gateway/transfer.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#define FIRST_WITHIN_MS 2000
#define FIRST_BYTE_MS   10000
#define TIMEOUT_MS      20000

typedef struct Check
{
	char provider[NAMEDATALEN];
	int64 due_us; /* monotonic */
	bool out;     /* on its way */
	bool wanted;  /* by the present fleet */
} Check;

static Check *checks = NULL;
static int nchecks = 0;
static int interval_ms = 30000;

static Check *
check_of(const char *provider)
{
	for (int i = 0; i < nchecks; i++)
		if (strcmp(checks[i].provider, provider) == 0)
			return &checks[i];
	return NULL;
}

static int64
next_due_us(void)
{
	return eduai_core_mono_us() +
		   (int64) (interval_ms * 1000.0 * (1.0 - 0.2 * eduai_core_random_unit()));
}

/* ---- planning ---- */

/* an active instance of the provider that can be asked after; NULL: none */
static Instance *
instance_to_ask(const Fleet *fleet, const Provider *provider)
{
	const Adapter *adapter = eduai_gateway_adapter_of(provider);

	if (adapter == NULL || adapter->health_path == NULL || provider->key_error != NULL)
		return NULL;
	for (int i = 0; i < fleet->ninstances; i++)
		if (fleet->instances[i].active && fleet->instances[i].provider == provider)
			return &fleet->instances[i];
	return NULL;
}

static void
want(const Provider *provider)
{
	Check *check = check_of(provider->name);

	if (check == NULL)
	{
		checks = checks != NULL ? repalloc(checks, sizeof(Check) * (nchecks + 1))
								: MemoryContextAlloc(TopMemoryContext, sizeof(Check));
		check = &checks[nchecks++];
		memset(check, 0, sizeof(*check));
		strlcpy(check->provider, provider->name, sizeof(check->provider));
		check->due_us = eduai_core_mono_us() + (int64) (Min(interval_ms, FIRST_WITHIN_MS) * 1000.0 *
														eduai_core_random_unit());
	}
	check->due_us = Min(check->due_us, next_due_us());
	check->wanted = true;
}

static void
drop_unwanted(void)
{
	int kept = 0;

	for (int i = 0; i < nchecks; i++)
		if (checks[i].wanted)
			checks[kept++] = checks[i];
	nchecks = kept;
}

void
eduai_gateway_health_check_plan(const Fleet *fleet)
{
	for (int i = 0; i < nchecks; i++)
		checks[i].wanted = false;
	for (int i = 0; i < fleet->nproviders && interval_ms > 0 && fleet->adopted; i++)
		if (instance_to_ask(fleet, &fleet->providers[i]) != NULL)
			want(&fleet->providers[i]);
	drop_unwanted();
}

/* ---- asking ---- */

/* The instance with shorter limits: a list of models is not waited for like an answer. */
static Instance *
hurried(const Instance *instance)
{
	Instance *copy = palloc(sizeof(Instance));

	*copy = *instance;
	copy->first_byte_ms = Min(copy->first_byte_ms, FIRST_BYTE_MS);
	copy->timeout_ms = TIMEOUT_MS;
	return copy;
}

static void
ask(Fleet *fleet, const Instance *instance)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "eduai health check", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	GatewayCall *call = palloc0(sizeof(GatewayCall));

	call->context = context;
	call->tenant = "";
	call->task_type = "";
	call->timeout_ms = TIMEOUT_MS;
	call->health_check = true;
	call->instance = hurried(instance);
	fleet->refs++;
	MemoryContextSwitchTo(caller);
	eduai_gateway_transfer_start(call);
}

static void
start(Fleet *fleet, Check *check)
{
	for (int i = 0; i < fleet->nproviders; i++)
	{
		Provider *provider = &fleet->providers[i];
		Instance *instance;

		if (strcmp(provider->name, check->provider) != 0)
			continue;
		instance = instance_to_ask(fleet, provider);
		if (instance == NULL)
			return;
		check->out = true;
		ask(fleet, instance);
	}
}

void
eduai_gateway_health_check_start_due(Fleet *fleet)
{
	int64 now_us = eduai_core_mono_us();

	for (int i = 0; i < nchecks; i++)
		if (!checks[i].out && checks[i].due_us <= now_us)
		{
			checks[i].due_us = next_due_us();
			start(fleet, &checks[i]);
		}
}

int64
eduai_gateway_health_check_next_us(void)
{
	int64 next_us = INT64_MAX;

	for (int i = 0; i < nchecks; i++)
		if (!checks[i].out)
			next_us = Min(next_us, checks[i].due_us);
	return next_us;
}

/* ---- judging ---- */

/*
 * Bad is what a call would meet, too: no connection, no answer, a key that is
 * refused, an error of the server.  A server that answers otherwise may have no
 * such path (404), not let this key list models (403), or count such requests
 * (429): that says nothing of its calls, and neither does what went wrong on
 * our side.
 */
static InstanceHealth
judge(const CallOutcome *outcome)
{
	static const char *const silent[] = {"timeout_total", "rate_limited",   "model_not_found",
										 "out_of_memory", "internal_error", "no_key",
										 "unknown_kind"};

	/* the head came, and is enough: the rest may have been more than was wanted */
	if (outcome->http_status >= 200 && outcome->http_status <= 299)
		return HEALTH_GOOD;
	if (outcome->http_status == 403 || outcome->verdict == CALL_FATAL ||
		outcome->verdict == CALL_CANCELLED)
		return HEALTH_UNKNOWN;
	for (size_t i = 0; i < lengthof(silent); i++)
		if (strcmp(silent[i], outcome->code) == 0)
			return HEALTH_UNKNOWN;
	return HEALTH_BAD;
}

bool
eduai_gateway_health_check_ended(const Fleet *fleet, const GatewayCall *call,
								 const CallOutcome *outcome)
{
	const Provider *provider = call->instance->provider;
	Check *check = check_of(provider->name);
	InstanceHealth health = judge(outcome);
	int64 now_us = eduai_core_mono_us();
	bool hurried = false;

	if (check != NULL)
		check->out = false;
	/* of a provider as it was before it was replaced */
	if (call->instance->fleet != fleet)
		return false;
	for (int i = 0; i < fleet->ninstances; i++)
		if (fleet->instances[i].provider == provider)
			hurried |=
				eduai_gateway_stand_checked(&fleet->instances[i], health, outcome->code, now_us);
	return hurried;
}

void
eduai_gateway_health_check_init(void)
{
	DefineCustomIntVariable(
		"eduai.health_interval",
		"How often each provider with an active instance is asked whether it is well.",
		"By a GET that costs nothing, where its API has one. 0: never.", &interval_ms, 30000, 0,
		PG_INT32_MAX / 1000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}
