/*
 * fleet.c: loading the providers and instances; see fleet.h.
 *
 * One statement reads everything, so that an instance never meets a provider
 * of another moment.  Keys behind references are resolved here, each time: a
 * rotated key file is read again whenever the fleet is.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/json.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/relcache.h"
#include "core/seal.h"
#include "executor/spi.h"
#include "gateway/fleet.h"
#include "gateway/gateway.h"
#include "gateway/keyref.h"
#include "gateway/keyring.h"
#include "gateway/wire.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

bool eduai_gateway_allow_mock = false;
int eduai_gateway_max_response_kb = 32768;
int eduai_gateway_http_connections = 1000;
char *eduai_gateway_http_ca_file = NULL;

static EduaiPlan select_providers = {
	"SELECT p.name, p.kind, p.base_url, p.key_ref, s.sealed, p.options, "
	"p.home = eduai.home() AND NOT EXISTS (SELECT FROM eduai.adoption WHERE home <> eduai.home()) "
	"FROM eduai.provider p "
	"LEFT JOIN eduai.provider_secret s ON s.provider = p.name ORDER BY p.name",
	0,
	{0}};

static EduaiPlan select_instances = {
	"SELECT name, provider, model, task_types, weight, max_concurrent, price_input, "
	"price_output, options, state = 'active' FROM eduai.instance ORDER BY name",
	0,
	{0}};

/* What invalidations are compared with; InvalidOid before the first load. */
static Oid watched_instance = InvalidOid;
static Oid watched_provider = InvalidOid;
static uint64 changes = 1;

/* ---- staleness ---- */

static void
relation_changed(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == watched_instance || relid == watched_provider)
		changes++;
}

bool
eduai_gateway_fleet_is_current(const Fleet *fleet)
{
	return fleet->changes == changes && !eduai_gateway_keyring_stale();
}

void
eduai_gateway_fleet_mark_stale(void)
{
	changes++;
}

/*
 * Returns what the load may later be marked with: what changes while the
 * tables are read is noticed, and a load that fails leaves the fleet stale.
 */
static uint64
watch(void)
{
	static bool registered = false;
	Oid schema = eduai_core_schema();

	if (!registered)
	{
		eduai_core_relcache_register(relation_changed);
		registered = true;
	}
	watched_instance = get_relname_relid("instance", schema);
	watched_provider = get_relname_relid("provider", schema);
	return changes;
}

/* ---- reading ---- */

static Jsonb *
json_column(uint64 row, int column)
{
	bool isnull;
	Datum value = eduai_core_value(row, column, &isnull);

	return isnull ? NULL : DatumGetJsonbPCopy(value);
}

static bytea *
bytea_column(uint64 row, int column)
{
	bool isnull;
	Datum value = eduai_core_value(row, column, &isnull);

	return isnull ? NULL : DatumGetByteaPCopy(value);
}

static bool
bool_column(uint64 row, int column)
{
	bool isnull;
	Datum value = eduai_core_value(row, column, &isnull);

	return !isnull && DatumGetBool(value);
}

static Numeric
numeric_column(uint64 row, int column)
{
	bool isnull;
	Datum value = eduai_core_value(row, column, &isnull);

	return isnull ? int64_to_numeric(0) : DatumGetNumericCopy(value);
}

static char **
text_array_column(uint64 row, int column, int *n)
{
	bool isnull;
	Datum value = eduai_core_value(row, column, &isnull);
	Datum *elements;
	bool *nulls;
	char **texts;

	*n = 0;
	if (isnull)
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements,
					  &nulls, n);
	texts = palloc(sizeof(char *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		texts[i] = nulls[i] ? pstrdup("") : TextDatumGetCString(elements[i]);
	return texts;
}

static char **
text_array_option(const Jsonb *options, const char *name, int *n)
{
	Jsonb *array = eduai_core_json_child(options, name);
	char **texts;

	*n = eduai_core_json_length(array);
	texts = palloc(sizeof(char *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		texts[i] = eduai_core_json_element_text(array, i);
		if (texts[i] == NULL)
			texts[i] = pstrdup("");
	}
	return texts;
}

static int64
int_option(const Jsonb *options, const char *name, int64 default_value)
{
	int64 value;

	return eduai_core_json_int64(options, name, &value) ? value : default_value;
}

static bool
bool_option(const Jsonb *options, const char *name, bool default_value)
{
	bool value;

	return eduai_core_json_bool(options, name, &value) ? value : default_value;
}

static Numeric
copied(Numeric price)
{
	return price != NULL ? DatumGetNumericCopy(NumericGetDatum(price)) : NULL;
}

static Numeric
price_option(const Jsonb *options, const char *name)
{
	return copied(eduai_core_json_numeric(options, name));
}

static void
read_provider(uint64 row, bool keys, Provider *provider)
{
	provider->name = eduai_core_text(row, 1);
	provider->kind = eduai_core_text(row, 2);
	provider->base_url = eduai_core_text(row, 3);
	provider->key_ref = eduai_core_text(row, 4);
	if (keys)
		provider->api_key = eduai_gateway_keyref_resolve(
			provider->key_ref, bytea_column(row, 5),
			eduai_gateway_keyref_context(provider->name, provider->base_url), &provider->key_error);
	provider->options = json_column(row, 6);
	provider->at_home = bool_column(row, 7);
	provider->allow_loopback = bool_option(provider->options, "allow_loopback", false);
	provider->allow_private = bool_option(provider->options, "allow_private", false);
	provider->http2 = bool_option(provider->options, "http2", false);
	provider->webhook =
		strcmp(provider->kind, "openai") == 0 && bool_option(provider->options, "webhook", false);
}

void
eduai_gateway_read_prices(Instance *instance)
{
	const Jsonb *options = instance->options;

	instance->max_output_tokens = int_option(options, "max_output_tokens", 0);
	instance->price_cached = price_option(options, "price_cached");
	instance->price_cache_write = price_option(options, "price_cache_write");
	instance->price_cache_write_1h = price_option(options, "price_cache_write_1h");
	instance->price_audio_input = price_option(options, "price_audio_input");
	instance->price_image_input = price_option(options, "price_image_input");
	instance->price_audio_output = price_option(options, "price_audio_output");
	instance->price_reasoning = price_option(options, "price_reasoning");
	instance->price_image = copied(eduai_gateway_dearest_image(options));
	instance->price_audio_second = price_option(options, "price_audio_second");
}

static void
read_options(Instance *instance)
{
	const Jsonb *options = instance->options;

	instance->aliases = text_array_option(options, "aliases", &instance->naliases);
	instance->tenants = text_array_option(options, "tenants", &instance->ntenants);
	instance->fallback = text_array_option(options, "fallback", &instance->nfallback);
	instance->embedding_space = eduai_gateway_string(options, "embedding_space");
	instance->tier = (int) int_option(options, "tier", 1);
	instance->context_tokens = int_option(options, "context_tokens", 0);
	eduai_gateway_read_prices(instance);
	instance->connect_ms = int_option(options, "connect_ms", 5000);
	instance->first_byte_ms = int_option(options, "first_byte_ms", 30000);
	instance->stall_ms = int_option(options, "stall_ms", 15000);
	instance->timeout_ms = int_option(options, "timeout_ms", 0);
	instance->rpm = int_option(options, "rpm", 0);
	instance->tpm = int_option(options, "tpm", 0);
	instance->daily_tokens = int_option(options, "daily_tokens", 0);
	instance->stream = bool_option(options, "stream", true);
}

static double
as_double(Numeric price)
{
	return price == NULL ? 0
						 : DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
															  NumericGetDatum(price)));
}

static Provider *
find_provider(Fleet *fleet, const char *name)
{
	for (int i = 0; i < fleet->nproviders; i++)
		if (strcmp(fleet->providers[i].name, name) == 0)
			return &fleet->providers[i];
	return NULL;
}

/* False for an instance without a provider, which only a strange restore can leave. */
static bool
read_instance(uint64 row, Fleet *fleet, Instance *instance)
{
	instance->fleet = fleet;
	instance->name = eduai_core_text(row, 1);
	instance->provider = find_provider(fleet, eduai_core_text(row, 2));
	instance->model = eduai_core_text(row, 3);
	instance->task_types = text_array_column(row, 4, &instance->ntask_types);
	instance->weight = (int) eduai_core_int64(row, 5, 1);
	instance->max_concurrent = (int) eduai_core_int64(row, 6, 1);
	instance->price_input = numeric_column(row, 7);
	instance->price_output = numeric_column(row, 8);
	instance->options = json_column(row, 9);
	instance->active = bool_column(row, 10);
	read_options(instance);
	instance->usd_input = as_double(instance->price_input);
	instance->usd_output = as_double(instance->price_output);
	instance->usd_image = as_double(instance->price_image);
	return instance->provider != NULL;
}

static void
load_providers(Fleet *fleet, bool keys)
{
	MemoryContext caller;
	uint64 n = eduai_core_run(&select_providers, NULL, NULL);

	caller = MemoryContextSwitchTo(fleet->context);
	fleet->adopted = true;
	fleet->providers = palloc0(sizeof(Provider) * Max(n, 1));
	fleet->nproviders = (int) n;
	for (uint64 i = 0; i < n; i++)
	{
		read_provider(i, keys, &fleet->providers[i]);
		fleet->adopted = fleet->adopted && fleet->providers[i].at_home;
	}
	MemoryContextSwitchTo(caller);
}

static void
load_instances(Fleet *fleet)
{
	MemoryContext caller;
	uint64 n = eduai_core_run(&select_instances, NULL, NULL);

	caller = MemoryContextSwitchTo(fleet->context);
	fleet->instances = palloc0(sizeof(Instance) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
		if (read_instance(i, fleet, &fleet->instances[fleet->ninstances]))
			fleet->ninstances++;
	MemoryContextSwitchTo(caller);
}

void
eduai_gateway_fleet_forget_keys(Fleet *fleet)
{
	for (int i = 0; i < fleet->nproviders; i++)
	{
		eduai_core_seal_wipe(fleet->providers[i].api_key);
		fleet->providers[i].api_key = NULL;
	}
}

/* The fleet's memory goes: no key stays behind in what is free. */
static void
wipe_keys(void *arg)
{
	eduai_gateway_fleet_forget_keys(arg);
}

static Fleet *
load(MemoryContext parent, bool keys)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "eduai fleet", ALLOCSET_DEFAULT_SIZES);
	Fleet *fleet = MemoryContextAllocZero(context, sizeof(Fleet));
	EduaiPrivilege saved;

	fleet->context = context;
	fleet->wipe.func = wipe_keys;
	fleet->wipe.arg = fleet;
	MemoryContextRegisterResetCallback(context, &fleet->wipe);
	eduai_gateway_encoding_prepare();
	fleet->changes = watch();
	eduai_core_enter(&saved);
	load_providers(fleet, keys);
	load_instances(fleet);
	eduai_core_leave(&saved);
	/* complete: from here on it is the caller's */
	MemoryContextSetParent(context, parent);
	if (keys)
		eduai_gateway_keyring_note(fleet);
	return fleet;
}

Fleet *
eduai_gateway_fleet_load(MemoryContext parent)
{
	return load(parent, true);
}

Fleet *
eduai_gateway_fleet_load_keyless(MemoryContext parent)
{
	return load(parent, false);
}

/* ---- serving ---- */

static bool
is_among(const char *text, char **texts, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(texts[i], text) == 0)
			return true;
	return false;
}

bool
eduai_gateway_instance_serves(const Instance *instance, const char *task_type, const char *model,
							  const char *tenant)
{
	if (!is_among(task_type, instance->task_types, instance->ntask_types))
		return false;
	if (model != NULL && strcmp(model, instance->model) != 0 &&
		!is_among(model, instance->aliases, instance->naliases))
		return false;
	return instance->ntenants == 0 || is_among(tenant, instance->tenants, instance->ntenants);
}

/* ---- settings ---- */

void
eduai_gateway_fleet_init(void)
{
	DefineCustomBoolVariable("eduai.allow_mock",
							 "Allows providers of kind mock, which answer without a model.",
							 "Off by default, so that production cannot be answered by a test's "
							 "provider. Asked when a provider is added.",
							 &eduai_gateway_allow_mock, false, PGC_SUSET, 0, NULL, NULL, NULL);
	/* below jsonb's own limit of 256 MB for the strings and arrays in it */
	DefineCustomIntVariable("eduai.max_response_size",
							"The longest answer of a provider that is accepted, decompressed.",
							"Longer ones end with the error body_too_large.",
							&eduai_gateway_max_response_kb, 32768, 1, 204800, PGC_SIGHUP,
							GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"eduai.http_connections", "How many provider calls run at once in a database's dispatcher.",
		"Calls beyond it wait in line. Each needs a file descriptor: the "
		"dispatcher raises its own limit up to the hard one (ulimit -Hn).",
		&eduai_gateway_http_connections, 1000, 1, 60000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("eduai.http_ca_file",
							   "A file of trusted certificates, in PEM, for providers.",
							   "Empty for the system's own.", &eduai_gateway_http_ca_file, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
}
