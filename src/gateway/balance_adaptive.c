/*
 * balance_adaptive.c: what is learnt of an instance, and what a call to it
 * is expected to cost.
 *
 * A call's time is (first byte + tokens x time per token) x peak, times what
 * the load adds.  The first two are slow averages of a call's shape, taken
 * from calls clipped at CLIP times what was expected; "peak" is how far calls
 * exceed the shape: it goes up faster with a slow call than down with a quick
 * one, and down faster when the instance was not asked for long.  So one slow
 * call in five is enough to leave an instance.
 *
 * Success is a discounted Beta: each outcome weighs KEEP of the next, and all
 * fade with FADE_US; a probe that succeeds ends the failures before it.
 * Failures touch neither the shape nor the peak: they cost their own average
 * time.  What was sent and is not heard of counts, too: a call cannot be
 * expected to take less than the instance has been quiet.
 */
#include "postgres.h"

#include "gateway/balance_adaptive.h"

#define SHAPE_GAIN     0.03 /* a call's part in the averages of the shape */
#define CLIP           2.0  /* a call counts there as at most so many times as expected */
#define WHOLE          0.9  /* first bytes later than this share of a call came with the rest */
#define RESPONSE_GAIN  0.1  /* a call's part in response_us */
#define PEAK_UP        0.1  /* of the way, when a call was slower than the peak */
#define PEAK_DOWN      0.04 /* ... faster */
#define PEAK_FADE_US   90e6 /* ... at least half when the last one is so long ago */
#define PEAK_FORGET_US 60e6 /* half of a peak when nothing was heard for so long */
#define PEAK_MOST      50.0

#define KEEP          0.85 /* of the counts, at each outcome */
#define FADE_US       60e6 /* of the counts, by time: half in so long */
#define PRIOR_GOOD    1.0
#define PRIOR_BAD     0.05
#define FAILED_GAIN   0.3 /* a failure's part in failed_us */
#define RETRY_SECONDS 2.0 /* what a failed attempt costs beside its time */

#define QUIET           3.0   /* a call takes so many times as long as nothing was heard */
#define LOAD_WEIGHT     1.0   /* a full instance is so much slower than an idle one */
#define SCARCE          0.1   /* headroom below which calls that can wait go elsewhere */
#define DEADLINE_S      10.0  /* what missing a deadline costs */
#define EXPLORE         0.015 /* share of calls */
#define EXPLORE_IDLE_US 5e6   /* no need to ask one that was heard of since */
#define COLD_SAMPLES    3
#define COLD_US         1e6

/* ---- learning ---- */

/* 1 at 0, a half at "half", towards 0: a fading without exp(). */
static double
fade(double us, double half)
{
	return us <= 0 ? 1 : half / (half + us);
}

void
eduai_gateway_balance_sent(BalanceStats *stats, int64 now_us)
{
	if (stats->unheard++ == 0)
		stats->unheard_us = now_us;
}

static double
towards(double from, double to, double gain)
{
	return from + gain * (to - from);
}

static double
shape_us(const BalanceStats *stats, double tokens)
{
	return Max(stats->first_byte_us + stats->us_per_token * tokens, 1);
}

/* Calls whose parts are known: streams. */
static void
learn_parts(BalanceStats *stats, const BalanceSample *s, double gain)
{
	double per_token = (double) (s->duration_us - s->first_byte_us) / s->tokens_out;
	double large = s->tokens_out / stats->tokens_out;

	/* a long answer says more of the time per token than a short one */
	stats->first_byte_us = towards(stats->first_byte_us, s->first_byte_us, gain);
	stats->us_per_token = towards(stats->us_per_token, per_token, gain * Min(large, 2));
}

/*
 * Answers in one piece: the error is divided between the two parts as each
 * had a part in the prediction (normalised least mean squares).
 */
static void
learn_whole(BalanceStats *stats, const BalanceSample *s, double duration_us, double gain)
{
	double size = s->tokens_out / stats->tokens_out;
	double error = duration_us - shape_us(stats, s->tokens_out);
	double step = 5 * gain * error / (1 + size * size);

	stats->first_byte_us = Max(stats->first_byte_us + step, 0);
	stats->us_per_token = Max(stats->us_per_token + step * size / stats->tokens_out, 0);
}

static void
learn_first(BalanceStats *stats, const BalanceSample *s, bool in_parts)
{
	stats->peak = 1;
	stats->tokens_out = s->tokens_out;
	stats->first_byte_us = s->duration_us;
	stats->us_per_token = 0;
	if (in_parts)
	{
		stats->first_byte_us = s->first_byte_us;
		stats->us_per_token = (double) (s->duration_us - s->first_byte_us) / s->tokens_out;
	}
}

/* The shape changes slowly, and not at all by what is far beyond it: that is a peak. */
static void
learn_shape(BalanceStats *stats, const BalanceSample *s)
{
	double most = CLIP * shape_us(stats, s->tokens_out);
	double gain = Max(SHAPE_GAIN, 1.0 / (stats->samples + 1));
	bool in_parts =
		s->tokens_out > 0 && s->first_byte_us >= 0 && s->first_byte_us < WHOLE * s->duration_us;

	if (stats->samples == 0 || (stats->tokens_out == 0 && s->tokens_out > 0))
		learn_first(stats, s, in_parts);
	else if (s->tokens_out <= 0)
		stats->first_byte_us = Max(
			towards(stats->first_byte_us,
					Min((double) s->duration_us, most) - stats->us_per_token * stats->tokens_out,
					gain),
			0);
	else if (!in_parts)
		learn_whole(stats, s, Min((double) s->duration_us, most), gain);
	else if (s->duration_us <= most)
		learn_parts(stats, s, gain);
	if (s->tokens_out > 0)
		stats->tokens_out = towards(stats->tokens_out, s->tokens_out, gain);
}

/* An answer of so many tokens took so long: how far is that beyond the shape? */
static void
learn_peak(BalanceStats *stats, const BalanceSample *s, int64 idle_us)
{
	double tokens = s->tokens_out > 0 ? s->tokens_out : stats->tokens_out;
	double times = Min(s->duration_us / shape_us(stats, tokens), PEAK_MOST);

	if (times > stats->peak)
		stats->peak = towards(stats->peak, times, PEAK_UP);
	else
		stats->peak = towards(stats->peak, times, Max(PEAK_DOWN, 1 - fade(idle_us, PEAK_FADE_US)));
}

static void
learn_success(BalanceStats *stats, const BalanceSample *s, int64 idle_us)
{
	if (s->probe)
		stats->failures = stats->failed_us = 0;
	stats->successes++;
	if (stats->samples > 0)
		learn_peak(stats, s, idle_us);
	learn_shape(stats, s);
	stats->response_us =
		towards(stats->response_us, s->duration_us, stats->samples == 0 ? 1 : RESPONSE_GAIN);
	stats->samples++;
}

static void
learn_failure(BalanceStats *stats, const BalanceSample *s)
{
	stats->failures++;
	stats->failed_us = stats->failed_us == 0
						   ? s->duration_us
						   : towards(stats->failed_us, s->duration_us, FAILED_GAIN);
	/* one that took longer than answers do is no better than a slow answer */
	if (stats->samples > 0 && s->duration_us > stats->response_us)
		stats->response_us = towards(stats->response_us, s->duration_us, RESPONSE_GAIN);
}

void
eduai_gateway_balance_observe(BalanceStats *stats, const BalanceSample *sample, int64 now_us)
{
	int64 idle_us = stats->observed_us > 0 ? now_us - stats->observed_us : 0;
	double kept = KEEP * fade(idle_us, FADE_US);

	stats->observed_us = now_us;
	stats->unheard = 0;
	stats->successes *= kept;
	stats->failures *= kept;
	if (sample->success)
		learn_success(stats, sample, idle_us);
	else
		learn_failure(stats, sample);
}

void
eduai_gateway_balance_gave_up(BalanceStats *stats, int64 waited_us, int64 now_us)
{
	BalanceSample sample = {.first_byte_us = waited_us, .duration_us = waited_us};

	if (stats->samples > 0 && waited_us <= stats->response_us)
		return;
	if (stats->samples == 0)
	{
		stats->observed_us = now_us;
		learn_shape(stats, &sample);
		stats->samples = 1;
		stats->response_us = waited_us;
		return;
	}
	learn_peak(stats, &sample, 0);
	stats->response_us = towards(stats->response_us, waited_us, RESPONSE_GAIN);
}

/* ---- judging ---- */

/* The time of a call at the best of those that are known; a second where none is. */
static double
best_known_us(const BalanceOption *options, int n, double tokens)
{
	double best = 0;

	for (int i = 0; i < n; i++)
	{
		const BalanceStats *stats = options[i].stats;
		double us;

		if (stats->samples == 0)
			continue;
		us = shape_us(stats, tokens > 0 ? tokens : stats->tokens_out) * stats->peak;
		if (best == 0 || us < best)
			best = us;
	}
	return best > 0 ? best : COLD_US;
}

/*
 * What a call would take.  Of an instance that is hardly known nothing speaks
 * against the best; but its calls in flight count in full, so that it is tried
 * and not flooded.
 */
static double
call_us(const BalanceOption *o, double tokens, double best_us, int64 now_us)
{
	const BalanceStats *stats = o->stats;
	double idle_us = stats->observed_us > 0 ? (double) (now_us - stats->observed_us) : 0;
	double peak = 1 + (stats->peak - 1) * fade(idle_us, PEAK_FORGET_US);
	double load = (o->in_flight + 1.0) / eduai_gateway_balance_capacity(o);
	double us;

	if (stats->samples == 0)
		us = best_us;
	else
		us = shape_us(stats, tokens > 0 ? tokens : stats->tokens_out) * peak;
	if (stats->samples < COLD_SAMPLES)
		us *= 1 + o->in_flight;
	if (stats->unheard > 0)
		us = Max(us, QUIET * (double) (now_us - stats->unheard_us));
	return us * (1 + LOAD_WEIGHT * load);
}

/* Calls for one that succeeds, by the mean of the Beta: 1 / p. */
static double
calls_for_one(const BalanceStats *stats, int64 now_us)
{
	double kept = fade((double) (now_us - stats->observed_us), FADE_US);
	double good = PRIOR_GOOD + stats->successes * kept;

	return 1 + (PRIOR_BAD + stats->failures * kept) / good;
}

/* Calls that can wait leave what is left of a limit to those that cannot. */
static double
scarcity(const BalanceRequest *request, const BalanceOption *o)
{
	if (request->priority <= 1 || o->headroom >= SCARCE)
		return 0;
	return RETRY_SECONDS * (SCARCE - o->headroom) / SCARCE;
}

static double
score(const BalanceRequest *request, const BalanceOption *o, double best_us, int64 now_us)
{
	double us = call_us(o, (double) request->tokens_out, best_us, now_us);
	double calls = calls_for_one(o->stats, now_us);
	double late = request->deadline_us > 0 && us > request->deadline_us ? DEADLINE_S : 0;

	return (us * 1e-6 + request->usd_to_seconds * o->usd) * calls +
		   (calls - 1) * (RETRY_SECONDS + o->stats->failed_us * 1e-6) + late + scarcity(request, o);
}

void
eduai_gateway_balance_score(const BalanceRequest *request, BalanceOption *options, int n,
							int64 now_us)
{
	double best_us = best_known_us(options, n, (double) request->tokens_out);

	for (int i = 0; i < n; i++)
		options[i].score = score(request, &options[i], best_us, now_us);
}

/* ---- venturing ---- */

/* May this call, by itself, be one that finds something out? */
static bool
may_venture(const BalanceRequest *request, const BalanceOption *options, const int *order, int m)
{
	if (request->priority <= 0)
		return false;
	for (int k = 0; k < m; k++)
		if (options[order[k]].failed_before)
			return false;
	return true;
}

/* The first of the same tier as the best that is, or is not, a probe; -1: none. */
static int
first_probe(const BalanceOption *options, const int *order, int m, bool probe)
{
	for (int k = 0; k < m && options[order[k]].tier <= options[order[0]].tier; k++)
		if (options[order[k]].probe == probe)
			return order[k];
	return -1;
}

/*
 * The one that was not heard of for longest, if it could be better than the
 * best at all: its price alone must not be dearer already.
 */
static int
longest_idle(const BalanceRequest *request, const BalanceOption *options, const int *order, int m,
			 int64 now_us)
{
	const BalanceOption *best = &options[order[0]];
	int64 since = now_us - EXPLORE_IDLE_US;
	int found = -1;

	for (int k = 1; k < m; k++)
	{
		const BalanceOption *o = &options[order[k]];

		if (o->tier == best->tier && !o->probe && o->stats->unheard == 0 &&
			o->stats->observed_us < since && request->usd_to_seconds * o->usd < best->score)
		{
			since = o->stats->observed_us;
			found = order[k];
		}
	}
	return found;
}

int
eduai_gateway_balance_venture(const BalanceRequest *request, const BalanceOption *options,
							  const int *order, int m, int64 now_us, double random)
{
	int other = -1;

	if (may_venture(request, options, order, m))
	{
		other = first_probe(options, order, m, true);
		if (other < 0 && random < EXPLORE)
			other = longest_idle(request, options, order, m, now_us);
	}
	else if (options[order[0]].probe)
		other = first_probe(options, order, m, false);
	return other >= 0 ? other : order[0];
}
