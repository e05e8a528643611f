/*
 * erase_hand.c: an erasure's begin, its steps and its end.  See erase_hand.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/guard.h"
#include "core/json.h"
#include "core/pause.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/worker.h"
#include "events/append.h"
#include "events/read.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "privacy/erase.h"
#include "privacy/erase_hand.h"
#include "privacy/learner_key.h"
#include "privacy/ledger.h"
#include "privacy/older.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define PATIENCE_MS  5000
#define STEP_US      30000 /* looking, in one transaction */
#define STEP_ROWS    2000
#define MAX_BACKOFF  3600
#define ERROR_LENGTH 300

/* ---- transactions ---- */

static EduaiPrivilege privilege;

void
eduai_privacy_hand_transaction(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	eduai_core_enter(&privilege);
	SPI_connect();
}

void
eduai_privacy_hand_commit(void)
{
	SPI_finish();
	eduai_core_leave(&privilege);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* This transaction's commit does not wait for the disk. */
static void
commit_lazily(void)
{
	(void) set_config_option("synchronous_commit", "off", PGC_SUSET, PGC_S_OVERRIDE,
							 GUC_ACTION_LOCAL, true, 0, false);
}

bool
eduai_privacy_hand_is_patient(const EraseHand *hand)
{
	return eduai_core_mono_us() - hand->older.since_us < (int64) PATIENCE_MS * 1000;
}

/* ---- begin ---- */

static void
append_tombstone(const EraseHand *hand)
{
	EduaiEvent event = {.stream = psprintf("erasure-%s", hand->user_ref),
						.event_type = "learner_erased",
						.own_id = true,
						.occurred_at = EDUAI_EVENTS_NOW};
	EduaiAppendBatch batch = {.tenant = hand->tenant, .events = &event, .nevents = 1, .own = true};
	int64 absent = 0;
	EduaiJson j;

	eduai_core_json_begin(&j);
	eduai_core_json_put_text(&j, "user_ref", hand->user_ref);
	event.data = eduai_core_json_end(&j);
	(void) eduai_events_append(&batch, &absent, NULL);
}

static EduaiPlan note_keys = {
	"UPDATE eduai.erasure SET keys_destroyed_at = coalesce(keys_destroyed_at,"
	" pg_catalog.clock_timestamp()) WHERE tenant_id = $1 AND user_ref = $2",
	2,
	{TEXTOID, TEXTOID}};
static bool
announced(const EraseHand *hand)
{
	Snapshot latest = RegisterSnapshot(GetLatestSnapshot());
	int64 version =
		eduai_events_version(hand->tenant, psprintf("erasure-%s", hand->user_ref), latest);

	UnregisterSnapshot(latest);
	return version > 0;
}

/*
 * Destroys the learner's key, where keys are kept.  Who began before the intent
 * was committed can make one more: so it is done again at the end.
 */
static void
destroy_key(const EraseHand *hand)
{
	Datum args[] = {CStringGetTextDatum(hand->tenant), CStringGetTextDatum(hand->user_ref)};

	if (!eduai_privacy_keys_configured())
		return;
	(void) eduai_privacy_key_destroy(hand->tenant, hand->user_id);
	eduai_core_run_latest(&note_keys, args, NULL);
}

/* What a crash interrupts here is done again: all of it may happen twice. */
bool
eduai_privacy_hand_begin(EraseHand *hand)
{
	eduai_privacy_hand_transaction();
	eduai_privacy_ledger_write();
	EDUAI_PAUSE("privacy-ledger-written");
	destroy_key(hand);
	if (!announced(hand))
		append_tombstone(hand);
	eduai_privacy_older_add(&hand->older);
	eduai_privacy_hand_commit();
	EDUAI_PAUSE("privacy-keys-destroyed");
	return true;
}

/* ---- steps ---- */

typedef struct Step
{
	char *source;
	int rank;
	char *cursor;
} Step;

static EduaiPlan next_step = {
	"SELECT s.source, s.rank, s.cursor FROM eduai.erasure_step s WHERE s.tenant_id = $1"
	" AND s.user_ref = $2 AND NOT s.done"
	" AND (s.retry_at IS NULL OR s.retry_at <= pg_catalog.clock_timestamp())"
	" ORDER BY s.rank, s.source LIMIT 1",
	2,
	{TEXTOID, TEXTOID}};
static EduaiPlan left_below = {
	"SELECT FROM eduai.erasure_step s WHERE s.tenant_id = $1 AND s.user_ref = $2 AND NOT s.done"
	" AND s.rank < $3 LIMIT 1",
	3,
	{TEXTOID, TEXTOID, INT4OID}};
static EduaiPlan advance_step = {
	"UPDATE eduai.erasure_step SET removed = removed + $4, cursor = $5, done = $6, failures = 0,"
	" retry_at = NULL, error = NULL WHERE tenant_id = $1 AND user_ref = $2 AND source = $3",
	6,
	{TEXTOID, TEXTOID, TEXTOID, INT8OID, TEXTOID, BOOLOID}};
static EduaiPlan fail_step = {
	"UPDATE eduai.erasure_step SET failures = failures + $6, error = $4, retry_at ="
	" pg_catalog.clock_timestamp() + least(power(2, least(failures, 20)), $5) * interval '1 second'"
	" WHERE tenant_id = $1 AND user_ref = $2 AND source = $3",
	6,
	{TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, INT4OID}};

static const EduaiPersonalStore *
find_store(const char *name)
{
	const EduaiPersonalStore *store;

	for (int i = 0; (store = eduai_core_personal_store(i)) != NULL; i++)
		if (strcmp(store->name, name) == 0)
			return store;
	return NULL;
}

static int64
erase_some(const EraseHand *hand, const Step *step, EduaiPersonalWork *work)
{
	const EduaiPersonalStore *store;

	if (strncmp(step->source, EDUAI_ERASE_TABLE, strlen(EDUAI_ERASE_TABLE)) == 0)
		return eduai_privacy_table_erase(work, step->source + strlen(EDUAI_ERASE_TABLE));
	store = find_store(step->source);
	if (store == NULL)
		return 0;
	if (store->erase_part)
		return store->erase_part(work);
	return store->erase(hand->tenant, hand->user_id, STEP_ROWS, &work->more);
}

static void
do_step(const EraseHand *hand, const Step *step)
{
	EduaiPersonalWork work = {.tenant = hand->tenant,
							  .user_id = hand->user_id,
							  .user_ref = hand->user_ref,
							  .limit = STEP_ROWS,
							  .until_us = eduai_core_mono_us() + STEP_US,
							  .cursor = step->cursor};
	int64 removed = erase_some(hand, step, &work);
	Datum args[] = {CStringGetTextDatum(hand->tenant),
					CStringGetTextDatum(hand->user_ref),
					CStringGetTextDatum(step->source),
					Int64GetDatum(removed),
					work.cursor ? CStringGetTextDatum(work.cursor) : (Datum) 0,
					BoolGetDatum(!work.more)};
	char nulls[] = "      ";

	nulls[4] = work.cursor ? ' ' : 'n';
	eduai_core_run_latest(&advance_step, args, nulls);
	EDUAI_PAUSE("privacy-step-done");
}

static void
note_failure(const EraseHand *hand, const char *source, const ErrorData *error)
{
	bool held = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	Datum args[6];

	eduai_privacy_hand_transaction();
	args[0] = CStringGetTextDatum(hand->tenant);
	args[1] = CStringGetTextDatum(hand->user_ref);
	args[2] = CStringGetTextDatum(source);
	args[3] = CStringGetTextDatum(psprintf(
		"%s: %.*s", unpack_sql_state(error->sqlerrcode),
		pg_mbcliplen(error->message, strlen(error->message), ERROR_LENGTH), error->message));
	/* what somebody holds is tried again each second */
	args[4] = Int32GetDatum(held ? 1 : MAX_BACKOFF);
	args[5] = Int32GetDatum(held ? 0 : 1);
	eduai_core_run_latest(&fail_step, args, NULL);
	eduai_privacy_hand_commit();
}

/* What a step waits for is not what fails for good: it is tried again soon, silently. */
static void
after_error(const EraseHand *hand, const char *source, MemoryContext context)
{
	ErrorData *error = eduai_core_catch(context);
	ereport(error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ? DEBUG1 : LOG,
			(errcode(error->sqlerrcode),
			 errmsg("eduai keeper could not erase from \"%s\": %s", source, error->message)));
	if (!eduai_core_worker_should_stop())
		note_failure(hand, source, error);
}

/* The step to do now; false when there is none: *left says whether some are put off. */
static bool
find_step(const EraseHand *hand, Step *step, bool *left)
{
	Datum args[] = {CStringGetTextDatum(hand->tenant), CStringGetTextDatum(hand->user_ref),
					Int32GetDatum(PG_INT32_MAX)};

	*left = true;
	if (eduai_core_run_latest(&next_step, args, NULL) > 0)
	{
		step->source = eduai_core_text(0, 1);
		step->rank = (int) eduai_core_int64(0, 2, 0);
		step->cursor = eduai_core_text(0, 3);
		return true;
	}
	*left = eduai_core_run_latest(&left_below, args, NULL) > 0;
	return false;
}

/*
 * Before what derives from other stores: those who read them are to end first.
 * The second time the wait is as long as it takes: where there is always somebody
 * who takes longer than PATIENCE_MS, there would be a third time, and a fourth.
 */
static bool
must_wait(EraseHand *hand, const Step *step)
{
	if (step->rank >= EDUAI_PERSONAL_DERIVED && !hand->derived)
	{
		eduai_privacy_older_add(&hand->older);
		hand->derived = true;
	}
	if (eduai_privacy_older_gone(&hand->older))
		return false;
	if (hand->last || eduai_privacy_hand_is_patient(hand))
		return true;
	hand->unsure = true;
	return false;
}

EraseProgress
eduai_privacy_hand_step(EraseHand *hand)
{
	MemoryContext context = CurrentMemoryContext;
	volatile EraseProgress progress = ERASE_WAITS;
	char *volatile source = "the ledger";
	Step step;
	bool left;

	PG_TRY();
	{
		eduai_privacy_hand_transaction();
		if (!find_step(hand, &step, &left))
			progress = left ? ERASE_WAITS : ERASE_DONE;
		else if (!must_wait(hand, &step))
		{
			source = MemoryContextStrdup(context, step.source);
			commit_lazily();
			do_step(hand, &step);
			progress = ERASE_MADE;
		}
		eduai_privacy_hand_commit();
	}
	PG_CATCH();
	{
		after_error(hand, source, context);
		progress = ERASE_WAITS;
	}
	PG_END_TRY();
	return progress;
}

/* ---- end ---- */

static EduaiPlan start_over = {
	"UPDATE eduai.erasure_step SET done = false, cursor = NULL WHERE tenant_id = $1"
	" AND user_ref = $2",
	2,
	{TEXTOID, TEXTOID}};
static EduaiPlan finish = {
	"UPDATE eduai.erasure e SET completed_at = pg_catalog.clock_timestamp(), user_id = NULL,"
	" removed = coalesce((SELECT jsonb_object_agg(s.source, s.removed) FROM eduai.erasure_step s"
	" WHERE s.tenant_id = $1 AND s.user_ref = $2 AND s.removed > 0), '{}')"
	" WHERE e.tenant_id = $1 AND e.user_ref = $2 AND NOT EXISTS (SELECT FROM eduai.erasure_step s"
	" WHERE s.tenant_id = $1 AND s.user_ref = $2 AND NOT s.done)",
	2,
	{TEXTOID, TEXTOID}};
static EduaiPlan drop_steps = {
	"DELETE FROM eduai.erasure_step WHERE tenant_id = $1 AND user_ref = $2", 2, {TEXTOID, TEXTOID}};
static EduaiPlan drop_names = {
	"DELETE FROM eduai.erasure_name WHERE tenant_id = $1 AND user_ref = $2", 2, {TEXTOID, TEXTOID}};

bool
eduai_privacy_hand_end(EraseHand *hand)
{
	Datum args[2];
	bool over;

	eduai_privacy_hand_transaction();
	over = eduai_privacy_older_gone(&hand->older);
	args[0] = CStringGetTextDatum(hand->tenant);
	args[1] = CStringGetTextDatum(hand->user_ref);
	if (over && hand->unsure)
	{
		/* once more, now that nobody can have written what was not seen */
		eduai_core_run_latest(&start_over, args, NULL);
		hand->unsure = hand->derived = false;
		hand->last = true;
		over = false;
	}
	else if (over)
	{
		destroy_key(hand);
		/* a table that was registered meanwhile has added a step */
		eduai_privacy_erasures_hold("ROW EXCLUSIVE");
		over = eduai_core_run_latest(&finish, args, NULL) > 0;
	}
	if (over)
	{
		eduai_core_run_latest(&drop_steps, args, NULL);
		eduai_core_run_latest(&drop_names, args, NULL);
	}
	eduai_privacy_hand_commit();
	EDUAI_PAUSE("privacy-erased");
	return over;
}
