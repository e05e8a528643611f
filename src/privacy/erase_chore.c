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
#include "core/clock.h"
#include "core/guard.h"
#include "core/plan.h"
#include "core/worker.h"
#include "miscadmin.h"
#include "privacy/erase.h"
#include "privacy/erase_hand.h"
#include "privacy/keeper.h"
#include "privacy/older.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define PERIOD_MS   10000
#define NAP_MS      20
#define LONG_NAP_MS 1000
#define RUN_US      150000 /* of one call of the chore */
#define RESTS       6
#define MAX_REST_MS 200
#define MAX_PENDING 64

static EraseHand hands[MAX_PENDING];
static int nhands = 0;

static void
let_go(EraseHand *hand)
{
	eduai_privacy_older_free(&hand->older);
	pfree(hand->tenant);
	pfree(hand->user_ref);
	pfree(hand->user_id);
	*hand = hands[--nhands];
}

/* ---- the chore ---- */

/*
 * Where the store of keys does not answer, or a lock is held, learners who are
 * past it go on.  The first error is raised when nobody can.
 */
static ErrorData *first_error = NULL;

static bool
attempt(bool (*act)(EraseHand *), EraseHand *hand, bool *over)
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
		ErrorData *error = eduai_core_catch(context);
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

static EraseHand *
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

	eduai_privacy_hand_transaction();
	n = eduai_core_run_latest(&pending, args, NULL);
	for (int i = 0; i < nhands; i++)
		hands[i].seen = false;
	for (uint64 i = 0; i < n; i++)
	{
		EraseHand *hand = find_hand(eduai_core_text(i, 1), eduai_core_text(i, 2));

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
	eduai_privacy_hand_commit();
	for (int i = first_new - 1; i >= 0; i--)
		if (!hands[i].seen)
			let_go(&hands[i]);
	for (int i = 0; i < nhands && !eduai_core_worker_should_stop(); i++)
		if (hands[i].older.since_us == 0)
			(void) attempt(eduai_privacy_hand_begin, &hands[i], &begun);
}

/* All steps are done: the end, or what is still to be waited for. */
static EraseProgress
finish_off(EraseHand *hand)
{
	bool over;

	if (!attempt(eduai_privacy_hand_end, hand, &over))
		return ERASE_WAITS;
	if (over)
	{
		let_go(hand);
		return ERASE_DONE;
	}
	return hand->unsure || eduai_privacy_older_left(&hand->older) ? ERASE_WAITS : ERASE_MADE;
}

/* One look at each; true when there is more to do at once. */
static bool
round_of_all(bool *waits)
{
	bool more = false;

	for (int i = nhands - 1; i >= 0; i--)
	{
		EraseProgress progress;

		CHECK_FOR_INTERRUPTS();
		if (hands[i].older.since_us == 0)
			continue;
		progress = eduai_privacy_hand_step(&hands[i]);
		if (progress == ERASE_DONE)
			progress = finish_off(&hands[i]);
		more |= progress == ERASE_MADE;
		*waits |= progress == ERASE_WAITS;
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
		if (eduai_privacy_hand_is_patient(&hands[i]))
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
