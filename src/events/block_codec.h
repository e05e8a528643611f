/*
 * block_codec.h: events to the bytes of a block, and back.
 *
 * Pure: no SQL, no clock, nothing but its arguments.  A block holds events of
 * one tenant sorted by (stream, version); its bytes are
 *
 *	version	   one byte: 1, or 2 for events as they are (block_raw.c)
 *	dictionary varint, 0 for none
 *	text size  varint, before compression
 *	bits size  varint
 *	bits	   as they are
 *	text	   one zstd frame
 *
 * where bits and text hold the columns (block_column.h) in the order in which
 * block_encode.c writes and block_decode.c reads them.
 *
 * What follows from something else costs nothing or a bit: a user id that the
 * stream's name ends with, an occurred_at equal to recorded_at, an id that
 * eduai made, an empty metadata.  Everything comes back as it was, and the
 * encoder decodes what it wrote and compares before it returns.
 *
 * The decoder takes bytes that anybody may have changed: it raises
 * ERRCODE_DATA_CORRUPTED, and never reads outside them.  There is no checksum:
 * that is the pages' business.
 */
#ifndef EDUAI_EVENTS_BLOCK_CODEC_H
#define EDUAI_EVENTS_BLOCK_CODEC_H

#include "postgres.h"
#include "events/block_json.h"
#include "events/record.h"

#define EDUAI_BLOCK_VERSION 1
#define EDUAI_BLOCK_RAW     2

/* The most events of a block. */
#define EDUAI_BLOCK_EVENTS 1024

/* ---- dictionaries ---- */

/* Bytes that the texts of a tenant's blocks have in common, prepared for zstd. */
typedef struct EduaiDictionary
{
	int id;     /* of the tenant, from 1 */
	void *use;  /* ZSTD_DDict */
	void *make; /* ZSTD_CDict; NULL where nothing is written */
} EduaiDictionary;

/* Allocated by zstd: free it. */
extern EduaiDictionary *
eduai_events_dictionary_open(int id, const char *bytes, size_t length, bool to_write);
extern void eduai_events_dictionary_close(EduaiDictionary *dictionary);

/* The dictionary of a number; NULL when there is none. */
typedef const EduaiDictionary *(*EduaiDictionaryFinder)(int id, void *arg);

/* ---- writing ---- */

/* The bytes of an event's shape, as they stand in a block's text. */
extern EduaiSlice eduai_events_block_shape(const char *tenant, const EduaiRecord *record);

/* The columns of events; the first step of encoding. */
extern void eduai_events_block_columns(const char *tenant, const EduaiRecord *records, int n,
									   EduaiColumnWriter *w);

/*
 * Encodes 1 to EDUAI_BLOCK_EVENTS events; dictionary may be NULL.  The result
 * is palloc'd, of much memory besides: use a context that goes away.
 */
extern bytea *eduai_events_block_encode(const char *tenant, const EduaiRecord *records, int n,
										const EduaiDictionary *dictionary);

/* The same with nothing taken apart: for what the columns cannot hold. */
extern bytea *eduai_events_block_encode_raw(const EduaiRecord *records, int n);

/* Raises XX000 unless the block decodes to exactly these events. */
extern void eduai_events_block_verify(const char *tenant, const EduaiRecord *records, int n,
									  const bytea *block, const EduaiDictionary *dictionary);

/* ---- reading ---- */

typedef struct EduaiBlockRun
{
	text *stream;
	int first; /* row */
	int count;
} EduaiBlockRun;

/* What the events of one shape have in common. */
typedef struct EduaiBlockShape
{
	text *event_type;
	int schema_version;
	int flags;
	int first_node; /* of data, then metadata */
	int nnodes;
} EduaiBlockShape;

typedef struct EduaiBlock
{
	int n;
	int nruns;
	EduaiBlockRun *runs;
	int64 *versions;
	int64 *positions;
	TimestampTz *recorded;
	int *by_position; /* the rows in order of position */

	/* for eduai_events_block_record() */
	int *run_of;
	int64 *shape_of;
	EduaiBlockShape *shapes;
	int nshapes;
	EduaiShapeNodes nodes;
	EduaiLeafColumns columns;
	int *places;      /* of the leaves of all rows, row after row */
	int *first_place; /* of a row */
	TimestampTz *occurred;
	unsigned char *flags; /* of the rows' shapes */
	EduaiSlice *users;    /* per row; NULL when none is given */
	EduaiSlice *sessions;
	pg_uuid_t *ids; /* those that are stored; NULL when none is */

	EduaiColumnReader rest; /* what is not yet decoded */
	EduaiRecord *raw;       /* the rows of a raw block, which has no columns */
} EduaiBlock;

/*
 * Decodes a block's streams, versions and positions into the current context,
 * and what else a record needs.
 */
extern EduaiBlock *
eduai_events_block_begin(const char *body, size_t length, EduaiDictionaryFinder finder, void *arg);
extern EduaiBlock *eduai_events_block_finish(EduaiBlock *block);

/* Both at once. */
extern EduaiBlock *
eduai_events_block_decode(const char *body, size_t length, EduaiDictionaryFinder finder, void *arg);

/* Fills the record of a row; data and metadata are new, the rest is the block's. */
extern void eduai_events_block_record(const EduaiBlock *block, const char *tenant, int row,
									  EduaiRecord *record);

/* The flags of a shape; the lowest two bits say where the user id comes from. */
#define EDUAI_SHAPE_USER      3
#define EDUAI_USER_NONE       0
#define EDUAI_USER_OF_STREAM  1
#define EDUAI_USER_GIVEN      2
#define EDUAI_SHAPE_SESSION   4
#define EDUAI_SHAPE_OCCURRED  8
#define EDUAI_SHAPE_ID_STORED 16
#define EDUAI_SHAPE_ID_GIVEN  32
#define EDUAI_SHAPE_FLAGS     63

/* What follows the first '-' of a stream's name; false without one. */
static inline bool
eduai_events_user_of_stream(const text *stream, EduaiSlice *user)
{
	const char *name = VARDATA_ANY(stream);
	int length = VARSIZE_ANY_EXHDR(stream);
	const char *dash = memchr(name, '-', length);

	if (dash == NULL)
		return false;
	*user = (EduaiSlice){dash + 1, (int) (name + length - dash - 1)};
	return true;
}

/* The rows in order of position; equal ones in the order of the rows. */
extern void eduai_events_sort_rows(const int64 *positions, int n, int *rows);

/* The frame around columns, or around events as they are. */
extern bytea *
eduai_events_block_pack(EduaiColumnWriter *w, const EduaiDictionary *dictionary, int version);
extern void eduai_events_block_unpack(const char *body, size_t length, EduaiDictionaryFinder finder,
									  void *arg, EduaiColumnReader *r, int *version);

/* eduai_events_block_begin() for EDUAI_BLOCK_RAW. */
extern void eduai_events_block_begin_raw(EduaiBlock *block);

#endif
