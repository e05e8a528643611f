/*
 * pack.h: packed jsonb objects and arrays, read and written entry by entry.
 *
 * The server's builder takes what is packed apart and sorts it again; here a
 * packed value is copied as it is, so that changing one entry of an object
 * costs little more than copying the object.  What is written is, byte for
 * byte, what the builder would write.
 */
#ifndef EDUAI_PROJECTIONS_PACK_H
#define EDUAI_PROJECTIONS_PACK_H

#include "postgres.h"
#include "utils/jsonb.h"

/* An entry of an object, or of an array: its key is unused. */
typedef struct PackEntry
{
	JsonbValue key;
	JsonbValue value; /* a scalar, or packed: jbvBinary */
} PackEntry;

/*
 * Reads the JsonContainerSize() entries of an object or array.  They point
 * into it.
 */
extern void eduai_projections_pack_read(const JsonbContainer *container, PackEntry *entries);

/* The order of keys in an object: by length, then by bytes. */
extern int eduai_projections_pack_compare(const JsonbValue *a, const JsonbValue *b);

/* An object of entries with distinct keys in their order. */
extern Jsonb *eduai_projections_pack_object(const PackEntry *entries, int n);

extern Jsonb *eduai_projections_pack_array(const PackEntry *entries, int n);

/* A packed object or array as a value, which points to it. */
extern JsonbValue eduai_projections_pack_value(Jsonb *json);

#endif
