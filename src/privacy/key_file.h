/*
 * key_file.h: the file of eduai.key_store, as a file: opening, its header, its
 * lock.  What is in its slots is key_slot.h's.
 *
 * Functions that return char * return NULL, or why not, palloc'd, in words
 * that hold neither path nor content; they do not raise.
 */
#ifndef EDUAI_PRIVACY_KEY_FILE_H
#define EDUAI_PRIVACY_KEY_FILE_H

#include "postgres.h"
#include "privacy/key_store.h"

#define KEY_WRAPPED_BYTES 160 /* room for a sealed key */

#define KEY_BLOCK_BYTES   4096 /* the header, and each bucket */
#define KEY_FIRST_BUCKETS 256  /* of the first segment; each further one has twice as many */
#define KEY_MAX_SEGMENTS  24

/* What changes in the file's first block while it is used. */
typedef struct KeyState
{
	uint64 destroyed; /* counts destroyed keys: what was remembered before may be one of them */
	uint32 segments;
	uint32 check; /* ~segments */
} KeyState;

typedef struct KeyFile
{
	int fd; /* -1: not open */
	bool writable;
	uint8 id[KEY_STORE_ID_BYTES];   /* random, of the file */
	uint8 key[KEY_STORE_KEY_BYTES]; /* for digests of owners' names */
	KeyState state;                 /* as last read */
} KeyFile;

extern void eduai_privacy_key_file_init(void); /* eduai.key_store */

extern bool eduai_privacy_key_file_configured(void);

/*
 * The open file with its state read now; opens it again when the path leads to
 * another.  NULL with *error when it cannot be used.
 */
extern KeyFile *eduai_privacy_key_file_use(char **error);

/* Makes the file, which must not exist, with its first segment. */
extern char *eduai_privacy_key_file_create(void);

/* Is the header sealed under the current master key?  Then all slots are. */
extern bool eduai_privacy_key_file_is_current(void);
/* Seals it so; with the lock held. */
extern char *eduai_privacy_key_file_reseal(KeyFile *file);

/*
 * The writers' lock, over all processes that have the file; given back by
 * unlock or with the process.  Waits some seconds at most.  Raises only when
 * the wait is cancelled; between lock and unlock nothing may raise.
 */
extern char *eduai_privacy_key_file_lock(KeyFile *file);
extern void eduai_privacy_key_file_unlock(KeyFile *file);

/* With the lock held, in place: */
extern char *eduai_privacy_key_file_write(KeyFile *file, const void *bytes, size_t n, off_t offset);
extern char *eduai_privacy_key_file_sync(KeyFile *file);
extern char *eduai_privacy_key_file_count_destroyed(KeyFile *file);
extern char *eduai_privacy_key_file_add_segment(KeyFile *file);

extern char *eduai_privacy_key_file_read(KeyFile *file, void *bytes, size_t n, off_t offset);

/* Where a segment begins, and how many buckets it has. */
extern off_t eduai_privacy_key_segment_start(int segment);
extern uint64 eduai_privacy_key_segment_buckets(int segment);

#endif
