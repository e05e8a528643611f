/*
 * key_sql.c: create_key_store(), rotate_master_key() and what health() says of
 * the keys.
 *
 * Rotation goes through the slots in batches: keys are unwrapped and wrapped
 * outside of the store's lock, and written under it unless they changed
 * meanwhile.  What is wrapped under the current master key already is passed
 * over, so a rotation that was interrupted goes on where it was.  The header
 * comes last: it is sealed under the current master key only when all slots
 * are, which is how health() tells that an older one is still needed.
 */
#include "postgres.h"

#include <openssl/crypto.h>

#include "core/compat.h"
#include "core/health.h"
#include "core/json.h"
#include "core/seal.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "privacy/key_command.h"
#include "privacy/key_slot.h"
#include "privacy/key_sql.h"
#include "privacy/learner_key.h"

#define BATCH_BUCKETS 64
#define BATCH_SLOTS   (BATCH_BUCKETS * KEY_BUCKET_SLOTS)

PG_FUNCTION_INFO_V1(eduai_create_key_store);
PG_FUNCTION_INFO_V1(eduai_rotate_master_key);

static void
require(char *error, const char *hint)
{
	if (error != NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("cannot use the key store"), errdetail("The reason: %s.", error),
						errhint("%s", hint)));
}

Datum
eduai_create_key_store(PG_FUNCTION_ARGS)
{
	require(
		eduai_privacy_key_store_create(),
		"eduai.key_store names a file that does not exist yet, in a directory of the server's "
		"user outside of the data directory; behind eduai.key_store_command there is none yet.");
	PG_RETURN_VOID();
}

/* ---- rotation ---- */

typedef struct Batch
{
	KeySlot slots[BATCH_SLOTS];
	bytea *wrapped[BATCH_SLOTS];
	int n;
} Batch;

/* The same key under the current master key; NULL when it is already. */
static char *
wrap_again(const KeyFile *file, const KeySlot *slot, bytea **again)
{
	bytea *sealed = palloc(VARHDRSZ + slot->length);
	char *context = eduai_privacy_key_context(file->id, slot->digest);
	size_t length;
	char *error;
	char *key;

	*again = NULL;
	SET_VARSIZE(sealed, VARHDRSZ + slot->length);
	memcpy(VARDATA(sealed), slot->wrapped, slot->length);
	if (eduai_core_seal_is_current(sealed))
		return NULL;
	key = eduai_core_unseal(sealed, context, &length, &error);
	if (key == NULL)
		return psprintf("a learner's key does not open: %s", error);
	*again = eduai_core_seal(key, length, context);
	OPENSSL_cleanse(key, length);
	return NULL;
}

static char *
collect(KeyFile *file, int segment, uint64 bucket, Batch *batch)
{
	KeySlot found[KEY_BUCKET_SLOTS];
	int n;
	char *error = eduai_privacy_key_slot_bucket(file, segment, bucket, found, &n);

	for (int i = 0; i < n && error == NULL; i++)
	{
		error = wrap_again(file, &found[i], &batch->wrapped[batch->n]);
		if (error == NULL && batch->wrapped[batch->n] != NULL)
			batch->slots[batch->n++] = found[i];
	}
	return error;
}

/* Some buckets; the keys that were wrapped anew are added to *done, *left says that some moved. */
static char *
rotate_some(KeyFile *file, int segment, uint64 from, Batch *batch, int64 *done, bool *left)
{
	uint64 end = Min(from + BATCH_BUCKETS, eduai_privacy_key_segment_buckets(segment));
	char *error = NULL;
	int n;

	batch->n = 0;
	for (uint64 bucket = from; bucket < end && error == NULL; bucket++)
		error = collect(file, segment, bucket, batch);
	if (error != NULL || batch->n == 0)
		return error;
	error = eduai_privacy_key_slot_rewrap(file, batch->slots, batch->wrapped, batch->n, &n);
	*done += n;
	*left |= n < batch->n;
	return error;
}

static int64
rotate_all(KeyFile *file, bool *left)
{
	static const char *const hint =
		"Put the files of eduai.key_store and eduai.master_key_file in order, with the older "
		"master keys below the current one, and call it again: it goes on where it was.";
	Batch *batch = palloc(sizeof(Batch));
	MemoryContext each =
		AllocSetContextCreate(CurrentMemoryContext, "eduai rotation", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(each);
	int64 done = 0;

	for (int segment = 0; segment < (int) file->state.segments; segment++)
		for (uint64 bucket = 0; bucket < eduai_privacy_key_segment_buckets(segment);
			 bucket += BATCH_BUCKETS)
		{
			CHECK_FOR_INTERRUPTS();
			require(rotate_some(file, segment, bucket, batch, &done, left), hint);
			MemoryContextReset(each);
		}
	if (!*left && !eduai_privacy_key_file_is_current())
		require(eduai_privacy_key_file_reseal(file), hint);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(each);
	return done;
}

/* Behind a command there is one entry to wrap anew. */
static int64
rotate_command(void)
{
	bool done;

	require(eduai_privacy_key_command_rotate(&done), eduai_privacy_key_store_hint());
	return done ? 1 : 0;
}

Datum
eduai_rotate_master_key(PG_FUNCTION_ARGS)
{
	const KeyStore *store;
	int64 done = 0;
	bool left;

	eduai_core_seal_refresh();
	do
	{
		char *error;

		store = eduai_privacy_key_store_use(&error);
		require(error, eduai_privacy_key_store_hint());
		left = false;
		done += store->file ? rotate_all(store->file, &left) : rotate_command();
	} while (left);
	PG_RETURN_INT64(done);
}

/* ---- health ---- */

static void
report(EduaiHealth *health)
{
	char *error = NULL;
	bool usable = false;
	bool current = false;
	EduaiJson j;

	if (!eduai_privacy_keys_configured())
		return;
	usable = eduai_privacy_key_store_use(&error) != NULL;
	current = usable && eduai_privacy_key_store_is_current();
	eduai_core_json_begin(&j);
	eduai_core_json_put_bool(&j, "usable", usable);
	eduai_core_json_put_bool(&j, "under_current_master_key", current);
	eduai_core_health_section(health, "keys", eduai_core_json_end(&j));
	if (!usable)
		eduai_core_health_problem(health, "key_store_unusable", "critical", 0,
								  psprintf("Nothing sensitive can be stored or shown: %s.", error),
								  eduai_privacy_key_store_hint());
	else if (!current)
		eduai_core_health_problem(health, "old_master_key_needed", "warning", 0,
								  "Learners' keys are still wrapped by an older master key.",
								  "Call eduai.rotate_master_key(), then remove the older key.");
}

void
eduai_privacy_key_sql_init(void)
{
	eduai_core_health_register(report);
}
