/*
 * snapshot.h: what a stream's events up to a version fold to.
 *
 * A snapshot carries the id of the event at its version and counts only where
 * the stream shows that event there: one of a transaction that rolled back, or
 * ahead of what a reader sees, does not.  They are a cache: losing one costs
 * reading more events.
 */
#ifndef EDUAI_EVENTS_SNAPSHOT_H
#define EDUAI_EVENTS_SNAPSHOT_H

#include "postgres.h"
#include "utils/jsonb.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

typedef struct EduaiSnapshot
{
	int64 version;
	Jsonb *state;
} EduaiSnapshot;

/* Registers the projector's chore and the hook that wakes it. */
extern void eduai_events_snapshot_init(void);
extern void eduai_events_snapshot_fold_init(void);

/*
 * The kept snapshot of a stream, if the event at its version is visible in
 * "snapshot".  In SPI, as the extension's owner; state is in SPI's memory.
 */
extern bool eduai_events_snapshot_get(const char *tenant, const char *stream, int schema_version,
									  Snapshot snapshot, EduaiSnapshot *found);

/*
 * Keeps a snapshot unless a newer one is kept.  False, only with nowait, when
 * another transaction is saving one of the stream.  As above.
 */
extern bool
eduai_events_snapshot_put(const char *tenant, const char *stream, int schema_version, int64 version,
						  const pg_uuid_t *event_id, const Jsonb *state, bool nowait);

#endif
