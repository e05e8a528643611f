/*
 * stand_sql.c: eduai.instance_stands(), the live part of instance_status.
 *
 * Figures are of the calls since the server started (or since the instance got
 * another provider, URL or model), read from shared memory: what they cost to
 * read does not depend on how long the ledger is.  Percentiles are within 5 %,
 * of about the latest ten thousand successful calls.
 */
#include "postgres.h"

#include <math.h>

#include "core/clock.h"
#include "core/compat.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "gateway/route.h"
#include "gateway/stand_internal.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

PG_FUNCTION_INFO_V1(eduai_instance_stands);

#define COLUMNS 18

/* a request as they come, for the score: some hundred words each way */
#define TYPICAL_TOKENS 500

/* ---- figures ---- */

TimestampTz
eduai_gateway_stand_wall(int64 mono_us)
{
	return eduai_core_now() - (eduai_core_mono_us() - mono_us);
}

/* in milliseconds, the middle of the step that it falls into; -1: nothing counted */
static double
percentile_ms(const StandTotals *t, double fraction)
{
	double want = fraction * t->counted;
	double seen = 0.0;

	if (t->counted == 0)
		return -1.0;
	for (int i = 0; i < TIMES_ROOM; i++)
	{
		seen += t->times[i];
		if (seen >= want && t->times[i] > 0)
			return 0.125 * exp2((i + 0.5) / TIMES_STEPS);
	}
	return -1.0;
}

/* ---- scores ---- */

/* What an instance is asked to show its score: such requests as it serves. */
static RouteAsk
typical_ask(const Instance *instance)
{
	RouteAsk ask = {.tenant = instance->ntenants > 0 ? instance->tenants[0] : "default",
					.task_type = instance->task_types[0],
					.priority = 2,
					.tokens_in = TYPICAL_TOKENS,
					.tokens_out = TYPICAL_TOKENS};

	if (strcmp(ask.task_type, "embeddings") == 0)
		ask.model = instance->model;
	return ask;
}

static bool
same_ask(const RouteAsk *a, const RouteAsk *b)
{
	return strcmp(a->tenant, b->tenant) == 0 && strcmp(a->task_type, b->task_type) == 0 &&
		   (a->model == NULL) == (b->model == NULL) &&
		   (a->model == NULL || strcmp(a->model, b->model) == 0);
}

typedef struct Score
{
	bool known; /* it was at choice */
	double score;
} Score;

/* One decision for all instances that are asked alike. */
static void
score_like(const Fleet *fleet, int first, Score *scores, bool *done)
{
	RouteAsk ask = typical_ask(&fleet->instances[first]);
	BalanceState state = {0};
	RouteNow now = {.now_us = eduai_core_mono_us(),
					.now = eduai_core_now(),
					.random = 0.5,
					.algorithm = (BalanceAlgorithm) eduai_gateway_balancer,
					.state = &state,
					.look = eduai_gateway_stand_look};
	RouteDecision decision;

	eduai_gateway_route(fleet, &ask, &now, &decision);
	for (int i = first; i < fleet->ninstances; i++)
	{
		RouteAsk other = typical_ask(&fleet->instances[i]);

		if (done[i] || !same_ask(&ask, &other))
			continue;
		done[i] = true;
		scores[i].known = decision.options[i].was_at_choice;
		scores[i].score = decision.options[i].score;
	}
}

static Score *
all_scores(const Fleet *fleet)
{
	Score *scores = palloc0(sizeof(Score) * Max(fleet->ninstances, 1));
	bool *done = palloc0(sizeof(bool) * Max(fleet->ninstances, 1));

	for (int i = 0; i < fleet->ninstances; i++)
		if (!done[i])
			score_like(fleet, i, scores, done);
	return scores;
}

/* ---- rows ---- */

static const char *
health_name(InstanceHealth health)
{
	static const char *const names[] = {"unknown", "good", "bad"};

	return names[health];
}

/* a probe that is out is no reason to call the breaker open */
static const char *
breaker_name(const Stand *s, const InstanceStand *now)
{
	return eduai_gateway_breaker_name(s->breaker.state == BREAKER_HALF_OPEN ? BREAKER_HALF_OPEN
																			: now->breaker);
}

static void
put_double(Datum *values, bool *nulls, int column, double value)
{
	nulls[column] = value < 0.0;
	values[column] = Float8GetDatum(value);
}

static void
put_time(Datum *values, bool *nulls, int column, int64 mono_us)
{
	nulls[column] = mono_us == 0;
	values[column] = TimestampTzGetDatum(eduai_gateway_stand_wall(mono_us));
}

static void
put_totals(const StandTotals *t, Datum *values, bool *nulls)
{
	values[4] = Int64GetDatum(t->requests);
	values[5] = Int64GetDatum(t->successes);
	values[6] = Int64GetDatum(t->failures);
	put_double(values, nulls, 7, t->successes > 0 ? t->success_us / 1000.0 / t->successes : -1.0);
	put_double(values, nulls, 8, percentile_ms(t, 0.95));
	put_double(values, nulls, 9, percentile_ms(t, 0.99));
	values[10] = Int64GetDatum(t->tokens_in);
	values[11] = Int64GetDatum(t->tokens_out);
	values[12] = DirectFunctionCall1(
		numeric_trim_scale, NumericGetDatum(int64_div_fast_to_numeric(t->cost_picousd, 12)));
}

static void
put_row(ReturnSetInfo *result, const Instance *instance, const Score *score)
{
	Datum values[COLUMNS] = {0};
	bool nulls[COLUMNS] = {0};
	InstanceStand now;
	Stand s;

	eduai_gateway_stand_look(instance, eduai_core_mono_us(), &now);
	(void) eduai_gateway_stand_copy(instance, &s);
	values[0] = CStringGetTextDatum(instance->name);
	values[1] = CStringGetTextDatum(health_name(s.health));
	values[2] = CStringGetTextDatum(breaker_name(&s, &now));
	values[3] = Int32GetDatum(s.in_flight);
	put_totals(&s.totals, values, nulls);
	nulls[13] = !score->known;
	values[13] = Float8GetDatum(score->score);
	nulls[14] = s.last_error[0] == '\0';
	values[14] = CStringGetTextDatum(s.last_error);
	put_time(values, nulls, 15, s.checked_us);
	values[16] = Float8GetDatum(now.headroom);
	put_time(values, nulls, 17, s.called_us);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

Datum
eduai_instance_stands(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Fleet *fleet;
	Score *scores;

	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	fleet = eduai_gateway_fleet_load_keyless(CurrentMemoryContext);
	scores = all_scores(fleet);
	for (int i = 0; i < fleet->ninstances; i++)
		put_row(result, &fleet->instances[i], &scores[i]);
	SPI_finish();
	return (Datum) 0;
}
