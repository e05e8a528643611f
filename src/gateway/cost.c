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

/* The tokens at their own price, or at that of the whole that they are a part of; most are none. */
static Numeric
plus_part(Numeric cost, Numeric own, Numeric whole, int64 tokens)
{
	return tokens == 0 ? cost : plus(cost, times(own != NULL ? own : whole, tokens));
}

static Numeric
input_cost(const Instance *i, const CallOutcome *o)
{
	int64 cached = Min(o->tokens_cached, o->tokens_in);
	int64 written = Min(o->tokens_cache_write, o->tokens_in - cached);
	int64 hour = Min(o->tokens_cache_write_1h, written);
	int64 plain = o->tokens_in - cached - written;
	int64 audio = Min(o->tokens_audio_in, plain);
	int64 pictures = Min(o->tokens_image_in, plain - audio);
	Numeric write = i->price_cache_write != NULL ? i->price_cache_write : i->price_input;
	Numeric cost = times(i->price_input, plain - audio - pictures);

	cost = plus_part(cost, i->price_cached, i->price_input, cached);
	cost = plus_part(cost, NULL, write, written - hour);
	cost = plus_part(cost, i->price_cache_write_1h, write, hour);
	cost = plus_part(cost, i->price_audio_input, i->price_input, audio);
	return plus_part(cost, i->price_image_input, i->price_input, pictures);
}

static Numeric
output_cost(const Instance *i, const CallOutcome *o)
{
	int64 reasoning = Min(o->tokens_reasoning, o->tokens_out);
	int64 audio = Min(o->tokens_audio_out, o->tokens_out - reasoning);
	Numeric cost = times(i->price_output, o->tokens_out - reasoning - audio);

	cost = plus_part(cost, i->price_audio_output, i->price_output, audio);
	return plus_part(cost, i->price_reasoning, i->price_output, reasoning);
}

Numeric
eduai_gateway_cost(const Instance *instance, const CallOutcome *outcome)
{
	Numeric image = outcome->price_image != NULL ? outcome->price_image : instance->price_image;
	Numeric cost = plus(input_cost(instance, outcome), output_cost(instance, outcome));

	/* a division would round; a product with a power of ten does not */
	cost = product(cost, int64_div_fast_to_numeric(1, 6));

	if (image != NULL)
		cost = plus(cost, times(image, outcome->images));
	if (instance->price_audio_second != NULL)
		cost = plus(cost, product(instance->price_audio_second,
								  int64_div_fast_to_numeric(outcome->audio_ms, 3)));
	return DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(cost)));
}
