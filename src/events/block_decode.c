/*
 * block_decode.c: columns to events.  See block_codec.h and, for the order of
 * the columns, block_encode.c.
 *
 * Columns are decoded whole; a record's jsonb is put together when it is
 * asked for, since a read of one stream wants few of a block's rows.
 */
#include "postgres.h"

#include "core/json.h"
#include "events/block_codec.h"
#include "events/event_id.h"
#include "events/validate.h"
#include "utils/memutils.h"

/* More leaves than any block has that was written. */
#define MAX_PLACES (EDUAI_BLOCK_EVENTS * 1024)

void
eduai_events_sort_rows(const int64 *positions, int n, int *rows)
{
	int *from = rows;
	int *to = palloc(sizeof(int) * n);
	int *spare = to;
	uint64 base = n > 0 ? (uint64) positions[0] : 0;
	uint64 span = 0;
	bool sorted = true;

	for (int i = 0; i < n; i++)
	{
		rows[i] = i;
		base = (uint64) Min((int64) base, positions[i]);
		sorted &= i == 0 || positions[i - 1] <= positions[i];
	}
	for (int i = 0; i < n; i++)
		span |= (uint64) positions[i] - base;
	/* a byte at a time from the lowest on: far cheaper than comparing */
	for (int shift = 0; !sorted && shift < 64 && span >> shift != 0; shift += 8)
	{
		int start[257] = {0};
		int *swap = from;

		for (int i = 0; i < n; i++)
			start[((((uint64) positions[i] - base) >> shift) & 0xFF) + 1]++;
		for (int i = 1; i < 257; i++)
			start[i] += start[i - 1];
		for (int i = 0; i < n; i++)
			to[start[(((uint64) positions[from[i]] - base) >> shift) & 0xFF]++] = from[i];
		from = to;
		to = swap;
	}
	if (from != rows)
		memcpy(rows, from, sizeof(int) * n);
	pfree(spare);
}

static text *
text_of(const EduaiSlice *slice)
{
	text *value = palloc(VARHDRSZ + slice->length);

	SET_VARSIZE(value, VARHDRSZ + slice->length);
	memcpy(VARDATA(value), slice->bytes, slice->length);
	return value;
}

/* A name, as append checks them; long or broken ones are damage. */
static text *
name_of(const EduaiSlice *slice)
{
	if (slice->length < 1 || slice->length > EDUAI_EVENTS_NAME_BYTES ||
		!eduai_events_valid_text(slice))
		eduai_events_corrupted("name");
	return text_of(slice);
}

/* ---- shapes ---- */

static void
get_shape(EduaiColumnReader *r, EduaiBlock *b, EduaiBlockShape *shape)
{
	EduaiSlice type;
	int64 schema_version;

	type.length = (int) eduai_events_get_count(r, EDUAI_EVENTS_NAME_BYTES);
	type.bytes = eduai_events_get_bytes(r, type.length);
	shape->event_type = name_of(&type);
	schema_version = eduai_events_unzigzag(eduai_events_get_varint(r));
	if (schema_version != (int) schema_version)
		eduai_events_corrupted("schema version");
	shape->schema_version = (int) schema_version;
	shape->flags = (unsigned char) *eduai_events_get_bytes(r, 1);
	if ((shape->flags & ~EDUAI_SHAPE_FLAGS) != 0 ||
		(shape->flags & EDUAI_SHAPE_USER) == EDUAI_SHAPE_USER)
		eduai_events_corrupted("shape");
	shape->first_node = b->nodes.n;
	eduai_events_json_parse_shape(r, &b->nodes, &b->columns);
	eduai_events_json_parse_shape(r, &b->nodes, &b->columns);
	shape->nnodes = b->nodes.n - shape->first_node;
}

static void
get_shapes(EduaiColumnReader *r, EduaiBlock *b)
{
	b->shapes = palloc(sizeof(EduaiBlockShape) * b->nshapes);
	for (int i = 0; i < b->nshapes; i++)
		get_shape(r, b, &b->shapes[i]);
	b->shape_of = eduai_events_get_ints(r, b->n);
	b->flags = palloc(b->n);
	for (int i = 0; i < b->n; i++)
	{
		if (b->shape_of[i] < 0 || b->shape_of[i] >= b->nshapes)
			eduai_events_corrupted("shape of a row");
		b->flags[i] = (unsigned char) b->shapes[b->shape_of[i]].flags;
	}
}

static inline const EduaiBlockShape *
shape_of(const EduaiBlock *b, int row)
{
	return &b->shapes[b->shape_of[row]];
}

/* ---- streams, versions, positions ---- */

static void
get_runs(EduaiColumnReader *r, EduaiBlock *b)
{
	int64 *counts = eduai_events_get_ints(r, b->nruns);
	int64 *firsts = eduai_events_get_ints(r, b->nruns);
	int row = 0;

	b->runs = palloc(sizeof(EduaiBlockRun) * b->nruns);
	b->run_of = palloc(sizeof(int) * b->n);
	b->versions = palloc(sizeof(int64) * b->n);
	for (int i = 0; i < b->nruns; i++)
	{
		if (counts[i] < 1 || counts[i] > b->n - row)
			eduai_events_corrupted("count of a run");
		b->runs[i].first = row;
		b->runs[i].count = (int) counts[i];
		for (int j = 0; j < counts[i]; j++, row++)
		{
			b->run_of[row] = i;
			b->versions[row] = (int64) ((uint64) firsts[i] + j);
		}
	}
	if (row != b->n)
		eduai_events_corrupted("count of a run");
	if (*eduai_events_get_bytes(r, 1))
		b->versions = eduai_events_get_ints(r, b->n);
}

static void
get_streams(EduaiColumnReader *r, EduaiBlock *b)
{
	int64 *shared = eduai_events_get_ints(r, b->nruns);
	int64 *lengths = eduai_events_get_ints(r, b->nruns);
	char name[EDUAI_EVENTS_NAME_BYTES];
	int last = 0;

	for (int i = 0; i < b->nruns; i++)
	{
		EduaiSlice whole = {name, 0};

		if (shared[i] < 0 || shared[i] > last || lengths[i] < 0 ||
			lengths[i] > EDUAI_EVENTS_NAME_BYTES - shared[i])
			eduai_events_corrupted("name of a stream");
		memcpy(name + shared[i], eduai_events_get_bytes(r, lengths[i]), lengths[i]);
		last = whole.length = (int) (shared[i] + lengths[i]);
		b->runs[i].stream = name_of(&whole);
	}
}

static void
get_positions(EduaiColumnReader *r, EduaiBlock *b)
{
	int64 *firsts = eduai_events_get_ints(r, b->nruns);
	int64 *steps = eduai_events_get_ints(r, b->n - b->nruns);
	int row = 0;

	b->positions = palloc(sizeof(int64) * b->n);
	for (int i = 0; i < b->nruns; i++)
	{
		b->positions[row++] = firsts[i];
		for (int j = 1; j < b->runs[i].count; j++, row++)
			b->positions[row] = (int64) ((uint64) b->positions[row - 1] + (uint64) *steps++);
	}
	b->by_position = palloc(sizeof(int) * b->n);
	eduai_events_sort_rows(b->positions, b->n, b->by_position);
}

/* ---- times, names, ids ---- */

static void
check_times(const TimestampTz *times, int n)
{
	for (int i = 0; i < n; i++)
		if (!IS_VALID_TIMESTAMP(times[i]))
			eduai_events_corrupted("time");
}

static void
get_recorded(EduaiColumnReader *r, EduaiBlock *b)
{
	uint64 pace = (uint64) eduai_events_unzigzag(eduai_events_get_varint(r));
	uint64 time = (uint64) eduai_events_unzigzag(eduai_events_get_varint(r));
	int64 *steps = eduai_events_get_ints(r, b->n - 1);
	uint64 last = (uint64) b->positions[b->by_position[0]];

	b->recorded = palloc(sizeof(TimestampTz) * b->n);
	b->recorded[b->by_position[0]] = (TimestampTz) time;
	for (int i = 1; i < b->n; i++)
	{
		int row = b->by_position[i];

		time += (uint64) steps[i - 1] + pace * ((uint64) b->positions[row] - last);
		last = (uint64) b->positions[row];
		b->recorded[row] = (TimestampTz) time;
	}
	check_times(b->recorded, b->n);
}

static int
count_rows(const EduaiBlock *b, int mask, int flags)
{
	int count = 0;

	for (int i = 0; i < b->n; i++)
		count += (b->flags[i] & mask) == flags;
	return count;
}

static void
get_occurred(EduaiColumnReader *r, EduaiBlock *b)
{
	int n = count_rows(b, EDUAI_SHAPE_OCCURRED, EDUAI_SHAPE_OCCURRED);
	uint64 unit = n > 0 ? eduai_events_get_varint(r) : 0;
	int64 *times = eduai_events_get_ints(r, n);

	b->occurred = b->recorded;
	if (n == 0)
		return;
	b->occurred = palloc(sizeof(TimestampTz) * b->n);
	for (int i = 0; i < b->n; i++)
		b->occurred[i] = b->flags[i] & EDUAI_SHAPE_OCCURRED
							 ? (TimestampTz) ((uint64) *times++ * unit)
							 : b->recorded[i];
	check_times(b->occurred, b->n);
}

static EduaiSlice *
get_names(EduaiColumnReader *r, EduaiBlock *b, int mask, int flags)
{
	int n = count_rows(b, mask, flags);
	EduaiSlice *slices = eduai_events_get_slices(r, n);
	EduaiSlice *names;

	if (n == 0 || n == b->n)
		return slices;
	names = palloc0(sizeof(EduaiSlice) * b->n);
	for (int i = 0; i < b->n; i++)
		if ((b->flags[i] & mask) == flags)
			names[i] = *slices++;
	return names;
}

static void
get_ids(EduaiColumnReader *r, EduaiBlock *b)
{
	if (count_rows(b, EDUAI_SHAPE_ID_STORED, EDUAI_SHAPE_ID_STORED) == 0)
		return;
	b->ids = palloc0(sizeof(pg_uuid_t) * b->n);
	for (int i = 0; i < b->n; i++)
		if (b->flags[i] & EDUAI_SHAPE_ID_STORED)
			eduai_events_get_raw(r, b->ids[i].data, UUID_LEN);
}

/* ---- leaves ---- */

static bool
has_leaf(const EduaiShapeNode *node)
{
	return node->kind != 'o' && node->kind != 'z';
}

/* Arrays' lengths come first: how many values the other columns have depends on them. */
static void
get_lengths(EduaiColumnReader *r, EduaiBlock *b)
{
	for (int row = 0; row < b->n; row++)
	{
		const EduaiShapeNode *node = &b->nodes.values[shape_of(b, row)->first_node];

		for (int i = 0; i < shape_of(b, row)->nnodes; i++, node++)
			if (node->kind == 'A')
				b->columns.values[node->column].n++;
	}
	for (int i = 0; i < b->columns.n; i++)
		if (b->columns.values[i].kind == 'A')
		{
			EduaiLeafColumn *column = &b->columns.values[i];

			column->ints.values = eduai_events_get_ints(r, column->n);
			for (int j = 0; j < column->n; j++)
				if (column->ints.values[j] < 0 || column->ints.values[j] > MAX_PLACES)
					eduai_events_corrupted("length of an array");
			column->n = 0;
		}
}

/* How many places the rows have, two for an array: its own and its first element's. */
static int
count_places(const EduaiBlock *b)
{
	int *of_shape = palloc0(sizeof(int) * b->nshapes);
	int64 count = 0;

	for (int i = 0; i < b->nshapes; i++)
		for (int j = 0; j < b->shapes[i].nnodes; j++)
		{
			const EduaiShapeNode *node = &b->nodes.values[b->shapes[i].first_node + j];

			of_shape[i] += has_leaf(node) + (node->kind == 'A');
		}
	for (int row = 0; row < b->n; row++)
		count += of_shape[b->shape_of[row]];
	pfree(of_shape);
	if (count > MAX_PLACES)
		eduai_events_corrupted("count of values");
	return (int) count;
}

/* Where the leaves of each row are in their columns. */
static void
find_places(EduaiBlock *b)
{
	EduaiLeafColumn *columns = b->columns.values;
	int *place = palloc(sizeof(int) * (count_places(b) + 1));

	b->places = place;
	b->first_place = palloc(sizeof(int) * b->n);
	for (int row = 0; row < b->n; row++)
	{
		const EduaiShapeNode *node = &b->nodes.values[shape_of(b, row)->first_node];
		const EduaiShapeNode *end = node + shape_of(b, row)->nnodes;

		b->first_place[row] = (int) (place - b->places);
		for (; node < end; node++)
		{
			int64 length;

			if (!has_leaf(node))
				continue;
			*place++ = columns[node->column].n++;
			if (node->kind != 'A')
				continue;
			length = columns[node->column].ints.values[columns[node->column].n - 1];
			*place++ = columns[node->elements].n;
			if (length > MAX_PLACES - columns[node->elements].n)
				eduai_events_corrupted("count of values");
			columns[node->elements].n += (int) length;
		}
	}
}

static void
get_leaves(EduaiColumnReader *r, EduaiBlock *b)
{
	get_lengths(r, b);
	find_places(b);
	for (int i = 0; i < b->columns.n; i++)
	{
		EduaiLeafColumn *column = &b->columns.values[i];

		if (column->kind == 'n')
			column->scales.values = eduai_events_get_ints(r, column->n);
		if (column->kind == 'n' || column->kind == 'b')
			column->ints.values = eduai_events_get_ints(r, column->n);
		else if (column->kind != 'A')
			column->slices.values = eduai_events_get_slices(r, column->n);
		for (int j = 0; column->kind == 'n' && j < column->n; j++)
			if (column->scales.values[j] < 0 || column->scales.values[j] > EDUAI_NUMBER_SCALE)
				eduai_events_corrupted("number");
	}
}

/* ---- blocks ---- */

EduaiBlock *
eduai_events_block_begin(const char *body, size_t length, EduaiDictionaryFinder finder, void *arg)
{
	EduaiBlock *b = palloc0(sizeof(EduaiBlock));
	EduaiColumnReader *r = &b->rest;
	int version;

	eduai_events_block_unpack(body, length, finder, arg, r, &version);
	if (version == EDUAI_BLOCK_RAW)
	{
		eduai_events_block_begin_raw(b);
		return b;
	}
	b->n = (int) eduai_events_get_count(r, EDUAI_BLOCK_EVENTS);
	b->nruns = (int) eduai_events_get_count(r, b->n);
	b->nshapes = (int) eduai_events_get_count(r, b->n);
	if (b->n == 0 || b->nruns == 0 || b->nshapes == 0)
		eduai_events_corrupted("count of events");
	get_shapes(r, b);
	get_runs(r, b);
	get_streams(r, b);
	get_positions(r, b);
	return b;
}

EduaiBlock *
eduai_events_block_finish(EduaiBlock *b)
{
	EduaiColumnReader *r = &b->rest;

	if (b->raw != NULL)
		return b;
	get_recorded(r, b);
	get_occurred(r, b);
	b->users = get_names(r, b, EDUAI_SHAPE_USER, EDUAI_USER_GIVEN);
	b->sessions = get_names(r, b, EDUAI_SHAPE_SESSION, EDUAI_SHAPE_SESSION);
	get_ids(r, b);
	get_leaves(r, b);
	if (r->text != r->text_end)
		eduai_events_corrupted("length");
	return b;
}

EduaiBlock *
eduai_events_block_decode(const char *body, size_t length, EduaiDictionaryFinder finder, void *arg)
{
	return eduai_events_block_finish(eduai_events_block_begin(body, length, finder, arg));
}

static text *
user_of(const EduaiBlock *b, const EduaiBlockShape *shape, int row)
{
	EduaiSlice user;

	switch (shape->flags & EDUAI_SHAPE_USER)
	{
		case EDUAI_USER_GIVEN:
			return name_of(&b->users[row]);
		case EDUAI_USER_OF_STREAM:
			if (!eduai_events_user_of_stream(b->runs[b->run_of[row]].stream, &user))
				eduai_events_corrupted("user id");
			return text_of(&user);
		default:
			return NULL;
	}
}

void
eduai_events_block_record(const EduaiBlock *b, const char *tenant, int row, EduaiRecord *record)
{
	const EduaiBlockShape *shape;
	const EduaiShapeNode *node;
	const int *place;

	if (b->raw != NULL)
	{
		*record = b->raw[row];
		return;
	}
	shape = shape_of(b, row);
	node = &b->nodes.values[shape->first_node];
	place = &b->places[b->first_place[row]];
	*record = (EduaiRecord){
		.position = b->positions[row],
		.version = b->versions[row],
		.id_given = (shape->flags & EDUAI_SHAPE_ID_GIVEN) != 0,
		.schema_version = shape->schema_version,
		.stream = b->runs[b->run_of[row]].stream,
		.event_type = shape->event_type,
		.user_id = user_of(b, shape, row),
		.session_id = shape->flags & EDUAI_SHAPE_SESSION ? name_of(&b->sessions[row]) : NULL,
		.occurred_at = b->occurred[row],
		.recorded_at = b->recorded[row],
	};
	if (shape->flags & EDUAI_SHAPE_ID_STORED)
		record->event_id = b->ids[row];
	else
		eduai_events_derive_id(tenant, VARDATA(record->stream), VARSIZE(record->stream) - VARHDRSZ,
							   record->version, record->recorded_at, &record->event_id);
	record->data = eduai_events_json_build(&node, &place, b->columns.values);
	record->metadata = eduai_events_json_build(&node, &place, b->columns.values);
}

/* ---- comparing ---- */

static bool
same_text(const text *a, const text *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		   memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

/* The same bytes, or, were they not packed as this server packs them, the same text. */
static bool
same_json(const Jsonb *a, const Jsonb *b)
{
	if (VARSIZE(a) == VARSIZE(b) && memcmp(a, b, VARSIZE(a)) == 0)
		return true;
	return strcmp(eduai_core_json_cstring(a), eduai_core_json_cstring(b)) == 0;
}

static bool
same_record(const EduaiRecord *a, const EduaiRecord *b)
{
	return a->position == b->position && a->version == b->version &&
		   memcmp(&a->event_id, &b->event_id, sizeof(pg_uuid_t)) == 0 &&
		   a->id_given == b->id_given && a->schema_version == b->schema_version &&
		   same_text(a->stream, b->stream) && same_text(a->event_type, b->event_type) &&
		   same_text(a->user_id, b->user_id) && same_text(a->session_id, b->session_id) &&
		   same_json(a->data, b->data) && same_json(a->metadata, b->metadata) &&
		   a->occurred_at == b->occurred_at && a->recorded_at == b->recorded_at;
}

static const EduaiDictionary *
given_dictionary(int id, void *arg)
{
	return arg;
}

void
eduai_events_block_verify(const char *tenant, const EduaiRecord *records, int n, const bytea *block,
						  const EduaiDictionary *dictionary)
{
	EduaiBlock *b = eduai_events_block_decode(VARDATA_ANY(block), VARSIZE_ANY_EXHDR(block),
											  given_dictionary, (void *) dictionary);
	EduaiRecord record;

	if (b->n != n)
		elog(ERROR, "a block of %d events decodes to %d", n, b->n);
	for (int i = 0; i < n; i++)
	{
		eduai_events_block_record(b, tenant, i, &record);
		if (!same_record(&record, &records[i]))
			elog(ERROR, "event %d of a block of %d does not decode to itself", i + 1, n);
	}
}
