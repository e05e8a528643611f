/*
 * fleet.h: the providers and instances, as the dispatcher knows them.
 *
 * Loaded from eduai.provider, eduai.provider_secret and eduai.instance inside
 * a transaction, kept in a memory context of its own, and loaded again when
 * they change (relcache invalidation of eduai.instance or eduai.provider,
 * which every function that changes them sends), when a key file changed, and
 * every few seconds while a key cannot be had.  A fleet that calls in flight
 * still point to lives on until the last of them ends (refs), with the keys
 * that they were sent with; keys are overwritten when it goes.
 */
#ifndef EDUAI_GATEWAY_FLEET_H
#define EDUAI_GATEWAY_FLEET_H

#include "postgres.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

typedef struct Provider
{
	char *name;
	char *kind;      /* openai anthropic openrouter huggingface mock */
	char *base_url;  /* without a trailing slash */
	char *key_ref;   /* env:NAME, file:PATH, literal, or NULL: no key */
	char *api_key;   /* resolved: the secret itself, or NULL; never print */
	char *key_error; /* why a reference could not be resolved, or NULL */
	Jsonb *options;
	bool allow_loopback;
	bool allow_private;
	bool http2;
	bool webhook; /* kind openai: tasks are posted as they are, signed with the key */
	bool at_home; /* recorded by this very database: see adopt_database() */
} Provider;

typedef struct Instance
{
	struct Fleet *fleet;
	Provider *provider;
	char *name;
	char *model;
	char **task_types;
	int ntask_types;
	char **aliases;
	int naliases;
	char **tenants; /* allow list; ntenants 0: all */
	int ntenants;
	char **fallback; /* instances or models that stand in for it, in this order */
	int nfallback;
	bool active; /* state 'active' */
	int tier;
	int weight;
	int max_concurrent;
	Numeric price_input; /* USD per million tokens */
	Numeric price_output;
	Numeric price_cached;         /* NULL: as price_input */
	Numeric price_cache_write;    /* NULL: as price_input */
	Numeric price_cache_write_1h; /* NULL: as price_cache_write */
	Numeric price_audio_input;    /* of sound, NULL: as price_input */
	Numeric price_image_input;    /* of pictures, NULL: as price_input */
	Numeric price_audio_output;   /* NULL: as price_output */
	Numeric price_reasoning;      /* NULL: as price_output */
	Numeric price_image;          /* USD a picture, the dearest kind; NULL: nothing */
	Numeric price_audio_second;   /* USD, NULL: nothing */
	double usd_input;             /* the prices again, for estimates */
	double usd_output;
	double usd_image;
	char *embedding_space;   /* NULL: the model's own */
	int64 context_tokens;    /* 0: unknown */
	int64 max_output_tokens; /* 0: unknown */
	int64 connect_ms;
	int64 first_byte_ms;
	int64 stall_ms;
	int64 timeout_ms; /* 0: the task's own */
	int64 rpm;        /* 0: no limit */
	int64 tpm;
	int64 daily_tokens;
	bool stream; /* chats are asked for as streams */
	Jsonb *options;
} Instance;

typedef struct Fleet
{
	MemoryContext context;
	Provider *providers;
	int nproviders;
	Instance *instances;
	int ninstances;
	int refs;     /* calls in flight that point here */
	bool adopted; /* the database belongs here: all at home */
	MemoryContextCallback wipe;
	uint64 changes; /* seen of the tables */
} Fleet;

/* Loads the fleet; call inside a transaction with SPI connected.  Owned by the caller. */
extern Fleet *eduai_gateway_fleet_load(MemoryContext parent);

/* The same for looking at it: no key is resolved, the providers seem to have none. */
extern Fleet *eduai_gateway_fleet_load_keyless(MemoryContext parent);

/* False when the tables changed since it was loaded. */
extern bool eduai_gateway_fleet_is_current(const Fleet *fleet);

/* For who only looks: wipes the keys out of memory; whether they could be had stays known. */
extern void eduai_gateway_fleet_forget_keys(Fleet *fleet);

/* Makes all loaded ones stale: key files and variables are read again at the next load. */
extern void eduai_gateway_fleet_mark_stale(void);

/* Reads what bounds and prices there are in instance->options. */
extern void eduai_gateway_read_prices(Instance *instance);

/* Does the instance serve this type, model (NULL: any) and tenant, its state aside? */
extern bool eduai_gateway_instance_serves(const Instance *instance, const char *task_type,
										  const char *model, const char *tenant);

#endif
