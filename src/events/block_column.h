/*
 * block_column.h: the columns of a block, as bytes.
 *
 * A block has two streams of bytes: "text", which zstd compresses later, and
 * "bits", in which numbers without structure are packed as closely as their
 * distribution allows.  Numbers inside a zstd frame would spoil the code that
 * it makes for letters.
 *
 * A reader is made for bytes that anybody may have changed: every call checks
 * what it reads and raises ERRCODE_DATA_CORRUPTED.
 */
#ifndef EDUAI_EVENTS_BLOCK_COLUMN_H
#define EDUAI_EVENTS_BLOCK_COLUMN_H

#include "postgres.h"
#include "events/varint.h"
#include "lib/stringinfo.h"

/* ---- growing columns, before they are written ---- */

typedef struct EduaiInts
{
	int64 *values;
	int n;
	int size;
} EduaiInts;

/* Bytes of somebody else. */
typedef struct EduaiSlice
{
	const char *bytes;
	int length;
} EduaiSlice;

typedef struct EduaiSlices
{
	EduaiSlice *values;
	int n;
	int size;
} EduaiSlices;

extern void eduai_events_ints_add(EduaiInts *ints, int64 value);
extern void eduai_events_slices_add(EduaiSlices *slices, const char *bytes, int length);
extern int eduai_events_slice_compare(const EduaiSlice *a, const EduaiSlice *b);

/* ---- writing ---- */

typedef struct EduaiColumnWriter
{
	StringInfoData text;
	StringInfoData bits;
	uint64 pending; /* bits not yet in "bits", the first one lowest */
	int npending;
} EduaiColumnWriter;

extern void eduai_events_column_writer_init(EduaiColumnWriter *w);
extern void eduai_events_column_writer_flush(EduaiColumnWriter *w); /* the last bits */

extern void
eduai_events_put_raw(EduaiColumnWriter *w, const unsigned char *bytes, int n); /* into the bits */
extern void eduai_events_put_ints(EduaiColumnWriter *w, const int64 *values, int n);
extern void eduai_events_put_slices(EduaiColumnWriter *w, const EduaiSlice *values, int n);

/* What put_ints() would take at its best, in bits: for choosing a model. */
extern double eduai_events_ints_cost(const int64 *values, int n);

/* ---- reading ---- */

typedef struct EduaiColumnReader
{
	const unsigned char *text;
	const unsigned char *text_end;
	const unsigned char *bits; /* followed by 16 readable bytes */
	uint64 bit;
	uint64 bit_end;
} EduaiColumnReader;

extern void eduai_events_corrupted(const char *what) __attribute__((noreturn));

extern uint64 eduai_events_get_varint(EduaiColumnReader *r);
extern uint64 eduai_events_get_count(EduaiColumnReader *r, uint64 limit); /* at most limit */
extern const char *eduai_events_get_bytes(EduaiColumnReader *r, size_t length);
extern void eduai_events_get_raw(EduaiColumnReader *r, unsigned char *bytes, int n);
extern int64 *eduai_events_get_ints(EduaiColumnReader *r, int n);        /* palloc'd */
extern EduaiSlice *eduai_events_get_slices(EduaiColumnReader *r, int n); /* palloc'd */

static inline uint64
eduai_events_zigzag(int64 value)
{
	return ((uint64) value << 1) ^ (uint64) (value >> 63);
}

static inline int64
eduai_events_unzigzag(uint64 value)
{
	return (int64) (value >> 1) ^ -(int64) (value & 1);
}

#endif
