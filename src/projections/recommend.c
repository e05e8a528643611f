/*
 * recommend.c: recommend_exercises().
 *
 * What is due comes first, then exercises that the learner has not seen, best
 * where the learner is likely to succeed, but not sure to.
 *
 * The work is bounded, whatever the learner has done and the catalogue holds.
 * The due ones are read off an index in their order.  The unseen ones come
 * from at most MAX_SKILLS skills of the learner's level, those that are not
 * mastered first, and among them those in which the predicted success is
 * nearest to the middle of the target: of each at most PER_SKILL exercises, in
 * all at most MAX_CANDIDATES, each predicted.  Of a skill's exercises the
 * first unseen ones in the order of their names are taken, so ten skills or
 * more compete.  Each exercise of those skills that the learner has seen
 * already costs one look at an index.
 */
#include "postgres.h"

#include <math.h>

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
#include "projections/model_reader.h"
#include "projections/recommend.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#define MAX_COUNT      100
#define MAX_SKILLS     1000
#define PER_SKILL      100
#define MAX_CANDIDATES 1000

/* OFFSET 0 below: a look at the index for each row, never a join of all. */

PG_FUNCTION_INFO_V1(eduai_recommend_exercises);

static double success_min = 0.7;
static double success_max = 0.85;

/* What a call works on. */
typedef struct Request
{
	ReturnSetInfo *result;
	EduaiModelReader reader;
	Datum tenant;
	Datum user;
	const char *user_id;
	Datum level;
	int room; /* rows that the caller still takes */
} Request;

typedef struct Skill
{
	const char *name;
	bool mastered;
	double distance; /* of the predicted success from the middle of the target */
} Skill;

typedef struct Candidate
{
	const char *skill;
	const char *item;
	double p_success;
	double outside; /* how far outside of the target; 0 within */
	double off;     /* how far from its middle */
} Candidate;

static double
middle(void)
{
	return (success_min + success_max) / 2;
}

/* ---- giving rows ---- */

static const char *
reason_of(double p_success)
{
	if (p_success > success_max)
		return "new: easier than the target";
	return p_success < success_min ? "new: harder than the target" : "new";
}

/* item "" is the skill itself; due_at DT_NOBEGIN: never seen. */
static void
give(Request *request, const char *skill, const char *item, double p_success, TimestampTz due_at)
{
	bool due = due_at != DT_NOBEGIN;
	bool nulls[5] = {item[0] == '\0', false, false, false, !due};
	Datum values[5] = {CStringGetTextDatum(item), CStringGetTextDatum(skill),
					   CStringGetTextDatum(due ? "due" : reason_of(p_success)),
					   Float8GetDatum(p_success), TimestampTzGetDatum(due_at)};

	tuplestore_putvalues(request->result->setResult, request->result->setDesc, values, nulls);
	request->room--;
}

/* ---- what is due ---- */

static void
give_due(Request *request)
{
	static EduaiPlan read = {
		"SELECT r.skill, r.item, r.due_at FROM eduai.model_learner_item r"
		" WHERE r.tenant_id = $1 AND r.generation = $2 AND r.user_id = $3 AND r.due_at <= $4"
		" AND NOT EXISTS (SELECT FROM eduai.exercise e WHERE e.tenant_id = $1"
		"  AND e.skill = r.skill AND e.item = r.item AND NOT e.active OFFSET 0)"
		" ORDER BY r.due_at, r.skill, r.item LIMIT $5",
		5,
		{TEXTOID, INT4OID, TEXTOID, TIMESTAMPTZOID, INT4OID}};
	Datum args[5] = {request->tenant, Int32GetDatum(request->reader.generation), request->user,
					 TimestampTzGetDatum(eduai_core_now()), Int32GetDatum(request->room)};
	uint64 n = eduai_core_query(&read, args, NULL);

	for (uint64 row = 0; row < n; row++)
	{
		char *skill = eduai_core_text(row, 1);
		char *item = eduai_core_text(row, 2);
		bool isnull;
		TimestampTz due_at = DatumGetTimestampTz(eduai_core_value(row, 3, &isnull));
		double p = eduai_projections_reader_predict(&request->reader, request->user_id, skill,
													item[0] == '\0' ? NULL : item);

		give(request, skill, item, p, due_at);
	}
}

/* ---- what is new ---- */

static int
compare_skills(const void *a, const void *b)
{
	const Skill *x = a;
	const Skill *y = b;

	if (x->mastered != y->mastered)
		return x->mastered ? 1 : -1;
	if (x->distance != y->distance)
		return x->distance < y->distance ? -1 : 1;
	return strcmp(x->name, y->name);
}

/*
 * The skills with exercises for the level: from skill to skill, not through all
 * exercises.  Ordered by the level, too, for the index to be used where that
 * is null: the planner does not see that it is one value.
 */
#define NEXT_SKILL(level, after)                                                      \
	"(SELECT e.skill FROM eduai.exercise e WHERE e.tenant_id = $1 AND e.level " level \
	" AND e.active" after " ORDER BY e.level, e.skill LIMIT 1)"
#define SKILLS_OF(name, level)                                                         \
	name " (skill) AS (SELECT " NEXT_SKILL(level, "") " UNION ALL SELECT " NEXT_SKILL( \
		level, " AND e.skill > s.skill") " FROM " name " s WHERE s.skill IS NOT NULL)"

/* Sorted by how much the learner should practise them; the mastered last. */
static Skill *
read_skills(Request *request, Datum mastered, int *n)
{
	static EduaiPlan read = {
		"WITH RECURSIVE " SKILLS_OF("of_level", "= $2") ", " SKILLS_OF(
			"of_all",
			"IS NULL") " SELECT s.skill, $3 ? s.skill FROM ("
					   " (SELECT skill FROM of_level WHERE skill IS NOT NULL LIMIT $4) UNION"
					   " (SELECT skill FROM of_all WHERE skill IS NOT NULL LIMIT $4)) s"
					   " ORDER BY s.skill LIMIT $4",
		4,
		{TEXTOID, TEXTOID, JSONBOID, INT4OID}};
	Datum args[4] = {request->tenant, request->level, mastered, Int32GetDatum(MAX_SKILLS)};
	Skill *skills;

	*n = (int) eduai_core_query(&read, args, NULL);
	skills = palloc(sizeof(Skill) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		bool isnull;

		skills[i].name = eduai_core_text(i, 1);
		skills[i].mastered = DatumGetBool(eduai_core_value(i, 2, &isnull));
		skills[i].distance = fabs(eduai_projections_reader_predict(
									  &request->reader, request->user_id, skills[i].name, NULL) -
								  middle());
	}
	qsort(skills, *n, sizeof(Skill), compare_skills);
	return skills;
}

/* Adds a skill's unseen exercises; returns how many. */
static int
read_unseen(Request *request, const char *skill, Candidate *candidates, int room)
{
#define UNSEEN(level)                                                                       \
	"(SELECT e.item FROM eduai.exercise e WHERE e.tenant_id = $1 AND e.level " level        \
	" AND e.skill = $3 AND e.active AND NOT EXISTS (SELECT FROM eduai.model_learner_item r" \
	"  WHERE r.tenant_id = $1 AND r.generation = $4 AND r.user_id = $5 AND r.skill = $3"    \
	"  AND r.item = e.item OFFSET 0) ORDER BY e.level, e.skill, e.item LIMIT $6)"
	static EduaiPlan read = {
		UNSEEN("= $2") " UNION ALL " UNSEEN("IS NULL") " ORDER BY item LIMIT $6",
		6,
		{TEXTOID, TEXTOID, TEXTOID, INT4OID, TEXTOID, INT4OID}};
	Datum args[6] = {request->tenant,
					 request->level,
					 CStringGetTextDatum(skill),
					 Int32GetDatum(request->reader.generation),
					 request->user,
					 Int32GetDatum(room)};
	int n = (int) eduai_core_query(&read, args, NULL);

	for (int i = 0; i < n; i++)
	{
		char *item = eduai_core_text(i, 1);
		double p =
			eduai_projections_reader_predict(&request->reader, request->user_id, skill, item);

		candidates[i] = (Candidate){.skill = skill,
									.item = item,
									.p_success = p,
									.outside = Max(Max(success_min - p, p - success_max), 0),
									.off = fabs(p - middle())};
	}
	return n;
}

/* Within the target, those nearest to its middle; then by the distance from the target. */
static int
compare_candidates(const void *a, const void *b)
{
	const Candidate *x = a;
	const Candidate *y = b;
	int order;

	if (x->outside != y->outside)
		return x->outside < y->outside ? -1 : 1;
	if (x->outside == 0 && x->off != y->off)
		return x->off < y->off ? -1 : 1;
	order = strcmp(x->skill, y->skill);
	return order != 0 ? order : strcmp(x->item, y->item);
}

/* The learner's level, and the mastered skills as a JSON array. */
static Datum
read_standing(Request *request)
{
	static EduaiPlan read = {
		"SELECT coalesce(p.state ->> 'current_level', '1'), coalesce(p.state -> 'skills_mastered', '[]')"
		" FROM (SELECT) AS one LEFT JOIN eduai.projection_state p ON p.tenant_id = $1"
		" AND p.projection = 1 AND p.key = $2 AND p.generation = (SELECT coalesce("
		"  (SELECT live FROM eduai.projection_generation WHERE projection = 1), 1))",
		2,
		{TEXTOID, TEXTOID}};
	Datum args[2] = {request->tenant, request->user};
	bool isnull;

	if (eduai_core_query(&read, args, NULL) != 1)
		elog(ERROR, "a learner has several states");
	request->level = eduai_core_value(0, 1, &isnull);
	return eduai_core_value(0, 2, &isnull);
}

static void
give_new(Request *request)
{
	Candidate *candidates = palloc(sizeof(Candidate) * MAX_CANDIDATES);
	int ncandidates = 0;
	Datum mastered = read_standing(request);
	int nskills;
	Skill *skills = read_skills(request, mastered, &nskills);

	for (int i = 0; i < nskills && ncandidates < MAX_CANDIDATES; i++)
		ncandidates += read_unseen(request, skills[i].name, &candidates[ncandidates],
								   Min(PER_SKILL, MAX_CANDIDATES - ncandidates));
	qsort(candidates, ncandidates, sizeof(Candidate), compare_candidates);
	for (int i = 0; i < ncandidates && request->room > 0; i++)
		give(request, candidates[i].skill, candidates[i].item, candidates[i].p_success, DT_NOBEGIN);
}

/* ---- the function ---- */

static void
check_count(bool isnull, int max_count)
{
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("max_count must not be null")));
	if (max_count < 1 || max_count > MAX_COUNT)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid max_count %d", max_count),
						errhint("Ask for 1 to %d exercises.", MAX_COUNT)));
}

static void
check_target(void)
{
	if (success_min > success_max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the target success from %g to %g is empty", success_min, success_max),
				 errhint("Set eduai.recommend_success_min to at most "
						 "eduai.recommend_success_max.")));
}

/* recommend_exercises(user_id, max_count) returns setof recommendation */
Datum
eduai_recommend_exercises(PG_FUNCTION_ARGS)
{
	Request request = {.result = (ReturnSetInfo *) fcinfo->resultinfo};
	EduaiPrivilege saved;
	char *tenant;

	request.user_id = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	eduai_events_check_name("user id", request.user_id, true);
	check_count(PG_ARGISNULL(1), PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1));
	check_target();
	request.room = PG_GETARG_INT32(1);
	InitMaterializedSRF(fcinfo, 0);
	tenant = eduai_core_tenant();
	request.tenant = CStringGetTextDatum(tenant);
	request.user = PG_GETARG_DATUM(0);
	eduai_core_enter(&saved);
	SPI_connect();
	eduai_projections_reader_open(&request.reader, tenant);
	give_due(&request);
	if (request.room > 0)
		give_new(&request);
	eduai_projections_reader_close(&request.reader);
	SPI_finish();
	eduai_core_leave(&saved);
	eduai_core_personal_note(tenant, request.user_id, "model",
							 tuplestore_tuple_count(request.result->setResult), GetUserId());
	return (Datum) 0;
}

void
eduai_projections_recommend_init(void)
{
	DefineCustomRealVariable(
		"eduai.recommend_success_min",
		"The least success at which a new exercise is recommended first.",
		"A predicted probability. Easier and harder exercises follow, by their distance.",
		&success_min, 0.7, 0, 1, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomRealVariable(
		"eduai.recommend_success_max",
		"The most success at which a new exercise is recommended first.",
		"A predicted probability. Easier and harder exercises follow, by their distance.",
		&success_max, 0.85, 0, 1, PGC_USERSET, 0, NULL, NULL, NULL);
}
