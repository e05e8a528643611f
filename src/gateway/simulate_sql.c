/*
 * simulate_sql.c: simulate_balancer(): scenarios read from jsonb, results
 * written as such.
 *
 * What a scenario may say is in tables: a key that is not there is refused by
 * name, a value out of range with the value and what it must be.
 */
#include "postgres.h"

#include <math.h>

#include "core/json.h"
#include "fmgr.h"
#include "gateway/simulate.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

PG_FUNCTION_INFO_V1(eduai_simulate_balancer);

#define MOST_EXPECTED 100000 /* requests of a run: a second or so of work */
#define MOST_MS       3600e3
#define MOST_SECONDS  86400.0
#define MOST_TOKENS   1e6
#define MOST_PRICE    1e6
#define MOST_CALLS    1e6

typedef enum FieldType
{
	FIELD_NUMBER,
	FIELD_INTEGER,
	FIELD_BOOL,
	FIELD_TEXT, /* a name */
	FIELD_PAIR, /* [p50, p95], each min..max, rising */
	FIELD_OBJECT,
	FIELD_ARRAY
} FieldType;

typedef struct Field
{
	const char *name;
	FieldType type;
	bool required;
	double min;
	double max;
} Field;

static const Field scenario_fields[] = {
	{"duration_s", FIELD_NUMBER, true, 0.001, MOST_SECONDS},
	{"arrivals_per_s", FIELD_NUMBER, true, 0.001, 10000},
	{"tokens", FIELD_PAIR, false, 1, MOST_TOKENS},
	{"large", FIELD_OBJECT},
	{"attempts", FIELD_INTEGER, false, 1, 10},
	{"timeout_s", FIELD_NUMBER, false, 0.1, 3600},
	{"usd_to_seconds", FIELD_NUMBER, false, 0, 1e6},
	{"instances", FIELD_ARRAY, true},
};

static const Field large_fields[] = {
	{"share", FIELD_NUMBER, true, 0, 1},
	{"tokens", FIELD_PAIR, true, 1, MOST_TOKENS},
};

static const Field instance_fields[] = {
	{"name", FIELD_TEXT, true, 1, NAMEDATALEN - 1},
	{"latency_ms", FIELD_PAIR, true, 0.001, MOST_MS},
	{"first_byte_share", FIELD_NUMBER, false, 0, 1},
	{"load_factor", FIELD_NUMBER, false, 0, 1000},
	{"error_rate", FIELD_NUMBER, false, 0, 1},
	{"max_concurrent", FIELD_INTEGER, false, 1, MOST_CALLS},
	{"rpm", FIELD_INTEGER, false, 1, MOST_CALLS},
	{"limit_group", FIELD_TEXT, false, 1, NAMEDATALEN - 1},
	{"price_input", FIELD_NUMBER, false, 0, MOST_PRICE},
	{"price_output", FIELD_NUMBER, false, 0, MOST_PRICE},
	{"weight", FIELD_INTEGER, false, 1, MOST_CALLS},
	{"tier", FIELD_INTEGER, false, 1, 100},
	{"first_byte_ms", FIELD_NUMBER, false, 1, MOST_MS},
	{"from_s", FIELD_NUMBER, false, 0, MOST_SECONDS},
	{"events", FIELD_ARRAY},
};

static const Field event_fields[] = {
	{"at_s", FIELD_NUMBER, false, 0, MOST_SECONDS},
	{"until_s", FIELD_NUMBER, false, 0, MOST_SECONDS},
	{"share", FIELD_NUMBER, false, 0, 1},
	{"latency_factor", FIELD_NUMBER, false, 0.001, 1000},
	{"error_rate", FIELD_NUMBER, false, 0, 1},
	{"fast_fail_ms", FIELD_NUMBER, false, 0, MOST_MS},
	{"silent", FIELD_BOOL},
	{"price_factor", FIELD_NUMBER, false, 0, 1000},
};

/* ---- refusing ---- */

static void refuse(const char *what, const char *shown, const char *hint) __attribute__((noreturn));

static void
refuse(const char *what, const char *shown, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("%s cannot be \"%s\"", what, shown), errhint("%s", hint)));
}

/* A value as text, cut where it is long. */
static char *
show(const Jsonb *object, const char *key)
{
	JsonbValue value;
	char *text;

	if (!eduai_core_json_get(object, key, &value))
		return "";
	text = eduai_core_json_cstring(JsonbValueToJsonb(&value));
	if (value.type == jbvString)
		text = pnstrdup(value.val.string.val, value.val.string.len);
	text[pg_mbcliplen(text, strlen(text), 100)] = '\0';
	return text;
}

static char *
must_be(const Field *f)
{
	const char *kind = f->type == FIELD_INTEGER ? "an integer" : "a number";

	switch (f->type)
	{
		case FIELD_BOOL:
			return psprintf("\"%s\" must be true or false.", f->name);
		case FIELD_TEXT:
			return psprintf("\"%s\" must be a string of %g to %g bytes.", f->name, f->min, f->max);
		case FIELD_PAIR:
			return psprintf("\"%s\" must be [p50, p95], numbers from %g to %g, p95 not below p50.",
							f->name, f->min, f->max);
		case FIELD_OBJECT:
			return psprintf("\"%s\" must be an object.", f->name);
		case FIELD_ARRAY:
			return psprintf("\"%s\" must be an array of objects.", f->name);
		default:
			return psprintf("\"%s\" must be %s from %g to %g.", f->name, kind, f->min, f->max);
	}
}

static char *
names_of(const Field *fields, int n)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < n; i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", fields[i].name);
	return names.data;
}

/* ---- checking ---- */

static bool
in_range(const Field *f, double number)
{
	return number >= f->min && number <= f->max;
}

static bool
read_pair(const Jsonb *object, const char *key, double *p50, double *p95)
{
	Jsonb *pair = eduai_core_json_child(object, key);
	char *first = eduai_core_json_length(pair) == 2 ? eduai_core_json_element_text(pair, 0) : NULL;
	char *second = first != NULL ? eduai_core_json_element_text(pair, 1) : NULL;
	EduaiJson j;
	Jsonb *numbers;

	if (second == NULL)
		return false;
	eduai_core_json_begin(&j);
	eduai_core_json_put_value(&j, "p50", getIthJsonbValueFromContainer(&pair->root, 0));
	eduai_core_json_put_value(&j, "p95", getIthJsonbValueFromContainer(&pair->root, 1));
	numbers = eduai_core_json_end(&j);
	return eduai_core_json_double(numbers, "p50", p50) &&
		   eduai_core_json_double(numbers, "p95", p95);
}

static bool
is_valid(const Jsonb *object, const Field *f, const JsonbValue *value)
{
	double number, other;

	switch (f->type)
	{
		case FIELD_BOOL:
			return value->type == jbvBool;
		case FIELD_TEXT:
			return value->type == jbvString && in_range(f, value->val.string.len);
		case FIELD_PAIR:
			return read_pair(object, f->name, &number, &other) && in_range(f, number) &&
				   in_range(f, other) && number <= other;
		case FIELD_OBJECT:
			return value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
		case FIELD_ARRAY:
			return value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data);
		default:
			return eduai_core_json_double(object, f->name, &number) && in_range(f, number) &&
				   (f->type != FIELD_INTEGER || number == rint(number));
	}
}

static const Field *
find_field(const Field *fields, int n, const JsonbValue *name)
{
	for (int i = 0; i < n; i++)
		if (strlen(fields[i].name) == name->val.string.len &&
			memcmp(fields[i].name, name->val.string.val, name->val.string.len) == 0)
			return &fields[i];
	return NULL;
}

static void
check_keys(const char *what, const Jsonb *object, const Field *fields, int n)
{
	JsonbIterator *it = JsonbIteratorInit((JsonbContainer *) &object->root);
	JsonbIteratorToken token;
	JsonbValue name, value;

	while ((token = JsonbIteratorNext(&it, &name, true)) != WJB_DONE)
	{
		const Field *f;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		f = find_field(fields, n, &name);
		if (f == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unknown key \"%s\" of %s",
							pnstrdup(name.val.string.val,
									 pg_mbcliplen(name.val.string.val, name.val.string.len, 100)),
							what),
					 errhint("The keys are %s.", names_of(fields, n))));
		if (!is_valid(object, f, &value))
			refuse(psprintf("\"%s\" of %s", f->name, what), show(object, f->name), must_be(f));
	}
}

static void
check(const char *what, const Jsonb *object, const Field *fields, int n)
{
	JsonbValue value;

	if (!eduai_core_json_is_object(object))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s must be a JSON object", what)));
	check_keys(what, object, fields, n);
	for (int i = 0; i < n; i++)
		if (fields[i].required && !eduai_core_json_get(object, fields[i].name, &value))
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("%s lacks \"%s\"", what, fields[i].name),
							errhint("%s", must_be(&fields[i]))));
}

/* ---- reading: after the check, values are what they must be ---- */

static double
number_or(const Jsonb *object, const char *key, double otherwise)
{
	double number;

	return eduai_core_json_double(object, key, &number) ? number : otherwise;
}

static int64
us_or(const Jsonb *object, const char *key, double us, double otherwise)
{
	return (int64) (number_or(object, key, otherwise) * us);
}

static void
read_event(const Jsonb *json, const char *what, SimulatedEvent *e)
{
	bool silent = false;

	check(what, json, event_fields, lengthof(event_fields));
	(void) eduai_core_json_bool(json, "silent", &silent);
	e->at_us = us_or(json, "at_s", 1e6, 0);
	e->until_us = us_or(json, "until_s", 1e6, 2 * MOST_SECONDS);
	e->share = number_or(json, "share", 1);
	e->latency_factor = number_or(json, "latency_factor", 1);
	e->fast_fail_us = us_or(json, "fast_fail_ms", 1e3, -1e-3);
	e->error_rate = number_or(json, "error_rate", e->fast_fail_us >= 0 ? 1 : -1);
	e->silent = silent;
	e->price_factor = number_or(json, "price_factor", 1);
	if (e->until_us <= e->at_us)
		refuse(psprintf("\"until_s\" of %s", what), show(json, "until_s"),
			   "\"until_s\" must be after \"at_s\".");
}

static void
read_events(const Jsonb *json, SimulatedInstance *i)
{
	Jsonb *events = eduai_core_json_child(json, "events");

	i->nevents = eduai_core_json_length(events);
	if (i->nevents > EDUAI_SIMULATION_EVENTS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("instance \"%s\" has %d events", i->name, i->nevents),
						errhint("At most %d are simulated.", EDUAI_SIMULATION_EVENTS)));
	for (int k = 0; k < i->nevents; k++)
		read_event(eduai_core_json_element(events, k),
				   psprintf("event %d of instance \"%s\"", k + 1, i->name), &i->events[k]);
}

/* Those that name the same group share the limit of the first. */
static int
find_group(const Jsonb *instances, const SimulatedFleet *fleet, int number)
{
	const Jsonb *json = eduai_core_json_element(instances, number);
	char *group = eduai_core_json_text(json, "limit_group");

	if (group == NULL)
		return number;
	if (fleet->instances[number].rpm == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("instance \"%s\" is in limit_group \"%s\" and has no \"rpm\"",
							   fleet->instances[number].name, group),
						errhint("Instances of a group share the limit that \"rpm\" says.")));
	for (int i = 0; i < number; i++)
	{
		char *other = eduai_core_json_text(eduai_core_json_element(instances, i), "limit_group");

		if (other == NULL || strcmp(group, other) != 0)
			continue;
		if (fleet->instances[i].rpm != fleet->instances[number].rpm)
			refuse(psprintf("\"rpm\" of instance \"%s\"", fleet->instances[number].name),
				   show(json, "rpm"), "Instances of a limit_group have the same \"rpm\".");
		return i;
	}
	return number;
}

static void
read_instance(const Jsonb *instances, SimulatedFleet *fleet, int number)
{
	const Jsonb *json = eduai_core_json_element(instances, number);
	SimulatedInstance *i = &fleet->instances[number];

	check(psprintf("instance %d", number + 1), json, instance_fields, lengthof(instance_fields));
	i->name = eduai_core_json_text(json, "name");
	for (int k = 0; k < number; k++)
		if (strcmp(fleet->instances[k].name, i->name) == 0)
			refuse(psprintf("\"name\" of instance %d", number + 1), i->name,
				   "Instances must have different names.");
	(void) read_pair(json, "latency_ms", &i->latency_p50_us, &i->latency_p95_us);
	i->latency_p50_us *= 1e3;
	i->latency_p95_us *= 1e3;
	i->first_byte_share = number_or(json, "first_byte_share", 0.3);
	i->load_factor = number_or(json, "load_factor", 0);
	i->error_rate = number_or(json, "error_rate", 0);
	i->max_concurrent = (int) number_or(json, "max_concurrent", 10);
	i->weight = (int) number_or(json, "weight", 1);
	i->tier = (int) number_or(json, "tier", 1);
	i->rpm = (int) number_or(json, "rpm", 0);
	i->limit_group = find_group(instances, fleet, number);
	i->price_input = number_or(json, "price_input", 0) / 1e6;
	i->price_output = number_or(json, "price_output", 0) / 1e6;
	i->from_us = us_or(json, "from_s", 1e6, 0);
	i->first_byte_us = us_or(json, "first_byte_ms", 1e3, 30000);
	read_events(json, i);
}

static void
read_instances(const Jsonb *scenario, SimulatedFleet *fleet)
{
	Jsonb *instances = eduai_core_json_child(scenario, "instances");

	fleet->n = eduai_core_json_length(instances);
	if (fleet->n < 1 || fleet->n > EDUAI_SIMULATION_INSTANCES)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the scenario has %d instances", fleet->n),
						errhint("From 1 to %d are simulated.", EDUAI_SIMULATION_INSTANCES)));
	fleet->instances = palloc0(sizeof(SimulatedInstance) * fleet->n);
	for (int i = 0; i < fleet->n; i++)
		read_instance(instances, fleet, i);
}

static void
read_sizes(const Jsonb *scenario, SimulatedFleet *fleet)
{
	Jsonb *large = eduai_core_json_child(scenario, "large");

	fleet->sizes = (SimulatedSizes){300, 1000};
	(void) read_pair(scenario, "tokens", &fleet->sizes.p50, &fleet->sizes.p95);
	if (large == NULL)
		return;
	check("\"large\"", large, large_fields, lengthof(large_fields));
	fleet->large_share = number_or(large, "share", 0);
	(void) read_pair(large, "tokens", &fleet->large.p50, &fleet->large.p95);
}

static void
read_scenario(const Jsonb *scenario, SimulatedFleet *fleet)
{
	double duration_s, expected;

	check("the scenario", scenario, scenario_fields, lengthof(scenario_fields));
	duration_s = number_or(scenario, "duration_s", 0);
	fleet->duration_us = (int64) (duration_s * 1e6);
	fleet->arrivals_per_s = number_or(scenario, "arrivals_per_s", 0);
	fleet->attempts = (int) number_or(scenario, "attempts", 3);
	fleet->timeout_us = us_or(scenario, "timeout_s", 1e6, 120);
	fleet->usd_to_seconds = number_or(scenario, "usd_to_seconds", 100);
	expected = duration_s * fleet->arrivals_per_s;
	if (expected > MOST_EXPECTED)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the scenario has %.0f requests", expected),
						errhint("At most %d are simulated: duration_s times arrivals_per_s.",
								MOST_EXPECTED)));
	read_sizes(scenario, fleet);
	read_instances(scenario, fleet);
}

/* ---- writing ---- */

static double
rounded(double value, double unit)
{
	return rint(value * unit) / unit;
}

static void
put_ms(EduaiJson *j, const char *key, const SimulatedRun *run, double us)
{
	if (run->succeeded > 0)
		eduai_core_json_put_double(j, key, rounded(us / 1e3, 1e3));
	else
		eduai_core_json_put_null(j, key);
}

static Jsonb *
write_run(const SimulatedFleet *fleet, const SimulatedRun *run)
{
	double requests = Max(run->requests, 1);
	EduaiJson j;

	eduai_core_json_begin(&j);
	eduai_core_json_put_int(&j, "requests", run->requests);
	eduai_core_json_put_double(&j, "success_rate", rounded(run->succeeded / requests, 1e6));
	put_ms(&j, "p50_ms", run, run->p50_us);
	put_ms(&j, "p95_ms", run, run->p95_us);
	put_ms(&j, "p99_ms", run, run->p99_us);
	eduai_core_json_put_double(&j, "cost_usd", rounded(run->usd, 1e6));
	eduai_core_json_put_int(&j, "wasted_attempts", run->wasted);
	eduai_core_json_open_object(&j, "share");
	for (int i = 0; i < fleet->n; i++)
		eduai_core_json_put_double(&j, fleet->instances[i].name,
								   rounded(run->calls_of[i] / (double) Max(run->calls, 1), 1e4));
	eduai_core_json_close_object(&j);
	return eduai_core_json_end(&j);
}

static void
tick(void)
{
	CHECK_FOR_INTERRUPTS();
}

Datum
eduai_simulate_balancer(PG_FUNCTION_ARGS)
{
	BalanceAlgorithm algorithm;
	SimulatedFleet fleet = {0};
	SimulatedRun run;
	char *name;

	for (int i = 0; i < 3; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("algorithm, scenario and seed cannot be null")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!eduai_gateway_balance_algorithm(name, &algorithm))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown algorithm \"%s\"", name),
				 errhint("The algorithms are adaptive, round_robin, weighted_round_robin, "
						 "least_connections, least_response_time and cost_optimized.")));
	read_scenario(PG_GETARG_JSONB_P(1), &fleet);
	eduai_gateway_simulate(&fleet, SIMULATED_ALGORITHM, algorithm, (uint64) PG_GETARG_INT64(2),
						   palloc(eduai_gateway_simulation_memory(&fleet)), tick, &run);
	PG_RETURN_JSONB_P(write_run(&fleet, &run));
}
