/*
 * health.c: what the queue says in eduai.health(), of all tenants together.
 *
 * It costs one pass over the living tasks, a probe or two per tenant that has
 * finished tasks, and, only when ten or more died in the last hour, a count of
 * the hour's index entries.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/health.h"
#include "core/json.h"
#include "core/plan.h"
#include "queue/catalog.h"
#include "queue/enqueue.h"
#include "queue/health.h"
#include "queue/lane.h"
#include "queue/running.h"
#include "queue/task.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define STALLED_PATIENCES 10  /* ready so many times longer than it should be */
#define FULL_SHARE        0.9 /* of eduai.queue_max_size; of the places in shared memory */
#define DEAD_SHARE        0.1 /* of what ended in the last hour */
#define DEAD_LEAST        10

/* the living tasks of one type and priority, or (task_type NULL) of a tenant whose queue is full */
typedef struct Heap
{
	char *task_type;
	char *tenant;
	int priority;
	int64 all;
	int64 waiting;
	int64 scheduled;
	int64 ready;
	int64 running;
	TimestampTz oldest; /* ready; 0: none */
	bool paused;
} Heap;

static int
read_living(Heap **heaps)
{
	static EduaiPlan count = {
		/* fresh ones tenant by tenant: task_request has those that ended, too */
		"WITH RECURSIVE t AS ((SELECT tenant_id FROM eduai.task_request ORDER BY 1 LIMIT 1) UNION ALL "
		"SELECT n.tenant_id FROM t CROSS JOIN LATERAL (SELECT r.tenant_id FROM eduai.task_request r "
		"WHERE r.tenant_id > t.tenant_id ORDER BY 1 LIMIT 1) n), l AS ("
		"SELECT task_type, tenant_id, priority, state, run_at FROM eduai.task_live UNION ALL "
		"SELECT f.task_type, f.tenant_id, f.priority, 'ready', f.run_at FROM t CROSS JOIN LATERAL "
		"(SELECT * FROM eduai.fresh_task f WHERE f.tenant_id = t.tenant_id OFFSET 0) f) "
		"SELECT l.task_type, l.tenant_id, l.priority, count(*), "
		"count(*) FILTER (WHERE l.state = 'waiting'), count(*) FILTER (WHERE l.state = 'scheduled'), "
		"count(*) FILTER (WHERE l.state = 'ready'), count(*) FILTER (WHERE l.state = 'running'), "
		"min(l.run_at) FILTER (WHERE l.state = 'ready'), "
		"EXISTS (SELECT FROM eduai.paused_type p WHERE p.task_type = l.task_type) "
		"FROM l GROUP BY GROUPING SETS ((l.task_type, l.priority), (l.tenant_id)) "
		"HAVING GROUPING(l.tenant_id) = 1 OR count(*) >= $1",
		1,
		{INT8OID}};
	Datum args[1] = {Int64GetDatum(eduai_queue_max_size > 0
									   ? (int64) (eduai_queue_max_size * FULL_SHARE + 0.999)
									   : PG_INT64_MAX)};
	uint64 n = eduai_core_run(&count, args, NULL);

	*heaps = palloc(sizeof(Heap) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		Heap *h = &(*heaps)[i];
		bool isnull;

		h->task_type = eduai_core_text(i, 1);
		h->tenant = eduai_core_text(i, 2);
		h->priority = (int) eduai_core_int64(i, 3, 0);
		h->all = eduai_core_int64(i, 4, 0);
		h->waiting = eduai_core_int64(i, 5, 0);
		h->scheduled = eduai_core_int64(i, 6, 0);
		h->ready = eduai_core_int64(i, 7, 0);
		h->running = eduai_core_int64(i, 8, 0);
		h->oldest = DatumGetTimestampTz(eduai_core_value(i, 9, &isnull));
		if (isnull)
			h->oldest = 0;
		h->paused = DatumGetBool(eduai_core_value(i, 10, &isnull));
	}
	return (int) n;
}

/* Does any task of the type run? */
static bool
type_runs(const Heap *heaps, int n, const char *task_type)
{
	for (int i = 0; i < n; i++)
		if (heaps[i].task_type != NULL && heaps[i].running > 0 &&
			strcmp(heaps[i].task_type, task_type) == 0)
			return true;
	return false;
}

/*
 * A backlog behind tasks that run is not a stall, and what is paused waits as
 * it was told to.
 */
static bool
is_stalled(const Heap *heaps, int n, const Heap *h, TimestampTz now)
{
	const TaskType *type;

	if (h->task_type == NULL || h->oldest == 0 || h->paused ||
		now - h->oldest < STALLED_PATIENCES * eduai_queue_patience_us(h->priority) ||
		type_runs(heaps, n, h->task_type))
		return false;
	type = eduai_queue_type(h->task_type);
	return type != NULL && type->by_gateway;
}

static void
report_living(EduaiHealth *health, EduaiJson *j, TimestampTz now)
{
	Heap *heaps;
	int n = read_living(&heaps);
	Heap sum = {0};

	for (int i = 0; i < n; i++)
	{
		const Heap *h = &heaps[i];

		if (h->task_type == NULL)
		{
			eduai_core_health_problem(
				health, "queue_full", "warning", 0,
				psprintf("Tenant \"%s\" has %lld tasks that are not final; its limit is %d.",
						 h->tenant, (long long) h->all, eduai_queue_max_size),
				"Raise eduai.queue_max_size, or look in eduai.queue_status for what does not end.");
			continue;
		}
		sum.ready += h->ready;
		sum.running += h->running;
		sum.scheduled += h->scheduled;
		sum.waiting += h->waiting;
		if (h->oldest != 0 && (sum.oldest == 0 || h->oldest < sum.oldest))
			sum.oldest = h->oldest;
		if (is_stalled(heaps, n, h, now))
			eduai_core_health_problem(
				health, "queue_stalled", "critical", h->oldest,
				psprintf(
					"A %s task of priority %s has been ready for %lld s, and none of the type runs.",
					h->task_type, eduai_queue_priority_name(h->priority),
					(long long) ((now - h->oldest) / USECS_PER_SEC)),
				"Look at the workers and the gateway in eduai.health(): the dispatcher may be stopped, "
				"the database not adopted, or no instance able to serve it.");
	}
	eduai_core_json_put_int(j, "ready", sum.ready);
	eduai_core_json_put_int(j, "running", sum.running);
	eduai_core_json_put_int(j, "scheduled", sum.scheduled);
	eduai_core_json_put_int(j, "waiting", sum.waiting);
	eduai_core_json_put_int(j, "oldest_ready_seconds",
							sum.oldest == 0 ? 0 : Max(0, now - sum.oldest) / USECS_PER_SEC);
}

static void
report_paused(EduaiJson *j)
{
	static EduaiPlan paused = {"SELECT task_type FROM eduai.paused_type ORDER BY task_type", 0};
	uint64 n = eduai_core_run(&paused, NULL, NULL);

	eduai_core_json_open_array(j, "paused");
	for (uint64 i = 0; i < n; i++)
		eduai_core_json_put_text(j, NULL, eduai_core_text(i, 1));
	eduai_core_json_close_array(j);
}

/*
 * The tenants that have tasks that ended in a state, each group of task_end_state
 * found with one probe, and how many of those since $1.
 */
#define COUNT_ENDED(state)                                                                        \
	"(WITH RECURSIVE g AS ((SELECT e.ended_key, e.state FROM eduai.task_end e "                   \
	"ORDER BY e.ended_key LIMIT 1) UNION ALL SELECT n.ended_key, n.state FROM g CROSS JOIN "      \
	"LATERAL (SELECT e.ended_key, e.state FROM eduai.task_end e WHERE e.ended_key > g.ended_key " \
	"ORDER BY e.ended_key LIMIT 1) n) "                                                           \
	"SELECT coalesce(sum((SELECT count(*) FROM eduai.task_end e "                                 \
	"WHERE e.ended_key = g.ended_key AND e.finished_at > $1)), 0)::bigint "                       \
	"FROM g WHERE g.state = '" state "')"

static int64
count_ended(EduaiPlan *count, TimestampTz since)
{
	Datum args[1] = {TimestampTzGetDatum(since)};

	eduai_core_run(count, args, NULL);
	return eduai_core_int64(0, 1, 0);
}

static void
report_ended(EduaiHealth *health, EduaiJson *j, TimestampTz now)
{
	static EduaiPlan count_dead = {"SELECT " COUNT_ENDED("dead"), 1, {TIMESTAMPTZOID}};
	static EduaiPlan count_completed = {"SELECT " COUNT_ENDED("completed"), 1, {TIMESTAMPTZOID}};
	static EduaiPlan count_uncertain = {"SELECT " COUNT_ENDED("uncertain"), 1, {TIMESTAMPTZOID}};
	TimestampTz hour_ago = now - USECS_PER_HOUR;
	int64 dead = count_ended(&count_dead, hour_ago);
	int64 uncertain = count_ended(&count_uncertain, DT_NOBEGIN);

	eduai_core_json_put_int(j, "dead_last_hour", dead);
	eduai_core_json_put_int(j, "uncertain", uncertain);
	if (uncertain > 0)
		eduai_core_health_problem(
			health, "uncertain_tasks", "warning", 0,
			psprintf("%lld tasks have an attempt whose answer was lost.", (long long) uncertain),
			"Look at eduai.dead_letter; eduai.retry_task() runs one again.");
	if (dead >= DEAD_LEAST)
	{
		int64 ended = dead + count_ended(&count_completed, hour_ago);

		if (dead > ended * DEAD_SHARE)
			eduai_core_health_problem(
				health, "dead_tasks", "warning", 0,
				psprintf("%lld of the %lld tasks that ended in the last hour failed for good.",
						 (long long) dead, (long long) ended),
				"Look at error in eduai.dead_letter; eduai.retry_task() runs one again.");
	}
}

/* what the whole server has places for in shared memory */
static void
report_places(EduaiHealth *health)
{
	int most;
	int used = eduai_queue_lanes_used(&most);

	if (used > most * FULL_SHARE)
		eduai_core_health_problem(
			health, "lanes_full", "warning", 0,
			psprintf("%d lanes have tasks; there is room for %d.", used, most),
			"Tasks of further lanes (tenant, type, model, priority) wait until another is empty: "
			"raise eduai.queue_lanes and restart the server.");
	used = eduai_queue_running_used(&most);
	if (used > most * FULL_SHARE)
		eduai_core_health_problem(
			health, "running_full", "warning", 0,
			psprintf("%d tasks run; the server has room for %d.", used, most),
			"Nothing starts until one ends: raise eduai.max_running and restart the server.");
}

static void
report(EduaiHealth *health)
{
	TimestampTz now = eduai_core_now();
	EduaiJson j;

	eduai_core_json_begin(&j);
	report_living(health, &j, now);
	report_paused(&j);
	report_ended(health, &j, now);
	report_places(health);
	eduai_core_health_section(health, "queue", eduai_core_json_end(&j));
}

void
eduai_queue_health_init(void)
{
	eduai_core_health_register(report);
}
