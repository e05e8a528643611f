/*
 * gateway.c: starts the room; refuses tasks that nothing serves; says how the
 * gateway is.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/errors.h"
#include "core/health.h"
#include "core/hooks.h"
#include "core/json.h"
#include "core/plan.h"
#include "core/relcache.h"
#include "core/status.h"
#include "core/worker.h"
#include "gateway/attachments.h"
#include "gateway/budget.h"
#include "gateway/dispatch.h"
#include "gateway/gateway.h"
#include "gateway/health_check.h"
#include "gateway/personal.h"
#include "gateway/hedge.h"
#include "gateway/route.h"
#include "gateway/route_trace.h"
#include "gateway/stand.h"
#include "gateway/keyring.h"
#include "queue/queue.h"
#include "utils/builtins.h"

static int dispatcher_kind = -1;

void
eduai_gateway_reload_at_commit(void)
{
	eduai_core_worker_reconfigure_at_commit(dispatcher_kind);
}

/*
 * What was last found to be served: most calls of a session ask for the same.
 * Any change of the instances makes it forget (their trigger invalidates the
 * table's relcache entry).
 */
static struct
{
	bool known;
	char tenant[NAMEDATALEN];
	char task_type[NAMEDATALEN];
	char model[257];
} last_served;

static void
forget_served(Datum arg, Oid relid)
{
	last_served.known = false;
}

static bool
is_last_served(const EduaiEnqueue *task, const char *model)
{
	return last_served.known && strcmp(last_served.model, model) == 0 &&
		   strcmp(last_served.task_type, task->task_type) == 0 &&
		   strcmp(last_served.tenant, task->tenant) == 0;
}

static void
remember_served(const EduaiEnqueue *task, const char *model)
{
	if (strlen(model) >= sizeof(last_served.model))
		return;
	strlcpy(last_served.tenant, task->tenant, sizeof(last_served.tenant));
	strlcpy(last_served.task_type, task->task_type, sizeof(last_served.task_type));
	strlcpy(last_served.model, model, sizeof(last_served.model));
	last_served.known = true;
}

static bool
find_serving(const EduaiEnqueue *task)
{
	static EduaiPlan serving = {
		"SELECT FROM eduai.instance i WHERE $1 = ANY (i.task_types) "
		"AND ($2 IS NULL OR i.model = $2 OR coalesce(i.options->'aliases' ? $2, false)) "
		"AND (NOT i.options ? 'tenants' OR i.options->'tenants' ? $3) LIMIT 1",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};
	Datum args[3];
	char nulls[4] = "   ";

	args[0] = CStringGetTextDatum(task->task_type);
	args[1] = task->model ? CStringGetTextDatum(task->model) : (Datum) 0;
	nulls[1] = task->model ? ' ' : 'n';
	args[2] = CStringGetTextDatum(task->tenant);
	return eduai_core_run(&serving, args, nulls) > 0;
}

void
eduai_gateway_check_model_is_named(const char *task_type, const char *model)
{
	if (model == NULL && strcmp(task_type, "embeddings") == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("embeddings must name their model"),
						errdetail("Vectors of different models cannot be compared."),
						errhint("Put \"model\" into the payload: a model, or an alias of one.")));
}

/*
 * UE004: no instance at all is configured for the type and model.  An outage,
 * a draining instance or a full one is no reason to refuse: the task waits.
 */
static bool
is_served(const EduaiEnqueue *task, EduaiRefusal *why)
{
	const char *model = task->model ? task->model : "";

	if (!task->by_gateway)
		return true;
	eduai_gateway_check_model_is_named(task->task_type, task->model);
	if (is_last_served(task, model))
		return true;
	if (find_serving(task))
	{
		remember_served(task, model);
		return true;
	}
	why->sqlstate = EDUAI_NO_INSTANCE;
	why->message = task->model ? psprintf("no instance serves task type \"%s\" with model \"%s\"",
										  task->task_type, task->model)
							   : psprintf("no instance serves task type \"%s\"", task->task_type);
	why->hint =
		"Add one with eduai.add_instance(), or enqueue with on_refusal => 'defer' to wait for one.";
	return false;
}

static void
report(EduaiHealth *health)
{
	static EduaiPlan count = {"SELECT (SELECT count(*) FROM eduai.provider), count(*), "
							  "count(*) FILTER (WHERE state = 'active'), "
							  "(SELECT count(*) FROM eduai.provider WHERE home <> $1) + "
							  "(SELECT count(*) FROM eduai.adoption WHERE home <> $1) "
							  "FROM eduai.instance",
							  1,
							  {TEXTOID}};
	Datum args[1] = {CStringGetTextDatum(eduai_core_home())};
	EduaiJson j;
	bool adopted;

	eduai_core_run(&count, args, NULL);
	adopted = eduai_core_int64(0, 4, 0) == 0;
	eduai_core_json_begin(&j);
	eduai_core_json_put_int(&j, "providers", eduai_core_int64(0, 1, 0));
	eduai_core_json_put_int(&j, "instances", eduai_core_int64(0, 2, 0));
	eduai_core_json_put_int(&j, "active_instances", eduai_core_int64(0, 3, 0));
	eduai_core_json_put_bool(&j, "adopted", adopted);
	eduai_core_health_section(health, "gateway", eduai_core_json_end(&j));
	if (!adopted)
		eduai_core_health_problem(
			health, "database_not_adopted", "critical", 0,
			"This database was recorded elsewhere (a restored or copied one), so nothing is dispatched.",
			"If it may call the providers from here, run SELECT eduai.adopt_database().");
}

void
eduai_gateway_init(void)
{
	static const EduaiWorkerKind kind = {"dispatcher", eduai_gateway_dispatch_run};

	eduai_gateway_fleet_init();
	eduai_gateway_stand_init();
	eduai_gateway_health_check_init();
	eduai_gateway_keyring_init();
	eduai_gateway_dispatch_settings();
	eduai_gateway_hedge_init();
	eduai_gateway_route_init();
	eduai_gateway_attachments_init();
	eduai_gateway_trace_init();
	dispatcher_kind = eduai_core_worker_register(&kind);
	eduai_queue_set_dispatcher(dispatcher_kind);
	eduai_core_relcache_register(forget_served);
	eduai_core_enqueue_hook_register(is_served);
	eduai_gateway_budget_init();
	eduai_gateway_personal_init();
	eduai_core_health_register(report);
}
