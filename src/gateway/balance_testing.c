/*
 * balance_testing.c: eduai.test_balance(), choices between instances that a
 * test describes.  Superusers only, and only with eduai.test_mode.
 */
#include "postgres.h"

#include <math.h>

#include "core/json.h"
#include "core/pause.h"
#include "fmgr.h"
#include "gateway/balance.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(eduai_test_balance);

typedef struct Described
{
	int n;
	char **names;
	BalanceOption *options;
	int *order;
	int norder;
} Described;

static double
number_or(const Jsonb *json, const char *key, double otherwise)
{
	double number;

	return eduai_core_json_double(json, key, &number) ? number : otherwise;
}

static bool
bool_or(const Jsonb *json, const char *key, bool otherwise)
{
	bool value;

	return eduai_core_json_bool(json, key, &value) ? value : otherwise;
}

static int64
us(const Jsonb *json, const char *key, double unit, double otherwise)
{
	return (int64) (number_or(json, key, otherwise) * unit);
}

/* {at_s, ms, first_byte_ms, tokens, ok, probe, times}: so many of them, a second apart. */
static void
learn(BalanceStats *stats, const Jsonb *json)
{
	BalanceSample sample = {.success = bool_or(json, "ok", true),
							.duration_us = us(json, "ms", 1e3, 0),
							.first_byte_us = us(json, "first_byte_ms", 1e3, -1e-3),
							.tokens_out = us(json, "tokens", 1, 0),
							.probe = bool_or(json, "probe", false)};
	int64 at_us = us(json, "at_s", 1e6, 0);

	for (int k = 0; k < (int) number_or(json, "times", 1); k++)
		eduai_gateway_balance_observe(stats, &sample, at_us + k * INT64CONST(1000000));
}

static BalanceOption
describe(const Jsonb *json)
{
	BalanceStats *stats = palloc0(sizeof(BalanceStats));
	Jsonb *samples = eduai_core_json_child(json, "samples");
	double sent_s;

	for (int k = 0; k < eduai_core_json_length(samples); k++)
		learn(stats, eduai_core_json_element(samples, k));
	if (eduai_core_json_double(json, "sent_s", &sent_s))
		eduai_gateway_balance_sent(stats, (int64) (sent_s * 1e6));
	return (BalanceOption){
		.stats = stats,
		.in_flight = (int) number_or(json, "in_flight", 0),
		.max_concurrent = (int) number_or(json, "max_concurrent", 10),
		.weight = (int) number_or(json, "weight", 1),
		.tier = (int) number_or(json, "tier", 1),
		.failed_before = bool_or(json, "failed_before", false),
		.probe = bool_or(json, "probe", false),
		.ramp = number_or(json, "ramp", 1),
		.headroom = number_or(json, "headroom", 1),
		.usd = number_or(json, "usd", 0),
	};
}

static Described
read_fleet(const Jsonb *fleet)
{
	Described d = {.n = eduai_core_json_length(fleet)};

	d.names = palloc0(sizeof(char *) * Max(d.n, 1));
	d.options = palloc0(sizeof(BalanceOption) * Max(d.n, 1));
	d.order = palloc0(sizeof(int) * Max(d.n, 1));
	for (int i = 0; i < d.n; i++)
	{
		const Jsonb *json = eduai_core_json_element(fleet, i);

		d.names[i] = eduai_core_json_text(json, "name");
		if (d.names[i] == NULL)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("instance %d has no name", i + 1)));
		d.options[i] = describe(json);
	}
	return d;
}

static void
put_scores(EduaiJson *j, const Described *d)
{
	eduai_core_json_open_object(j, "score");
	for (int i = 0; i < d->n; i++)
		if (d->options[i].eligible)
			eduai_core_json_put_double(j, d->names[i], rint(d->options[i].score * 1e3) / 1e3);
	eduai_core_json_close_object(j);
	eduai_core_json_open_array(j, "order");
	for (int k = 0; k < d->norder; k++)
		eduai_core_json_put_text(j, NULL, d->names[d->order[k]]);
	eduai_core_json_close_array(j);
}

Datum
eduai_test_balance(PG_FUNCTION_ARGS)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Described d;
	const Jsonb *json = PG_GETARG_JSONB_P(2);
	int choices = PG_GETARG_INT32(3);
	double random = PG_GETARG_FLOAT8(4);
	BalanceRequest request = {.priority = (int) number_or(json, "priority", 2),
							  .tokens_in = us(json, "tokens_in", 1, 0),
							  .tokens_out = us(json, "tokens_out", 1, 0),
							  .deadline_us = us(json, "deadline_s", 1e6, 0),
							  .usd_to_seconds = number_or(json, "usd_to_seconds", 100)};
	int64 now_us = us(json, "now_s", 1e6, 100);
	BalanceAlgorithm algorithm;
	BalanceState state = {0};
	EduaiJson j;

	eduai_core_require_test_mode();
	if (!eduai_gateway_balance_algorithm(name, &algorithm))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("unknown algorithm \"%s\"", name)));
	d = read_fleet(PG_GETARG_JSONB_P(1));
	eduai_core_json_begin(&j);
	eduai_core_json_open_array(&j, "taken");
	for (int k = 0; k < choices; k++)
	{
		int taken = eduai_gateway_balance_choose(algorithm, &state, &request, d.options, d.n,
												 now_us, random, d.order, &d.norder);

		eduai_core_json_put_text(&j, NULL, taken >= 0 ? d.names[taken] : NULL);
	}
	eduai_core_json_close_array(&j);
	put_scores(&j, &d);
	PG_RETURN_JSONB_P(eduai_core_json_end(&j));
}
