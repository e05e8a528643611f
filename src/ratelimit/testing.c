/*
 * testing.c: the pure cores against exact logs, at random.
 *
 * A log is a series of calls at moments that are chosen to be awkward: at the
 * edges of sub-buckets and periods, in bursts, a moment before the one before.
 * What was admitted is held against what may be, moment by moment.
 */
#include "postgres.h"

#include "core/json.h"
#include "core/pause.h"
#include "fmgr.h"
#include "ratelimit/adaptive.h"
#include "ratelimit/counter.h"
#include "ratelimit/save_codec.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(eduai_test_rate_random);
PG_FUNCTION_INFO_V1(eduai_test_rate_codec);
PG_FUNCTION_INFO_V1(eduai_test_rate_adaptive);

#define CALLS 400 /* of a log */

typedef struct Call
{
	int64 at_us;
	int64 cost;
} Call;

typedef struct Log
{
	RateRules rules;
	RateCounter counter;
	Call admitted[CALLS];
	int n;
	int64 now_us;
	bool plain; /* nothing but calls: refunds and new limits may make it stricter */
} Log;

typedef struct Totals
{
	int64 calls;
	int64 admitted;
	int64 refused;
	int64 over;        /* admissions that a rolling period had no room for */
	int64 early;       /* refusals that 61 sub-buckets do not justify */
	int64 wrong_waits; /* refused still after the wait it was told, or let in earlier */
	int64 wrong_idle;  /* forgotten at the idle time, it would have decided otherwise */
} Totals;

static uint64 state;

static uint64
random_to(uint64 n)
{
	/* xorshift64*: the same on every platform */
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (state * UINT64CONST(0x2545F4914F6CDD1D)) % n;
}

/* ---- what may be ---- */

/* What was admitted after "from", up to now. */
static int64
admitted_since(const Log *log, int64 from_us)
{
	int64 sum = 0;

	for (int i = 0; i < log->n; i++)
		if (log->admitted[i].at_us > from_us)
			sum += log->admitted[i].cost;
	return sum;
}

/* Of an even pace: in every stretch that ends now, burst and what the stretch earns. */
static bool
is_within_pace(const Log *log)
{
	int64 sum = 0;

	for (int i = log->n - 1; i >= 0; i--)
	{
		double earned = (double) (log->now_us - log->admitted[i].at_us) * log->rules.limit /
						(double) log->rules.per_us;

		sum += log->admitted[i].cost;
		if ((double) sum > (double) log->rules.burst + earned + 1e-6)
			return false;
	}
	return true;
}

static bool
is_over(const Log *log)
{
	if (log->rules.algorithm == RATE_GCRA)
		return !is_within_pace(log);
	return admitted_since(log, log->now_us - log->rules.per_us) > log->rules.limit;
}

/* ---- a log ---- */

static void
start_log(Log *log, RateAlgorithm algorithm)
{
	static const int64 periods[] = {1000,     60000,          1000000,
									60000000, USECS_PER_HOUR, 7 * USECS_PER_DAY + 13};

	memset(log, 0, sizeof(*log));
	log->rules.algorithm = algorithm;
	log->rules.per_us = periods[random_to(lengthof(periods))];
	log->rules.limit = log->rules.most = 1 + (int64) random_to(random_to(2) == 0 ? 5 : 60);
	log->rules.burst = 1 + (int64) random_to((uint64) log->rules.limit);
	log->now_us = (int64) random_to(UINT64CONST(1000000000000000));
}

static void
move_clock(Log *log)
{
	int64 width_us = eduai_ratelimit_window_width(log->rules.per_us);
	int64 edge_us = (log->now_us / width_us + 1) * width_us;

	switch (random_to(8))
	{
		case 0: /* a burst */
		case 1:
			break;
		case 2: /* around the edge of a sub-bucket */
			log->now_us = edge_us - 1 + (int64) random_to(3);
			break;
		case 3: /* around a period after something that was admitted */
			if (log->n > 0)
			{
				int64 at_us = log->admitted[random_to((uint64) log->n)].at_us;

				at_us += log->rules.per_us - 1 + (int64) random_to(3);
				log->now_us = Max(log->now_us, at_us);
			}
			break;
		case 4: /* a whole period and more */
			log->now_us += log->rules.per_us - 2 + (int64) random_to(4);
			break;
		default:
			log->now_us += (int64) random_to((uint64) Max(log->rules.per_us / 10, 1));
	}
}

static void
check_wait(Log *log, const RateVerdict *v, int64 cost, Totals *t)
{
	RateVerdict then;
	RateVerdict before;

	if (v->retry_us <= 0)
	{
		t->wrong_waits++;
		return;
	}
	then =
		eduai_ratelimit_counter_judge(&log->counter, &log->rules, cost, log->now_us + v->retry_us);
	before = eduai_ratelimit_counter_judge(&log->counter, &log->rules, cost,
										   log->now_us + v->retry_us - 1);
	if (!then.allowed || before.allowed)
		t->wrong_waits++;
}

static void
check_refusal(const Log *log, int64 cost, Totals *t)
{
	int64 width_us = eduai_ratelimit_window_width(log->rules.per_us);

	/* this one's clock may be so much behind, and another's may have been */
	int64 ahead_us = 2 * (log->rules.per_us / 100);

	if (log->plain && log->rules.algorithm == RATE_WINDOW &&
		admitted_since(log, log->now_us - RATE_BUCKETS * width_us - ahead_us) + cost <=
			log->rules.limit)
		t->early++;
}

/* Forgotten when it is idle, a counter is as a new one. */
static void
check_idle(const Log *log, Totals *t)
{
	RateCounter fresh = {0};
	int64 idle_us = Max(eduai_ratelimit_counter_idle_us(&log->counter), log->now_us);
	RateVerdict kept;
	RateVerdict forgotten;

	eduai_ratelimit_counter_fit(&fresh, &log->rules, idle_us);
	kept = eduai_ratelimit_counter_judge(&log->counter, &log->rules, 1, idle_us);
	forgotten = eduai_ratelimit_counter_judge(&fresh, &log->rules, 1, idle_us);
	if (kept.allowed != forgotten.allowed || kept.remaining != forgotten.remaining)
		t->wrong_idle++;
}

static void
call(Log *log, Totals *t)
{
	int64 most = log->rules.algorithm == RATE_GCRA ? log->rules.burst : log->rules.limit;
	int64 cost = 1 + (random_to(4) == 0 ? (int64) random_to((uint64) most) : 0);
	/* one in two has read the clock a moment before another; a pace has no memory of that */
	int64 late_us =
		log->rules.algorithm == RATE_WINDOW ? (int64) (random_to(2) * random_to(1000)) : 0;
	int64 now_us = log->now_us - Min(late_us, log->rules.per_us / 100);
	RateVerdict v;

	eduai_ratelimit_counter_fit(&log->counter, &log->rules, now_us);
	v = eduai_ratelimit_counter_judge(&log->counter, &log->rules, cost, now_us);
	t->calls++;
	if (v.allowed)
	{
		eduai_ratelimit_counter_consume(&log->counter, &log->rules, cost, now_us);
		log->admitted[log->n++] = (Call){now_us, cost};
		t->admitted++;
		t->over += is_over(log);
	}
	else
	{
		t->refused++;
		check_refusal(log, cost, t);
		if (now_us == log->now_us)
			check_wait(log, &v, cost, t);
	}
	check_idle(log, t);
}

/* Takes one admitted call back, as a refund in the period does. */
static void
refund(Log *log)
{
	int i = log->n > 0 ? (int) random_to((uint64) log->n) : -1;

	if (i < 0 || log->admitted[i].at_us <= log->now_us - log->rules.per_us)
		return;
	eduai_ratelimit_counter_refund(&log->counter, &log->rules, log->admitted[i].cost, log->now_us);
	log->admitted[i] = log->admitted[--log->n];
}

/* Another limit, period or both; a longer period knows what the shorter one kept. */
static void
redefine(Log *log)
{
	if (random_to(2) == 0)
		log->rules.per_us = log->rules.per_us / (1 + (int64) random_to(5));
	log->rules.limit += (int64) random_to(11) - 5;
	log->rules.per_us = Max(log->rules.per_us, 1000);
	log->rules.limit = log->rules.most = Max(log->rules.limit, 1);
}

Datum
eduai_test_rate_random(PG_FUNCTION_ARGS)
{
	char *kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int logs = PG_GETARG_INT32(2);
	Log *log = palloc(sizeof(Log));
	Totals t = {0};
	EduaiJson j;

	eduai_core_require_test_mode();
	state = (uint64) PG_GETARG_INT64(1) * 2 + 1;
	for (int i = 0; i < logs; i++)
	{
		start_log(log, strcmp(kind, "gcra") == 0 ? RATE_GCRA : RATE_WINDOW);
		log->plain = strcmp(kind, "window") == 0;
		for (int k = 0; k < CALLS; k++)
		{
			move_clock(log);
			call(log, &t);
			if (strcmp(kind, "refund") == 0 && random_to(10) == 0)
				refund(log);
			if (strcmp(kind, "redefine") == 0 && random_to(20) == 0)
				redefine(log);
		}
	}
	eduai_core_json_begin(&j);
	eduai_core_json_put_int(&j, "calls", t.calls);
	eduai_core_json_put_int(&j, "admitted", t.admitted);
	eduai_core_json_put_int(&j, "refused", t.refused);
	eduai_core_json_put_int(&j, "over", t.over);
	eduai_core_json_put_int(&j, "early", t.early);
	eduai_core_json_put_int(&j, "wrong_waits", t.wrong_waits);
	eduai_core_json_put_int(&j, "wrong_idle", t.wrong_idle);
	PG_RETURN_JSONB_P(eduai_core_json_end(&j));
}

/* ---- the file's entries ---- */

static bool
same_counter(const RateCounter *a, const RateCounter *b)
{
	if (a->algorithm != b->algorithm)
		return false;
	if (a->algorithm == RATE_GCRA)
		return a->u.pace.paid_ns == b->u.pace.paid_ns &&
			   a->u.pace.interval_ns == b->u.pace.interval_ns;
	return a->u.window.newest == b->u.window.newest && a->u.window.total == b->u.window.total &&
		   a->u.window.width_us == b->u.window.width_us &&
		   memcmp(a->u.window.used, b->u.window.used, sizeof(a->u.window.used)) == 0;
}

static void
random_counter(RateCounter *c)
{
	Log log;

	start_log(&log, random_to(2) == 0 ? RATE_GCRA : RATE_WINDOW);
	for (int k = 0; k < 30; k++)
	{
		move_clock(&log);
		eduai_ratelimit_counter_fit(&log.counter, &log.rules, log.now_us);
		eduai_ratelimit_counter_consume(&log.counter, &log.rules, 1, log.now_us);
	}
	*c = log.counter;
}

/* How often an entry came back another, of entries as written, cut short, and with a byte changed. */
Datum
eduai_test_rate_codec(PG_FUNCTION_ARGS)
{
	int n = PG_GETARG_INT32(1);
	int64 wrong = 0;
	int64 refused = 0;

	eduai_core_require_test_mode();
	state = (uint64) PG_GETARG_INT64(0) * 2 + 1;
	for (int i = 0; i < n; i++)
	{
		char bytes[RATE_SAVED_MOST];
		char *exact;
		RateName name = {.hash = random_to(UINT64CONST(1) << 62),
						 .database = (Oid) random_to(100000),
						 .tenant_length = (uint8) random_to(50),
						 .tier_length = (uint8) random_to(50),
						 .type_length = (uint8) random_to(50),
						 .key_length = (uint8) random_to(70)};
		RateName back;
		RateCounter counter;
		RateCounter read;
		int length;

		for (int k = 0; k < RATE_LABEL; k++)
			name.label[k] = (char) random_to(256);
		random_counter(&counter);
		length = eduai_ratelimit_save_encode(&name, &counter, bytes);
		/* of its exact size, so that a read beyond it is seen */
		exact = palloc((Size) length);
		memcpy(exact, bytes, (size_t) length);
		wrong +=
			eduai_ratelimit_save_decode(exact, (size_t) length, &back, &read) != length ||
			!same_counter(&counter, &read) || back.hash != name.hash ||
			memcmp(back.label, name.label,
				   name.tenant_length + name.tier_length + name.type_length + name.key_length) != 0;
		refused +=
			eduai_ratelimit_save_decode(exact, random_to((uint64) length), &back, &read) == 0;
		exact[random_to((uint64) length)] ^= (char) (1 + random_to(255));
		(void) eduai_ratelimit_save_decode(exact, (size_t) length, &back, &read);
		pfree(exact);
	}
	PG_RETURN_BOOL(wrong == 0 && refused == n);
}

/* ---- adaptive ---- */

/*
 * Periods of outcomes, each "errors% p95ms", or "-" for none; the factor after
 * each, in thousandths.
 */
Datum
eduai_test_rate_adaptive(PG_FUNCTION_ARGS)
{
	char *periods = text_to_cstring(PG_GETARG_TEXT_PP(0));
	RateAdaptiveRules rules = {
		.floor = 0.1, .most_errors = 0.1, .most_p95_us = 1000000, .period_us = 1000000};
	RateAdaptive a;
	StringInfoData out;
	int64 now_us = 1000000;
	int64 again_us;

	eduai_core_require_test_mode();
	initStringInfo(&out);
	eduai_ratelimit_adaptive_start(&a, now_us);
	for (char *word = strtok(periods, ","); word != NULL; word = strtok(NULL, ","))
	{
		int errors = 0;
		int ms = 0;

		if (sscanf(word, "%d%% %d", &errors, &ms) == 2)
			for (int i = 0; i < 100; i++)
				eduai_ratelimit_adaptive_report(&a, i >= errors, i < 94 ? 1000 : (int64) ms * 1000);
		now_us += rules.period_us;
		appendStringInfo(
			&out, "%s%d", out.len > 0 ? " " : "",
			(int) (eduai_ratelimit_adaptive_turn(&a, &rules, now_us, &again_us) * 1000 + 0.5));
	}
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}
