/*
 * partition.h: the partitions of eduai.event.
 *
 * Ranges of recorded_at, one day, week or month each (eduai.partition_interval),
 * created without indexes on the parent and then attached, so that they dump
 * and restore.  A database has none until its first append; from then on the
 * projector makes the next one ahead.
 */
#ifndef EDUAI_EVENTS_PARTITION_H
#define EDUAI_EVENTS_PARTITION_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "nodes/execnodes.h"

typedef struct EduaiPartition
{
	Oid relid;
	Oid key_index; /* (tenant_id, stream, version) */
	Oid id_index;  /* (event_id, tenant_id) */
	IndexInfo *key_info;
	IndexInfo *id_info;
	TimestampTz lower; /* inclusive */
	TimestampTz upper; /* exclusive */
} EduaiPartition;

typedef struct EduaiPartitionList
{
	int n;
	EduaiPartition *parts; /* by lower bound, ascending */
} EduaiPartitionList;

extern void eduai_events_partition_init(void);

/*
 * The partitions as of now.  The list is this backend's cache: it is valid
 * until the next call that accepts invalidations (opening a relation, taking
 * a lock), so copy what must outlive that.
 */
extern const EduaiPartitionList *eduai_events_partitions(void);

/*
 * The partition to insert into, and the time of recording moved forward to
 * its start where the clock went back.  Makes the partition when there is
 * none, in another process so that nobody waits for this transaction.
 */
extern EduaiPartition eduai_events_partition_for(TimestampTz *recorded_at);

/*
 * Makes the partition of a time, and says whether there was none; for the
 * projector and the maker process, in a transaction of their own, as the
 * extension's owner, inside SPI.
 */
extern bool eduai_events_partition_make(TimestampTz at);

/* What the one-shot process runs; see eduai_events_run_apart(). */
extern PGDLLEXPORT void eduai_events_partition_maker(Datum arg);

/* Makes the next partition when it is due; drops old ones nobody can see anything in. */
extern void eduai_events_partition_upkeep(void);

#endif
