/*
 * cost.c: what a call cost, in exact decimal arithmetic.
 *
 * Pure.  Prices are USD per million tokens; tokens_in includes what was read
 * from and written to the provider's cache, tokens_out includes reasoning.
 * Parts larger than their whole (hostile counts) are cut to it.
 */
#include "postgres.h"

#include "gateway/wire.h"
#include "utils/fmgrprotos.h"

static Numeric
product(Numeric a, Numeric b)
{
	return DatumGetNumeric(
		DirectFunctionCall2(numeric_mul, NumericGetDatum(a), NumericGetDatum(b)));
}

static Numeric
times(Numeric price, int64 count)
{
	return product(price, int64_to_numeric(count));
}

static Numeric
plus(Numeric a, Numeric b)
{
	return DatumGetNumeric(
		DirectFunctionCall2(numeric_add, NumericGetDatum(a), NumericGetDatum(b)));
}

bool
eduai_gateway_is_negative(Numeric number)
{
	return DatumGetBool(DirectFunctionCall2(numeric_lt, NumericGetDatum(number),
											NumericGetDatum(int64_to_numeric(0))));
}

Numeric
eduai_gateway_cost(const Instance *instance, const CallOutcome *outcome)
{
	int64 cached = Min(outcome->tokens_cached, outcome->tokens_in);
	int64 cache_write = Min(outcome->tokens_cache_write, outcome->tokens_in - cached);
	int64 reasoning = Min(outcome->tokens_reasoning, outcome->tokens_out);
	Numeric image = outcome->price_image != NULL ? outcome->price_image : instance->price_image;
	Numeric cost;

	cost = times(instance->price_input, outcome->tokens_in - cached - cache_write);
	cost = plus(cost, times(instance->price_cached ? instance->price_cached : instance->price_input,
							cached));
	cost = plus(cost, times(instance->price_cache_write ? instance->price_cache_write
														: instance->price_input,
							cache_write));
	cost = plus(cost, times(instance->price_output, outcome->tokens_out - reasoning));
	cost = plus(
		cost, times(instance->price_reasoning ? instance->price_reasoning : instance->price_output,
					reasoning));
	/* a division would round; a product with a power of ten does not */
	cost = product(cost, int64_div_fast_to_numeric(1, 6));

	if (image != NULL)
		cost = plus(cost, times(image, outcome->images));
	if (instance->price_audio_second != NULL)
		cost = plus(cost, product(instance->price_audio_second,
								  int64_div_fast_to_numeric(outcome->audio_ms, 3)));
	return DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(cost)));
}
