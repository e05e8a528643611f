/*
 * access_log.c: what reads leave for the access log: settings, notes, health.
 *
 * A note costs no lock but a spinlock for the time of a copy, no memory and no
 * write, and a transaction that rolls back does not take it back.  The keeper
 * looks each second, and is woken when a quarter of the places is used.
 */
#include "postgres.h"

#include "core/clock.h"
#include "core/health.h"
#include "core/json.h"
#include "core/personal.h"
#include "core/shmem.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "privacy/access_log.h"
#include "privacy/access_ring.h"
#include "privacy/keeper.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

PG_FUNCTION_INFO_V1(eduai_flush_access_log);

#define FLUSH_MS 10000

typedef enum FullPolicy
{
	FULL_REFUSE,
	FULL_COUNT,
} FullPolicy;

static const struct config_enum_entry full_policies[] = {
	{"refuse", FULL_REFUSE, false}, {"count", FULL_COUNT, false}, {NULL, 0, false}};

bool eduai_privacy_access_log = false;
static int when_full = FULL_COUNT;
static char *purpose = NULL;

static void
refuse_full(void)
{
	ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					errmsg("the access log has no room to note this read"),
					errdetail("eduai.access_log_full is \"refuse\"."),
					errhint("The keeper empties it: see eduai.health(). A larger "
							"eduai.access_log_size takes more at once.")));
}

static void
note(const char *tenant, const char *user_id, const char *source, int64 count, Oid caller)
{
	EduaiAccessNote entry;

	if (!eduai_privacy_access_log)
		return;
	eduai_core_require_preload("the access log");
	entry.at = eduai_core_now();
	entry.rows = count;
	entry.role = caller;
	strlcpy(entry.tenant, tenant, sizeof(entry.tenant));
	strlcpy(entry.source, source, sizeof(entry.source));
	strlcpy(entry.purpose, purpose ? purpose : "", sizeof(entry.purpose));
	strlcpy(entry.user_id, user_id ? user_id : "", sizeof(entry.user_id));
	switch (eduai_privacy_access_put(&entry, when_full == FULL_COUNT))
	{
		case EDUAI_ACCESS_PUT:
			break;
		case EDUAI_ACCESS_PUT_MANY:
			eduai_privacy_keeper_wake_now();
			break;
		case EDUAI_ACCESS_FULL:
			eduai_privacy_keeper_wake_now();
			if (when_full == FULL_REFUSE)
				refuse_full();
			break;
	}
}

/* ---- SQL ---- */

/* flush_access_log() returns bigint: waits until what waits now is in the chain */
Datum
eduai_flush_access_log(PG_FUNCTION_ARGS)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), FLUSH_MS);
	int64 waiting;
	int64 places;
	int64 lost;

	eduai_core_require_preload("the access log");
	for (;;)
	{
		eduai_privacy_access_counts(&waiting, &places, &lost);
		if (waiting == 0 || GetCurrentTimestamp() >= until)
			break;
		eduai_privacy_keeper_wake_now();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 20,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	PG_RETURN_INT64(waiting);
}

/* ---- health ---- */

static void
report(EduaiHealth *health)
{
	EduaiJson j;
	int64 waiting;
	int64 places;
	int64 lost;

	eduai_privacy_access_counts(&waiting, &places, &lost);
	eduai_core_json_begin(&j);
	eduai_core_json_put_bool(&j, "enabled", eduai_privacy_access_log);
	eduai_core_json_put_int(&j, "waiting", waiting);
	eduai_core_json_put_int(&j, "places", places);
	eduai_core_json_put_int(&j, "lost", lost);
	eduai_core_health_section(health, "access_log", eduai_core_json_end(&j));
	if (lost > 0)
		eduai_core_health_problem(
			health, "access_log_lost", "warning", 0,
			psprintf("%lld reads of personal data were not logged since the server's start.",
					 (long long) lost),
			"Raise eduai.access_log_size, or set eduai.access_log_full to \"refuse\".");
	if (eduai_privacy_access_log && places > 0 && waiting > places / 2)
		eduai_core_health_problem(
			health, "access_log_behind", "warning", 0,
			psprintf("%lld reads wait for the access log's chain.", (long long) waiting),
			"See whether the keeper runs, and the server's log.");
}

void
eduai_privacy_access_log_init(void)
{
	static const EduaiPersonalPolicy policy = {.note = note};

	DefineCustomBoolVariable("eduai.access_log",
							 "Notes reads of data about learners in eduai.access_log.", NULL,
							 &eduai_privacy_access_log, false, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable(
		"eduai.access_log_full", "What a read does when it finds no room for its note.",
		"refuse raises 53400; count lets it go on, and the chain says how many "
		"are missing.",
		&when_full, FULL_COUNT, full_policies, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"eduai.purpose", "What data about learners is read for, as the access log notes it.",
		"At most 63 bytes are kept.", &purpose, "", PGC_USERSET, 0, NULL, NULL, NULL);
	eduai_privacy_access_ring_init();
	eduai_privacy_access_heads_init();
	eduai_core_personal_register_policy(&policy);
	eduai_core_health_register(report);
	eduai_privacy_access_drain_init();
	eduai_privacy_access_store_init();
}
