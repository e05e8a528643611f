/*
 * model_eval.c: learner_model_eval().
 *
 * The predictions of a window are kept in memory, some 60 bytes for each
 * answer; the model learns from the answers outside it, too.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "projections/replay.h"
#include "projections/score.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(eduai_learner_model_eval);

typedef enum Predictor
{
	BLEND,
	LAST_OUTCOME,
	SKILL_MEAN,
	BKT,
	ELO,
	LOGISTIC,
	PREDICTORS,
} Predictor;

typedef struct Window
{
	TimestampTz since;
	TimestampTz until;
	MemoryContext context;
	double *predicted[PREDICTORS];
	bool *correct;
	Size n;
	Size size;
} Window;

static void
grow(Window *w)
{
	Size size = Max(1024, w->size * 2);
	MemoryContext old = MemoryContextSwitchTo(w->context);

	for (int i = 0; i < PREDICTORS; i++)
		w->predicted[i] = w->size == 0 ? palloc_array(double, size)
									   : repalloc_huge(w->predicted[i], sizeof(double) * size);
	w->correct =
		w->size == 0 ? palloc_array(bool, size) : repalloc_huge(w->correct, sizeof(bool) * size);
	w->size = size;
	MemoryContextSwitchTo(old);
}

static void
keep(const EduaiReplayedAnswer *answer, void *arg)
{
	Window *w = arg;

	if (answer->at < w->since || answer->at >= w->until)
		return;
	if (w->n == w->size)
		grow(w);
	w->predicted[BLEND][w->n] = answer->model.blend;
	w->predicted[LAST_OUTCOME][w->n] = answer->last_outcome;
	w->predicted[SKILL_MEAN][w->n] = answer->skill_mean;
	w->predicted[BKT][w->n] = answer->model.bkt;
	w->predicted[ELO][w->n] = answer->model.elo;
	w->predicted[LOGISTIC][w->n] = answer->model.logistic;
	w->correct[w->n] = answer->correct;
	w->n++;
}

/* The columns of eduai.model_eval. */
enum
{
	EVAL_ANSWERS,
	EVAL_AUC,
	EVAL_RMSE,
	EVAL_LOG_LOSS,
	EVAL_CALIBRATION_ERROR,
	EVAL_LAST_OUTCOME_AUC,
	EVAL_SKILL_MEAN_AUC,
	EVAL_BKT_AUC,
	EVAL_ELO_AUC,
	EVAL_LOGISTIC_AUC,
	EVAL_SKILL_MEAN_LOG_LOSS,
	EVAL_BKT_LOG_LOSS,
	EVAL_ELO_LOG_LOSS,
	EVAL_LOGISTIC_LOG_LOSS,
	EVAL_COLUMNS,
};

static HeapTuple
evaluate(const Window *w, TupleDesc desc)
{
	EduaiScore score[PREDICTORS];
	EduaiScoreEntry *scratch =
		MemoryContextAllocHuge(w->context, sizeof(EduaiScoreEntry) * Max(w->n, 1));
	Datum values[EVAL_COLUMNS] = {Int64GetDatum((int64) w->n)};
	bool nulls[EVAL_COLUMNS] = {false};

	for (int i = 0; i < PREDICTORS && w->n > 0; i++)
	{
		CHECK_FOR_INTERRUPTS();
		score[i] = eduai_projections_score(w->predicted[i], w->correct, w->n, scratch);
	}
	if (w->n > 0)
	{
		const double columns[EVAL_COLUMNS] = {
			[EVAL_AUC] = score[BLEND].auc,
			[EVAL_RMSE] = score[BLEND].rmse,
			[EVAL_LOG_LOSS] = score[BLEND].log_loss,
			[EVAL_CALIBRATION_ERROR] = score[BLEND].calibration_error,
			[EVAL_LAST_OUTCOME_AUC] = score[LAST_OUTCOME].auc,
			[EVAL_SKILL_MEAN_AUC] = score[SKILL_MEAN].auc,
			[EVAL_BKT_AUC] = score[BKT].auc,
			[EVAL_ELO_AUC] = score[ELO].auc,
			[EVAL_LOGISTIC_AUC] = score[LOGISTIC].auc,
			[EVAL_SKILL_MEAN_LOG_LOSS] = score[SKILL_MEAN].log_loss,
			[EVAL_BKT_LOG_LOSS] = score[BKT].log_loss,
			[EVAL_ELO_LOG_LOSS] = score[ELO].log_loss,
			[EVAL_LOGISTIC_LOG_LOSS] = score[LOGISTIC].log_loss,
		};

		for (int i = EVAL_AUC; i < EVAL_COLUMNS; i++)
		{
			values[i] = Float8GetDatum(columns[i]);
			nulls[i] = isnan(columns[i]);
		}
	}
	else
		memset(nulls + EVAL_AUC, true, sizeof(bool) * (EVAL_COLUMNS - EVAL_AUC));
	return heap_form_tuple(desc, values, nulls);
}

/* learner_model_eval(since, until) returns model_eval */
Datum
eduai_learner_model_eval(PG_FUNCTION_ARGS)
{
	Window window = {.since = PG_ARGISNULL(0) ? PG_INT64_MIN : PG_GETARG_TIMESTAMPTZ(0),
					 .until = PG_ARGISNULL(1) ? PG_INT64_MAX : PG_GETARG_TIMESTAMPTZ(1)};
	MemoryContext caller = CurrentMemoryContext;
	char *tenant = eduai_core_tenant();
	EduaiPrivilege saved;
	TupleDesc desc;
	HeapTuple tuple;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type is not a row type");
	eduai_core_enter(&saved);
	SPI_connect();
	window.context =
		AllocSetContextCreate(CurrentMemoryContext, "eduai evaluation", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(window.context);
	(void) eduai_projections_replay(tenant, keep, &window);
	MemoryContextSwitchTo(caller);
	tuple = evaluate(&window, BlessTupleDesc(desc));
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_DATUM(HeapTupleGetDatum(tuple));
}
