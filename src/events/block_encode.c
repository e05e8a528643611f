/*
 * block_encode.c: events to columns.  See block_codec.h.
 *
 * A block's text, in order (ints and slices as in block_column.h):
 *
 *	counts of rows, runs and shapes
 *	shapes			 type, schema version, flags, shape of data, of metadata
 *	shape per row	 ints
 *	runs			 counts, first versions; then whether versions have gaps
 *	versions		 ints, only with gaps
 *	streams			 bytes shared with the one before, lengths, bytes
 *	positions		 of the runs' first rows, then differences within runs
 *	recorded_at		 in order of position: differences, less what the
 *					 difference of positions lets expect
 *	occurred_at		 where it is not recorded_at, in the greatest unit of time
 *					 that divides them all
 *	user ids, session ids, event ids that are not implied
 *	the leaves of data and metadata, a column for each kind and key; lengths
 *	of arrays first
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "events/block_codec.h"
#include "events/event_id.h"
#include "utils/timestamp.h"

/* A row taken apart. */
typedef struct Row
{
	EduaiSlice shape;
	int shape_number; /* among the sorted shapes */
	int flags;
	int first_leaf;
} Row;

typedef struct Encoder
{
	const char *tenant;
	const EduaiRecord *records;
	int n;
	Row *rows;
	EduaiLeaves leaves;
	EduaiSlice *shapes; /* sorted */
	int nshapes;
	EduaiColumnWriter *w;
} Encoder;

/* ---- rows ---- */

static EduaiSlice
slice_of(const text *value)
{
	return (EduaiSlice){VARDATA_ANY(value), (int) VARSIZE_ANY_EXHDR(value)};
}

static bool
same_slice(const EduaiSlice *a, const EduaiSlice *b)
{
	return a->length == b->length && memcmp(a->bytes, b->bytes, a->length) == 0;
}

static int
user_flag(const EduaiRecord *record)
{
	EduaiSlice user;
	EduaiSlice implied;

	if (record->user_id == NULL)
		return EDUAI_USER_NONE;
	user = slice_of(record->user_id);
	if (eduai_events_user_of_stream(record->stream, &implied) && same_slice(&user, &implied))
		return EDUAI_USER_OF_STREAM;
	return EDUAI_USER_GIVEN;
}

static bool
is_derived_id(const char *tenant, const EduaiRecord *record)
{
	pg_uuid_t derived;

	eduai_events_derive_id(tenant, VARDATA_ANY(record->stream), VARSIZE_ANY_EXHDR(record->stream),
						   record->version, record->recorded_at, &derived);
	return memcmp(&derived, &record->event_id, sizeof(pg_uuid_t)) == 0;
}

static int
row_flags(const char *tenant, const EduaiRecord *record)
{
	int flags = user_flag(record);

	if (record->session_id != NULL)
		flags |= EDUAI_SHAPE_SESSION;
	if (record->occurred_at != record->recorded_at)
		flags |= EDUAI_SHAPE_OCCURRED;
	if (record->id_given)
		flags |= EDUAI_SHAPE_ID_GIVEN;
	/* a given one is looked for among the stored */
	if (record->id_given || !is_derived_id(tenant, record))
		flags |= EDUAI_SHAPE_ID_STORED;
	return flags;
}

static EduaiSlice
make_shape(const EduaiRecord *record, int flags, EduaiLeaves *leaves)
{
	EduaiSlice type = slice_of(record->event_type);
	StringInfoData shape;

	initStringInfo(&shape);
	eduai_events_put_varint(&shape, type.length);
	appendBinaryStringInfo(&shape, type.bytes, type.length);
	eduai_events_put_varint(&shape, eduai_events_zigzag(record->schema_version));
	appendStringInfoCharMacro(&shape, (char) flags);
	eduai_events_json_shred(record->data, &shape, leaves);
	eduai_events_json_shred(record->metadata, &shape, leaves);
	return (EduaiSlice){shape.data, shape.len};
}

EduaiSlice
eduai_events_block_shape(const char *tenant, const EduaiRecord *record)
{
	EduaiLeaves leaves = {0};

	return make_shape(record, row_flags(tenant, record), &leaves);
}

static void
take_apart(Encoder *e, int i)
{
	Row *row = &e->rows[i];

	row->flags = row_flags(e->tenant, &e->records[i]);
	row->first_leaf = e->leaves.n;
	row->shape = make_shape(&e->records[i], row->flags, &e->leaves);
}

static int
compare_slices(const void *a, const void *b)
{
	return eduai_events_slice_compare(a, b);
}

/* The different shapes, sorted: so that blocks of a tenant begin alike. */
static void
number_shapes(Encoder *e)
{
	e->shapes = palloc(sizeof(EduaiSlice) * e->n);
	for (int i = 0; i < e->n; i++)
		e->shapes[i] = e->rows[i].shape;
	qsort(e->shapes, e->n, sizeof(EduaiSlice), compare_slices);
	e->nshapes = 1;
	for (int i = 1; i < e->n; i++)
		if (!same_slice(&e->shapes[i], &e->shapes[e->nshapes - 1]))
			e->shapes[e->nshapes++] = e->shapes[i];
	for (int i = 0; i < e->n; i++)
		e->rows[i].shape_number =
			(int) ((EduaiSlice *) bsearch(&e->rows[i].shape, e->shapes, e->nshapes,
										  sizeof(EduaiSlice), compare_slices) -
				   e->shapes);
}

static bool
starts_run(const Encoder *e, int i)
{
	EduaiSlice this;
	EduaiSlice last;

	if (i == 0)
		return true;
	this = slice_of(e->records[i].stream);
	last = slice_of(e->records[i - 1].stream);
	return !same_slice(&this, &last);
}

/* ---- columns ---- */

static void
put_column(Encoder *e, const EduaiInts *ints)
{
	eduai_events_put_ints(e->w, ints->values, ints->n);
}

static void
put_shapes(Encoder *e)
{
	EduaiInts numbers = {0};

	for (int i = 0; i < e->nshapes; i++)
		appendBinaryStringInfo(&e->w->text, e->shapes[i].bytes, e->shapes[i].length);
	for (int i = 0; i < e->n; i++)
		eduai_events_ints_add(&numbers, e->rows[i].shape_number);
	put_column(e, &numbers);
}

static void
put_runs(Encoder *e)
{
	EduaiInts counts = {0};
	EduaiInts firsts = {0};
	EduaiInts versions = {0};
	bool gaps = false;

	for (int i = 0; i < e->n; i++)
	{
		bool first = starts_run(e, i);

		if (first)
		{
			eduai_events_ints_add(&counts, 0);
			eduai_events_ints_add(&firsts, e->records[i].version);
		}
		counts.values[counts.n - 1]++;
		gaps |= !first && e->records[i].version != e->records[i - 1].version + 1;
		eduai_events_ints_add(&versions, e->records[i].version);
	}
	put_column(e, &counts);
	put_column(e, &firsts);
	appendStringInfoCharMacro(&e->w->text, gaps);
	if (gaps)
		put_column(e, &versions);
}

static void
put_streams(Encoder *e)
{
	EduaiInts shared = {0};
	EduaiInts lengths = {0};
	StringInfoData bytes;
	EduaiSlice last = {"", 0};

	initStringInfo(&bytes);
	for (int i = 0; i < e->n; i++)
	{
		EduaiSlice name = slice_of(e->records[i].stream);
		int common = 0;

		if (!starts_run(e, i))
			continue;
		while (common < name.length && common < last.length &&
			   name.bytes[common] == last.bytes[common])
			common++;
		eduai_events_ints_add(&shared, common);
		eduai_events_ints_add(&lengths, name.length - common);
		appendBinaryStringInfo(&bytes, name.bytes + common, name.length - common);
		last = name;
	}
	put_column(e, &shared);
	put_column(e, &lengths);
	appendBinaryStringInfo(&e->w->text, bytes.data, bytes.len);
}

static void
put_positions(Encoder *e)
{
	EduaiInts firsts = {0};
	EduaiInts steps = {0};

	for (int i = 0; i < e->n; i++)
		if (starts_run(e, i))
			eduai_events_ints_add(&firsts, e->records[i].position);
		else
			eduai_events_ints_add(&steps, (int64) ((uint64) e->records[i].position -
												   (uint64) e->records[i - 1].position));
	put_column(e, &firsts);
	put_column(e, &steps);
}

/* Rows by position: the clock moves with them, by about "pace" for each. (Times before 2000 are not worth the care that their difference needs.) */
static void
put_recorded(Encoder *e)
{
	int64 *positions = palloc(sizeof(int64) * e->n);
	int *rows = palloc(sizeof(int) * e->n);
	EduaiInts plain = {0};
	EduaiInts paced = {0};
	const EduaiRecord *first;
	const EduaiRecord *last;
	int64 pace = 0;

	for (int i = 0; i < e->n; i++)
		positions[i] = e->records[i].position;
	eduai_events_sort_rows(positions, e->n, rows);
	first = &e->records[rows[0]];
	last = &e->records[rows[e->n - 1]];
	if (last->position > first->position && last->recorded_at > first->recorded_at &&
		first->recorded_at > 0)
		pace = (last->recorded_at - first->recorded_at) / (last->position - first->position);
	for (int i = 1; i < e->n; i++)
	{
		const EduaiRecord *before = &e->records[rows[i - 1]];
		const EduaiRecord *now = &e->records[rows[i]];
		uint64 step = (uint64) now->recorded_at - (uint64) before->recorded_at;
		uint64 expected = (uint64) pace * ((uint64) now->position - (uint64) before->position);

		eduai_events_ints_add(&plain, (int64) step);
		eduai_events_ints_add(&paced, (int64) (step - expected));
	}
	if (eduai_events_ints_cost(plain.values, plain.n) <=
		eduai_events_ints_cost(paced.values, paced.n))
	{
		paced = plain;
		pace = 0;
	}
	eduai_events_put_varint(&e->w->text, eduai_events_zigzag(pace));
	eduai_events_put_varint(&e->w->text, eduai_events_zigzag(first->recorded_at));
	put_column(e, &paced);
}

static void
put_occurred(Encoder *e)
{
	static const int64 units[] = {USECS_PER_DAY, USECS_PER_HOUR, USECS_PER_MINUTE,
								  USECS_PER_SEC, 1000,           1};
	EduaiInts times = {0};
	int unit = 0;

	for (int i = 0; i < e->n; i++)
		if (e->rows[i].flags & EDUAI_SHAPE_OCCURRED)
		{
			eduai_events_ints_add(&times, e->records[i].occurred_at);
			while (e->records[i].occurred_at % units[unit] != 0)
				unit++;
		}
	if (times.n == 0)
		return;
	for (int i = 0; i < times.n; i++)
		times.values[i] /= units[unit];
	eduai_events_put_varint(&e->w->text, units[unit]);
	put_column(e, &times);
}

static void
put_names(Encoder *e)
{
	EduaiSlices users = {0};
	EduaiSlices sessions = {0};

	for (int i = 0; i < e->n; i++)
	{
		const EduaiRecord *record = &e->records[i];

		if ((e->rows[i].flags & EDUAI_SHAPE_USER) == EDUAI_USER_GIVEN)
			eduai_events_slices_add(&users, VARDATA_ANY(record->user_id),
									VARSIZE_ANY_EXHDR(record->user_id));
		if (record->session_id != NULL)
			eduai_events_slices_add(&sessions, VARDATA_ANY(record->session_id),
									VARSIZE_ANY_EXHDR(record->session_id));
	}
	eduai_events_put_slices(e->w, users.values, users.n);
	eduai_events_put_slices(e->w, sessions.values, sessions.n);
	for (int i = 0; i < e->n; i++)
		if (e->rows[i].flags & EDUAI_SHAPE_ID_STORED)
			eduai_events_put_raw(e->w, e->records[i].event_id.data, UUID_LEN);
}

/* Skips what stands before the shapes of data and metadata, as the decoder reads it. */
static void
parse_shape(const EduaiSlice *shape, EduaiShapeNodes *nodes, EduaiLeafColumns *columns)
{
	EduaiColumnReader r = {(const unsigned char *) shape->bytes,
						   (const unsigned char *) shape->bytes + shape->length};

	eduai_events_get_bytes(&r, eduai_events_get_varint(&r));
	eduai_events_get_varint(&r);
	eduai_events_get_bytes(&r, 1);
	eduai_events_json_parse_shape(&r, nodes, columns);
	eduai_events_json_parse_shape(&r, nodes, columns);
}

static void
put_leaves(Encoder *e)
{
	EduaiShapeNodes nodes = {0};
	EduaiLeafColumns columns = {0};
	int *first = palloc(sizeof(int) * (e->nshapes + 1));

	for (int i = 0; i < e->nshapes; i++)
	{
		first[i] = nodes.n;
		parse_shape(&e->shapes[i], &nodes, &columns);
	}
	first[e->nshapes] = nodes.n;
	for (int i = 0; i < e->n; i++)
	{
		const Row *row = &e->rows[i];

		eduai_events_json_spread(nodes.values + first[row->shape_number],
								 first[row->shape_number + 1] - first[row->shape_number],
								 e->leaves.values + row->first_leaf, &columns);
	}
	for (int i = 0; i < columns.n; i++)
		if (columns.values[i].kind == 'A')
			put_column(e, &columns.values[i].ints);
	for (int i = 0; i < columns.n; i++)
	{
		EduaiLeafColumn *column = &columns.values[i];

		if (column->kind == 'A')
			continue;
		put_column(e, &column->scales);
		put_column(e, &column->ints);
		eduai_events_put_slices(e->w, column->slices.values, column->slices.n);
	}
}

void
eduai_events_block_columns(const char *tenant, const EduaiRecord *records, int n,
						   EduaiColumnWriter *w)
{
	Encoder e = {tenant, records, n, .w = w};
	int nruns = 0;

	Assert(n > 0 && n <= EDUAI_BLOCK_EVENTS);
	eduai_events_column_writer_init(w);
	e.rows = palloc0(sizeof(Row) * n);
	for (int i = 0; i < n; i++)
	{
		take_apart(&e, i);
		nruns += starts_run(&e, i);
	}
	number_shapes(&e);
	eduai_events_put_varint(&w->text, n);
	eduai_events_put_varint(&w->text, nruns);
	eduai_events_put_varint(&w->text, e.nshapes);
	put_shapes(&e);
	put_runs(&e);
	put_streams(&e);
	put_positions(&e);
	put_recorded(&e);
	put_occurred(&e);
	put_names(&e);
	put_leaves(&e);
}

bytea *
eduai_events_block_encode(const char *tenant, const EduaiRecord *records, int n,
						  const EduaiDictionary *dictionary)
{
	EduaiColumnWriter w;

	eduai_events_block_columns(tenant, records, n, &w);
	return eduai_events_block_pack(&w, dictionary, EDUAI_BLOCK_VERSION);
}
