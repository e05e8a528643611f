/*
 * personal.c: what the projections keep of a learner.  See personal.h.
 *
 * States whose key is the learner, one of the learner's sessions or a stream
 * that was the learner's own (eduai.erasure_name) go, in every generation.  A
 * state under a key that others' events share keeps what those of the learner
 * did to it: eduai.rebuild_projection() makes it anew from what is left.  What
 * failed there may be told in words of the learner's: the words go; a retry
 * passes over events that are gone.  The
 * model's numbers of skills and items are sums over many learners and stay.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/personal.h"
#include "core/plan.h"
#include "projections/personal.h"
#include "utils/builtins.h"

/* $1 the tenant, $2 the learner, $3 the erasure: the keys that are the learner's, by kind of key. */
#define KEYS                                                                                   \
	" (SELECT 'user_id' AS kind, $2 AS name UNION ALL SELECT 'stream', 'learner-' || $2"       \
	" UNION ALL SELECT CASE n.kind WHEN 'session' THEN 'session_id' ELSE 'stream' END, n.name" \
	" FROM eduai.erasure_name n WHERE n.tenant_id = $1 AND n.user_ref = $3"                    \
	" AND n.kind <> 'mixed') k"

/* Each projection with its generations. */
#define GENERATIONS                                                                             \
	" (SELECT p.projection, p.key, x.generation FROM (SELECT 1 AS projection, 'user_id' AS key" \
	" UNION ALL SELECT projection, key FROM eduai.projection) p"                                \
	" LEFT JOIN eduai.projection_generation r ON r.projection = p.projection"                   \
	" CROSS JOIN LATERAL (SELECT DISTINCT unnest(ARRAY[1, r.live, r.next] || r.retired)"        \
	" AS generation) x WHERE x.generation IS NOT NULL) g"

#define MODEL_GENERATIONS                                                              \
	" generation IN (SELECT 1 UNION SELECT unnest(ARRAY[r.live, r.next] || r.retired)" \
	" FROM eduai.projection_generation r WHERE r.projection = 2)"

typedef struct Removal
{
	EduaiPlan plan;
	bool by_name; /* $3 is the erasure */
} Removal;

static Removal removals[] = {
	{{"DELETE FROM eduai.cohort_member WHERE tenant_id = $1 AND user_id = $2",
	  2,
	  {TEXTOID, TEXTOID}},
	 false},
	{{"DELETE FROM eduai.model_learner WHERE tenant_id = $1 AND user_id = $2 AND" MODEL_GENERATIONS,
	  2,
	  {TEXTOID, TEXTOID}},
	 false},
	{{"DELETE FROM eduai.model_learner_skill WHERE tenant_id = $1 AND user_id = $2"
	  " AND" MODEL_GENERATIONS,
	  2,
	  {TEXTOID, TEXTOID}},
	 false},
	{{"DELETE FROM eduai.model_learner_item WHERE tenant_id = $1 AND user_id = $2"
	  " AND" MODEL_GENERATIONS,
	  2,
	  {TEXTOID, TEXTOID}},
	 false},
	{{"DELETE FROM eduai.projection_state s USING" GENERATIONS " JOIN" KEYS
	  " ON k.kind = g.key WHERE s.tenant_id = $1 AND s.projection = g.projection"
	  " AND s.generation = g.generation AND s.key = k.name",
	  3,
	  {TEXTOID, TEXTOID, TEXTOID}},
	 true},
	{{"DELETE FROM eduai.projection_parked s USING" GENERATIONS " JOIN" KEYS
	  " ON k.kind = g.key WHERE s.tenant_id = $1 AND s.projection = g.projection"
	  " AND s.generation = g.generation AND s.key = k.name",
	  3,
	  {TEXTOID, TEXTOID, TEXTOID}},
	 true},
	{{"UPDATE eduai.projection_parked s SET error = 'an event of an erased learner was among these',"
	  " sqlstate = NULL FROM" GENERATIONS
	  ", eduai.erasure_name n WHERE s.tenant_id = $1 AND s.projection = g.projection"
	  " AND s.generation = g.generation AND g.key = 'stream' AND s.key = n.name"
	  " AND n.tenant_id = $1 AND n.user_ref = $3 AND n.kind = 'mixed' AND s.error IS NOT NULL"
	  " AND $2 IS NOT NULL",
	  3,
	  {TEXTOID, TEXTOID, TEXTOID}},
	 true},
};

/* One statement a transaction: a learner's rows are few, but for a model of many items. */
static int64
erase_part(EduaiPersonalWork *work)
{
	int i = work->cursor ? atoi(work->cursor) : 0;
	Datum args[] = {CStringGetTextDatum(work->tenant), CStringGetTextDatum(work->user_id),
					CStringGetTextDatum(work->user_ref)};
	int64 removed = (int64) eduai_core_run_latest(&removals[i].plan, args, NULL);

	work->cursor = psprintf("%d", i + 1);
	work->more = i + 1 < lengthof(removals);
	return removed;
}

static EduaiPlan count_rows = {
	"SELECT (SELECT count(*) FROM eduai.cohort_member WHERE tenant_id = $1 AND user_id = $2)"
	" + (SELECT count(*) FROM eduai.model_learner WHERE tenant_id = $1 AND user_id = $2"
	" AND" MODEL_GENERATIONS ")"
	" + (SELECT count(*) FROM eduai.projection_state s JOIN" GENERATIONS
	" ON s.projection = g.projection AND s.generation = g.generation AND g.key = 'user_id'"
	" WHERE s.tenant_id = $1 AND s.key = $2)",
	2,
	{TEXTOID, TEXTOID}};

/* At least: what the model has by skill and item is not counted, nor what is under sessions. */
static int64
remaining(const char *tenant, const char *user_id)
{
	Datum args[] = {CStringGetTextDatum(tenant), CStringGetTextDatum(user_id)};

	eduai_core_run_latest(&count_rows, args, NULL);
	return eduai_core_int64(0, 1, 0);
}

static void
export_all(const char *tenant, const char *user_id, EduaiPersonalRow row, void *arg)
{
	eduai_core_personal_export_rows(
		"progress",
		"SELECT jsonb_build_object('projection', coalesce(p.name, 'progress'), 'key', s.key,"
		" 'state', s.state, 'version', s.version, 'last_at', s.last_at)"
		" FROM eduai.projection_state s LEFT JOIN eduai.projection p ON p.projection = s.projection"
		" LEFT JOIN eduai.projection_generation g ON g.projection = s.projection"
		" WHERE s.tenant_id = $1 AND s.key = $2 AND coalesce(p.key, 'user_id') = 'user_id'"
		" AND s.generation = coalesce(g.live, 1) ORDER BY s.projection",
		tenant, user_id, row, arg);
	eduai_core_personal_export_rows(
		"learner_model",
		"SELECT to_jsonb(m) - 'tenant_id' FROM eduai.model_learner m WHERE tenant_id = $1"
		" AND user_id = $2 UNION ALL"
		" SELECT to_jsonb(m) - 'tenant_id' FROM eduai.model_learner_skill m WHERE tenant_id = $1"
		" AND user_id = $2 UNION ALL"
		" SELECT to_jsonb(m) - 'tenant_id' FROM eduai.model_learner_item m WHERE tenant_id = $1"
		" AND user_id = $2",
		tenant, user_id, row, arg);
	eduai_core_personal_export_rows(
		"cohorts",
		"SELECT jsonb_build_object('cohort', cohort) FROM eduai.cohort_member"
		" WHERE tenant_id = $1 AND user_id = $2 ORDER BY cohort",
		tenant, user_id, row, arg);
}

static void
learners(EduaiPersonalLearner learner, void *arg)
{
	eduai_core_personal_tell_learners(
		"SELECT tenant_id, user_id FROM eduai.cohort_member"
		" UNION SELECT tenant_id, key FROM eduai.projection_state WHERE projection = 1"
		" UNION SELECT tenant_id, user_id FROM eduai.model_learner",
		learner, arg);
}

void
eduai_projections_personal_init(void)
{
	static const EduaiPersonalStore progress = {.name = "progress",
												.rank = 60,
												.erase_part = erase_part,
												.remaining = remaining,
												.export = export_all,
												.learners = learners};

	eduai_core_personal_register_store(&progress);
}
