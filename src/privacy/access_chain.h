/*
 * access_chain.h: the hash chain of the access log.
 *
 * Each tenant's rows are numbered 1, 2, 3 ... ; a row's hash is taken over its
 * own fields and the hash of the row before it, so that nobody changes, removes
 * or moves one without the hashes saying so.  With a master key the hash is an
 * HMAC under a key of the log's own, which is kept sealed in eduai.access_key:
 * then who can write the table, but does not have the master key, cannot make
 * hashes that fit.  Without one it is a plain SHA-256 (key 0), which anybody who
 * can write the table can take anew from the changed row to the end; only a head
 * kept elsewhere shows that (eduai.access_log_head).
 */
#ifndef EDUAI_PRIVACY_ACCESS_CHAIN_H
#define EDUAI_PRIVACY_ACCESS_CHAIN_H

#include "postgres.h"
#include "datatype/timestamp.h"

#define EDUAI_ACCESS_HASH_BYTES 32
#define EDUAI_ACCESS_KEY_BYTES  32

typedef struct EduaiAccessRow
{
	int64 seq;
	int64 rows;
	TimestampTz at;
	int key;
	const char *tenant;
	const char *kind; /* read, lost, removed */
	const char *role;
	const char *learner; /* the reference; NULL: nobody known */
	const char *purpose; /* NULL: none was said */
	const char *source;
} EduaiAccessRow;

/* The hash of a row after the row with "before"; key NULL for key 0. */
extern void eduai_privacy_access_hash(const EduaiAccessRow *row, const uint8 *before,
									  const uint8 *key, uint8 *hash);

/*
 * The number of the key for new rows, made at need, and the key; 0 without a
 * master key.  As the owner, inside SPI.  Raises 55000 when the master key
 * cannot be used.  The key stays in this process.
 */
extern int eduai_privacy_access_key_newest(const uint8 **key);

/* A key by its number (not 0); false when it is unknown or cannot be opened. */
extern bool eduai_privacy_access_key(int number, const uint8 **key);

/* Seals the keys under the current master key; returns how many had another. */
extern int eduai_privacy_access_reseal(void);

#endif
