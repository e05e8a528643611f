/*
 * route_trace.c: choices written down, and made again.  See route_trace.h.
 *
 * A choice is a row of plain structures; tables of their fields write them as
 * jsonb and read them back.  Numbers are written so that reading gives the
 * same bits: integers as they are, doubles by their shortest decimal.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/pause.h"
#include "core/plan.h"
#include "fmgr.h"
#include "gateway/route_trace.h"
#include "gateway/wire.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(eduai_test_replay);

#define KEPT       "10000"
#define MOST_NOTED 4096 /* of one claim; a batch of tasks makes hardly more than one each */

static bool trace_routing = false;

/* ---- fields ---- */

typedef enum FieldType
{
	FIELD_INT,
	FIELD_INT64,
	FIELD_DOUBLE,
	FIELD_BOOL
} FieldType;

typedef struct Field
{
	const char *name;
	FieldType type;
	size_t offset;
} Field;

#define INT_OF(s, f)                  \
	{                                 \
#f, FIELD_INT, offsetof(s, f) \
	}
#define INT64_OF(s, f)                  \
	{                                   \
#f, FIELD_INT64, offsetof(s, f) \
	}
#define DOUBLE_OF(s, f)                  \
	{                                    \
#f, FIELD_DOUBLE, offsetof(s, f) \
	}
#define BOOL_OF(s, f)                  \
	{                                  \
#f, FIELD_BOOL, offsetof(s, f) \
	}

static const Field stats_fields[] = {
	INT64_OF(BalanceStats, observed_us),   DOUBLE_OF(BalanceStats, first_byte_us),
	DOUBLE_OF(BalanceStats, us_per_token), DOUBLE_OF(BalanceStats, peak),
	DOUBLE_OF(BalanceStats, response_us),  DOUBLE_OF(BalanceStats, tokens_out),
	DOUBLE_OF(BalanceStats, successes),    DOUBLE_OF(BalanceStats, failures),
	DOUBLE_OF(BalanceStats, failed_us),    DOUBLE_OF(BalanceStats, current_weight),
	INT64_OF(BalanceStats, samples),       INT64_OF(BalanceStats, unheard_us),
	INT_OF(BalanceStats, unheard),
};

static const Field request_fields[] = {
	INT_OF(BalanceRequest, priority),          INT64_OF(BalanceRequest, tokens_in),
	INT64_OF(BalanceRequest, tokens_out),      INT64_OF(BalanceRequest, deadline_us),
	DOUBLE_OF(BalanceRequest, usd_to_seconds),
};

static const Field option_fields[] = {
	INT_OF(BalanceOption, in_flight),      INT_OF(BalanceOption, max_concurrent),
	INT_OF(BalanceOption, weight),         INT_OF(BalanceOption, tier),
	BOOL_OF(BalanceOption, failed_before), BOOL_OF(BalanceOption, probe),
	DOUBLE_OF(BalanceOption, ramp),        DOUBLE_OF(BalanceOption, headroom),
	DOUBLE_OF(BalanceOption, usd),
};

/* a field that is added there belongs into these tables */
StaticAssertDecl(sizeof(BalanceStats) == 13 * sizeof(int64), "fields of BalanceStats");
StaticAssertDecl(sizeof(BalanceRequest) == 5 * sizeof(int64), "fields of BalanceRequest");
StaticAssertDecl(sizeof(BalanceOption) == 9 * sizeof(int64), "fields of BalanceOption");

static void
put_exact(EduaiJson *j, const char *key, double value)
{
	char digits[DOUBLE_SHORTEST_DECIMAL_LEN];

	if (isnan(value) || isinf(value))
	{
		eduai_core_json_put_null(j, key);
		return;
	}
	double_to_shortest_decimal_buf(value, digits);
	eduai_core_json_put_numeric(
		j, key,
		DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(digits),
											ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))));
}

static void
put_fields(EduaiJson *j, const Field *fields, size_t n, const void *from)
{
	for (size_t i = 0; i < n; i++)
	{
		const void *at = (const char *) from + fields[i].offset;

		switch (fields[i].type)
		{
			case FIELD_INT:
				eduai_core_json_put_int(j, fields[i].name, *(const int *) at);
				break;
			case FIELD_INT64:
				eduai_core_json_put_int(j, fields[i].name, *(const int64 *) at);
				break;
			case FIELD_DOUBLE:
				put_exact(j, fields[i].name, *(const double *) at);
				break;
			case FIELD_BOOL:
				eduai_core_json_put_bool(j, fields[i].name, *(const bool *) at);
				break;
		}
	}
}

static void
get_fields(const Jsonb *json, const Field *fields, size_t n, void *into)
{
	for (size_t i = 0; i < n; i++)
	{
		void *at = (char *) into + fields[i].offset;
		int64 number = 0;

		switch (fields[i].type)
		{
			case FIELD_INT:
				(void) eduai_core_json_int64(json, fields[i].name, &number);
				*(int *) at = (int) number;
				break;
			case FIELD_INT64:
				(void) eduai_core_json_int64(json, fields[i].name, (int64 *) at);
				break;
			case FIELD_DOUBLE:
				(void) eduai_core_json_double(json, fields[i].name, (double *) at);
				break;
			case FIELD_BOOL:
				(void) eduai_core_json_bool(json, fields[i].name, (bool *) at);
				break;
		}
	}
}

/* ---- writing ---- */

typedef struct Note
{
	int64 task_id;
	int attempt;
	Jsonb *decision;
} Note;

static MemoryContext notes_context = NULL;
static Note *notes = NULL;
static int nnotes = 0;
static int64 task_id = 0; /* whose choices follow */
static int attempt = 0;

void
eduai_gateway_trace_init(void)
{
	DefineCustomBoolVariable("eduai.trace_routing",
							 "Writes each choice of an instance to eduai.routing_trace.",
							 "With its inputs, so that it can be made again. The latest " KEPT
							 " are kept. It slows the dispatcher down.",
							 &trace_routing, false, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/* before the choice: it moves the weights */
static void
put_inputs(EduaiJson *j, const RouteChoice *c)
{
	eduai_core_json_put_text(j, "algorithm", eduai_gateway_balance_name(c->algorithm));
	eduai_core_json_put_int(j, "turn", (int64) c->state.turn);
	eduai_core_json_put_int(j, "now_us", c->now_us);
	put_exact(j, "random", c->random);
	if (c->sticky)
		eduai_core_json_put_int(j, "session", (int64) c->session);
	eduai_core_json_open_object(j, "request");
	put_fields(j, request_fields, lengthof(request_fields), &c->request);
	eduai_core_json_close_object(j);
	eduai_core_json_open_array(j, "options");
	for (int i = 0; i < c->n; i++)
	{
		eduai_core_json_open_object(j, NULL);
		eduai_core_json_put_text(j, "name", c->names[i]);
		put_fields(j, option_fields, lengthof(option_fields), &c->options[i]);
		eduai_core_json_open_object(j, "stats");
		put_fields(j, stats_fields, lengthof(stats_fields), c->options[i].stats);
		eduai_core_json_close_object(j);
		eduai_core_json_close_object(j);
	}
	eduai_core_json_close_array(j);
}

static void
put_outputs(EduaiJson *j, const RouteChoice *c, bool kept_session)
{
	eduai_core_json_open_array(j, "order");
	for (int k = 0; k < c->norder; k++)
		eduai_core_json_put_text(j, NULL, c->names[c->order[k]]);
	eduai_core_json_close_array(j);
	eduai_core_json_open_array(j, "scores");
	for (int i = 0; i < c->n; i++)
		put_exact(j, NULL, c->options[i].score);
	eduai_core_json_close_array(j);
	eduai_core_json_put_bool(j, "kept_session", kept_session);
}

static bool
trace(RouteChoice *c)
{
	MemoryContext old = MemoryContextSwitchTo(notes_context);
	EduaiJson j;
	bool kept;

	eduai_core_json_begin(&j);
	put_inputs(&j, c);
	MemoryContextSwitchTo(old);
	kept = eduai_gateway_route_choose(c);
	MemoryContextSwitchTo(notes_context);
	put_outputs(&j, c, kept);
	if (nnotes < MOST_NOTED)
		notes[nnotes++] = (Note){task_id, attempt, eduai_core_json_end(&j)};
	MemoryContextSwitchTo(old);
	return kept;
}

void
eduai_gateway_trace_begin(void)
{
	eduai_gateway_route_tracer = NULL;
	if (!trace_routing)
		return;
	if (notes_context == NULL)
		notes_context =
			AllocSetContextCreate(TopMemoryContext, "eduai routing trace", ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(notes_context);
	notes = MemoryContextAlloc(notes_context, sizeof(Note) * MOST_NOTED);
	nnotes = 0;
	eduai_gateway_route_tracer = trace;
}

void
eduai_gateway_trace_task(int64 id, int number)
{
	task_id = id;
	attempt = number;
}

static void
insert(void)
{
	static EduaiPlan insert = {
		"INSERT INTO eduai.routing_trace (task_id, attempt, at, decision) "
		"SELECT n.task_id, n.attempt, $4, n.decision "
		"FROM unnest($1, $2, $3) WITH ORDINALITY n (task_id, attempt, decision, ord) ORDER BY n.ord",
		4,
		{INT8ARRAYOID, INT4ARRAYOID, JSONBARRAYOID, TIMESTAMPTZOID}};
	int64 *ids = palloc(sizeof(int64) * nnotes);
	int32 *attempts = palloc(sizeof(int32) * nnotes);
	Datum *decisions = palloc(sizeof(Datum) * nnotes);
	Datum args[4];

	for (int i = 0; i < nnotes; i++)
	{
		ids[i] = notes[i].task_id;
		attempts[i] = notes[i].attempt;
		decisions[i] = JsonbPGetDatum(notes[i].decision);
	}
	args[0] = eduai_core_int8_array(ids, NULL, nnotes);
	args[1] = eduai_core_int4_array(attempts, NULL, nnotes);
	args[2] = eduai_core_datum_array(decisions, NULL, nnotes, JSONBOID);
	args[3] = TimestampTzGetDatum(eduai_core_now());
	eduai_core_run(&insert, args, NULL);
}

static void
forget_old(void)
{
	static EduaiPlan forget = {"DELETE FROM eduai.routing_trace WHERE trace_id <= "
							   "(SELECT pg_catalog.max(trace_id) - " KEPT
							   " FROM eduai.routing_trace)",
							   0,
							   {0}};

	eduai_core_run(&forget, NULL, NULL);
}

void
eduai_gateway_trace_end(void)
{
	eduai_gateway_route_tracer = NULL;
	if (!trace_routing || nnotes == 0)
		return;
	insert();
	forget_old();
	nnotes = 0;
}

/* ---- making a choice again ---- */

static void
read_options(const Jsonb *json, RouteChoice *c)
{
	c->n = eduai_core_json_length(json);
	c->options = palloc0(sizeof(BalanceOption) * Max(c->n, 1));
	c->names = palloc0(sizeof(char *) * Max(c->n, 1));
	c->order = palloc0(sizeof(int) * Max(c->n, 1));
	for (int i = 0; i < c->n; i++)
	{
		Jsonb *option = eduai_core_json_element(json, i);

		c->names[i] = eduai_gateway_string(option, "name");
		if (c->names[i] == NULL)
			c->names[i] = "";
		get_fields(option, option_fields, lengthof(option_fields), &c->options[i]);
		c->options[i].max_concurrent = Max(c->options[i].max_concurrent, 1);
		c->options[i].stats = palloc0(sizeof(BalanceStats));
		get_fields(eduai_core_json_child(option, "stats"), stats_fields, lengthof(stats_fields),
				   c->options[i].stats);
	}
}

Datum
eduai_test_replay(PG_FUNCTION_ARGS)
{
	Jsonb *decision = PG_GETARG_JSONB_P(0);
	RouteChoice c = {0};
	EduaiJson j;
	int64 number = 0;

	eduai_core_require_test_mode();
	if (!eduai_gateway_balance_algorithm(eduai_gateway_string(decision, "algorithm"), &c.algorithm))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the decision names no algorithm")));
	(void) eduai_core_json_int64(decision, "turn", &number);
	c.state.turn = (uint64) number;
	(void) eduai_core_json_int64(decision, "now_us", &c.now_us);
	(void) eduai_core_json_double(decision, "random", &c.random);
	c.sticky = eduai_core_json_int64(decision, "session", &number);
	c.session = (uint64) number;
	get_fields(eduai_core_json_child(decision, "request"), request_fields, lengthof(request_fields),
			   &c.request);
	read_options(eduai_core_json_child(decision, "options"), &c);
	eduai_core_json_begin(&j);
	put_outputs(&j, &c, eduai_gateway_route_choose(&c));
	PG_RETURN_JSONB_P(eduai_core_json_end(&j));
}
