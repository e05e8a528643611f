/*
 * testing.c: a reducer in C, for tests and benchmarks.
 *
 * Superusers only, and only with eduai.test_mode.
 */
#include "postgres.h"

#include "core/pause.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#define EVENT_TYPE_COLUMN 5

PG_FUNCTION_INFO_V1(eduai_test_count_reducer);

static JsonbValue
one_more(const JsonbValue *count)
{
	int64 n = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(count->val.numeric)));

	return (JsonbValue){.type = jbvNumeric, .val.numeric = int64_to_numeric(n + 1)};
}

/* test_count_reducer(state, event) returns jsonb: {event type: how many} */
Datum
eduai_test_count_reducer(PG_FUNCTION_ARGS)
{
	Jsonb *state = PG_GETARG_JSONB_P(0);
	bool isnull;
	text *type =
		DatumGetTextPP(GetAttributeByNum(PG_GETARG_HEAPTUPLEHEADER(1), EVENT_TYPE_COLUMN, &isnull));
	JsonbIterator *it = JsonbIteratorInit(&state->root);
	JsonbParseState *into = NULL;
	JsonbIteratorToken token;
	JsonbValue v;
	bool mine = false;
	bool counted = false;

	eduai_core_require_test_mode();
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_END_OBJECT && token != WJB_DONE)
	{
		if (token == WJB_KEY)
			mine = v.val.string.len == VARSIZE_ANY_EXHDR(type) &&
				   memcmp(v.val.string.val, VARDATA_ANY(type), v.val.string.len) == 0;
		else if (token == WJB_VALUE && mine)
			v = one_more(&v);
		counted = counted || mine;
		(void) pushJsonbValue(&into, token, token == WJB_BEGIN_OBJECT ? NULL : &v);
	}
	if (!counted)
	{
		v = (JsonbValue){.type = jbvString,
						 .val.string = {VARSIZE_ANY_EXHDR(type), VARDATA_ANY(type)}};
		(void) pushJsonbValue(&into, WJB_KEY, &v);
		v = (JsonbValue){.type = jbvNumeric, .val.numeric = int64_to_numeric(1)};
		(void) pushJsonbValue(&into, WJB_VALUE, &v);
	}
	PG_RETURN_JSONB_P(JsonbValueToJsonb(pushJsonbValue(&into, WJB_END_OBJECT, NULL)));
}
