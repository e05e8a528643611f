/*
 * access_ring.h: notes of reads on their way to the access log, in shared
 * memory.
 *
 * The notes of all databases share their places; each database has a list of
 * its own, in the order of the reads.  Whoever reads puts a note in; the one
 * process of a database that holds its EDUAI_LOCK_ACCESS_LOG takes them out:
 * it looks at the first ones, writes them, and lets them go once that is
 * committed.  What fails in between is looked at again.
 *
 * A spinlock guards the lists; it is held for one place at a time, and nothing
 * in it allocates, raises or waits.  A crash of the server empties them.
 */
#ifndef EDUAI_PRIVACY_ACCESS_RING_H
#define EDUAI_PRIVACY_ACCESS_RING_H

#include "postgres.h"
#include "datatype/timestamp.h"

#define EDUAI_ACCESS_USER_BYTES    520
#define EDUAI_ACCESS_TENANT_BYTES  64
#define EDUAI_ACCESS_SOURCE_BYTES  32
#define EDUAI_ACCESS_PURPOSE_BYTES 64

/* Texts end with NUL and are cut to their sizes. */
typedef struct EduaiAccessNote
{
	TimestampTz at;
	int64 rows;
	Oid role;
	char tenant[EDUAI_ACCESS_TENANT_BYTES];
	char source[EDUAI_ACCESS_SOURCE_BYTES];
	char purpose[EDUAI_ACCESS_PURPOSE_BYTES];
	char user_id[EDUAI_ACCESS_USER_BYTES]; /* empty: nobody known */
} EduaiAccessNote;

/* How many notes of a tenant found no place; several: of those that found no counter either. */
typedef struct EduaiAccessLoss
{
	char tenant[EDUAI_ACCESS_TENANT_BYTES]; /* empty: several */
	int64 lost;
} EduaiAccessLoss;

#define EDUAI_ACCESS_LOSSES 8 /* counters of a database */

typedef enum EduaiAccessPut
{
	EDUAI_ACCESS_PUT,
	EDUAI_ACCESS_PUT_MANY, /* a quarter of the places: somebody should take them now */
	EDUAI_ACCESS_FULL,
} EduaiAccessPut;

extern void eduai_privacy_access_ring_init(void);

/* Puts a note in; with "count", one that finds no place is counted as lost. */
extern EduaiAccessPut eduai_privacy_access_put(const EduaiAccessNote *note, bool count);

/* Copies the first notes of this database, up to "limit"; they stay. */
extern int eduai_privacy_access_look(EduaiAccessNote *notes, int limit);
/* Frees the first n places, which the last look returned. */
extern void eduai_privacy_access_release(int n);

/* The losses not yet written; EDUAI_ACCESS_LOSSES places.  They stay. */
extern int eduai_privacy_access_losses(EduaiAccessLoss *losses);
/* Takes away what was written of them. */
extern void eduai_privacy_access_losses_written(const EduaiAccessLoss *losses, int n);

/* For health: what waits, the places there are, what this database lost since the start. */
extern void eduai_privacy_access_counts(int64 *waiting, int64 *places, int64 *lost);

#endif
