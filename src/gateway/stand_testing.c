/*
 * stand_testing.c: SQL functions by which tests reach breaker, headroom and
 * stand.  Superusers only, and only with eduai.test_mode.
 *
 * The random ones keep a plain record of all that happened beside what they
 * test, and hold its promises against that record.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/pause.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "gateway/headroom.h"
#include "gateway/stand.h"
#include "gateway/wire.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(eduai_test_breaker);
PG_FUNCTION_INFO_V1(eduai_test_breaker_random);
PG_FUNCTION_INFO_V1(eduai_test_headroom_random);
PG_FUNCTION_INFO_V1(eduai_test_stand);

#define MINUTE_US INT64CONST(60000000)

static int64
int_or(const Jsonb *json, const char *key, int64 otherwise)
{
	int64 value;

	return eduai_core_json_int64(json, key, &value) ? value : otherwise;
}

/* ---- a breaker by script ---- */

static BreakerRules
rules_of(const Jsonb *json)
{
	BreakerRules rules = {.threshold = (int) int_or(json, "threshold", 3),
						  .open_us = int_or(json, "open_ms", 60000) * 1000,
						  .probe_us = int_or(json, "probe_ms", 30000) * 1000,
						  .ramp_us = int_or(json, "ramp_ms", 30000) * 1000};

	return rules;
}

static char *
play(Breaker *b, const BreakerRules *rules, const char *line)
{
	int64 now_us = strtoll(line, NULL, 10) * 1000;
	const char *word = strchr(line, ' ');
	bool probe = false;
	bool passed;

	word = word != NULL ? word + 1 : "";
	if (strcmp(word, "admit") == 0)
	{
		passed = eduai_gateway_breaker_admit(b, rules, now_us, &probe);
		return pstrdup(!passed ? "no" : probe ? "the probe" : "yes");
	}
	if (strcmp(word, "success") == 0 || strcmp(word, "probe_success") == 0)
		eduai_gateway_breaker_success(b, rules, now_us, word[0] == 'p');
	else if (strcmp(word, "failure") == 0 || strcmp(word, "probe_failure") == 0)
		eduai_gateway_breaker_failure(b, rules, now_us, word[0] == 'p');
	else if (strcmp(word, "probe_back") == 0)
		eduai_gateway_breaker_release(b, true);
	else if (strcmp(word, "hurry") == 0)
		(void) eduai_gateway_breaker_hurry(b, rules, now_us);
	else if (strcmp(word, "look") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("unknown word of a breaker's script: \"%s\"", word)));
	return psprintf("%s, opens at %lld, ramp %.2f",
					eduai_gateway_breaker_name(eduai_gateway_breaker_look(b, rules, now_us)),
					(long long) eduai_gateway_breaker_opens_us(b, rules, now_us) / 1000,
					eduai_gateway_breaker_ramp(b, rules, now_us));
}

Datum
eduai_test_breaker(PG_FUNCTION_ARGS)
{
	BreakerRules rules = rules_of(PG_GETARG_JSONB_P(1));
	Breaker b = {0};
	Datum *lines;
	bool *nulls;
	int n;

	eduai_core_require_test_mode();
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT, &lines, &nulls,
					  &n);
	for (int i = 0; i < n; i++)
		lines[i] =
			CStringGetTextDatum(play(&b, &rules, nulls[i] ? "" : TextDatumGetCString(lines[i])));
	PG_RETURN_ARRAYTYPE_P(construct_array(lines, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* ---- a breaker at random ---- */

#define MOST_CALLS 40

typedef struct RandomCall
{
	bool probe;
	int64 left_us;
} RandomCall;

typedef struct BreakerRecord
{
	RandomCall calls[MOST_CALLS];
	int n;
	int row; /* failures in a row since it closed */
	bool hurried;
	int64 opened_us; /* when it last opened */
	int64 probe_us;  /* when the last probe left */
	int64 admitted;
	int64 refused;
	int64 probes;
	int64 closed;
} BreakerRecord;

static void
broken(const char *promise, int step)
{
	ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
					errmsg("promise broken at step %d: %s", step, promise)));
}

/* that left since then */
static int
probes_out(const BreakerRecord *r, int64 since_us)
{
	int n = 0;

	for (int i = 0; i < r->n; i++)
		n += r->calls[i].probe && r->calls[i].left_us > since_us;
	return n;
}

static void
random_admit(Breaker *b, const BreakerRules *rules, BreakerRecord *r, int64 now_us, int step)
{
	BreakerState before = b->state;
	bool probe;
	bool passed = eduai_gateway_breaker_admit(b, rules, now_us, &probe);

	if (before == BREAKER_CLOSED && (!passed || probe))
		broken("closed, calls pass", step);
	if (before != BREAKER_CLOSED && passed != probe)
		broken("not closed, nothing but a probe passes", step);
	if (before == BREAKER_OPEN && passed &&
		now_us < r->opened_us + (r->hurried ? rules->open_us / 2 : rules->open_us))
		broken("open, nothing passes for open_us, or half of it", step);
	if (passed && probe && probes_out(r, now_us - rules->probe_us) > 0)
		broken("one probe at a time", step);
	if (!passed && before == BREAKER_HALF_OPEN && probes_out(r, 0) == 0)
		broken("half open with no probe out, one may leave", step);
	if (!passed && before == BREAKER_HALF_OPEN && now_us >= r->probe_us + rules->probe_us)
		broken("a probe that does not come back is not for ever", step);
	r->admitted += passed;
	r->refused += !passed;
	r->probes += probe;
	if (probe)
		r->probe_us = now_us;
	if (passed && r->n < MOST_CALLS)
		r->calls[r->n++] = (RandomCall){.probe = probe, .left_us = now_us};
	else if (passed)
		eduai_gateway_breaker_release(b, probe);
}

static void
random_end(Breaker *b, const BreakerRules *rules, BreakerRecord *r, int which, double chance,
		   int64 now_us, int step)
{
	RandomCall call = r->calls[which];
	BreakerState before = b->state;
	bool failed = chance < 0.5;

	r->calls[which] = r->calls[--r->n];
	if (chance >= 0.9)
	{
		eduai_gateway_breaker_release(b, call.probe);
		if (b->state != before)
			broken("what says nothing changes nothing", step);
		return;
	}
	if (failed)
		eduai_gateway_breaker_failure(b, rules, now_us, call.probe);
	else
		eduai_gateway_breaker_success(b, rules, now_us, call.probe);
	if (before != BREAKER_CLOSED && !call.probe && b->state != before)
		broken("only a probe's word counts until it closes", step);
	if (before != BREAKER_CLOSED && call.probe && (b->state == BREAKER_OPEN) != failed)
		broken("a probe's success closes, its failure opens", step);
	r->row = before == BREAKER_CLOSED && failed ? r->row + 1 : 0;
	if (before == BREAKER_CLOSED && r->row >= rules->threshold && b->state != BREAKER_OPEN)
		broken("so many failures in a row open it", step);
	if (before == BREAKER_CLOSED && !failed && b->state != BREAKER_CLOSED)
		broken("a success does not open it", step);
	r->closed += before != BREAKER_CLOSED && b->state == BREAKER_CLOSED;
	if (b->state == BREAKER_OPEN && b->opened_us == now_us)
	{
		r->opened_us = now_us;
		r->hurried = false;
		r->row = 0;
	}
}

Datum
eduai_test_breaker_random(PG_FUNCTION_ARGS)
{
	int steps = PG_GETARG_INT32(1);
	BreakerRules rules = {.threshold = 3, .open_us = 60000, .probe_us = 30000, .ramp_us = 20000};
	BreakerRecord r = {0};
	Breaker b = {0};
	pg_prng_state prng;
	int64 now_us = 1000000;
	EduaiJson j;

	eduai_core_require_test_mode();
	pg_prng_seed(&prng, (uint64) PG_GETARG_INT64(0));
	for (int i = 0; i < steps; i++)
	{
		double act = pg_prng_double(&prng);

		now_us += 1 + (int64) (pg_prng_double(&prng) * (act < 0.02 ? 100000 : 2000));
		if (act < 0.5)
			random_admit(&b, &rules, &r, now_us, i);
		else if (act < 0.98 && r.n > 0)
			random_end(&b, &rules, &r, (int) (pg_prng_double(&prng) * r.n), pg_prng_double(&prng),
					   now_us, i);
		else
		{
			(void) eduai_gateway_breaker_hurry(&b, &rules, now_us);
			r.hurried = true;
		}
		if (eduai_gateway_breaker_ramp(&b, &rules, now_us) < 0.0 ||
			eduai_gateway_breaker_ramp(&b, &rules, now_us) > 1.0)
			broken("a ramp is a share", i);
	}
	eduai_core_json_begin(&j);
	eduai_core_json_put_int(&j, "admitted", r.admitted);
	eduai_core_json_put_int(&j, "refused", r.refused);
	eduai_core_json_put_int(&j, "probes", r.probes);
	eduai_core_json_put_int(&j, "opened", b.opened);
	eduai_core_json_put_int(&j, "closed", r.closed);
	PG_RETURN_JSONB_P(eduai_core_json_end(&j));
}

/* ---- headroom at random ---- */

typedef struct Spent
{
	int64 at_us;
	int64 reserved;
	int64 used; /* -1: in flight */
	bool taken_back;
} Spent;

/* Real calls and tokens of the minute that ends now: a call's, from its entry on. */
static void
check_minute(const Spent *spent, int n, int64 now_us, const HeadroomRules *rules, int step)
{
	int64 calls = 0;
	int64 tokens = 0;

	for (int i = n - 1; i >= 0 && spent[i].at_us > now_us - MINUTE_US; i--)
		if (!spent[i].taken_back)
		{
			calls++;
			tokens += spent[i].used >= 0 ? spent[i].used : spent[i].reserved;
		}
	if (calls > rules->rpm)
		broken("no rolling minute has more calls than rpm", step);
	if (tokens > rules->tpm)
		broken("no rolling minute has more tokens than tpm", step);
}

Datum
eduai_test_headroom_random(PG_FUNCTION_ARGS)
{
	int steps = PG_GETARG_INT32(1);
	HeadroomRules rules = {.rpm = PG_GETARG_INT64(2), .tpm = PG_GETARG_INT64(3)};
	Headroom *h = palloc0(sizeof(Headroom));
	Spent *spent = palloc0(sizeof(Spent) * Max(steps, 1));
	HeadroomTime time = {.now_us = 1000000, .day = 1, .day_ends_us = INT64_MAX};
	pg_prng_state prng;
	int first = 0; /* in flight are some from here on */
	int n = 0;
	int refused = 0;
	int taken_back = 0;
	EduaiJson j;

	eduai_core_require_test_mode();
	pg_prng_seed(&prng, (uint64) PG_GETARG_INT64(0));
	for (int i = 0; i < steps; i++)
	{
		int64 tokens = 1 + (int64) (pg_prng_double(&prng) * rules.tpm / 4);
		double act = pg_prng_double(&prng);
		Spent *call = &spent[first];

		CHECK_FOR_INTERRUPTS();
		time.now_us += (int64) (pg_prng_double(&prng) * (act < 0.05 ? 8000000 : 200000));
		if (act < 0.5)
		{
			int64 opens_us = eduai_gateway_headroom_opens_us(h, &rules, n - first, tokens, &time);
			bool entered = eduai_gateway_headroom_reserve(h, &rules, n - first, tokens, &time);

			if (entered != (opens_us <= time.now_us))
				broken("a call enters when opens_us() says so", i);
			refused += !entered;
			if (entered)
				spent[n++] = (Spent){.at_us = time.now_us, .reserved = tokens, .used = -1};
			else if (first == n && opens_us == INT64_MAX)
				broken("with nothing in flight, time alone makes room", i);
			check_minute(spent, n, time.now_us, &rules, i);
		}
		else if (first < n && act < 0.55 && spent[n - 1].used < 0)
		{
			/* the newest, as when its transaction fails */
			n--;
			eduai_gateway_headroom_take_back(h, spent[n].reserved, &time);
			taken_back++;
		}
		else if (first < n)
		{
			call->used = (int64) (pg_prng_double(&prng) * call->reserved);
			eduai_gateway_headroom_settle(h, call->reserved, call->used, &time);
			first++;
		}
	}
	eduai_core_json_begin(&j);
	eduai_core_json_put_int(&j, "entered", n);
	eduai_core_json_put_int(&j, "refused", refused);
	eduai_core_json_put_int(&j, "taken_back", taken_back);
	PG_RETURN_JSONB_P(eduai_core_json_end(&j));
}

/* ---- a stand ---- */

static Instance *
instance_named(const Fleet *fleet, const char *name)
{
	for (int i = 0; i < fleet->ninstances; i++)
		if (strcmp(fleet->instances[i].name, name) == 0)
			return &fleet->instances[i];
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("instance \"%s\" does not exist", name)));
}

static CallOutcome
outcome_of(const Jsonb *json)
{
	const char *verdict = eduai_gateway_string(json, "verdict");
	const char *code = eduai_gateway_string(json, "code");
	CallOutcome outcome = {.verdict = CALL_COMPLETED,
						   .code = code != NULL ? code : "ok",
						   .http_status = (int) int_or(json, "http_status", 200),
						   .retry_after_ms = int_or(json, "retry_after_ms", -1),
						   .tokens_in = int_or(json, "tokens", 0),
						   .cost_usd = int64_to_numeric(0),
						   .duration_us = int_or(json, "ms", 100) * 1000,
						   .first_byte_us = int_or(json, "ms", 100) * 1000,
						   .limits = {-1, -1, -1, -1, -1, -1}};
	Jsonb *limits = eduai_core_json_child(json, "requests");

	if (verdict != NULL && strcmp(verdict, "retry") == 0)
		outcome.verdict = CALL_RETRY;
	else if (verdict != NULL && strcmp(verdict, "fatal") == 0)
		outcome.verdict = CALL_FATAL;
	outcome.limits.requests_limit = int_or(limits, "limit", -1);
	outcome.limits.requests_left = int_or(limits, "left", -1);
	outcome.limits.requests_reset_ms = int_or(limits, "reset_ms", -1);
	limits = eduai_core_json_child(json, "tokens_left");
	outcome.limits.tokens_limit = int_or(limits, "limit", -1);
	outcome.limits.tokens_left = int_or(limits, "left", -1);
	outcome.limits.tokens_reset_ms = int_or(limits, "reset_ms", -1);
	return outcome;
}

static void
put_stand(EduaiJson *j, const Instance *instance, int64 tokens)
{
	int64 now_us = eduai_core_mono_us();
	int64 opens_us = eduai_gateway_stand_opens_us(instance, tokens, now_us);
	InstanceStand s;

	eduai_gateway_stand_look(instance, now_us, &s);
	eduai_core_json_put_int(j, "in_flight", s.in_flight);
	eduai_core_json_put_text(j, "breaker", eduai_gateway_breaker_name(s.breaker));
	eduai_core_json_put_double(j, "headroom", s.headroom);
	eduai_core_json_put_int(j, "samples", s.stats.samples);
	if (opens_us == INT64_MAX)
		eduai_core_json_put_null(j, "opens_in_ms");
	else
		eduai_core_json_put_int(j, "opens_in_ms", (opens_us - now_us + 999) / 1000);
	if (s.last_error[0] != '\0')
		eduai_core_json_put_text(j, "last_error", s.last_error);
}

/* false: no such act */
static bool
act_on(const Fleet *fleet, const Instance *instance, const char *act, int64 tokens,
	   const CallOutcome *outcome, bool probe, EduaiJson *j)
{
	int64 now_us = eduai_core_mono_us();

	if (strcmp(act, "enter") == 0)
	{
		eduai_core_json_put_bool(j, "entered",
								 eduai_gateway_stand_enter(instance, tokens, now_us, &probe));
		eduai_core_json_put_bool(j, "probe", probe);
	}
	else if (strcmp(act, "leave") == 0)
		eduai_gateway_stand_leave(instance, tokens, outcome, now_us, probe);
	else if (strcmp(act, "take_back") == 0)
		eduai_gateway_stand_take_back(instance, tokens, now_us, probe);
	else if (strcmp(act, "keep") == 0)
		eduai_gateway_stand_keep(fleet);
	else if (strcmp(act, "reset") == 0)
		eduai_gateway_stand_reset_flights();
	else
		return strcmp(act, "look") == 0;
	return true;
}

Datum
eduai_test_stand(PG_FUNCTION_ARGS)
{
	char *act = text_to_cstring(PG_GETARG_TEXT_PP(1));
	int64 tokens = PG_GETARG_INT64(2);
	CallOutcome outcome = outcome_of(PG_GETARG_JSONB_P(3));
	MemoryContext caller = CurrentMemoryContext;
	Instance *instance;
	Fleet *fleet;
	EduaiJson j;

	eduai_core_require_test_mode();
	SPI_connect();
	fleet = eduai_gateway_fleet_load_keyless(caller);
	SPI_finish();
	instance = instance_named(fleet, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	eduai_core_json_begin(&j);
	if (!act_on(fleet, instance, act, tokens, &outcome, PG_GETARG_BOOL(4), &j))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown act \"%s\"", act)));
	put_stand(&j, instance, tokens);
	PG_RETURN_JSONB_P(eduai_core_json_end(&j));
}
