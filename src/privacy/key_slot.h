/*
 * key_slot.h: the learners' keys in the slots of the key store.
 *
 * A key is found by its owner's digest, which the store's own key makes of the
 * names.  A freed slot keeps neither the digest nor the key, and is used again
 * for anybody: what names a learner in an old backup finds no slot that another
 * has now.
 *
 * All return NULL, or why not, as key_file.h's do; the file is in use.
 */
#ifndef EDUAI_PRIVACY_KEY_SLOT_H
#define EDUAI_PRIVACY_KEY_SLOT_H

#include "postgres.h"
#include "privacy/key_file.h"

typedef struct KeySlot
{
	off_t offset; /* 0: there is none */
	uint64 seq;   /* goes up with each change of the slot */
	int copy;     /* which of its two copies counts */
	uint8 digest[KEY_DIGEST_BYTES];
	uint32 length;
	uint8 wrapped[KEY_WRAPPED_BYTES]; /* the key, sealed under a master key */
} KeySlot;

/* The owner's slot; found->offset is 0 when it has none. */
extern char *eduai_privacy_key_slot_find(KeyFile *file, const uint8 *digest, KeySlot *found);

/*
 * Puts the key into a slot, on disk when this returns; if another process was
 * faster, *found is what it put there.  Takes the lock.
 */
extern char *eduai_privacy_key_slot_put(KeyFile *file, const uint8 *digest, const bytea *wrapped,
										KeySlot *found);

/*
 * Overwrites the key, all copies of it, on disk when this returns; nothing to
 * do is fine.  Takes the lock.
 */
extern char *eduai_privacy_key_slot_destroy(KeyFile *file, const uint8 *digest, bool *destroyed);

/* The occupied slots of a bucket; their number in *n. */
#define KEY_BUCKET_SLOTS 8
extern char *eduai_privacy_key_slot_bucket(KeyFile *file, int segment, uint64 bucket,
										   KeySlot slots[KEY_BUCKET_SLOTS], int *n);

/*
 * Gives slots, found before, other wrappings of their keys; those that changed
 * since are left out, *done counts the others.  Takes the lock once, for all.
 */
extern char *eduai_privacy_key_slot_rewrap(KeyFile *file, const KeySlot *slots,
										   bytea *const *wrapped, int n, int *done);

#endif
