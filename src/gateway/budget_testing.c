/*
 * budget_testing.c: SQL functions by which tests reach what is pure of the
 * budgets.  Superusers only, and only with eduai.test_mode.
 */
#include "postgres.h"

#include "core/compat.h"
#include "core/json.h"
#include "core/pause.h"
#include "fmgr.h"
#include "gateway/budget.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(eduai_test_cost_bound);
PG_FUNCTION_INFO_V1(eduai_test_budget_pressure);

static Numeric
price_or_zero(const Jsonb *options, const char *name)
{
	Numeric found = eduai_core_json_numeric(options, name);

	return found != NULL ? found : int64_to_numeric(0);
}

Datum
eduai_test_cost_bound(PG_FUNCTION_ARGS)
{
	Provider provider = {.name = "bench"};
	Instance instance = {.name = "bench", .provider = &provider};
	BudgetAudio audio = {0};
	const char *why = NULL;
	Numeric bound;
	EduaiJson j;

	eduai_core_require_test_mode();
	for (int i = 0; i < 4; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("argument %d cannot be null", i + 1)));
	provider.kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
	instance.options = PG_GETARG_JSONB_P(3);
	instance.price_input = price_or_zero(instance.options, "price_input");
	instance.price_output = price_or_zero(instance.options, "price_output");
	eduai_gateway_read_prices(&instance);
	if (!PG_ARGISNULL(4))
	{
		bytea *bytes = PG_GETARG_BYTEA_PP(4);

		audio.bytes = VARSIZE_ANY_EXHDR(bytes);
		memcpy(audio.head, VARDATA_ANY(bytes), Min(audio.bytes, (int64) sizeof(audio.head)));
	}
	bound = eduai_gateway_cost_bound(&instance, text_to_cstring(PG_GETARG_TEXT_PP(1)),
									 PG_GETARG_JSONB_P(2), PG_ARGISNULL(4) ? NULL : &audio, &why);
	eduai_core_json_begin(&j);
	if (bound != NULL)
		eduai_core_json_put_numeric(&j, "bound_usd", bound);
	else
		eduai_core_json_put_text(&j, "why", why);
	PG_RETURN_JSONB_P(eduai_core_json_end(&j));
}

Datum
eduai_test_budget_pressure(PG_FUNCTION_ARGS)
{
	eduai_core_require_test_mode();
	PG_RETURN_FLOAT8(eduai_gateway_budget_pressure_of(PG_GETARG_FLOAT8(0), PG_GETARG_FLOAT8(1)));
}
