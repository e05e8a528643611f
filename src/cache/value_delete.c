/*
 * value_delete.c: cache_delete(), cache_delete_tag(), cache_delete_pattern()
 * and cache_clear().
 *
 * A deletion takes effect at once, whatever becomes of the transaction: that
 * costs others a computation at most.  Others may store the old value again
 * before the transaction commits, and rightly: it still is what they see.  So
 * a transaction that has written deletes again at PRE_COMMIT, before anybody
 * can see its rows, and leaves a stamp (cache/stamp.h) with its id; until then
 * it finds nothing there itself.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "cache/store_internal.h"
#include "access/transam.h"
#include "cache/tag.h"
#include "cache/value.h"
#include "core/compat.h"
#include "core/tenant.h"
#include "core/worker.h"
#include "core/xact.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#define LONGEST_PATTERN 256
#define MOST_NOTES      1000

PG_FUNCTION_INFO_V1(eduai_cache_delete);
PG_FUNCTION_INFO_V1(eduai_cache_delete_tag);
PG_FUNCTION_INFO_V1(eduai_cache_delete_pattern);
PG_FUNCTION_INFO_V1(eduai_cache_clear);

typedef enum NoteWhat
{
	NOTE_KEY,
	NOTE_TAG,
	NOTE_PATTERN,
	NOTE_ALL
} NoteWhat;

/* What this transaction deleted: in TopTransactionContext. */
typedef struct Note
{
	struct Note *next;
	NoteWhat what;
	Oid database;
	char tenant[NAMEDATALEN];
	uint64 dep;
	size_t length;
	char text[FLEXIBLE_ARRAY_MEMBER]; /* the key or the pattern, NUL-terminated */
} Note;

static Note *notes = NULL;
static int nnotes = 0;

static CacheKey
key_of(const Note *note)
{
	return (CacheKey){.scope = CACHE_SCOPE_VALUE,
					  .database = note->database,
					  .tenant = note->tenant,
					  .key = note->text,
					  .length = note->length};
}

static int64
delete_noted(const Note *note)
{
	CacheKey key = key_of(note);

	switch (note->what)
	{
		case NOTE_KEY:
			return eduai_cache_store_delete(&key);
		case NOTE_TAG:
			return eduai_cache_store_delete_dep(note->database, note->tenant, note->dep);
		case NOTE_PATTERN:
			return eduai_cache_store_delete_pattern(note->database, note->tenant, note->text);
		case NOTE_ALL:
			return eduai_cache_store_clear(note->database, note->tenant);
	}
	return 0;
}

/* First the stamp: what is stored after it is held against it, what was stored before is deleted. */
static int64
stamp_and_delete(const Note *note, const CacheStamp *stamp)
{
	CacheKey key = key_of(note);

	LWLockAcquire(CACHE_WRITER, LW_EXCLUSIVE);
	if (note->what == NOTE_KEY)
		eduai_cache_log_deletion(eduai_cache_hash(&key), stamp);
	else if (note->what == NOTE_TAG)
		eduai_cache_log_deletion(note->dep, stamp);
	else
		eduai_cache_log_pattern(note->database, note->tenant, note->text, note->what == NOTE_ALL,
								stamp);
	LWLockRelease(CACHE_WRITER);
	return delete_noted(note);
}

static CacheStamp
stamp_of_now(void)
{
	CacheSnapshot latest;
	bool taken;

	PushActiveSnapshot(GetLatestSnapshot());
	taken = eduai_cache_snapshot_take(&latest);
	PopActiveSnapshot();
	/* without a snapshot: all that has an id now must be over */
	if (!taken)
		latest =
			(CacheSnapshot){.xmax = U64FromFullTransactionId(ReadNextFullTransactionId()), .n = 0};
	return eduai_cache_stamp_of(&latest);
}

static Note *
make_note(NoteWhat what, const char *tenant, const char *bytes, size_t length)
{
	Note *note = MemoryContextAllocZero(TopTransactionContext, offsetof(Note, text) + length + 1);

	note->what = what;
	note->database = MyDatabaseId;
	strlcpy(note->tenant, tenant, NAMEDATALEN);
	note->length = length;
	memcpy(note->text, bytes, length);
	return note;
}

/* Too many to keep: all of the tenant instead of them. */
static Note *
make_one_of_all(const char *tenant)
{
	Note *kept = NULL;
	Note *next;

	for (Note *note = notes; note != NULL; note = next)
	{
		next = note->next;
		if (strcmp(note->tenant, tenant) == 0)
			continue;
		note->next = kept;
		kept = note;
	}
	notes = kept;
	nnotes = 0;
	return make_note(NOTE_ALL, tenant, "*", 1);
}

static int64
delete_now(Note *note)
{
	CacheStamp stamp;

	if (eduai_cache_shared == NULL)
		return 0;
	stamp = stamp_of_now();
	if (nnotes >= MOST_NOTES)
		note = make_one_of_all(note->tenant);
	note->next = notes;
	notes = note;
	nnotes++;
	return stamp_and_delete(note, &stamp);
}

static void
forget_notes(void)
{
	notes = NULL;
	nnotes = 0;
}

static void
at_pre_commit(void)
{
	FullTransactionId own = GetTopFullTransactionIdIfAny();
	CacheStamp stamp;

	if (notes == NULL || !FullTransactionIdIsValid(own))
		return;
	stamp = eduai_cache_stamp_of_writer(U64FromFullTransactionId(own));
	for (const Note *note = notes; note != NULL; note = note->next)
		stamp_and_delete(note, &stamp);
}

static bool
note_concerns(const Note *note, const CacheKey *key)
{
	if (note->database != key->database || strcmp(note->tenant, key->tenant) != 0)
		return false;
	switch (note->what)
	{
		case NOTE_KEY:
			return note->length == key->length && memcmp(note->text, key->key, key->length) == 0;
		case NOTE_TAG:
			return false; /* the judge knows */
		case NOTE_PATTERN:
			return eduai_cache_matches(note->text, note->length, key->key, key->length);
		case NOTE_ALL:
			return true;
	}
	return false;
}

bool
eduai_cache_deleted_here(const CacheKey *key)
{
	if (likely(notes == NULL) || !TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return false;
	for (const Note *note = notes; note != NULL; note = note->next)
		if (note_concerns(note, key))
			return true;
	return false;
}

/* cache_delete(key) */
Datum
eduai_cache_delete(PG_FUNCTION_ARGS)
{
	char *tenant = eduai_core_tenant();
	CacheKey key = eduai_cache_value_key(PG_GETARG_TEXT_PP(0), tenant);

	PG_RETURN_BOOL(delete_now(make_note(NOTE_KEY, tenant, key.key, key.length)) > 0);
}

/* cache_delete_tag(tag) */
Datum
eduai_cache_delete_tag(PG_FUNCTION_ARGS)
{
	char *tenant = eduai_core_tenant();
	uint64 dep = eduai_cache_tag_of_tenant(MyDatabaseId, tenant,
										   eduai_cache_check_tag(PG_GETARG_TEXT_PP(0)));
	Note *note = make_note(NOTE_TAG, tenant, "", 0);

	note->dep = dep;
	if (!RecoveryInProgress())
		eduai_cache_wrote(dep);
	PG_RETURN_INT64(delete_now(note));
}

static void
check_pattern(const char *pattern, size_t length)
{
	if (length == 0 || length > LONGEST_PATTERN)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid cache pattern \"%.*s\"",
							   pg_mbcliplen(pattern, (int) length, 100), pattern),
						errhint("Give between 1 and %d bytes; \"*\" stands for any run of "
								"characters, \"?\" for one.",
								LONGEST_PATTERN)));
}

/* cache_delete_pattern(pattern) */
Datum
eduai_cache_delete_pattern(PG_FUNCTION_ARGS)
{
	char *tenant = eduai_core_tenant();
	char *pattern = text_to_cstring(PG_GETARG_TEXT_PP(0));

	check_pattern(pattern, strlen(pattern));
	PG_RETURN_INT64(delete_now(make_note(NOTE_PATTERN, tenant, pattern, strlen(pattern))));
}

/* cache_clear() */
Datum
eduai_cache_clear(PG_FUNCTION_ARGS)
{
	char *tenant = eduai_core_tenant();

	PG_RETURN_INT64(delete_now(make_note(NOTE_ALL, tenant, "*", 1)));
}

/* Another installation is not to find what was put into this one. */
static void
forget_all(void)
{
	(void) eduai_cache_store_clear(MyDatabaseId, NULL);
}

void
eduai_cache_delete_init(void)
{
	static const EduaiXactHooks hooks = {.name = "cache deletions",
										 .rank = EDUAI_RANK_CACHE,
										 .pre_commit = at_pre_commit,
										 .pre_prepare = at_pre_commit,
										 .commit = forget_notes,
										 .abort = forget_notes,
										 .prepare = forget_notes};

	eduai_core_xact_register(&hooks);
	eduai_core_worker_at_drop(forget_all);
}
