/*
 * status_sql.c: the counters as rows, and what health() says of them.
 */
#include "postgres.h"

#include "core/health.h"
#include "core/json.h"
#include "core/shmem.h"
#include "core/tenant.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "ratelimit/adaptive.h"
#include "ratelimit/factor.h"
#include "ratelimit/ratelimit.h"
#include "ratelimit/save.h"
#include "ratelimit/slots.h"
#include "ratelimit/tier.h"
#include "utils/builtins.h"

#define RECENT_US (5 * USECS_PER_MINUTE)

PG_FUNCTION_INFO_V1(eduai_rate_counters);

/* ---- the rows ---- */

/* The part of a label as text; bytes that were cut in a digest are in hex. */
static Datum
label_part(const RateName *name, int from, int length, bool digest)
{
	char *hex;

	if (!digest)
		return PointerGetDatum(cstring_to_text_with_len(name->label + from, length));
	hex = palloc(length * 2 + 1);
	hex[hex_encode(name->label + from, length, hex)] = '\0';
	return CStringGetTextDatum(psprintf("sha256:%s", hex));
}

static const RateTier *
tier_of(const RateName *name, const char *tenant)
{
	char *tier = pnstrdup(name->label + name->tenant_length, name->tier_length);
	char *type = pnstrdup(name->label + name->tenant_length + name->tier_length, name->type_length);
	const RateTier *row = eduai_ratelimit_tier_row(tenant, tier, type);

	return row != NULL ? row : eduai_ratelimit_tier_row("", tier, type);
}

static RateRules
rules_of(const RateTier *tier, const RateName *name, const char *tenant)
{
	RateRules rules = tier->rules;
	int at = name->tenant_length + name->tier_length + name->type_length;
	int64 own = name->digest || name->overflow
					? -1
					: eduai_ratelimit_key_limit(tenant, tier, name->label + at, name->key_length);

	if (own >= 0)
	{
		rules.limit = rules.most = own;
		rules.burst = tier->own_burst ? Min(rules.burst, own) : own;
	}
	rules.limit = eduai_ratelimit_adaptive_limit(rules.limit, eduai_ratelimit_factor(tier->factor));
	return rules;
}

static void
put_row(ReturnSetInfo *rsinfo, RateEntry *entry, const char *tenant, int64 now_us)
{
	static const char *const algorithms[] = {"none", "window", "gcra", "concurrency", "unlimited"};
	const RateName *name = &entry->name;
	const RateTier *tier = tier_of(name, tenant);
	int type_at = name->tenant_length + name->tier_length;
	RateRules rules = {0};
	RateVerdict v = {0};
	Interval reset = {0};
	bool known = tier != NULL && tier->rules.algorithm != RATE_UNLIMITED;

	if (known)
	{
		rules = rules_of(tier, name, tenant);
		eduai_ratelimit_counter_fit(&entry->counter, &rules, now_us);
		v = eduai_ratelimit_counter_judge(&entry->counter, &rules, 0, now_us);
		reset.time = Max(v.reset_us, 0);
	}
	{
		Datum values[11] = {
			label_part(name, type_at + name->type_length, name->key_length, name->digest),
			label_part(name, name->tenant_length, name->tier_length, false),
			label_part(name, type_at, name->type_length, false),
			CStringGetTextDatum(algorithms[rules.algorithm]),
			Int64GetDatum(v.limit),
			Int64GetDatum(v.remaining),
			Int64GetDatum(entry->counter.held),
			tier != NULL ? IntervalPGetDatum((Interval *) &tier->per) : (Datum) 0,
			IntervalPGetDatum(&reset),
			Int64GetDatum((int64) entry->admitted),
			Int64GetDatum((int64) entry->refused)};
		bool nulls[11] = {name->overflow,
						  false,
						  false,
						  !known,
						  !known,
						  !known,
						  !known || rules.algorithm != RATE_CONCURRENCY,
						  !known || !tier->has_per || rules.algorithm == RATE_CONCURRENCY,
						  !known || v.reset_us < 0,
						  false,
						  false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

/* Copies what counts for the tenant in a shard. */
static int
copy_shard(int shard, const char *tenant, int64 now_us, RateEntry *copies)
{
	int length = (int) strlen(tenant);
	int n = 0;

	eduai_ratelimit_shard_lock(shard, LW_SHARED);
	for (int i = 0; i < eduai_ratelimit_places(); i++)
	{
		const RateEntry *entry = eduai_ratelimit_entry_at(shard, i);

		if (entry != NULL && entry->name.database == MyDatabaseId &&
			entry->name.tenant_length == length && memcmp(entry->name.label, tenant, length) == 0 &&
			eduai_ratelimit_counter_idle_us(&entry->counter) > now_us)
			copies[n++] = *entry;
	}
	eduai_ratelimit_shard_unlock(shard);
	return n;
}

Datum
eduai_rate_counters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char *tenant = eduai_core_tenant();
	RateEntry *copies;
	int64 now_us;

	InitMaterializedSRF(fcinfo, 0);
	if (!eduai_core_preloaded())
		return (Datum) 0;
	eduai_ratelimit_tiers_fresh();
	now_us = eduai_ratelimit_now_us();
	copies = palloc_extended(sizeof(RateEntry) * eduai_ratelimit_places(), MCXT_ALLOC_HUGE);
	for (int shard = 0; shard < eduai_ratelimit_table()->nshards; shard++)
	{
		int n = copy_shard(shard, tenant, now_us, copies);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < n; i++)
			put_row(rsinfo, &copies[i], tenant, now_us);
	}
	return (Datum) 0;
}

/* ---- health ---- */

typedef struct Totals
{
	int64 used;
	int64 overflows;
	int64 refused;
	int64 overflowed;
	int64 full_us; /* the latest */
} Totals;

static Totals
add_up(void)
{
	const RateTable *table = eduai_ratelimit_table();
	Totals t = {0};

	for (int shard = 0; shard < table->nshards; shard++)
	{
		const RateShard *s = &table->shards[shard];

		eduai_ratelimit_shard_lock(shard, LW_SHARED);
		t.used += s->used;
		t.overflows += s->overflows;
		t.refused += (int64) s->refused;
		t.overflowed += (int64) s->overflowed;
		t.full_us = Max(t.full_us, s->full_us);
		eduai_ratelimit_shard_unlock(shard);
	}
	return t;
}

static void
put_section(EduaiHealth *health, const Totals *t, const RateSaved *saved)
{
	const RateTable *table = eduai_ratelimit_table();
	EduaiJson j;

	eduai_core_json_begin(&j);
	eduai_core_json_put_int(&j, "keys", t->used);
	eduai_core_json_put_int(&j, "keys_most", (int64) table->nshards * table->shard_entries);
	eduai_core_json_put_int(&j, "refused_for_room", t->refused);
	eduai_core_json_put_int(&j, "overflowed", t->overflowed);
	if (saved->saved_at != 0)
		eduai_core_json_put_time(&j, "saved_at", saved->saved_at);
	eduai_core_health_section(health, "ratelimit", eduai_core_json_end(&j));
}

static void
report_room(EduaiHealth *health, const Totals *t)
{
	int64 ago_us = eduai_ratelimit_now_us() - t->full_us;
	int slots;
	int used;
	int64 refused;

	if (t->full_us != 0 && ago_us < RECENT_US)
		eduai_core_health_problem(
			health, "rate_keys_full", "warning", GetCurrentTimestamp() - Max(ago_us, 0),
			psprintf("Keys of the rate limiter find no room: %lld calls were refused for it, %lld "
					 "shared a limit with others.",
					 (long long) t->refused, (long long) t->overflowed),
			"Raise eduai.rate_keys and restart the server.");
	eduai_ratelimit_slots_room(&slots, &used, &refused);
	if (used >= slots && refused > 0)
		eduai_core_health_problem(
			health, "rate_slots_full", "warning", 0,
			psprintf("All %d records of who holds slots of concurrency limits are in use; further "
					 "slots are refused.",
					 slots),
			"Raise eduai.rate_slots and restart the server; see that eduai.rate_release() is "
			"called.");
	if (eduai_ratelimit_factor_refused() > 0)
		eduai_core_health_problem(
			health, "rate_factors_full", "warning", 0,
			"There are more adaptive tiers than can be followed; the others have their configured "
			"limit.",
			"Make fewer tiers adaptive and restart the server.");
}

static void
report(EduaiHealth *health)
{
	RateSaved saved;
	Totals t;

	if (!eduai_core_preloaded())
		return;
	saved = eduai_ratelimit_saved();
	t = add_up();
	put_section(health, &t, &saved);
	report_room(health, &t);
	if (saved.failures > 0)
		eduai_core_health_problem(
			health, "rate_save_fails", "warning", saved.saved_at,
			psprintf("What the rate limiter has admitted could not be saved, %lld times in a row.",
					 (long long) saved.failures),
			"See the server log; until then a crash forgets what was admitted since.");
}

void
eduai_ratelimit_status_init(void)
{
	eduai_core_health_register(report);
}
