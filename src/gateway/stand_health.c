/*
 * stand_health.c: what eduai.health() says of the instances.
 *
 * An open breaker, a limit that is used up, a bad health check and a full table
 * each leave work possible: warnings.  A task type of which every active
 * instance has an open breaker is down: critical.
 */
#include "postgres.h"

#include "core/clock.h"
#include "core/health.h"
#include "core/json.h"
#include "gateway/stand_internal.h"
#include "lib/stringinfo.h"

#define NAMES_SHOWN 5

/* Instances that have something in common. */
typedef struct Group
{
	int n;
	StringInfoData names; /* of the first ones */
	int64 since_us;       /* monotonic, the earliest; 0: unknown */
} Group;

typedef struct Findings
{
	int active;
	Group open;
	Group limited;
	Group bad;
} Findings;

static void
add(Group *group, const char *name, const char *why, int64 since_us)
{
	if (group->n == 0)
		initStringInfo(&group->names);
	if (group->n < NAMES_SHOWN)
		appendStringInfo(&group->names, "%s\"%s\"%s%s%s", group->n > 0 ? ", " : "", name,
						 *why != '\0' ? " (" : "", why, *why != '\0' ? ")" : "");
	else if (group->n == NAMES_SHOWN)
		appendStringInfoString(&group->names, " and others");
	if (since_us != 0 && (group->since_us == 0 || since_us < group->since_us))
		group->since_us = since_us;
	group->n++;
}

static void
examine(const Instance *instance, Findings *f, bool *open)
{
	InstanceStand now;
	Stand s;

	f->active++;
	eduai_gateway_stand_look(instance, eduai_core_mono_us(), &now);
	(void) eduai_gateway_stand_copy(instance, &s);
	*open = s.breaker.state != BREAKER_CLOSED;
	if (*open)
		add(&f->open, instance->name, s.last_error, s.breaker.opened_us);
	else if (now.headroom <= 0.0)
		add(&f->limited, instance->name, "", 0);
	if (now.health == HEALTH_BAD)
		add(&f->bad, instance->name, s.last_error, 0);
}

static int64
since(const Group *group)
{
	return group->since_us != 0 ? eduai_gateway_stand_wall(group->since_us) : 0;
}

static void
report_group(EduaiHealth *health, const Group *group, const char *code, const char *what,
			 const char *hint)
{
	if (group->n > 0)
		eduai_core_health_problem(health, code, "warning", since(group),
								  psprintf("%s: %s.", what, group->names.data), hint);
}

/* ---- task types that nothing serves now ---- */

static bool
serves(const Instance *instance, const char *task_type)
{
	for (int i = 0; i < instance->ntask_types; i++)
		if (strcmp(instance->task_types[i], task_type) == 0)
			return true;
	return false;
}

static bool
all_open(const Fleet *fleet, const bool *open, const char *task_type)
{
	for (int i = 0; i < fleet->ninstances; i++)
		if (fleet->instances[i].active && !open[i] && serves(&fleet->instances[i], task_type))
			return false;
	return true;
}

/* "first" is where the type is met first, so that it is reported once. */
static bool
is_first(const Fleet *fleet, int first, const char *task_type)
{
	for (int i = 0; i < first; i++)
		if (fleet->instances[i].active && serves(&fleet->instances[i], task_type))
			return false;
	return true;
}

static void
report_types(EduaiHealth *health, const Fleet *fleet, const bool *open, const Group *group)
{
	for (int i = 0; i < fleet->ninstances; i++)
		for (int k = 0; fleet->instances[i].active && k < fleet->instances[i].ntask_types; k++)
		{
			const char *type = fleet->instances[i].task_types[k];

			if (is_first(fleet, i, type) && all_open(fleet, open, type))
				eduai_core_health_problem(
					health, "no_usable_instance", "critical", since(group),
					psprintf("The circuit breaker of every active instance for task type \"%s\" "
							 "is open.",
							 type),
					"Tasks wait until a provider recovers: see last_error in "
					"eduai.instance_status.");
		}
}

static void
put_section(EduaiHealth *health, const Findings *f, int slots, int used)
{
	EduaiJson j;

	eduai_core_json_begin(&j);
	eduai_core_json_put_int(&j, "active", f->active);
	eduai_core_json_put_int(&j, "breaker_open", f->open.n);
	eduai_core_json_put_int(&j, "without_headroom", f->limited.n);
	eduai_core_json_put_int(&j, "bad_health", f->bad.n);
	eduai_core_json_put_int(&j, "slots", slots);
	eduai_core_json_put_int(&j, "slots_used", used);
	eduai_core_health_section(health, "instances", eduai_core_json_end(&j));
}

static void
report(EduaiHealth *health)
{
	Fleet *fleet = eduai_gateway_fleet_load_keyless(CurrentMemoryContext);
	bool *open = palloc0(sizeof(bool) * Max(fleet->ninstances, 1));
	Findings f = {0};
	int slots;
	int used;
	int64 refused;

	for (int i = 0; i < fleet->ninstances; i++)
		if (fleet->instances[i].active)
			examine(&fleet->instances[i], &f, &open[i]);
	eduai_gateway_stand_room(&slots, &used, &refused);
	put_section(health, &f, slots, used);
	report_group(health, &f.open, "breaker_open", "Instances with an open circuit breaker",
				 "They get a call to probe them after eduai.breaker_open; others serve meanwhile.");
	report_group(health, &f.limited, "no_headroom", "Instances that have used up a rate limit",
				 "Tasks wait for it, or go elsewhere: see rpm, tpm and daily_tokens of the "
				 "instances, and the provider's own limits.");
	report_group(health, &f.bad, "bad_health", "Instances whose provider fails its health check",
				 "The provider may be down, or its key refused: see eduai.instance_status.");
	report_types(health, fleet, open, &f.open);
	if (slots > 0 && used >= slots && refused > 0)
		eduai_core_health_problem(
			health, "instance_slots_full", "warning", 0,
			psprintf("All %d slots for the state of instances are taken; that of others is seen "
					 "by the dispatcher alone.",
					 slots),
			"Raise eduai.instance_slots and restart the server.");
}

void
eduai_gateway_stand_health_init(void)
{
	eduai_core_health_register(report);
}
