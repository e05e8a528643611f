/*
 * model_testing.c: SQL functions by which tests reach the learner model's core.
 *
 * Superusers only, and only with eduai.test_mode.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/pause.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "projections/intern.h"
#include "projections/model.h"
#include "projections/model_fit.h"
#include "projections/model_kind.h"
#include "projections/replay.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(eduai_test_learner_model);
PG_FUNCTION_INFO_V1(eduai_test_replay_learner_model);
PG_FUNCTION_INFO_V1(eduai_test_fit_skill);

/* An argument that is an array. */
typedef struct Elements
{
	Datum *values;
	bool *nulls;
	int n;
} Elements;

static Elements
elements_of(FunctionCallInfo fcinfo, int argument, Oid type, int n)
{
	ArrayType *array = PG_GETARG_ARRAYTYPE_P(argument);
	Elements e;
	int16 length;
	bool by_value;
	char align;

	get_typlenbyvalalign(type, &length, &by_value, &align);
	deconstruct_array(array, type, length, by_value, align, &e.values, &e.nulls, &e.n);
	if (n >= 0 && e.n != n)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the arrays have %d and %d elements", n, e.n)));
	return e;
}

/* ---- the model ---- */

/* The states of one kind of entities, by name. */
typedef struct Named
{
	EduaiIntern *names;
	Size size;
	void *states[1000]; /* by number */
} Named;

static Named *
create_named(Size size)
{
	Named *named = palloc0_object(Named);

	named->names = eduai_projections_intern_create();
	named->size = size;
	return named;
}

/* NULL for a part that is NULL; the second one may be absent. */
static void *
state_of(Named *named, const char *first, bool both, const char *second)
{
	uint32 number;

	if (first == NULL || (both && second == NULL))
		return NULL;
	number =
		eduai_projections_intern(named->names, both ? psprintf("%s/%s", first, second) : first);
	if (number >= lengthof(named->states))
		elog(ERROR, "too many names");
	if (named->states[number] == NULL)
		named->states[number] = palloc0(named->size);
	return named->states[number];
}

static char *
text_at(const Elements *e, int i)
{
	return e->nulls[i] ? NULL : TextDatumGetCString(e->values[i]);
}

static EduaiModelPrediction
predict_and_update(const EduaiModelEntities *entities, bool correct, double at)
{
	EduaiModelPrediction predicted = eduai_projections_model_predict(entities, at);
	EduaiModelPrediction updated = eduai_projections_model_update(entities, correct, at);

	if (memcmp(&predicted, &updated, sizeof(predicted)) != 0)
		elog(ERROR, "predict() and update() differ");
	return updated;
}

/* test_learner_model(users, skills, items, correct, at) returns setof record */
Datum
eduai_test_learner_model(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Elements users = elements_of(fcinfo, 0, TEXTOID, -1);
	Elements skills = elements_of(fcinfo, 1, TEXTOID, users.n);
	Elements items = elements_of(fcinfo, 2, TEXTOID, users.n);
	Elements correct = elements_of(fcinfo, 3, BOOLOID, users.n);
	Elements at = elements_of(fcinfo, 4, TIMESTAMPTZOID, users.n);
	Named *learner_states = create_named(sizeof(EduaiModelLearner));
	Named *skill_states = create_named(sizeof(EduaiModelSkill));
	Named *item_states = create_named(sizeof(EduaiModelItem));
	Named *pairs = create_named(sizeof(EduaiModelPair));
	Named *repeats = create_named(sizeof(EduaiModelRepeat));
	EduaiModelTenant tenant;

	eduai_core_require_test_mode();
	InitMaterializedSRF(fcinfo, 0);
	eduai_projections_model_start(&tenant);
	for (int i = 0; i < users.n; i++)
	{
		char *user = text_at(&users, i);
		char *skill = text_at(&skills, i);
		char *item = skill == NULL || items.nulls[i]
						 ? NULL
						 : psprintf("%s/%s", skill, text_at(&items, i)); /* it belongs to a skill */
		double seconds = eduai_projections_model_time(DatumGetTimestampTz(at.values[i]));
		EduaiModelEntities entities = {
			.tenant = &tenant,
			.learner = state_of(learner_states, user, false, NULL),
			.skill = state_of(skill_states, skill, false, NULL),
			.item = state_of(item_states, item, false, NULL),
			.pair = state_of(pairs, user, true, skill),
			.repeat = state_of(repeats, user, true, item),
		};
		EduaiModelPrediction p =
			predict_and_update(&entities, DatumGetBool(correct.values[i]), seconds);
		Datum values[] = {Float8GetDatum(p.bkt), Float8GetDatum(p.elo), Float8GetDatum(p.logistic),
						  Float8GetDatum(p.blend),
						  Float8GetDatum(eduai_projections_model_known(
							  entities.pair, entities.skill, NULL, seconds))};
		bool nulls[lengthof(values)] = {false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

static void
ignore(const EduaiReplayedAnswer *answer, void *arg)
{
}

/* test_replay_learner_model() returns double precision[] */
Datum
eduai_test_replay_learner_model(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	char *tenant = eduai_core_tenant();
	Datum fields[EDUAI_MODEL_FIELDS(EduaiModelTenant)];
	const EduaiModelTenant *state;
	EduaiPrivilege saved;

	eduai_core_require_test_mode();
	eduai_core_enter(&saved);
	SPI_connect();
	state = eduai_projections_replay(tenant, ignore, NULL);
	MemoryContextSwitchTo(caller);
	for (int i = 0; i < EDUAI_MODEL_FIELDS(EduaiModelTenant); i++)
		fields[i] = Float8GetDatum(((const double *) state)[i]);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_ARRAYTYPE_P(construct_array(fields, EDUAI_MODEL_FIELDS(EduaiModelTenant), FLOAT8OID,
										  sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* ---- fitting ---- */

static EduaiFitAnswer *
read_answers(FunctionCallInfo fcinfo, int *n)
{
	Elements first = elements_of(fcinfo, 0, BOOLOID, -1);
	Elements days = elements_of(fcinfo, 1, INT4OID, first.n);
	Elements correct = elements_of(fcinfo, 2, BOOLOID, first.n);
	EduaiFitAnswer *answers = palloc_array(EduaiFitAnswer, Max(first.n, 1));

	for (int i = 0; i < first.n; i++)
	{
		int32 d = DatumGetInt32(days.values[i]);

		if (d < 0 || d > EDUAI_MODEL_MOST_DAYS)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid days: %d", d)));
		answers[i] = (EduaiFitAnswer){(unsigned short) d, DatumGetBool(correct.values[i]),
									  DatumGetBool(first.values[i])};
	}
	*n = first.n;
	return answers;
}

/* test_fit_skill(first, days, correct, rounds) returns setof record */
Datum
eduai_test_fit_skill(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int n;
	EduaiFitAnswer *answers = read_answers(fcinfo, &n);
	EduaiFitScratch *scratch = palloc_array(EduaiFitScratch, Max(n, 1));
	EduaiModelBkt start = eduai_projections_fit_start(answers, n);
	EduaiModelBkt p = start;

	eduai_core_require_test_mode();
	InitMaterializedSRF(fcinfo, 0);
	for (int round = 0; round < PG_GETARG_INT32(3); round++)
	{
		double objective = eduai_projections_fit_round(answers, n, &start, &p, scratch);
		Datum values[] = {Float8GetDatum(objective), Float8GetDatum(p.init),
						  Float8GetDatum(p.learn),   Float8GetDatum(p.slip),
						  Float8GetDatum(p.guess),   Float8GetDatum(p.forget)};
		bool nulls[lengthof(values)] = {false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
