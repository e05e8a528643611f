/*
 * block_table.h: the tables of compacted events, below block.h.
 *
 * event_block	   the blocks, by (tenant, segment, block)
 * event_stream	   the directory: pages of streams, by (tenant, first stream);
 *				   the first page of a tenant begins at the empty name
 * event_dictionary  what zstd was given for a tenant's blocks
 * event_seen	   the ids that callers gave
 *
 * Segments of a tenant are numbered 1, 2, 3 ... in the order of their
 * positions, the blocks of a segment 0, 1, 2 ... in the order of streams.
 */
#ifndef EDUAI_EVENTS_BLOCK_TABLE_H
#define EDUAI_EVENTS_BLOCK_TABLE_H

#include "postgres.h"
#include "events/block_codec.h"
#include "events/stream_page.h"
#include "storage/itemptr.h"
#include "utils/snapshot.h"

/* Columns of eduai.event_block, from 0. */
enum
{
	EDUAI_BLOCK_FIRST, /* positions of the segment */
	EDUAI_BLOCK_LAST,
	EDUAI_BLOCK_RECORDED, /* the latest recorded_at of the segment */
	EDUAI_BLOCK_SEGMENT,
	EDUAI_BLOCK_NUMBER,
	EDUAI_BLOCK_COUNT,
	EDUAI_BLOCK_TENANT,
	EDUAI_BLOCK_BODY,
	EDUAI_BLOCK_COLUMNS,
};

/*
 * Which version of a row this is: no two versions of any row, of any time,
 * are alike in all of it.  A transaction that changes blocks also touches the
 * first of their segment (eduai_events_segment_touch), so that the first row's
 * stamp stands for the contents of the whole segment.
 */
typedef struct EduaiBlockStamp
{
	Oid relid;
	Oid file;
	TransactionId xmin;
	ItemPointerData tid;
} EduaiBlockStamp;

/* What a row says besides its body. */
typedef struct EduaiBlockRow
{
	EduaiBlockStamp stamp;
	int64 first_position;
	int64 last_position;
	TimestampTz recorded_through;
	int segment;
	int block;
	int events;
} EduaiBlockRow;

/*
 * A reader of one tenant's blocks in one snapshot, which the caller keeps
 * registered.  Keeps the relations open.
 */
typedef struct EduaiBlockReader EduaiBlockReader;

extern EduaiBlockReader *eduai_events_blocks_open(const char *tenant, Snapshot snapshot);
extern void eduai_events_blocks_close(EduaiBlockReader *reader);

/* The last block's row; false when the tenant has none. */
extern bool eduai_events_blocks_last(EduaiBlockReader *reader, EduaiBlockRow *row);

/* The first block of the first segment that is "segment" or later. */
extern bool eduai_events_blocks_first(EduaiBlockReader *reader, int segment, EduaiBlockRow *row);

/* The first block of the first segment with positions after "after". */
extern bool eduai_events_blocks_find(EduaiBlockReader *reader, int64 after, EduaiBlockRow *row);

extern bool eduai_events_same_stamp(const EduaiBlockStamp *a, const EduaiBlockStamp *b);

/* Decodes a block into the current context; NULL when there is none. */
extern EduaiBlock *eduai_events_blocks_get(EduaiBlockReader *reader, int segment, int block);

/*
 * Calls visit for the rows from the segment on, in order, until it returns
 * false; "decode" gives the row's block, in the current context.
 */
typedef bool (*EduaiBlockVisit)(EduaiBlockReader *reader, const EduaiBlockRow *row, void *arg);
extern void
eduai_events_blocks_visit(EduaiBlockReader *reader, int segment, EduaiBlockVisit visit, void *arg);
/* In a visit: the row's block, decoded into the current context; or only begun. */
extern EduaiBlock *eduai_events_blocks_begin(EduaiBlockReader *reader);
extern EduaiBlock *eduai_events_blocks_here(EduaiBlockReader *reader);

/* The dictionary of a number, kept by the backend; for eduai_events_block_decode(). */
extern const EduaiDictionary *eduai_events_blocks_dictionary(int id, void *reader);

/* ---- the directory ---- */

/* The blocks that hold a stream, in order of version; NULL when it has none. */
extern EduaiStreamRef *eduai_events_directory_refs(const char *tenant, const EduaiSlice *stream,
												   Snapshot snapshot, int *n);

/* A page, and the first stream of the one after it (NULL for none). */
typedef struct EduaiDirectoryPage
{
	text *first;
	text *next;
	bytea *body; /* NULL: the tenant has no page */
} EduaiDirectoryPage;

/* The page that lists a stream, or would, copied into the current context. */
extern EduaiDirectoryPage
eduai_events_directory_page(const char *tenant, const EduaiSlice *stream, Snapshot snapshot);

/* The segment and block of a given id; false when it is not remembered. */
extern bool eduai_events_seen_find(const char *tenant, const pg_uuid_t *id, Snapshot snapshot,
								   int *segment, int *block);

#endif
