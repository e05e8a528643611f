/*
 * fit.c: fit_learner_model().
 *
 * The answers of the log are taken apart into sequences, one of each learner
 * in each skill, and each skill with enough of them is fitted (model_fit.h).
 * That takes no lock.  The parameters are written with the followers of the
 * learner model standing still, to hold from the first position that none of
 * them has passed, in whatever generation: so whoever replays the log applies
 * them at the same event as the live model.  Nor do they hold for any answer
 * that they were fitted to: an evaluation stays one of predictions.
 *
 * At most MOST_ANSWERS answers are held in memory.  When there are more, half
 * of the learners are left out, again and again, by a hash of their ids: the
 * sequences that are left are whole.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "core/clock.h"
#include "core/pause.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "projections/catalog.h"
#include "projections/follow.h"
#include "projections/intern.h"
#include "projections/model_fit.h"
#include "projections/model_kind.h"
#include "projections/replay.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MOST_ANSWERS  2000000
#define MOST_ROUNDS   100
#define LEAST_ANSWERS 100
#define LEAST_USERS   20

/* A round that gains less per answer is the last. */
#define LEAST_GAIN 1e-6

PG_FUNCTION_INFO_V1(eduai_fit_learner_model);

typedef struct FitRow
{
	uint32 skill;
	uint32 user;
	int64 number; /* in the order of the feed */
	bool correct;
	double at;
} FitRow;

typedef struct Fit
{
	MemoryContext context;
	EduaiIntern *users;
	EduaiIntern *skills;
	FitRow *rows;
	int n;
	int size;
	int64 read;      /* answers */
	int64 through;   /* the last one's position */
	uint32 left_out; /* learners with one of these bits in their hash are */
} Fit;

typedef struct Fitted
{
	uint32 skill;
	int64 answers;
	int64 learners;
	int rounds;
	EduaiModelBkt parameters;
} Fitted;

/* ---- collecting ---- */

static bool
is_left_out(const Fit *fit, const char *user_id)
{
	return (hash_bytes((const unsigned char *) user_id, (int) strlen(user_id)) & fit->left_out) !=
		   0;
}

static void
leave_out_half(Fit *fit)
{
	int kept = 0;

	fit->left_out = fit->left_out << 1 | 1;
	for (int i = 0; i < fit->n; i++)
		if (!is_left_out(fit, eduai_projections_interned(fit->users, fit->rows[i].user)))
			fit->rows[kept++] = fit->rows[i];
	fit->n = kept;
}

static void
make_room(Fit *fit)
{
	while (fit->n >= MOST_ANSWERS)
		leave_out_half(fit);
	if (fit->n < fit->size)
		return;
	fit->size = Max(1024, fit->size * 2);
	fit->rows = fit->rows == NULL ? MemoryContextAlloc(fit->context, sizeof(FitRow) * fit->size)
								  : repalloc_huge(fit->rows, sizeof(FitRow) * fit->size);
}

static void
collect(const EduaiLoggedAnswer *logged, void *arg)
{
	Fit *fit = arg;

	fit->through = logged->position;
	make_room(fit);
	if (is_left_out(fit, logged->user_id))
		return;
	fit->rows[fit->n] = (FitRow){
		.skill = eduai_projections_intern(fit->skills, logged->answer.skill),
		.user = eduai_projections_intern(fit->users, logged->user_id),
		.number = fit->read++,
		.correct = logged->answer.correct,
		.at = eduai_projections_model_time(logged->at),
	};
	fit->n++;
}

static int
compare_rows(const void *a, const void *b)
{
	const FitRow *x = a;
	const FitRow *y = b;

	if (x->skill != y->skill)
		return x->skill < y->skill ? -1 : 1;
	if (x->user != y->user)
		return x->user < y->user ? -1 : 1;
	return (x->number > y->number) - (x->number < y->number);
}

/* ---- fitting a skill ---- */

/* The rows as sequences; returns how many. */
static int
write_answers(const FitRow *rows, int n, EduaiFitAnswer *answers)
{
	int learners = 0;
	double last_at = 0;

	for (int i = 0; i < n; i++)
	{
		bool first = i == 0 || rows[i].user != rows[i - 1].user;
		double days = first ? 0 : eduai_projections_model_days(last_at, rows[i].at);

		answers[i] = (EduaiFitAnswer){(unsigned short) days, rows[i].correct, first};
		last_at = first ? rows[i].at : Max(last_at, rows[i].at);
		learners += first;
	}
	return learners;
}

static void
improve(const EduaiFitAnswer *answers, Fitted *fitted)
{
	int n = (int) fitted->answers;
	EduaiFitScratch *scratch =
		MemoryContextAllocHuge(CurrentMemoryContext, sizeof(EduaiFitScratch) * n);
	EduaiModelBkt start = eduai_projections_fit_start(answers, n);
	double last = 0;

	fitted->parameters = start;
	for (fitted->rounds = 1; fitted->rounds <= MOST_ROUNDS; fitted->rounds++)
	{
		double objective;

		CHECK_FOR_INTERRUPTS();
		objective = eduai_projections_fit_round(answers, n, &start, &fitted->parameters, scratch);
		if (fitted->rounds > 1 && objective - last < n * LEAST_GAIN)
			break;
		last = objective;
	}
	pfree(scratch);
}

/* False when the skill has too few answers. */
static bool
fit_skill(const FitRow *rows, int n, Fitted *fitted)
{
	EduaiFitAnswer *answers;

	if (n < LEAST_ANSWERS)
		return false;
	answers = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(EduaiFitAnswer) * n);
	*fitted = (Fitted){.skill = rows[0].skill, .answers = n};
	fitted->learners = write_answers(rows, n, answers);
	if (fitted->learners >= LEAST_USERS)
		improve(answers, fitted);
	pfree(answers);
	return fitted->learners >= LEAST_USERS;
}

/* All skills that have enough answers; returns how many. */
static int
fit_all(const Fit *fit, Fitted *fitted)
{
	int count = 0;

	qsort(fit->rows, fit->n, sizeof(FitRow), compare_rows);
	for (int start = 0; start < fit->n;)
	{
		int end = start + 1;

		while (end < fit->n && fit->rows[end].skill == fit->rows[start].skill)
			end++;
		if (fit_skill(fit->rows + start, end - start, &fitted[count]))
			count++;
		start = end;
	}
	return count;
}

/* ---- writing ---- */

/* The last position that a follower has passed.  The followers stand still. */
static int64
passed_position(const char *tenant)
{
	static EduaiPlan read = {
		"SELECT pg_catalog.max(position) FROM eduai.projection_position"
		" WHERE tenant_id = $1 AND projection = " CppAsString2(EDUAI_PROJECTION_MODEL),
		1,
		{TEXTOID}};
	Datum args[1] = {CStringGetTextDatum(tenant)};

	eduai_core_run_latest(&read, args, NULL);
	return eduai_core_int64(0, 1, 0);
}

static void
write_row(const char *tenant, int64 from, const Fit *fit, const Fitted *fitted)
{
	static EduaiPlan write = {
		"INSERT INTO eduai.model_parameters AS p (from_position, p_init, p_learn, p_slip, p_guess,"
		" p_forget, answers, learners, fitted_at, rounds, tenant_id, skill)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
		" ON CONFLICT (tenant_id, skill, from_position) DO UPDATE SET"
		" p_init = $2, p_learn = $3, p_slip = $4, p_guess = $5, p_forget = $6, answers = $7,"
		" learners = $8, fitted_at = $9, rounds = $10",
		12,
		{INT8OID, FLOAT8OID, FLOAT8OID, FLOAT8OID, FLOAT8OID, FLOAT8OID, INT8OID, INT8OID,
		 TIMESTAMPTZOID, INT4OID, TEXTOID, TEXTOID}};
	const EduaiModelBkt *p = &fitted->parameters;
	Datum args[12] = {
		Int64GetDatum(from),
		Float8GetDatum(p->init),
		Float8GetDatum(p->learn),
		Float8GetDatum(p->slip),
		Float8GetDatum(p->guess),
		Float8GetDatum(p->forget),
		Int64GetDatum(fitted->answers),
		Int64GetDatum(fitted->learners),
		TimestampTzGetDatum(eduai_core_now()),
		Int32GetDatum(fitted->rounds),
		CStringGetTextDatum(tenant),
		CStringGetTextDatum(eduai_projections_interned(fit->skills, fitted->skill)),
	};

	(void) eduai_core_run_latest(&write, args, NULL);
}

static void
write_all(const char *tenant, const Fit *fit, const Fitted *fitted, int n)
{
	int64 from;

	if (n == 0)
		return;
	EDUAI_PAUSE("projections-fitted");
	(void) eduai_projections_hold_followers(EDUAI_PROJECTION_MODEL, false);
	from = Max(passed_position(tenant), fit->through) + 1;
	for (int i = 0; i < n; i++)
		write_row(tenant, from, fit, &fitted[i]);
}

/* fit_learner_model() returns bigint */
Datum
eduai_fit_learner_model(PG_FUNCTION_ARGS)
{
	char *tenant = eduai_core_tenant();
	Fit fit = {0};
	Fitted *fitted;
	EduaiPrivilege saved;
	int n;

	PreventCommandIfReadOnly("fit_learner_model()");
	eduai_core_enter(&saved);
	SPI_connect();
	fit.context = CurrentMemoryContext;
	fit.users = eduai_projections_intern_create();
	fit.skills = eduai_projections_intern_create();
	eduai_projections_answers_read(tenant, collect, &fit);
	fitted = palloc_array(Fitted, Max(eduai_projections_interned_count(fit.skills), 1));
	n = fit_all(&fit, fitted);
	write_all(tenant, &fit, fitted, n);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_INT64(n);
}
