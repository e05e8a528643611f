/*
 * route_words.c: a routing decision in words: why this one, why not the others.
 */
#include "postgres.h"

#include "gateway/hedge.h"
#include "gateway/route.h"
#include "lib/stringinfo.h"

#define MOST_NAMED 20 /* of those that are out */

static const char *
unit_of(BalanceAlgorithm algorithm)
{
	switch (algorithm)
	{
		case BALANCE_ADAPTIVE:
			return " seconds";
		case BALANCE_LEAST_RESPONSE_TIME:
			return " us";
		case BALANCE_COST_OPTIMIZED:
			return " USD";
		default:
			return "";
	}
}

static void
say_seconds(StringInfo words, int64 until_us, int64 now_us)
{
	double seconds = Max(until_us - now_us, 0) / 1e6;

	appendStringInfo(words, seconds < 10 ? "%.1f s" : "%.0f s", seconds);
}

static void
say_out(StringInfo words, const RouteOption *o, const RouteAsk *ask, int64 now_us)
{
	const char *state = "";

	switch (o->out)
	{
		case OUT_SPACE:
			state = "its vectors are of another space";
			break;
		case OUT_STATE:
			state = "not active";
			break;
		case OUT_KEY:
			state = "its key cannot be read";
			break;
		case OUT_OPEN:
			state = "circuit breaker open";
			break;
		case OUT_LIMIT:
			state = "rate limit used up";
			break;
		case OUT_BUSY:
			state =
				psprintf("busy, %d of %d calls", o->stand.in_flight, o->instance->max_concurrent);
			break;
		case OUT_CONTEXT:
			state = psprintf("context of %lld tokens for about %lld",
							 (long long) o->instance->context_tokens,
							 (long long) (ask->tokens_in + ask->tokens_out));
			break;
		case OUT_FAILED:
			state = "the task failed there";
			break;
		case OUT_RESTING:
			state = "the task failed there a moment ago";
			break;
		default:
			state = "refused";
			break;
	}
	appendStringInfo(words, "%s (%s", o->instance->name, state);
	if (o->until_us > 0 && o->out != OUT_BUSY)
	{
		appendStringInfoString(words, ", for ");
		say_seconds(words, o->until_us, now_us);
	}
	appendStringInfoChar(words, ')');
}

static bool
is_worth_a_word(const RouteOption *o)
{
	return o->out == OUT_SPACE || (o->step >= 0 && o->out != ROUTE_IN);
}

static void
say_all_out(StringInfo words, const RouteDecision *d, const RouteAsk *ask, int64 now_us)
{
	int named = 0;
	int more = 0;

	for (int i = 0; i < d->noptions; i++)
	{
		const RouteOption *o = &d->options[i];

		if (!is_worth_a_word(o))
			continue;
		if (named == MOST_NAMED)
		{
			more++;
			continue;
		}
		appendStringInfoString(words, named++ == 0 ? " Out: " : ", ");
		say_out(words, o, ask, now_us);
	}
	if (more > 0)
		appendStringInfo(words, " and %d more", more);
	if (named > 0)
		appendStringInfoChar(words, '.');
}

static void
say_choice(StringInfo words, const RouteDecision *d)
{
	const RouteOption *o = &d->options[d->order[0]];
	const BalanceStats *stats = &o->stand.stats;

	appendStringInfo(words, "%s by %s: score %.3g%s", o->instance->name,
					 eduai_gateway_balance_name(d->algorithm), o->score, unit_of(d->algorithm));
	if (d->norder > 1)
		appendStringInfo(words, ", the next %.3g", d->options[d->order[1]].score);
	appendStringInfo(words, "; tier %d, %d of %d calls in flight", o->instance->tier,
					 o->stand.in_flight, o->instance->max_concurrent);
	if (stats->samples > 0)
		appendStringInfo(words, ", answers in %.0f ms", stats->response_us / 1000);
	else
		appendStringInfoString(words, ", no answer known yet");
	if (d->kept_session)
		appendStringInfoString(words, "; as good as any, and its session's");
	if (o->rank != RANK_FRESH)
		appendStringInfoString(words,
							   "; the task failed there or near it, and nothing better is left");
	if (o->stand.breaker == BREAKER_HALF_OPEN)
		appendStringInfoString(words, "; its breaker is half open, this call would probe it");
	else if (o->stand.ramp < 1)
		appendStringInfo(words, "; it recovers, with %.0f %% of its calls", o->stand.ramp * 100);
	if (d->step > 0)
		appendStringInfo(words, "; it stands in (%d) for those asked for", d->step);
	appendStringInfoChar(words, '.');
}

/* What would follow if nothing came. */
static void
say_hedge(StringInfo words, const RouteDecision *d, const RouteAsk *ask)
{
	const Instance *second;
	int most;

	if (!eduai_gateway_hedge_foresee(d, ask, &second, &most))
		return;
	if (second == NULL)
		appendStringInfo(words,
						 " If nothing came within %d ms, there would be nobody of another provider"
						 " and host to ask, too.",
						 eduai_gateway_hedge_after_ms);
	else
		appendStringInfo(words,
						 " If nothing comes within %d ms, %s is asked, too, while budgets have room"
						 " for both and no more than %d %% of such calls have a second one.",
						 eduai_gateway_hedge_after_ms, second->name, most);
}

char *
eduai_gateway_route_reason(const RouteDecision *d, const RouteAsk *ask, int64 now_us)
{
	StringInfoData words;

	initStringInfo(&words);
	if (d->norder > 0)
	{
		say_choice(&words, d);
		say_hedge(&words, d, ask);
	}
	else
	{
		appendStringInfoString(&words, "Nobody can take it now");
		if (d->until_us > 0)
		{
			appendStringInfoString(&words, "; the earliest in ");
			say_seconds(&words, d->until_us, now_us);
		}
		appendStringInfoChar(&words, '.');
	}
	say_all_out(&words, d, ask, now_us);
	return words.data;
}
