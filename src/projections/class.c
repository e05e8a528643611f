/*
 * class.c: class_overview(), at_risk_learners() and cohort_overview().
 *
 * Learners are read a page at a time, all pages in the snapshot of the
 * statement that called, and what one was read for is freed before the next:
 * a tenant may have a million of them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "events/validate.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "projections/class.h"
#include "projections/cohort.h"
#include "projections/progress_rows.h"
#include "projections/standing.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(eduai_class_overview);
PG_FUNCTION_INFO_V1(eduai_at_risk_learners);
PG_FUNCTION_INFO_V1(eduai_cohort_overview);

/* seconds without an event after which a learner counts as inactive; 0 for never */
static int at_risk_after = 14 * SECS_PER_DAY;

void
eduai_projections_class_init(void)
{
	DefineCustomIntVariable("eduai.at_risk_after",
							"How long a learner may be without an event before he is at risk.",
							"0 takes nobody for inactive.", &at_risk_after, 14 * SECS_PER_DAY, 0,
							PG_INT32_MAX, PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
}

/* ---- going through learners ---- */

#define PAGE "1000"

/* $1 tenant, $2 cohort, $3 and $4 the cohort and the learner of the page before */
#define LEARNERS_IN(page)                                                 \
	"SELECT m.cohort, m.user_id, p.state, p.last_at FROM (" page ") AS m" \
	" LEFT JOIN LATERAL " EDUAI_PROGRESS_ROW("m.user_id") " AS p ON true" \
														  " ORDER BY m.cohort, m.user_id"
#define LEARNER_ARGS                       \
	4,                                     \
	{                                      \
		TEXTOID, TEXTOID, TEXTOID, TEXTOID \
	}

static EduaiPlan of_cohort = {
	LEARNERS_IN(
		"SELECT cohort, user_id FROM eduai.cohort_member"
		" WHERE tenant_id = $1 AND cohort = $2 AND user_id > $4 ORDER BY user_id LIMIT " PAGE),
	LEARNER_ARGS};

static EduaiPlan of_cohorts = {LEARNERS_IN("SELECT cohort, user_id FROM eduai.cohort_member"
										   " WHERE tenant_id = $1 AND (cohort, user_id) > ($3, $4)"
										   " ORDER BY cohort, user_id LIMIT " PAGE),
							   LEARNER_ARGS};

/* Whoever has events or is in a cohort. */
static EduaiPlan of_tenant = {
	LEARNERS_IN("SELECT NULL AS cohort, user_id FROM ("
				"(SELECT key AS user_id FROM eduai.projection_state WHERE tenant_id = $1"
				" AND projection = 1 AND generation = " EDUAI_PROGRESS_LIVE
				" AND key > $4 ORDER BY key LIMIT " PAGE ")"
				" UNION (SELECT DISTINCT user_id FROM eduai.cohort_member WHERE tenant_id = $1"
				" AND user_id > $4 ORDER BY user_id LIMIT " PAGE "))"
				" AS everybody ORDER BY user_id LIMIT " PAGE),
	LEARNER_ARGS};

typedef struct Learner
{
	const char *cohort; /* NULL when it was not asked for */
	const char *user_id;
	EduaiStanding standing;
} Learner;

/* Is called in a memory context that is reset after it. */
typedef void (*LearnerSink)(Learner *learner, void *arg);

static void
feed_row(uint64 row, TimestampTz active_since, LearnerSink sink, void *arg)
{
	Learner learner = {eduai_core_text(row, 1), eduai_core_text(row, 2)};
	bool isnull;
	Datum state = eduai_core_value(row, 3, &isnull);
	Datum last_at;

	if (isnull)
		eduai_projections_standing(&learner.standing, NULL, DT_NOBEGIN, active_since);
	else
	{
		last_at = eduai_core_value(row, 4, &isnull);
		eduai_projections_standing(&learner.standing, DatumGetJsonbP(state),
								   DatumGetTimestampTz(last_at), active_since);
	}
	sink(&learner, arg);
}

static TimestampTz
active_since(void)
{
	if (at_risk_after == 0)
		return DT_NOBEGIN;
	return eduai_core_now() - at_risk_after * USECS_PER_SEC;
}

/* The page after the learner in args; leaves its last in "into". */
static uint64
read_page(EduaiPlan *plan, Datum *args, const char *nulls, MemoryContext into)
{
	uint64 n = eduai_core_query(plan, args, nulls);
	MemoryContext old = MemoryContextSwitchTo(into);

	if (n > 0)
	{
		const char *cohort = eduai_core_text(n - 1, 1);

		args[2] = CStringGetTextDatum(cohort ? cohort : "");
		args[3] = CStringGetTextDatum(eduai_core_text(n - 1, 2));
	}
	MemoryContextSwitchTo(old);
	return n;
}

/* Feeds the learners of a plan to the sink; cohort may be NULL where it does not ask for one. */
static void
each_learner(EduaiPlan *plan, const char *tenant, const char *cohort, LearnerSink sink, void *arg)
{
	Datum args[4] = {CStringGetTextDatum(tenant), CStringGetTextDatum(cohort ? cohort : ""),
					 CStringGetTextDatum(""), CStringGetTextDatum("")};
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext one = AllocSetContextCreate(caller, "eduai learner", ALLOCSET_DEFAULT_SIZES);
	TimestampTz since = active_since();
	EduaiPrivilege saved;
	uint64 n;

	eduai_core_enter(&saved);
	SPI_connect();
	while ((n = read_page(plan, args, NULL, caller)) > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(one);

		for (uint64 row = 0; row < n; row++)
		{
			feed_row(row, since, sink, arg);
			MemoryContextReset(one);
		}
		MemoryContextSwitchTo(old);
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_finish();
	eduai_core_leave(&saved);
	MemoryContextDelete(one);
}

/* ---- what they show ---- */

static bool
is_at_risk(const EduaiStanding *standing)
{
	return standing->inactive || standing->failing;
}

static Datum
share(int64 correct, int64 attempts, bool *isnull)
{
	*isnull = attempts == 0;
	return *isnull ? (Datum) 0 : Float8GetDatum((double) correct / attempts);
}

static Datum
time_or_null(TimestampTz time, bool *isnull)
{
	*isnull = time == DT_NOBEGIN;
	return TimestampTzGetDatum(time);
}

static Datum
weakest_skills(EduaiStanding *standing)
{
	JsonbValue names[EDUAI_PROJECTIONS_WEAKEST];
	int n = eduai_projections_standing_weakest(standing, names);
	Datum texts[EDUAI_PROJECTIONS_WEAKEST];

	for (int i = 0; i < n; i++)
		texts[i] = PointerGetDatum(
			cstring_to_text_with_len(names[i].val.string.val, names[i].val.string.len));
	return eduai_core_datum_array(texts, NULL, n, TEXTOID);
}

static void
put_class_row(Learner *learner, void *arg)
{
	ReturnSetInfo *result = arg;
	EduaiStanding *standing = &learner->standing;
	bool nulls[8] = {false};
	Datum values[8];

	values[0] = CStringGetTextDatum(learner->user_id);
	values[1] = CStringGetTextDatum(eduai_projections_standing_level(standing));
	values[2] = Int32GetDatum(standing->mastered);
	values[3] = Int64GetDatum(standing->attempts);
	values[4] = share(standing->correct, standing->attempts, &nulls[4]);
	values[5] = time_or_null(standing->last_activity, &nulls[5]);
	values[6] = BoolGetDatum(is_at_risk(standing));
	values[7] = weakest_skills(standing);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* for the access log: a class is several learners */
static void
note_class(const char *tenant, FunctionCallInfo fcinfo)
{
	const ReturnSetInfo *result = (const ReturnSetInfo *) fcinfo->resultinfo;

	eduai_core_personal_note(tenant, NULL, "class", tuplestore_tuple_count(result->setResult),
							 GetUserId());
}

/* class_overview(cohort) returns setof class_row */
Datum
eduai_class_overview(PG_FUNCTION_ARGS)
{
	char *tenant = eduai_core_tenant();
	char *cohort = eduai_projections_cohort_arg(fcinfo);

	InitMaterializedSRF(fcinfo, 0);
	each_learner(&of_cohort, tenant, cohort, put_class_row, fcinfo->resultinfo);
	note_class(tenant, fcinfo);
	return (Datum) 0;
}

static void
put_at_risk(Learner *learner, void *arg)
{
	ReturnSetInfo *result = arg;
	const EduaiStanding *standing = &learner->standing;
	char *reasons[2];
	int n = 0;
	bool nulls[4] = {false};
	Datum values[4];

	if (!is_at_risk(standing))
		return;
	if (standing->inactive)
		reasons[n++] = "inactive";
	if (standing->failing)
		reasons[n++] = "low_success";
	values[0] = CStringGetTextDatum(learner->user_id);
	values[1] = eduai_core_text_array(reasons, n);
	values[2] = time_or_null(standing->last_activity, &nulls[2]);
	values[3] = share(standing->correct, standing->attempts, &nulls[3]);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* at_risk_learners(cohort) returns setof at_risk_learner */
Datum
eduai_at_risk_learners(PG_FUNCTION_ARGS)
{
	char *tenant = eduai_core_tenant();
	char *cohort = PG_ARGISNULL(0) ? NULL : eduai_projections_cohort_arg(fcinfo);

	InitMaterializedSRF(fcinfo, 0);
	each_learner(cohort ? &of_cohort : &of_tenant, tenant, cohort, put_at_risk, fcinfo->resultinfo);
	note_class(tenant, fcinfo);
	return (Datum) 0;
}

typedef struct CohortTotals
{
	ReturnSetInfo *result;
	char cohort[EDUAI_EVENTS_NAME_BYTES + 1];
	int64 learners;
	int64 active;
	int64 at_risk;
	int64 mastered;
	int64 attempts;
	int64 correct;
	int64 exercises;
	double seconds;
	TimestampTz last_activity;
} CohortTotals;

/* The row of the cohort that was added up, if there is one; then none is. */
static void
put_cohort(CohortTotals *totals)
{
	bool nulls[9] = {false};
	Datum values[9];

	if (totals->learners > 0)
	{
		values[0] = CStringGetTextDatum(totals->cohort);
		values[1] = Int64GetDatum(totals->learners);
		values[2] = Int64GetDatum(totals->active);
		values[3] = Float8GetDatum((double) totals->mastered / totals->learners);
		values[4] = share(totals->correct, totals->attempts, &nulls[4]);
		values[5] = Int64GetDatum(totals->at_risk);
		values[6] = Float8GetDatum(totals->seconds);
		values[7] = Int64GetDatum(totals->exercises);
		values[8] = time_or_null(totals->last_activity, &nulls[8]);
		tuplestore_putvalues(totals->result->setResult, totals->result->setDesc, values, nulls);
	}
	*totals = (CohortTotals){.result = totals->result, .last_activity = DT_NOBEGIN};
}

static void
add_learner(Learner *learner, void *arg)
{
	CohortTotals *totals = arg;
	const EduaiStanding *standing = &learner->standing;

	if (strcmp(totals->cohort, learner->cohort) != 0)
	{
		put_cohort(totals);
		strlcpy(totals->cohort, learner->cohort, sizeof(totals->cohort));
	}
	totals->learners++;
	totals->active += standing->inactive ? 0 : 1;
	totals->at_risk += is_at_risk(standing) ? 1 : 0;
	totals->mastered += standing->mastered;
	totals->attempts += standing->attempts;
	totals->correct += standing->correct;
	totals->exercises += standing->exercises;
	totals->seconds += standing->seconds;
	totals->last_activity = Max(totals->last_activity, standing->last_activity);
}

/* cohort_overview() returns setof cohort_row */
Datum
eduai_cohort_overview(PG_FUNCTION_ARGS)
{
	CohortTotals totals = {.result = (ReturnSetInfo *) fcinfo->resultinfo,
						   .last_activity = DT_NOBEGIN};
	char *tenant = eduai_core_tenant();

	InitMaterializedSRF(fcinfo, 0);
	each_learner(&of_cohorts, tenant, NULL, add_learner, &totals);
	put_cohort(&totals);
	return (Datum) 0;
}
