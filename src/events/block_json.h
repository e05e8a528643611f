/*
 * block_json.h: jsonb values taken apart into a shape and leaves, and put
 * together again.
 *
 * A shape is what many values have in common: the keys, nested as they are,
 * and the kind of each value.  Its bytes, in order:
 *
 *	o n (key shape)*   an object of n members, in jsonb's order of keys
 *	n s b z			   a number, a string, a boolean, null
 *	N				   a number of more than 18 digits, as text
 *	A n, A s		   an array of numbers or of strings, of any length
 *	j				   anything else, as JSON text
 *
 * The leaves of all values of a block lie in columns, one for each kind and
 * key; "key" is the nearest one above the leaf.
 */
#ifndef EDUAI_EVENTS_BLOCK_JSON_H
#define EDUAI_EVENTS_BLOCK_JSON_H

#include "postgres.h"
#include "events/block_column.h"
#include "utils/jsonb.h"

/* The most digits after the point of an n. */
#define EDUAI_NUMBER_SCALE 60

/* A value taken apart. */
typedef struct EduaiLeaf
{
	char kind; /* n s b N j, or A: the length of an array, whose elements follow */
	int scale;
	int64 number; /* n: the digits; b; A */
	EduaiSlice bytes;
} EduaiLeaf;

typedef struct EduaiLeaves
{
	EduaiLeaf *values;
	int n;
	int size;
	int nodes; /* of the value at hand: members and scalars, not arrays' elements */
	int first; /* leaf of the value at hand */
} EduaiLeaves;

/* Appends the value's shape to "shape", and its leaves. */
extern void eduai_events_json_shred(const Jsonb *json, StringInfo shape, EduaiLeaves *leaves);

typedef struct EduaiLeafColumn
{
	char kind;
	EduaiSlice key;
	EduaiInts ints;   /* n b A */
	EduaiInts scales; /* n */
	EduaiSlices slices;
	int n; /* when reading: how many values it has */
} EduaiLeafColumn;

typedef struct EduaiLeafColumns
{
	EduaiLeafColumn *values;
	int n;
	int size;
} EduaiLeafColumns;

/* A parsed shape: its nodes in the order of its bytes. */
typedef struct EduaiShapeNode
{
	char kind;
	EduaiSlice key; /* of the member; empty at the root */
	int members;    /* o */
	int column;     /* of a leaf */
	int elements;   /* A: the column of the elements */
} EduaiShapeNode;

typedef struct EduaiShapeNodes
{
	EduaiShapeNode *values;
	int n;
	int size;
} EduaiShapeNodes;

/*
 * Reads a shape, appending its nodes; finds its columns, or adds them: so a
 * writer and a reader that go through the same shapes have the same columns.
 */
extern void eduai_events_json_parse_shape(EduaiColumnReader *r, EduaiShapeNodes *nodes,
										  EduaiLeafColumns *columns);

/* Adds the leaves of a value of the shape to the columns; returns how many it took. */
extern int eduai_events_json_spread(const EduaiShapeNode *nodes, int n, const EduaiLeaf *leaves,
									EduaiLeafColumns *columns);

/*
 * Puts a value together.  "node" is advanced past the shape, places[] past
 * its leaves: for each leaf its place in its column, for an array also that
 * of its first element.
 */
extern Jsonb *eduai_events_json_build(const EduaiShapeNode **node, const int **place,
									  const EduaiLeafColumn *columns);

extern bool eduai_events_valid_text(const EduaiSlice *text);

#endif
