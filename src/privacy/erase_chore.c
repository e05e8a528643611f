/*
 * erase_chore.c: the keeper carries erasures out.  See erase.h.
 *
 * Of each pending erasure, in this order:
 *
 *   begin    the intent goes to the ledger outside the database, the learner's
 *            key is destroyed, a tombstone is appended for those who keep copies
 *            of the feed.
 *   wait     for transactions that began before: they may have looked before the
 *            intent could be seen, and write yet.
 *   steps    the stores by rank, a short transaction at a time; before those
 *            that derive from others (projections), a wait as above for whoever
 *            still folds what he read before.
 *   end      the learner's id is forgotten.
 *
 * Steps and how far they are are rows: after a crash the keeper begins again
 * with the wait and goes on where the steps are.  A transaction that does not
 * end holds up only the end: after PATIENCE_MS the steps are gone through, and
 * once more when it is over.
 *
 * Writers are to feel nothing.  A step works for STEP_US at most, and the keeper
 * rests RESTS times as long as it was on a processor, so that it takes a seventh
 * of one, however busy the machine is.  Nothing depends on when a step is on disk:
 * it is done again after a crash.  So the end alone waits for the disk.
 *
 * A step that fails is put off by itself, a second doubling to an hour; its
 * error is in eduai.erasure_status.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
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
#include "privacy/keeper.h"
#include "privacy/learner_key.h"
#include "privacy/ledger.h"
#include "privacy/older.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include <time.h>

#define PERIOD_MS    10000
#define PATIENCE_MS  5000
#define NAP_MS       20
#define LONG_NAP_MS  1000
#define RUN_US       150000 /* of one call of the chore */
#define STEP_US      30000  /* looking, in one transaction */
#define STEP_ROWS    2000
#define RESTS        6
#define MAX_REST_MS  200
#define MAX_PENDING  64
#define MAX_BACKOFF  3600
#define ERROR_LENGTH 300

/* An erasure as this keeper has it in hand. */
typedef struct Hand
{
	char *tenant;
	char *user_ref;
	char *user_id;
	EduaiOlder older; /* those to wait for */
	bool derived;     /* the second wait has begun */
	bool unsure;      /* steps ran while somebody older did */
	bool last;        /* gone through once more: now nobody older is left out */
	bool seen;        /* is still pending */
} Hand;

static Hand hands[MAX_PENDING];
static int nhands = 0;

/* ---- transactions ---- */

static EduaiPrivilege privilege;

static void
begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	eduai_core_enter(&privilege);
	SPI_connect();
}

static void
commit(void)
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

static bool
is_patient(const Hand *hand)
{
	return eduai_core_mono_us() - hand->older.since_us < (int64) PATIENCE_MS * 1000;
}

/* ---- begin ---- */

static void
append_tombstone(const Hand *hand)
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
announced(const Hand *hand)
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
destroy_key(const Hand *hand)
{
	Datum args[] = {CStringGetTextDatum(hand->tenant), CStringGetTextDatum(hand->user_ref)};

	if (!eduai_privacy_keys_configured())
		return;
	(void) eduai_privacy_key_destroy(hand->tenant, hand->user_id);
	eduai_core_run_latest(&note_keys, args, NULL);
}

/* What a crash interrupts here is done again: all of it may happen twice. */
static bool
begin_erasure(Hand *hand)
{
	begin();
	eduai_privacy_ledger_write();
	EDUAI_PAUSE("privacy-ledger-written");
	destroy_key(hand);
	if (!announced(hand))
		append_tombstone(hand);
	eduai_privacy_older_add(&hand->older);
	commit();
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
erase_some(const Hand *hand, const Step *step, EduaiPersonalWork *work)
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
do_step(const Hand *hand, const Step *step)
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
note_failure(const Hand *hand, const char *source, const ErrorData *error)
{
	bool held = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	Datum args[6];

	begin();
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
	commit();
}

/* What a step waits for is not what fails for good: it is tried again soon, silently. */
static void
after_error(const Hand *hand, const char *source, MemoryContext context)
{
	ErrorData *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(context);
	ereport(error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ? DEBUG1 : LOG,
			(errcode(error->sqlerrcode),
			 errmsg("eduai keeper could not erase from \"%s\": %s", source, error->message)));
	if (!eduai_core_worker_should_stop())
		note_failure(hand, source, error);
}

typedef enum Progress
{
	PROGRESS_MADE,
	PROGRESS_WAITS, /* for a transaction, or for the time of a retry */
	PROGRESS_DONE,  /* no step is left */
} Progress;

/* The step to do now; false when there is none: *left says whether some are put off. */
static bool
find_step(const Hand *hand, Step *step, bool *left)
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
must_wait(Hand *hand, const Step *step)
{
	if (step->rank >= EDUAI_PERSONAL_DERIVED && !hand->derived)
	{
		eduai_privacy_older_add(&hand->older);
		hand->derived = true;
	}
	if (eduai_privacy_older_gone(&hand->older))
		return false;
	if (hand->last || is_patient(hand))
		return true;
	hand->unsure = true;
	return false;
}

static Progress
step_on(Hand *hand)
{
	MemoryContext context = CurrentMemoryContext;
	volatile Progress progress = PROGRESS_WAITS;
	char *volatile source = "the ledger";
	Step step;
	bool left;

	PG_TRY();
	{
		begin();
		if (!find_step(hand, &step, &left))
			progress = left ? PROGRESS_WAITS : PROGRESS_DONE;
		else if (!must_wait(hand, &step))
		{
			source = MemoryContextStrdup(context, step.source);
			commit_lazily();
			do_step(hand, &step);
			progress = PROGRESS_MADE;
		}
		commit();
	}
	PG_CATCH();
	{
		after_error(hand, source, context);
		progress = PROGRESS_WAITS;
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

static void
let_go(Hand *hand)
{
	eduai_privacy_older_free(&hand->older);
	pfree(hand->tenant);
	pfree(hand->user_ref);
	pfree(hand->user_id);
	*hand = hands[--nhands];
}

/* True when it is complete, and the hand empty. */
static bool
end_erasure(Hand *hand)
{
	Datum args[2];
	bool over;

	begin();
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
	commit();
	EDUAI_PAUSE("privacy-erased");
	if (over)
		let_go(hand);
	return over;
}

/* ---- the chore ---- */

/*
 * Where the store of keys does not answer, or a lock is held, learners who are
 * past it go on.  The first error is raised when nobody can.
 */
static ErrorData *first_error = NULL;

static bool
attempt(bool (*act)(Hand *), Hand *hand, bool *over)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool done = false;

	PG_TRY();
	{
		*over = act(hand);
		done = true;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		MemoryContextSwitchTo(context);
		if (first_error == NULL)
			first_error = error;
	}
	PG_END_TRY();
	return done;
}

static EduaiPlan pending = {
	"SELECT e.tenant_id, e.user_ref, e.user_id FROM eduai.erasure e WHERE e.completed_at IS NULL"
	" AND e.user_id IS NOT NULL AND (EXISTS (SELECT FROM eduai.erasure_step s"
	" WHERE s.tenant_id = e.tenant_id AND s.user_ref = e.user_ref AND NOT s.done"
	" AND (s.retry_at IS NULL OR s.retry_at <= pg_catalog.clock_timestamp() + interval '2 s'))"
	" OR NOT EXISTS (SELECT FROM eduai.erasure_step s WHERE s.tenant_id = e.tenant_id"
	" AND s.user_ref = e.user_ref AND NOT s.done)) ORDER BY e.requested_at LIMIT $1",
	1,
	{INT4OID}};

static Hand *
find_hand(const char *tenant, const char *user_ref)
{
	for (int i = 0; i < nhands; i++)
		if (strcmp(hands[i].user_ref, user_ref) == 0 && strcmp(hands[i].tenant, tenant) == 0)
			return &hands[i];
	return NULL;
}

/* Takes new ones in hand, lets those go that are pending no more. */
static void
take_up(void)
{
	Datum args[] = {Int32GetDatum(MAX_PENDING)};
	int first_new = nhands;
	bool begun;
	uint64 n;

	begin();
	n = eduai_core_run_latest(&pending, args, NULL);
	for (int i = 0; i < nhands; i++)
		hands[i].seen = false;
	for (uint64 i = 0; i < n; i++)
	{
		Hand *hand = find_hand(eduai_core_text(i, 1), eduai_core_text(i, 2));

		if (hand == NULL && nhands < MAX_PENDING)
		{
			hand = &hands[nhands++];
			memset(hand, 0, sizeof(*hand));
			hand->tenant = MemoryContextStrdup(TopMemoryContext, eduai_core_text(i, 1));
			hand->user_ref = MemoryContextStrdup(TopMemoryContext, eduai_core_text(i, 2));
			hand->user_id = MemoryContextStrdup(TopMemoryContext, eduai_core_text(i, 3));
		}
		if (hand != NULL)
			hand->seen = true;
	}
	eduai_privacy_erasure_keys_reseal();
	commit();
	for (int i = first_new - 1; i >= 0; i--)
		if (!hands[i].seen)
			let_go(&hands[i]);
	for (int i = 0; i < nhands && !eduai_core_worker_should_stop(); i++)
		if (hands[i].older.since_us == 0)
			(void) attempt(begin_erasure, &hands[i], &begun);
}

/* All steps are done: the end, or what is still to be waited for. */
static Progress
finish_off(Hand *hand)
{
	bool over;

	if (!attempt(end_erasure, hand, &over))
		return PROGRESS_WAITS;
	if (over)
		return PROGRESS_DONE;
	return hand->unsure || eduai_privacy_older_left(&hand->older) ? PROGRESS_WAITS : PROGRESS_MADE;
}

/* One look at each; true when there is more to do at once. */
static bool
round_of_all(bool *waits)
{
	bool more = false;

	for (int i = nhands - 1; i >= 0; i--)
	{
		Progress progress;

		CHECK_FOR_INTERRUPTS();
		if (hands[i].older.since_us == 0)
			continue;
		progress = step_on(&hands[i]);
		if (progress == PROGRESS_DONE)
			progress = finish_off(&hands[i]);
		more |= progress == PROGRESS_MADE;
		*waits |= progress == PROGRESS_WAITS;
	}
	return more;
}

static void
rest(int64 worked_us)
{
	int64 until = eduai_core_mono_us() + Min(worked_us * RESTS, (int64) MAX_REST_MS * 1000);
	int64 left;

	while (!eduai_core_worker_should_stop() && (left = until - eduai_core_mono_us()) >= 1000)
		(void) eduai_core_worker_wait((long) (left / 1000));
}

static bool
somebody_patient(void)
{
	for (int i = 0; i < nhands; i++)
		if (is_patient(&hands[i]))
			return true;
	return false;
}

static long
run(void)
{
	int64 until = eduai_core_mono_us() + RUN_US;
	bool waits = false;
	bool moved = false;

	if (RecoveryInProgress())
		return PERIOD_MS;
	first_error = NULL;
	take_up();
	while (nhands > 0 && eduai_core_mono_us() < until && !eduai_core_worker_should_stop())
	{
		int64 since = eduai_core_processor_us();

		waits = false;
		if (!round_of_all(&waits))
			break;
		moved = true;
		rest(eduai_core_processor_us() - since);
	}
	if (first_error != NULL && !moved)
		ReThrowError(first_error);
	if (nhands > 0 && waits)
		(void) eduai_core_worker_wait(somebody_patient() ? NAP_MS : LONG_NAP_MS);
	return nhands > 0 ? 0 : PERIOD_MS;
}

void
eduai_privacy_erase_chore_init(void)
{
	static const EduaiChore erasures = {"erasures", run, NULL};

	eduai_privacy_keeper_register(&erasures);
}
