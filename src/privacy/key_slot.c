/*
 * key_slot.c: the learners' keys in the slots of the key store; see key_slot.h.
 *
 * A slot has 512 bytes: two copies of what it holds, each with a checksum and a
 * sequence number; of the valid ones the higher counts.  A change is written
 * over the copy that does not count and synced before the other is touched, so
 * that a write that is torn leaves what was.  A slot whose first copy is not
 * valid and whose second is all zeros is one whose first write was torn: free.
 * One with two invalid copies is damaged and never used again.
 *
 * The store is a hash table without an index of its own: each segment has one
 * bucket for a digest, a block of eight slots.  A new owner takes the first
 * free slot of its buckets, from the oldest segment on; when all are full, a
 * further segment, twice as large, is added.  So a look reads a block of each
 * segment: of eleven with two million learners.
 *
 * Reading takes no lock: whatever it finds half written has another copy.
 */
#include "postgres.h"

#include "core/compat.h"
#include "port/pg_crc32c.h"
#include "privacy/key_slot.h"

#define COPY_BYTES 256
#define SLOT_BYTES (2 * COPY_BYTES)
#define STATE_FREE 0
#define STATE_KEY  1

typedef struct Copy
{
	uint32 crc; /* of what follows */
	uint32 state;
	uint64 seq;
	uint8 digest[KEY_DIGEST_BYTES];
	uint32 length;
	uint8 wrapped[KEY_WRAPPED_BYTES];
	uint8 unused[COPY_BYTES - 20 - KEY_DIGEST_BYTES - KEY_WRAPPED_BYTES];
} Copy;

StaticAssertDecl(sizeof(Copy) == COPY_BYTES, "a copy has no holes");
StaticAssertDecl(KEY_BUCKET_SLOTS *SLOT_BYTES == KEY_BLOCK_BYTES, "a bucket is a block");

typedef union SlotBlock
{
	Copy copies[KEY_BUCKET_SLOTS][2];
	uint8 bytes[KEY_BLOCK_BYTES];
} SlotBlock;

static uint32
copy_crc(const Copy *copy)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, &copy->state, sizeof(Copy) - offsetof(Copy, state));
	FIN_CRC32C(crc);
	return crc;
}

static bool
is_zero(const Copy *copy)
{
	static const Copy zero;

	return memcmp(copy, &zero, sizeof(Copy)) == 0;
}

static bool
is_valid(const Copy *copy)
{
	return !is_zero(copy) && copy->length <= KEY_WRAPPED_BYTES && copy->crc == copy_crc(copy);
}

/* Which of the two counts, -1 for none. */
static int
counting(const Copy pair[2])
{
	bool first = is_valid(&pair[0]);
	bool second = is_valid(&pair[1]);

	if (first && second)
		return pair[1].seq > pair[0].seq ? 1 : 0;
	return first ? 0 : second ? 1 : -1;
}

static bool
is_free(const Copy pair[2])
{
	int copy = counting(pair);

	return copy >= 0 ? pair[copy].state == STATE_FREE : is_zero(&pair[1]);
}

static void
take_slot(const Copy pair[2], int copy, off_t offset, KeySlot *slot)
{
	const Copy *c = &pair[copy];

	*slot = (KeySlot){.offset = offset, .seq = c->seq, .copy = copy, .length = c->length};
	memcpy(slot->digest, c->digest, KEY_DIGEST_BYTES);
	memcpy(slot->wrapped, c->wrapped, KEY_WRAPPED_BYTES);
}

/* ---- looking ---- */

static off_t
bucket_of(int segment, const uint8 *digest)
{
	uint64 hash;

	memcpy(&hash, digest, sizeof(hash));
	return eduai_privacy_key_segment_start(segment) +
		   (off_t) (hash % eduai_privacy_key_segment_buckets(segment)) * KEY_BLOCK_BYTES;
}

/* Looks through the owner's buckets; free_slot (may be NULL) gets the first free one. */
static char *
look(KeyFile *file, const uint8 *digest, KeySlot *found, off_t *free_slot)
{
	found->offset = 0;
	if (free_slot)
		*free_slot = 0;
	for (int segment = 0; segment < (int) file->state.segments; segment++)
	{
		off_t at = bucket_of(segment, digest);
		SlotBlock block;
		char *error = eduai_privacy_key_file_read(file, &block, KEY_BLOCK_BYTES, at);

		if (error != NULL)
			return error;
		for (int i = 0; i < KEY_BUCKET_SLOTS; i++)
		{
			Copy *pair = block.copies[i];
			int copy = counting(pair);

			if (copy >= 0 && pair[copy].state == STATE_KEY &&
				memcmp(pair[copy].digest, digest, KEY_DIGEST_BYTES) == 0)
			{
				take_slot(pair, copy, at + i * SLOT_BYTES, found);
				return NULL;
			}
			if (free_slot && *free_slot == 0 && is_free(pair))
				*free_slot = at + i * SLOT_BYTES;
		}
	}
	return NULL;
}

char *
eduai_privacy_key_slot_find(KeyFile *file, const uint8 *digest, KeySlot *found)
{
	return look(file, digest, found, NULL);
}

char *
eduai_privacy_key_slot_bucket(KeyFile *file, int segment, uint64 bucket,
							  KeySlot slots[KEY_BUCKET_SLOTS], int *n)
{
	off_t at = eduai_privacy_key_segment_start(segment) + (off_t) bucket * KEY_BLOCK_BYTES;
	SlotBlock block;
	char *error = eduai_privacy_key_file_read(file, &block, KEY_BLOCK_BYTES, at);

	*n = 0;
	for (int i = 0; error == NULL && i < KEY_BUCKET_SLOTS; i++)
	{
		int copy = counting(block.copies[i]);

		if (copy >= 0 && block.copies[i][copy].state == STATE_KEY)
			take_slot(block.copies[i], copy, at + i * SLOT_BYTES, &slots[(*n)++]);
	}
	return error;
}

/* ---- changing; the lock is held ---- */

static char *
read_pair(KeyFile *file, off_t offset, Copy pair[2])
{
	return eduai_privacy_key_file_read(file, pair, SLOT_BYTES, offset);
}

static char *
write_copy(KeyFile *file, off_t slot, int copy, Copy *content)
{
	content->crc = copy_crc(content);
	return eduai_privacy_key_file_write(file, content, COPY_BYTES,
										slot + (off_t) copy * COPY_BYTES);
}

static Copy
make_copy(const uint8 *digest, const uint8 *wrapped, uint32 length, uint64 seq)
{
	Copy copy = {.state = STATE_KEY, .seq = seq, .length = length};

	memcpy(copy.digest, digest, KEY_DIGEST_BYTES);
	memcpy(copy.wrapped, wrapped, Min(length, KEY_WRAPPED_BYTES));
	return copy;
}

/* A free slot: the copy that does not count is overwritten, then synced. */
static char *
occupy(KeyFile *file, off_t offset, const uint8 *digest, const bytea *wrapped, KeySlot *found)
{
	Copy pair[2];
	char *error = read_pair(file, offset, pair);
	int counts = counting(pair);
	int target = counts == 0 ? 1 : 0;

	if (error != NULL)
		return error;
	pair[target] = make_copy(digest, (const uint8 *) VARDATA_ANY(wrapped),
							 VARSIZE_ANY_EXHDR(wrapped), counts >= 0 ? pair[counts].seq + 1 : 1);
	error = write_copy(file, offset, target, &pair[target]);
	if (error == NULL)
		error = eduai_privacy_key_file_sync(file);
	if (error == NULL)
		take_slot(pair, target, offset, found);
	return error;
}

static char *
put_locked(KeyFile *file, const uint8 *digest, const bytea *wrapped, KeySlot *found)
{
	off_t free_slot;
	char *error = look(file, digest, found, &free_slot);

	while (error == NULL && found->offset == 0 && free_slot == 0)
	{
		error = eduai_privacy_key_file_add_segment(file);
		if (error == NULL)
			error = look(file, digest, found, &free_slot);
	}
	if (error != NULL || found->offset != 0)
		return error;
	return occupy(file, free_slot, digest, wrapped, found);
}

char *
eduai_privacy_key_slot_put(KeyFile *file, const uint8 *digest, const bytea *wrapped, KeySlot *found)
{
	char *error;

	found->offset = 0;
	if (VARSIZE_ANY_EXHDR(wrapped) > KEY_WRAPPED_BYTES)
		return pstrdup("the wrapped key is too long");
	error = eduai_privacy_key_file_lock(file);
	if (error != NULL)
		return error;
	error = put_locked(file, digest, wrapped, found);
	eduai_privacy_key_file_unlock(file);
	return error;
}

/* First what counts, so that the slot is free whenever this is interrupted; then the rest. */
static char *
wipe(KeyFile *file, const KeySlot *slot)
{
	Copy free_copy = {.state = STATE_FREE, .seq = slot->seq + 1};
	char *error = NULL;

	for (int i = 0; i < 2 && error == NULL; i++)
	{
		error = write_copy(file, slot->offset, i == 0 ? 1 - slot->copy : slot->copy, &free_copy);
		if (error == NULL)
			error = eduai_privacy_key_file_sync(file);
	}
	return error;
}

/*
 * A wipe that was interrupted left a slot that is free and has a copy that is
 * not: nothing finds it by its counting copy, so all copies are looked at.
 */
static char *
wipe_remains(KeyFile *file, const uint8 *digest)
{
	for (int segment = 0; segment < (int) file->state.segments; segment++)
	{
		off_t at = bucket_of(segment, digest);
		SlotBlock block;
		char *error = eduai_privacy_key_file_read(file, &block, KEY_BLOCK_BYTES, at);

		for (int i = 0; error == NULL && i < 2 * KEY_BUCKET_SLOTS; i++)
		{
			Copy *copy = &block.copies[i / 2][i % 2];
			Copy free_copy = {.state = STATE_FREE};

			/* below the counting copy's number, whatever that is */
			if (copy->state != STATE_KEY || memcmp(copy->digest, digest, KEY_DIGEST_BYTES) != 0)
				continue;
			error = write_copy(file, at + (i / 2) * SLOT_BYTES, i % 2, &free_copy);
			if (error == NULL)
				error = eduai_privacy_key_file_sync(file);
		}
		if (error != NULL)
			return error;
	}
	return NULL;
}

static char *
destroy_locked(KeyFile *file, const uint8 *digest, bool *destroyed)
{
	KeySlot slot;
	char *error = look(file, digest, &slot, NULL);

	if (error == NULL && slot.offset != 0)
	{
		error = wipe(file, &slot);
		if (error == NULL)
			*destroyed = true;
	}
	if (error == NULL)
		error = wipe_remains(file, digest);
	/* counted also when there was nothing: an interrupted one may not have come to it */
	if (error == NULL)
		error = eduai_privacy_key_file_count_destroyed(file);
	return error;
}

char *
eduai_privacy_key_slot_destroy(KeyFile *file, const uint8 *digest, bool *destroyed)
{
	char *error = eduai_privacy_key_file_lock(file);

	*destroyed = false;
	if (error != NULL)
		return error;
	error = destroy_locked(file, digest, destroyed);
	eduai_privacy_key_file_unlock(file);
	return error;
}

/* ---- rewrapping ---- */

static char *
rewrap_pass(KeyFile *file, const KeySlot *slots, bytea *const *wrapped, const bool *same, int n,
			bool first)
{
	for (int i = 0; i < n; i++)
	{
		Copy copy;
		char *error;

		if (!same[i])
			continue;
		copy = make_copy(slots[i].digest, (const uint8 *) VARDATA_ANY(wrapped[i]),
						 VARSIZE_ANY_EXHDR(wrapped[i]), slots[i].seq + 1);
		error = write_copy(file, slots[i].offset, first ? 1 - slots[i].copy : slots[i].copy, &copy);
		if (error != NULL)
			return error;
	}
	return eduai_privacy_key_file_sync(file);
}

static char *
rewrap_locked(KeyFile *file, const KeySlot *slots, bytea *const *wrapped, bool *same, int n,
			  int *done)
{
	char *error = NULL;

	for (int i = 0; i < n && error == NULL; i++)
	{
		Copy pair[2];
		int copy;

		error = read_pair(file, slots[i].offset, pair);
		copy = error == NULL ? counting(pair) : -1;
		same[i] = copy == slots[i].copy && pair[copy].seq == slots[i].seq &&
				  pair[copy].state == STATE_KEY &&
				  VARSIZE_ANY_EXHDR(wrapped[i]) <= KEY_WRAPPED_BYTES;
		*done += same[i] ? 1 : 0;
	}
	if (error == NULL)
		error = rewrap_pass(file, slots, wrapped, same, n, true);
	if (error == NULL)
		error = rewrap_pass(file, slots, wrapped, same, n, false);
	return error;
}

char *
eduai_privacy_key_slot_rewrap(KeyFile *file, const KeySlot *slots, bytea *const *wrapped, int n,
							  int *done)
{
	bool *same = palloc0(sizeof(bool) * Max(n, 1));
	char *error = eduai_privacy_key_file_lock(file);

	*done = 0;
	if (error != NULL)
		return error;
	error = rewrap_locked(file, slots, wrapped, same, n, done);
	eduai_privacy_key_file_unlock(file);
	return error;
}
