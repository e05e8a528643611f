/*
 * stand.c: what happens to an instance's entry as calls enter and leave.  See
 * stand.h.
 *
 * An entry is changed in one step, under the table's lock; all that can raise
 * or takes long (the calendar, the cost's conversion) is done before.
 *
 * A call leaves behind: its place and its tokens, always; a word on the breaker,
 * when it succeeded or failed by the instance's fault; a sample for the
 * averages, the same and when it was refused for want of rate.  Of an instance
 * that was replaced by another provider, URL or model while the call flew,
 * only its place and its tokens count.
 *
 * A bad health check opens nothing, as its endpoint is not the one that is
 * used; but it is a second witness: while it holds, the first failed call opens
 * the breaker.
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>

#include "core/clock.h"
#include "gateway/day.h"
#include "gateway/stand_internal.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/numeric.h"

#define PROBE_PATIENCE_US INT64CONST(300000000) /* where the instance has no timeout_ms */
#define PROBE_GRACE_US    INT64CONST(5000000)
#define PICOUSD           1e12

static int failover_threshold = 3;
static int breaker_open_ms = 60000;
static int breaker_ramp_ms = 30000;

/* ---- whose fault ---- */

/*
 * Failures that another request would not have met, or that are ours.  A
 * provider that answers like this is well.
 */
static bool
is_requests_fault(const char *code)
{
	static const char *const codes[] = {"bad_payload",
										"bad_request",
										"bad_placeholder",
										"payload_too_large",
										"request_too_large",
										"content_policy",
										"cancelled",
										"body_too_large",
										"context_length_exceeded",
										"no_key",
										"out_of_memory",
										"internal_error",
										"unrecordable",
										"rate_limited"};

	for (size_t i = 0; i < lengthof(codes); i++)
		if (strcmp(codes[i], code) == 0)
			return true;
	return false;
}

/*
 * A task may have given the call too little time; it is the instance's fault
 * when it stayed silent for long.
 */
static bool
was_kept_waiting(const CallOutcome *outcome)
{
	return outcome->first_byte_us < 0 && outcome->duration_us >= INT64CONST(10000000);
}

bool
eduai_gateway_is_instances_fault(const CallOutcome *outcome)
{
	if (outcome->verdict == CALL_COMPLETED || outcome->verdict == CALL_CANCELLED)
		return false;
	if (is_requests_fault(outcome->code))
		return false;
	if (strcmp(outcome->code, "timeout_total") == 0)
		return was_kept_waiting(outcome);
	if (strcmp(outcome->code, "redirect_refused") == 0)
		return true;
	return outcome->verdict != CALL_FATAL;
}

static bool
was_refused(const CallOutcome *outcome)
{
	return strcmp(outcome->code, "rate_limited") == 0;
}

/* ---- rules ---- */

static BreakerRules
breaker_rules(const Instance *instance, InstanceHealth health)
{
	BreakerRules rules = {
		.threshold = health == HEALTH_BAD ? 1 : failover_threshold,
		.open_us = breaker_open_ms * INT64CONST(1000),
		.probe_us = instance->timeout_ms > 0 ? instance->timeout_ms * 1000 + PROBE_GRACE_US
											 : PROBE_PATIENCE_US,
		.ramp_us = breaker_ramp_ms * INT64CONST(1000),
	};

	return rules;
}

static HeadroomRules
headroom_rules(const Instance *instance)
{
	HeadroomRules rules = {
		.rpm = instance->rpm, .tpm = instance->tpm, .daily_tokens = instance->daily_tokens};

	return rules;
}

static HeadroomTime
time_at(int64 now_us)
{
	HeadroomTime time = {.now_us = now_us};
	int64 left_us;

	time.day = eduai_gateway_day(eduai_core_now(), &left_us);
	time.day_ends_us = now_us + left_us;
	return time;
}

/* How many calls it may have at once now. */
static int
room(const Stand *stand, const Instance *instance, const BreakerRules *rules, int64 now_us)
{
	double ramp = eduai_gateway_breaker_ramp(&stand->breaker, rules, now_us);

	return ramp >= 1.0 ? instance->max_concurrent : Max(1, (int) (ramp * instance->max_concurrent));
}

/* When a ramp will have made room for one more. */
static int64
ramp_opens_us(const Stand *stand, const Instance *instance, const BreakerRules *rules, int64 now_us)
{
	if (stand->in_flight < room(stand, instance, rules, now_us))
		return now_us;
	if (stand->in_flight >= instance->max_concurrent)
		return INT64_MAX;
	return stand->breaker.closed_us + 1 +
		   (stand->in_flight + 1) * rules->ramp_us / instance->max_concurrent;
}

static int64
opens_us(const Stand *stand, const Instance *instance, int64 tokens, const HeadroomTime *time)
{
	BreakerRules rules = breaker_rules(instance, stand->health);
	HeadroomRules limits = headroom_rules(instance);
	int64 at =
		Max(time->now_us, eduai_gateway_breaker_opens_us(&stand->breaker, &rules, time->now_us));

	at = Max(at, ramp_opens_us(stand, instance, &rules, time->now_us));
	return Max(at, eduai_gateway_headroom_opens_us(&stand->headroom, &limits, stand->in_flight,
												   tokens, time));
}

/* ---- looking ---- */

static void
look(const Stand *s, const Instance *instance, const HeadroomTime *time, InstanceStand *stand)
{
	BreakerRules rules = breaker_rules(instance, s->health);
	HeadroomRules limits = headroom_rules(instance);
	int64 at;

	stand->in_flight = s->in_flight;
	stand->breaker = eduai_gateway_breaker_look(&s->breaker, &rules, time->now_us);
	stand->breaker_at_us = eduai_gateway_breaker_opens_us(&s->breaker, &rules, time->now_us);
	stand->ramp = eduai_gateway_breaker_ramp(&s->breaker, &rules, time->now_us);
	stand->headroom = eduai_gateway_headroom_look(&s->headroom, &limits, s->in_flight, time);
	if (stand->headroom <= 0.0)
	{
		at = eduai_gateway_headroom_opens_us(&s->headroom, &limits, s->in_flight, 1, time);
		stand->headroom_at_us = at != INT64_MAX ? at : 0;
	}
	stand->health = s->health;
	stand->checked_us = s->checked_us;
	memcpy(stand->last_error, s->last_error, sizeof(stand->last_error));
	stand->stats = s->stats;
}

void
eduai_gateway_stand_look(const Instance *instance, int64 now_us, InstanceStand *stand)
{
	HeadroomTime time = time_at(now_us);
	const Stand *s;

	memset(stand, 0, sizeof(*stand));
	stand->ramp = stand->headroom = 1.0;
	eduai_gateway_stand_lock(LW_SHARED);
	s = eduai_gateway_stand_find(instance);
	if (s != NULL)
		look(s, instance, &time, stand);
	eduai_gateway_stand_unlock();
}

int64
eduai_gateway_stand_opens_us(const Instance *instance, int64 tokens, int64 now_us)
{
	HeadroomTime time = time_at(now_us);
	const Stand *s;
	int64 at = now_us;

	eduai_gateway_stand_lock(LW_SHARED);
	s = eduai_gateway_stand_find(instance);
	if (s != NULL)
		at = opens_us(s, instance, tokens, &time);
	eduai_gateway_stand_unlock();
	return at;
}

/* ---- entering ---- */

static bool
enter(Stand *s, const Instance *instance, int64 tokens, const HeadroomTime *time, bool *probe)
{
	BreakerRules rules = breaker_rules(instance, s->health);
	HeadroomRules limits = headroom_rules(instance);

	if (s->in_flight >= room(s, instance, &rules, time->now_us) ||
		eduai_gateway_breaker_look(&s->breaker, &rules, time->now_us) == BREAKER_OPEN ||
		!eduai_gateway_headroom_reserve(&s->headroom, &limits, s->in_flight, tokens, time))
		return false;
	(void) eduai_gateway_breaker_admit(&s->breaker, &rules, time->now_us, probe);
	s->in_flight++;
	s->called_us = time->now_us;
	eduai_gateway_balance_sent(&s->stats, time->now_us);
	return true;
}

bool
eduai_gateway_stand_enter(const Instance *instance, int64 tokens, int64 now_us, bool *probe)
{
	HeadroomTime time = time_at(now_us);
	bool entered = false;
	Stand *s;

	*probe = false;
	eduai_gateway_stand_lock(LW_EXCLUSIVE);
	s = eduai_gateway_stand_make(instance);
	if (s != NULL)
		entered = enter(s, instance, tokens, &time, probe);
	eduai_gateway_stand_unlock();
	if (s == NULL)
		entered = enter(eduai_gateway_stand_make_own(instance), instance, tokens, &time, probe);
	return entered;
}

static void
depart(Stand *s)
{
	s->in_flight = Max(s->in_flight - 1, 0);
	if (s->gone && s->in_flight == 0)
		eduai_gateway_stand_free(s);
}

void
eduai_gateway_stand_take_back(const Instance *instance, int64 tokens, int64 now_us, bool probe)
{
	HeadroomTime time = time_at(now_us);
	Stand *s;

	eduai_gateway_stand_lock(LW_EXCLUSIVE);
	s = eduai_gateway_stand_find(instance);
	if (s != NULL)
	{
		eduai_gateway_headroom_take_back(&s->headroom, tokens, &time);
		eduai_gateway_breaker_release(&s->breaker, probe);
		s->stats.unheard = Max(s->stats.unheard - 1, 0);
		depart(s);
	}
	eduai_gateway_stand_unlock();
}

/* ---- leaving ---- */

static void
judge(Stand *s, const Instance *instance, const CallOutcome *outcome, int64 now_us, bool probe)
{
	BreakerRules rules = breaker_rules(instance, s->health);

	if (outcome->verdict == CALL_COMPLETED)
		eduai_gateway_breaker_success(&s->breaker, &rules, now_us, probe);
	else if (eduai_gateway_is_instances_fault(outcome))
		eduai_gateway_breaker_failure(&s->breaker, &rules, now_us, probe);
	else
		eduai_gateway_breaker_release(&s->breaker, probe);
}

static void
observe(Stand *s, const CallOutcome *outcome, int64 now_us, bool probe)
{
	BalanceSample sample = {
		.success = outcome->verdict == CALL_COMPLETED,
		.first_byte_us = outcome->first_byte_us,
		.duration_us = outcome->duration_us,
		.tokens_out = outcome->tokens_out,
		.probe = probe,
	};

	if (sample.success || was_refused(outcome) || eduai_gateway_is_instances_fault(outcome))
		eduai_gateway_balance_observe(&s->stats, &sample, now_us);
	else
		s->stats.unheard = Max(s->stats.unheard - 1, 0);
}

static int
step_of(int64 duration_us)
{
	double steps = TIMES_STEPS * log2((double) Max(duration_us, 1) / 125.0);

	return (int) Min(Max(steps, 0.0), TIMES_ROOM - 1.0);
}

static void
count_time(StandTotals *t, int64 duration_us)
{
	if (t->counted >= TIMES_MOST)
	{
		t->counted = 0;
		for (int i = 0; i < TIMES_ROOM; i++)
			t->counted += t->times[i] /= 2;
	}
	t->counted++;
	t->times[step_of(duration_us)]++;
	t->success_us += duration_us;
}

static void
add_up(StandTotals *t, const CallOutcome *outcome, int64 picousd)
{
	t->requests++;
	if (outcome->verdict == CALL_COMPLETED)
	{
		t->successes++;
		count_time(t, outcome->duration_us);
	}
	else if (outcome->verdict != CALL_CANCELLED)
		t->failures++;
	t->tokens_in += outcome->tokens_in;
	t->tokens_out += outcome->tokens_out;
	t->cost_picousd += picousd;
}

static void
leave(Stand *s, const Instance *instance, const CallOutcome *outcome, const HeadroomTime *time,
	  bool probe)
{
	judge(s, instance, outcome, time->now_us, probe);
	observe(s, outcome, time->now_us, probe);
	eduai_gateway_headroom_heard(&s->headroom, outcome, s->in_flight - 1, time);
	if (outcome->verdict != CALL_COMPLETED && outcome->verdict != CALL_CANCELLED)
		strlcpy(s->last_error, outcome->code, sizeof(s->last_error));
}

/* absurd costs, which only a provider can say, are cut to what fits */
static int64
picousd(const CallOutcome *outcome)
{
	double usd = DatumGetFloat8(
		DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(outcome->cost_usd)));

	return (int64) rint(Min(Max(usd, 0.0), 1e6) * PICOUSD);
}

void
eduai_gateway_stand_leave(const Instance *instance, int64 tokens, const CallOutcome *outcome,
						  int64 now_us, bool probe)
{
	HeadroomTime time = time_at(now_us);
	int64 cost = picousd(outcome);
	Stand *s;

	eduai_gateway_stand_lock(LW_EXCLUSIVE);
	s = eduai_gateway_stand_find(instance);
	if (s != NULL)
	{
		eduai_gateway_headroom_settle(&s->headroom, tokens,
									  outcome->tokens_in + outcome->tokens_out, &time);
		if (eduai_gateway_stand_is_same(s, instance))
		{
			leave(s, instance, outcome, &time, probe);
			add_up(&s->totals, outcome, cost);
		}
		depart(s);
	}
	eduai_gateway_stand_unlock();
}

void
eduai_gateway_stand_gave_up(const Instance *instance, int64 waited_us, int64 now_us)
{
	Stand *s;

	eduai_gateway_stand_lock(LW_EXCLUSIVE);
	s = eduai_gateway_stand_find(instance);
	if (s != NULL && eduai_gateway_stand_is_same(s, instance))
		eduai_gateway_balance_gave_up(&s->stats, waited_us, now_us);
	eduai_gateway_stand_unlock();
}

/* ---- all of them ---- */

static void
reset(Stand *s, void *arg)
{
	s->in_flight = 0;
	s->stats.unheard = 0;
	eduai_gateway_breaker_restart(&s->breaker);
	eduai_gateway_headroom_restart(&s->headroom, arg);
	if (s->gone)
		eduai_gateway_stand_free(s);
}

void
eduai_gateway_stand_reset_flights(void)
{
	HeadroomTime time = time_at(eduai_core_mono_us());

	eduai_gateway_stand_lock(LW_EXCLUSIVE);
	eduai_gateway_stand_each(MyDatabaseId, reset, &time);
	eduai_gateway_stand_unlock();
}

/* ---- what else is learnt ---- */

bool
eduai_gateway_stand_checked(const Instance *instance, InstanceHealth health, const char *code,
							int64 now_us)
{
	bool hurried = false;
	Stand *s;

	eduai_gateway_stand_lock(LW_EXCLUSIVE);
	s = eduai_gateway_stand_make(instance);
	if (s != NULL)
	{
		BreakerRules rules = breaker_rules(instance, s->health);

		s->checked_us = now_us;
		if (health != HEALTH_UNKNOWN)
			s->health = health;
		if (health == HEALTH_GOOD)
			hurried = eduai_gateway_breaker_hurry(&s->breaker, &rules, now_us);
		if (health == HEALTH_BAD)
			strlcpy(s->last_error, code, sizeof(s->last_error));
	}
	eduai_gateway_stand_unlock();
	return hurried;
}

void
eduai_gateway_stand_weights(const Instance *instance, double current_weight)
{
	Stand *s;

	eduai_gateway_stand_lock(LW_EXCLUSIVE);
	s = eduai_gateway_stand_find(instance);
	if (s != NULL)
		s->stats.current_weight = current_weight;
	eduai_gateway_stand_unlock();
}

/* ---- settings ---- */

void
eduai_gateway_stand_init(void)
{
	DefineCustomIntVariable(
		"eduai.failover_threshold",
		"After how many failures in a row an instance's circuit breaker opens.",
		"It opens, too, when half of its latest calls failed (of twenty or more in about half a "
		"minute), and at the first failure while its health check is bad.",
		&failover_threshold, 3, 1, 1000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"eduai.breaker_open", "How long an open circuit breaker lets nothing pass.",
		"Then one call probes the instance. A good health check halves what is "
		"left of it.",
		&breaker_open_ms, 60000, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("eduai.breaker_ramp",
							"How long a recovered instance takes to get all of its calls again.",
							"It begins with one at a time. 0: at once.", &breaker_ramp_ms, 30000, 0,
							INT_MAX, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	eduai_gateway_stand_table_init();
	eduai_gateway_stand_health_init();
}
