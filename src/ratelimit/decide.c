/*
 * decide.c: decisions under the shards' locks.  See decide.h.
 */
#include "postgres.h"

#include "core/compat.h"
#include "core/pause.h"
#include "ratelimit/adaptive.h"
#include "ratelimit/decide.h"
#include "ratelimit/factor.h"
#include "ratelimit/save.h"
#include "ratelimit/slots.h"
#include "utils/builtins.h"

/* ---- the question ---- */

/* A key's own limit is instead of the tier's; an adaptive tier takes its share of either. */
static void
set_rules(RateQuestion *q, const char *tenant)
{
	const RateTier *tier = q->tier;
	int64 own = eduai_ratelimit_key_limit(tenant, tier, VARDATA_ANY(q->key),
										  (int) VARSIZE_ANY_EXHDR(q->key));

	q->rules = tier->rules;
	if (own >= 0 && tier->rules.algorithm != RATE_UNLIMITED)
	{
		q->rules.limit = q->rules.most = own;
		q->rules.burst = tier->own_burst ? Min(tier->rules.burst, own) : own;
	}
	if (tier->factor >= 0)
		q->rules.limit =
			eduai_ratelimit_adaptive_limit(q->rules.limit, eduai_ratelimit_factor(tier->factor));
}

static void
check_cost(const RateQuestion *q, int32 cost)
{
	bool paced = q->rules.algorithm == RATE_GCRA;
	int64 most = paced ? q->rules.burst : q->rules.most;

	if (cost < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid cost \"%d\"", cost), errhint("A cost is at least 1.")));
	/* a limit of 0 lets nothing in, and that is a decision */
	if (q->rules.algorithm != RATE_UNLIMITED && most > 0 && cost > most)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("cost \"%d\" can never be allowed", cost),
						errdetail("The %s of tier \"%s\" is %lld.", paced ? "burst" : "limit",
								  q->tier->name, (long long) most),
						errhint("Divide the call, or raise the limit with eduai.define_tier() or "
								"eduai.set_key_limit().")));
}

static void
set_question(RateQuestion *q, const char *tenant, const text *key, const RateTier *tier,
			 const RateName *prefix)
{
	int length = (int) VARSIZE_ANY_EXHDR(key);

	if (unlikely(length == 0))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid key \"\""),
						errhint("A key names who is counted, such as \"user:1\".")));
	q->tier = tier;
	q->key = key;
	q->full = NULL;
	set_rules(q, tenant);
	memcpy(&q->name, prefix,
		   offsetof(RateName, label) + prefix->tenant_length + prefix->tier_length +
			   prefix->type_length);
	eduai_ratelimit_name_key(&q->name, VARDATA_ANY(key), length);
	if (q->rules.algorithm == RATE_CONCURRENCY)
		eduai_ratelimit_slots_ready();
}

void
eduai_ratelimit_ask(RateQuestion *q, const char *tenant, const text *key, const text *tier,
					const text *type, int32 cost)
{
	const RatePolicy *policy = eduai_ratelimit_policy(tenant, tier, type);

	set_question(q, tenant, key, policy->tier, &policy->prefix);
	check_cost(q, cost);
}

void
eduai_ratelimit_ask_row(RateQuestion *q, const char *tenant, const text *key, const RateTier *tier)
{
	RateName prefix;

	eduai_ratelimit_name_prefix(&prefix, tenant, tier);
	set_question(q, tenant, key, tier, &prefix);
}

/* ---- under the lock ---- */

static void
refuse_for_room(RateQuestion *q, const char *setting)
{
	q->full = setting;
	q->verdict = (RateVerdict){.limit = q->rules.limit, .retry_us = -1, .reset_us = -1};
}

/* What the question would count in, and the answer; changes nothing that counts. */
static RateEntry *
judge(RateQuestion *q, int32 cost, int64 now_us)
{
	RateEntry *entry = eduai_ratelimit_find(&q->name);
	const RateEntry *like;
	RateCounter fresh;
	bool full;

	if (likely(entry != NULL))
	{
		eduai_ratelimit_counter_fit(&entry->counter, &q->rules, now_us);
		q->verdict = eduai_ratelimit_counter_judge(&entry->counter, &q->rules, cost, now_us);
		return entry;
	}
	like = eduai_ratelimit_look(&q->name, q->rules.algorithm, now_us, &full);
	memset(&fresh, 0, sizeof(fresh));
	if (like != NULL)
		fresh = like->counter;
	eduai_ratelimit_counter_fit(&fresh, &q->rules, now_us);
	q->verdict = eduai_ratelimit_counter_judge(&fresh, &q->rules, cost, now_us);
	if (full)
		refuse_for_room(q, "eduai.rate_keys");
	return NULL;
}

/* Where a question that may be consumed is counted: its entry, if there is one; NULL: there is no room after all. */
static RateEntry *
place(RateQuestion *q, RateEntry *entry, int32 cost, int64 now_us)
{
	if (entry == NULL)
		entry = eduai_ratelimit_make(&q->name, q->rules.algorithm, now_us);
	if (entry == NULL)
	{
		refuse_for_room(q, "eduai.rate_keys");
		return NULL;
	}
	if (q->rules.algorithm == RATE_CONCURRENCY && !eduai_ratelimit_slots_take(entry, (uint32) cost))
	{
		refuse_for_room(q, "eduai.rate_slots");
		return NULL;
	}
	return entry;
}

static void
consume(RateQuestion *q, RateEntry *entry, int32 cost, int64 now_us)
{
	/* one that was just made, or the overflow counter */
	eduai_ratelimit_counter_fit(&entry->counter, &q->rules, now_us);
	eduai_ratelimit_counter_consume(&entry->counter, &q->rules, cost, now_us);
	entry->admitted++;
	eduai_ratelimit_changed(entry);
}

static void
note_refusal(const RateQuestion *q, RateEntry *entry, int64 now_us)
{
	if (entry != NULL)
		entry->refused++;
	else if (q->full != NULL)
		eduai_ratelimit_note_full(&q->name, now_us);
}

void
eduai_ratelimit_decide(RateQuestion *q, int32 cost)
{
	int shard;
	int64 now_us;
	RateEntry *entry;

	if (q->rules.algorithm == RATE_UNLIMITED)
	{
		q->verdict = (RateVerdict){.allowed = true, .limit = -1, .remaining = -1};
		return;
	}
	shard = eduai_ratelimit_shard_of(eduai_ratelimit_table(), &q->name);
	eduai_ratelimit_expect(&q->name);
	eduai_ratelimit_shard_lock(shard, LW_EXCLUSIVE);
	now_us = eduai_ratelimit_now_us();
	entry = judge(q, cost, now_us);
	if (!q->verdict.allowed)
		note_refusal(q, entry, now_us);
	else if ((entry = place(q, entry, cost, now_us)) != NULL)
		consume(q, entry, cost, now_us);
	eduai_ratelimit_shard_unlock(shard);
	if (q->verdict.allowed)
		eduai_ratelimit_save_soon();
}

/* ---- several ---- */

typedef struct Held
{
	int shards[RATE_MOST_KEYS]; /* ascending, each once */
	int n;
} Held;

static void
lock_shards(const RateQuestion *questions, int n, Held *held)
{
	const RateTable *table = eduai_ratelimit_table();
	bool wanted[RATE_MAX_SHARDS] = {false};

	for (int i = 0; i < n; i++)
		if (questions[i].rules.algorithm != RATE_UNLIMITED)
			wanted[eduai_ratelimit_shard_of(table, &questions[i].name)] = true;
	held->n = 0;
	for (int shard = 0; shard < table->nshards; shard++)
		if (wanted[shard])
		{
			eduai_ratelimit_shard_lock(shard, LW_EXCLUSIVE);
			held->shards[held->n++] = shard;
			EDUAI_PAUSE("rate-locking");
		}
}

static void
unlock_shards(const Held *held)
{
	for (int i = held->n - 1; i >= 0; i--)
		eduai_ratelimit_shard_unlock(held->shards[i]);
}

/* The first with that counter, of those that come before i; i: none does. */
static int
first_with(const RateQuestion *questions, int i)
{
	for (int k = 0; k < i; k++)
		if (questions[i].tier == questions[k].tier &&
			questions[k].name.hash == questions[i].name.hash &&
			VARSIZE_ANY_EXHDR(questions[k].key) == VARSIZE_ANY_EXHDR(questions[i].key) &&
			memcmp(VARDATA_ANY(questions[k].key), VARDATA_ANY(questions[i].key),
				   VARSIZE_ANY_EXHDR(questions[i].key)) == 0)
			return k;
	return i;
}

static bool
judge_all(RateQuestion *questions, int n, int32 cost, int64 now_us)
{
	bool allowed = true;

	for (int i = 0; i < n; i++)
	{
		RateQuestion *q = &questions[i];

		if (q->rules.algorithm == RATE_UNLIMITED)
			q->verdict = (RateVerdict){.allowed = true, .limit = -1, .remaining = -1};
		else
		{
			RateEntry *entry = judge(q, cost, now_us);

			if (!q->verdict.allowed)
				note_refusal(q, entry, now_us);
		}
		allowed &= q->verdict.allowed;
	}
	return allowed;
}

static void
take_back_slots(RateQuestion *questions, RateEntry *const *entries, int n, int32 cost)
{
	for (int i = 0; i < n; i++)
		if (entries[i] != NULL && questions[i].rules.algorithm == RATE_CONCURRENCY)
			(void) eduai_ratelimit_slots_give(entries[i], (uint32) cost);
}

/* Finds a place for each before anything is consumed: one without ends it. */
static bool
place_all(RateQuestion *questions, RateEntry **entries, int n, int32 cost, int64 now_us)
{
	for (int i = 0; i < n; i++)
	{
		entries[i] = NULL;
		if (questions[i].rules.algorithm == RATE_UNLIMITED || first_with(questions, i) != i)
			continue;
		entries[i] = place(&questions[i], NULL, cost, now_us);
		/* two keys cannot share the counter of those without room in one call */
		for (int k = 0; k < i && entries[i] != NULL; k++)
			if (entries[k] == entries[i])
			{
				refuse_for_room(&questions[i], "eduai.rate_keys");
				entries[i] = NULL;
			}
		if (entries[i] == NULL)
		{
			take_back_slots(questions, entries, i, cost);
			for (int k = 0; k < i; k++)
				if (entries[k] != NULL)
					eduai_ratelimit_changed(entries[k]);
			return false;
		}
		/* the next one's place is not to be taken from this one */
		eduai_ratelimit_pin(entries[i]);
	}
	return true;
}

static bool
binds_more(const RateQuestion *a, const RateQuestion *b)
{
	if (a->verdict.allowed != b->verdict.allowed)
		return !a->verdict.allowed;
	if (a->verdict.allowed)
		return (uint64) a->verdict.remaining < (uint64) b->verdict.remaining;
	return (uint64) a->verdict.retry_us > (uint64) b->verdict.retry_us;
}

int
eduai_ratelimit_decide_all(RateQuestion *questions, int n, int32 cost)
{
	RateEntry *entries[RATE_MOST_KEYS];
	Held held;
	int64 now_us;
	int binding = 0;
	bool allowed;

	lock_shards(questions, n, &held);
	now_us = eduai_ratelimit_now_us();
	allowed =
		judge_all(questions, n, cost, now_us) && place_all(questions, entries, n, cost, now_us);
	for (int i = 0; allowed && i < n; i++)
		if (entries[i] != NULL)
			consume(&questions[i], entries[i], cost, now_us);
	unlock_shards(&held);
	if (allowed)
		eduai_ratelimit_save_soon();
	for (int i = 1; i < n; i++)
		if (binds_more(&questions[i], &questions[binding]))
			binding = i;
	return binding;
}

/* ---- the rest ---- */

void
eduai_ratelimit_peek(RateQuestion *q)
{
	int shard;

	if (q->rules.algorithm == RATE_UNLIMITED)
	{
		q->verdict = (RateVerdict){.allowed = true, .limit = -1, .remaining = -1};
		return;
	}
	shard = eduai_ratelimit_shard_of(eduai_ratelimit_table(), &q->name);
	eduai_ratelimit_shard_lock(shard, LW_EXCLUSIVE);
	(void) judge(q, 1, eduai_ratelimit_now_us());
	if (q->verdict.allowed)
	{
		RateVerdict without = q->verdict;

		(void) judge(q, 0, eduai_ratelimit_now_us());
		without.remaining = q->verdict.remaining;
		without.reset_us = q->verdict.remaining == q->verdict.limit ? 0 : q->verdict.reset_us;
		q->verdict = without;
	}
	eduai_ratelimit_shard_unlock(shard);
}

void
eduai_ratelimit_give_back(RateQuestion *q, int32 cost)
{
	int shard;
	int64 now_us;
	RateEntry *entry;

	if (q->rules.algorithm == RATE_UNLIMITED)
		return;
	shard = eduai_ratelimit_shard_of(eduai_ratelimit_table(), &q->name);
	eduai_ratelimit_shard_lock(shard, LW_EXCLUSIVE);
	now_us = eduai_ratelimit_now_us();
	entry = eduai_ratelimit_find(&q->name);
	if (entry != NULL)
	{
		eduai_ratelimit_counter_fit(&entry->counter, &q->rules, now_us);
		if (q->rules.algorithm == RATE_CONCURRENCY)
			cost = (int32) eduai_ratelimit_slots_give(entry, (uint32) cost);
		eduai_ratelimit_counter_refund(&entry->counter, &q->rules, cost, now_us);
		eduai_ratelimit_changed(entry);
	}
	eduai_ratelimit_shard_unlock(shard);
	eduai_ratelimit_save_soon();
}

bool
eduai_ratelimit_release(RateQuestion *q, int32 n)
{
	int shard = eduai_ratelimit_shard_of(eduai_ratelimit_table(), &q->name);
	RateEntry *entry;
	uint32 given = 0;

	eduai_ratelimit_shard_lock(shard, LW_EXCLUSIVE);
	entry = eduai_ratelimit_find(&q->name);
	if (entry != NULL)
	{
		given = eduai_ratelimit_slots_give(entry, (uint32) n);
		entry->counter.held -= Min(given, entry->counter.held);
		eduai_ratelimit_changed(entry);
	}
	eduai_ratelimit_shard_unlock(shard);
	return given > 0;
}

void
eduai_ratelimit_reset(RateQuestion *q)
{
	int shard = eduai_ratelimit_shard_of(eduai_ratelimit_table(), &q->name);
	RateEntry *entry;

	eduai_ratelimit_shard_lock(shard, LW_EXCLUSIVE);
	entry = eduai_ratelimit_find(&q->name);
	if (entry != NULL)
	{
		(void) eduai_ratelimit_slots_give(entry, PG_UINT32_MAX);
		eduai_ratelimit_forget(entry);
	}
	eduai_ratelimit_shard_unlock(shard);
	eduai_ratelimit_save_soon();
}
