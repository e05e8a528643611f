/*
 * status.c: what eduai says of itself.  See health.h and status.h.
 *
 * core reports the workers; each room adds its section and its problems.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "core/health.h"
#include "core/json.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/status.h"
#include "core/worker_shared.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "commands/dbcommands.h"

#define MAX_REPORTERS 16
#define MAX_SECTIONS  16

typedef struct Problem
{
	const char *code;
	const char *severity;
	TimestampTz since; /* 0: unknown */
	char *detail;
	char *hint;
} Problem;

struct EduaiHealth
{
	MemoryContext context; /* of what is said: reporters are called inside SPI */
	int nsections;
	const char *names[MAX_SECTIONS];
	Jsonb *sections[MAX_SECTIONS];
	List *problems; /* of Problem */
};

static EduaiHealthReporter reporters[MAX_REPORTERS];
static int nreporters = 0;
static char *fleet_setting = NULL;

PG_FUNCTION_INFO_V1(eduai_version);
PG_FUNCTION_INFO_V1(eduai_home);
PG_FUNCTION_INFO_V1(eduai_health);
PG_FUNCTION_INFO_V1(eduai_health_problems);

void
eduai_core_status_init(void)
{
	DefineCustomStringVariable(
		"eduai.fleet", "Names the fleet of servers this one belongs to.",
		"A physical copy (staging) with another name dispatches nothing until adopted.",
		&fleet_setting, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
}

void
eduai_core_health_register(EduaiHealthReporter reporter)
{
	if (nreporters >= MAX_REPORTERS)
		elog(FATAL, "too many health reporters");
	reporters[nreporters++] = reporter;
}

void
eduai_core_health_section(EduaiHealth *health, const char *name, const Jsonb *section)
{
	if (health->nsections >= MAX_SECTIONS)
		elog(ERROR, "too many sections of health");
	health->names[health->nsections] = name;
	health->sections[health->nsections] = MemoryContextAlloc(health->context, VARSIZE(section));
	memcpy(health->sections[health->nsections++], section, VARSIZE(section));
}

void
eduai_core_health_problem(EduaiHealth *health, const char *code, const char *severity, int64 since,
						  const char *detail, const char *hint)
{
	MemoryContext caller = MemoryContextSwitchTo(health->context);
	Problem *problem = palloc(sizeof(Problem));

	problem->code = code;
	problem->severity = severity;
	problem->since = since;
	problem->detail = pstrdup(detail);
	problem->hint = hint ? pstrdup(hint) : NULL;
	health->problems = lappend(health->problems, problem);
	MemoryContextSwitchTo(caller);
}

char *
eduai_core_home(void)
{
	return psprintf(UINT64_FORMAT "/%u/%s", GetSystemIdentifier(), MyDatabaseId,
					fleet_setting ? fleet_setting : "");
}

Datum
eduai_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(EDUAI_VERSION));
}

Datum
eduai_home(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(eduai_core_home()));
}

static bool
database_is_served(void)
{
	char *mine = get_database_name(MyDatabaseId);

	return mine != NULL && eduai_core_worker_serves(mine);
}

static void
put_worker(EduaiJson *j, int kind, WorkerSlot *slot)
{
	static const char *const states[] = {"stopped", "starting", "running"};

	eduai_core_json_open_object(j, NULL);
	eduai_core_json_put_text(j, "worker", eduai_core_worker_kind(kind)->name);
	eduai_core_json_put_text(j, "state", states[slot->state]);
	if (slot->state == WORKER_RUNNING)
	{
		eduai_core_json_put_int(j, "pid", slot->pid);
		eduai_core_json_put_time(j, "started_at", slot->started_at);
	}
	eduai_core_json_put_int(j, "wakes_by_latch", pg_atomic_read_u64(&slot->latch_wakes));
	eduai_core_json_put_int(j, "wakes_by_io", pg_atomic_read_u64(&slot->fd_wakes));
	eduai_core_json_put_int(j, "wakes_by_timeout", pg_atomic_read_u64(&slot->timeout_wakes));
	eduai_core_json_close_object(j);
}

/* Why no worker can run here; false when there is no such reason. */
static bool
report_no_workers(EduaiHealth *health, DatabaseSlot *db)
{
	bool served = database_is_served();

	if (!served)
		eduai_core_health_problem(
			health, "database_not_served", "critical", 0,
			"eduai.database does not name this database, so nothing is dispatched.",
			"Add it to eduai.database and reload the configuration.");
	else if (db != NULL && db->stopped)
		eduai_core_health_problem(health, "workers_stopped", "critical", 0,
								  "The workers were stopped by stop_workers().",
								  "Call eduai.start_workers().");
	return !served || (db != NULL && db->stopped);
}

static void
report_absent_worker(EduaiHealth *health, int kind)
{
	eduai_core_health_problem(
		health, "worker_not_running", "critical", 0,
		psprintf("The %s is not running.", eduai_core_worker_kind(kind)->name),
		"Look for its error in the server log; see also max_worker_processes.");
}

static void
report_each_worker(EduaiHealth *health, EduaiJson *j, DatabaseSlot *db)
{
	bool told = report_no_workers(health, db);

	for (int k = 0; k < eduai_core_worker_kinds(); k++)
	{
		if (db != NULL)
			put_worker(j, k, &db->workers[k]);
		if (!told && (db == NULL || db->workers[k].state != WORKER_RUNNING))
			report_absent_worker(health, k);
	}
}

/* "workers" is an array, so it is built inside an object and taken out */
static void
report_workers(EduaiHealth *health, EduaiJson *j)
{
	DatabaseSlot *db = eduai_core_worker_database(MyDatabaseId);

	eduai_core_json_open_array(j, "workers");
	if (!eduai_core_preloaded())
		eduai_core_health_problem(health, "not_preloaded", "critical", 0,
								  "eduai is not in shared_preload_libraries.",
								  "Add it and restart the server.");
	else
		report_each_worker(health, j, db);
	eduai_core_json_close_array(j);
}

static const char *
overall_status(const EduaiHealth *health)
{
	const char *status = "ok";
	ListCell *cell;

	foreach (cell, health->problems)
	{
		if (strcmp(((Problem *) lfirst(cell))->severity, "critical") == 0)
			return "down";
		status = "degraded";
	}
	return status;
}

static void
put_problems(EduaiJson *j, const EduaiHealth *health)
{
	ListCell *cell;

	eduai_core_json_open_array(j, "problems");
	foreach (cell, health->problems)
	{
		Problem *p = lfirst(cell);

		eduai_core_json_open_object(j, NULL);
		eduai_core_json_put_text(j, "code", p->code);
		eduai_core_json_put_text(j, "severity", p->severity);
		if (p->since != 0)
			eduai_core_json_put_time(j, "since", p->since);
		eduai_core_json_put_text(j, "detail", p->detail);
		eduai_core_json_put_text(j, "hint", p->hint);
		eduai_core_json_close_object(j);
	}
	eduai_core_json_close_array(j);
}

/* runs all reporters */
static void
collect(EduaiHealth *health)
{
	EduaiPrivilege saved;

	eduai_core_enter(&saved);
	SPI_connect();
	for (int i = 0; i < nreporters; i++)
		reporters[i](health);
	SPI_finish();
	eduai_core_leave(&saved);
}

Datum
eduai_health(PG_FUNCTION_ARGS)
{
	EduaiHealth health = {.context = CurrentMemoryContext};
	EduaiJson j;

	eduai_core_json_begin(&j);
	report_workers(&health, &j);
	collect(&health);
	eduai_core_json_put_text(&j, "status", overall_status(&health));
	eduai_core_json_put_text(&j, "version", EDUAI_VERSION);
	for (int i = 0; i < health.nsections; i++)
		eduai_core_json_put_json(&j, health.names[i], health.sections[i]);
	put_problems(&j, &health);
	PG_RETURN_JSONB_P(eduai_core_json_end(&j));
}

Datum
eduai_health_problems(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	EduaiHealth health = {.context = CurrentMemoryContext};
	EduaiJson j;
	ListCell *cell;

	eduai_core_json_begin(&j);
	report_workers(&health, &j);
	collect(&health);
	InitMaterializedSRF(fcinfo, 0);
	foreach (cell, health.problems)
	{
		Problem *p = lfirst(cell);
		Datum values[5] = {CStringGetTextDatum(p->code), CStringGetTextDatum(p->severity),
						   TimestampTzGetDatum(p->since), CStringGetTextDatum(p->detail),
						   p->hint ? CStringGetTextDatum(p->hint) : (Datum) 0};
		bool nulls[5] = {false, false, p->since == 0, false, p->hint == NULL};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
