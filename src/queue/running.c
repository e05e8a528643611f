/*
 * running.c: attempts start and end with their transactions.  See running.h.
 *
 * What a transaction did is kept in notes, in TopTransactionContext, newest
 * first; each is allocated before the shared table is touched.  The notes of a
 * savepoint lie at the front of the list when it ends: what came after it began
 * is its own or its children's, and those gave it theirs.
 *
 * Notes name attempts by their ids and not by their place in the table, so that
 * one whose entry is not there (it was forgotten with a dropped extension, or
 * was not loaded yet) does nothing at the end of the transaction.
 *
 * The slots of the attempts that a transaction ends are its own to fill: both
 * happen at its commit, or neither does.  For everybody else they are taken
 * until then.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "core/clock.h"
#include "core/shmem.h"
#include "core/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "queue/lane_wait.h"
#include "queue/queue.h"
#include "queue/running_internal.h"
#include "utils/memutils.h"

typedef enum NoteKind
{
	NOTE_STARTED,
	NOTE_ENDED,
	NOTE_HELD
} NoteKind;

typedef struct Note
{
	struct Note *next;
	NoteKind kind;
	SubTransactionId subxact;
	int64 task_id;
	int attempt;
	uint64 key_hash;       /* of NOTE_HELD */
	ItemPointerData place; /* of NOTE_STARTED */
	int64 limit_us;        /* likewise */
	int pool;              /* of NOTE_ENDED: whose slot it gives back, or RUNNING_NONE */
	bool critical;
} Note;

/* slots of attempts that this transaction ends */
typedef struct OwnSlots
{
	int running;
	int critical; /* of those */
} OwnSlots;

static OwnSlots own_slots[RUNNING_POOLS];

static Note *notes = NULL;
static Note *spare = NULL; /* notes to use again */
static bool wake_wanted = false;
static uint64 wake_pools = 0; /* eduai_queue_lane_pool_bit() */

void
eduai_queue_running_want_wake(void)
{
	wake_wanted = true;
}

void
eduai_queue_running_want_slot_wake(const PoolPlace *pool)
{
	wake_wanted = true;
	wake_pools |= pool == NULL ? PG_UINT64_MAX : eduai_queue_lane_pool_bit(pool->name);
}

void
eduai_queue_running_wake(void)
{
	uint64 pools = wake_pools;

	if (!wake_wanted)
		return;
	wake_wanted = false;
	wake_pools = 0;
	eduai_queue_wake_now();
	eduai_queue_lane_wake_pools(pools);
}

static Note *
new_note(NoteKind kind, int64 task_id, int attempt)
{
	Note *note = spare;

	if (note != NULL)
		spare = note->next;
	else
		note = MemoryContextAlloc(TopTransactionContext, sizeof(Note));
	*note = (Note){.kind = kind,
				   .subxact = GetCurrentSubTransactionId(),
				   .task_id = task_id,
				   .attempt = attempt,
				   .pool = RUNNING_NONE};
	return note;
}

static void
count_own(const Note *note, int n)
{
	if (note->kind != NOTE_ENDED || note->pool == RUNNING_NONE)
		return;
	own_slots[note->pool].running += n;
	own_slots[note->pool].critical += note->critical ? n : 0;
}

void
eduai_queue_running_own_slots(int pool, int *running, int *critical)
{
	*running = own_slots[pool].running;
	*critical = own_slots[pool].critical;
}

static void
give_back(Note *note)
{
	note->next = spare;
	spare = note;
}

static void
keep(Note *note)
{
	note->next = notes;
	notes = note;
}

/* ---- the end of a transaction ---- */

static void
commit_note(const Note *note)
{
	RunningEntry *entry;

	if (note->kind == NOTE_HELD)
	{
		if (eduai_queue_running_find_key(note->key_hash) == NULL)
			eduai_queue_key_freed(MyDatabaseId, note->key_hash);
		return;
	}
	entry = eduai_queue_running_find(note->task_id, note->attempt);
	if (entry == NULL)
		return;
	if (note->kind == NOTE_ENDED)
		eduai_queue_running_remove(entry);
	else
	{
		entry->committed = true;
		entry->place = note->place;
		if (entry->lease_until_us != 0)
			eduai_queue_lease_limit(entry, note->limit_us);
		if (entry->lease_until_us != 0)
			eduai_queue_lease_noted(eduai_queue_running_database_known(), entry->lease_until_us);
	}
}

static void
abort_note(const Note *note)
{
	RunningEntry *entry = NULL;

	if (note->kind != NOTE_HELD)
		entry = eduai_queue_running_find(note->task_id, note->attempt);
	if (entry == NULL)
		return;
	if (note->kind == NOTE_STARTED)
		eduai_queue_running_remove(entry);
	else if (entry->enders > 0)
	{
		entry->enders--;
		if (entry->lease_until_us != 0)
			eduai_queue_lease_noted(eduai_queue_running_database_known(), entry->lease_until_us);
	}
}

static void
finish(bool commit)
{
	if (notes != NULL || eduai_queue_pools_changed())
	{
		running_lock();
		for (const Note *note = notes; note != NULL; note = note->next)
		{
			count_own(note, -1);
			if (commit)
				commit_note(note);
			else
				abort_note(note);
		}
		eduai_queue_pools_end(commit);
		running_unlock();
		eduai_queue_running_wake();
	}
	notes = NULL;
	spare = NULL;
}

static void
on_commit(void)
{
	finish(true);
}

static void
on_abort(void)
{
	finish(false);
}

static void
on_pre_prepare(void)
{
	if (notes == NULL && !eduai_queue_pools_changed())
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot prepare a transaction that claimed or ended tasks or changed a pool"),
			 errdetail("Which tasks run is kept in shared memory, which a restart would lose."),
			 errhint("Commit it instead. Transactions that only enqueue can be prepared.")));
}

static void
on_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent)
{
	bool aborted = event == SUBXACT_EVENT_ABORT_SUB;

	if (!aborted && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	eduai_queue_pools_subxact(mine, parent, !aborted);
	if (notes == NULL || notes->subxact != mine)
		return;
	if (!aborted)
	{
		for (Note *note = notes; note != NULL && note->subxact == mine; note = note->next)
			note->subxact = parent;
		return;
	}
	running_lock();
	while (notes != NULL && notes->subxact == mine)
	{
		Note *note = notes;

		count_own(note, -1);
		abort_note(note);
		notes = note->next;
		give_back(note);
	}
	running_unlock();
	eduai_queue_running_wake();
}

void
eduai_queue_running_init(void)
{
	static const EduaiXactHooks hooks = {.name = "running",
										 .rank = EDUAI_RANK_QUEUE,
										 .pre_prepare = on_pre_prepare,
										 .commit = on_commit,
										 .abort = on_abort,
										 .subxact = on_subxact};

	eduai_queue_running_table_init();
	eduai_core_xact_register(&hooks);
}

/* ---- attempts ---- */

static bool
has_slot(PoolPlace *pool, int priority)
{
	PoolStand stand;
	int kept;

	eduai_queue_pool_stand_of(pool, &stand);
	kept = priority == 0 ? 0 : Max(stand.reserved - stand.critical, 0);
	if (stand.size - stand.running > kept)
		return true;
	pool->refused = true;
	return false;
}

static StartVerdict
try_start(const Attempt *attempt)
{
	int pool;
	RunningEntry *entry;

	if (eduai_queue_running_find(attempt->task_id, attempt->attempt) != NULL)
		return START_TAKEN;
	pool = eduai_queue_pool_place(attempt->pool);
	if (pool == RUNNING_NONE)
		return START_FULL;
	if (!has_slot(&eduai_queue_running->pools[pool], attempt->priority))
		return START_NO_SLOT;
	if (attempt->concurrency_key != NULL && eduai_queue_running_find_key(eduai_queue_key_hash(
												attempt->tenant, attempt->concurrency_key)) != NULL)
		return START_KEY_BUSY;
	entry = eduai_queue_running_insert(attempt, pool);
	if (entry == NULL)
	{
		eduai_queue_running->refused = true;
		return START_FULL;
	}
	if (attempt->lease_ms > 0)
		entry->lease_until_us = eduai_core_mono_us() + attempt->lease_ms * 1000;
	return START_OK;
}

StartVerdict
eduai_queue_running_start(const Attempt *attempt)
{
	DatabasePlace *database = eduai_queue_running_database();
	Note *note;
	StartVerdict verdict;

	if (!OidIsValid(database->relation))
		elog(ERROR, "the attempts that run are not loaded");
	note = new_note(NOTE_STARTED, attempt->task_id, attempt->attempt);
	running_lock();
	verdict = try_start(attempt);
	running_unlock();
	if (verdict == START_OK)
		keep(note);
	else
		give_back(note);
	return verdict;
}

void
eduai_queue_running_placed(const ItemPointerData *place, int64 timeout_ms)
{
	Assert(notes != NULL && notes->kind == NOTE_STARTED);
	notes->place = *place;
	notes->limit_us = eduai_core_mono_us() + timeout_ms * 1000;
}

ItemPointerData
eduai_queue_running_place(int64 task_id, int attempt)
{
	const RunningEntry *entry;
	ItemPointerData place = {0};

	(void) eduai_queue_running_database();
	running_lock();
	entry = eduai_queue_running_find(task_id, attempt);
	if (entry != NULL)
		place = entry->place;
	running_unlock();
	return place;
}

void
eduai_queue_running_take_back(int64 task_id, int attempt)
{
	Note **link = &notes;
	Note *note;

	while ((note = *link) != NULL &&
		   (note->kind != NOTE_STARTED || note->task_id != task_id || note->attempt != attempt))
		link = &note->next;
	if (note == NULL)
		return;
	running_lock();
	abort_note(note);
	running_unlock();
	*link = note->next;
	give_back(note);
	eduai_queue_running_wake();
}

void
eduai_queue_running_end(int64 task_id, int attempt)
{
	Note *note;
	RunningEntry *entry;

	if (!eduai_core_preloaded())
		return;
	if (!OidIsValid(eduai_queue_running_database()->relation))
	{
		/* now: once the row is written, this transaction could not load its attempt any more */
		SPI_connect();
		eduai_queue_running_load();
		SPI_finish();
	}
	note = new_note(NOTE_ENDED, task_id, attempt);
	running_lock();
	entry = eduai_queue_running_find(task_id, attempt);
	if (entry != NULL)
	{
		entry->enders++;
		note->pool = entry->pool;
		note->critical = entry->critical;
		count_own(note, 1);
	}
	running_unlock();
	keep(note);
}

bool
eduai_queue_attempt_runs(const char *tenant, int64 task_id, int attempt)
{
	const RunningEntry *entry;
	bool runs;

	(void) eduai_queue_running_database();
	running_lock();
	entry = eduai_queue_running_find(task_id, attempt);
	runs = entry != NULL && !entry->lapsed && strcmp(entry->tenant, tenant) == 0;
	running_unlock();
	return runs;
}

/* ---- concurrency keys ---- */

uint64
eduai_queue_key_hash(const char *tenant, const char *concurrency_key)
{
	uint64 seed = hash_bytes_extended((const unsigned char *) tenant, (int) strlen(tenant), 0);
	uint64 hash = hash_bytes_extended((const unsigned char *) concurrency_key,
									  (int) strlen(concurrency_key), seed);

	return Max(hash, 1); /* 0: no key */
}

bool
eduai_queue_key_busy(const char *tenant, const char *concurrency_key)
{
	uint64 hash = eduai_queue_key_hash(tenant, concurrency_key);
	bool busy;

	(void) eduai_queue_running_database();
	running_lock();
	busy = eduai_queue_running_find_key(hash) != NULL;
	running_unlock();
	return busy;
}

void
eduai_queue_key_held(const char *tenant, const char *concurrency_key)
{
	Note *note;

	(void) eduai_queue_running_database();
	note = new_note(NOTE_HELD, 0, 0);
	note->key_hash = eduai_queue_key_hash(tenant, concurrency_key);
	keep(note);
}

int
eduai_queue_keys_held(void)
{
	int n = 0;

	for (const Note *note = notes; note != NULL; note = note->next)
		n += note->kind == NOTE_HELD;
	return n;
}
