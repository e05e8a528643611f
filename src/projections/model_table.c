/*
 * model_table.c: the states of the learner model.  See model_table.h.
 *
 * The columns of a table are, in this order: the first fields of the entity's
 * struct, each as its letter in "shape" says; what is kept beside the model
 * (tally, review); generation, tenant_id and the entity's names; and features,
 * the other fields, where there are any.  Every double comes back bit by bit,
 * so it does not matter to a state where a batch ended.
 */
#include "postgres.h"

#include <math.h>

#include "access/heapam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "core/heap.h"
#include "projections/model_table.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Of any of the tables. */
#define MAX_COLUMNS 16
#define MAX_INDEXES 2

typedef enum Extra
{
	EXTRA_NONE,
	EXTRA_TIMES, /* timed, time_us */
	EXTRA_TALLY, /* learners, timed, time_us */
	EXTRA_REVIEW,
} Extra;

typedef struct Layout
{
	int fields;        /* doubles of the struct */
	const char *shape; /* of the first of them: n bigint, t timestamptz, f float8 */
	Extra extra;
	int names;
} Layout;

static const Layout layouts[EDUAI_MODEL_ENTITIES] = {
	[EDUAI_MODEL_TENANT] = {EDUAI_MODEL_FIELDS(EduaiModelTenant), "nnt", EXTRA_NONE, 0},
	[EDUAI_MODEL_LEARNER] = {EDUAI_MODEL_FIELDS(EduaiModelLearner), "nntf", EXTRA_NONE, 1},
	[EDUAI_MODEL_SKILL] = {EDUAI_MODEL_FIELDS(EduaiModelSkill), "nntfnn", EXTRA_TIMES, 1},
	[EDUAI_MODEL_ITEM] = {EDUAI_MODEL_FIELDS(EduaiModelItem), "nntf", EXTRA_TALLY, 2},
	[EDUAI_MODEL_PAIR] = {EDUAI_MODEL_FIELDS(EduaiModelPair), "nntff", EXTRA_NONE, 2},
	[EDUAI_MODEL_REPEAT] = {EDUAI_MODEL_FIELDS(EduaiModelRepeat), "nnt", EXTRA_REVIEW, 3},
};

/* The fields that have columns of their own come first. */
StaticAssertDecl(offsetof(EduaiModelLearner, elo) == 3 * sizeof(double), "ability");
StaticAssertDecl(offsetof(EduaiModelSkill, elo) == 3 * sizeof(double), "difficulty");
StaticAssertDecl(offsetof(EduaiModelSkill, learners) == 4 * sizeof(double), "learners");
StaticAssertDecl(offsetof(EduaiModelSkill, first_correct) == 5 * sizeof(double), "first_correct");
StaticAssertDecl(offsetof(EduaiModelItem, elo) == 3 * sizeof(double), "difficulty");
StaticAssertDecl(offsetof(EduaiModelPair, known) == 3 * sizeof(double), "known");
StaticAssertDecl(offsetof(EduaiModelPair, elo) == 4 * sizeof(double), "ability");
StaticAssertDecl(EDUAI_MODEL_FIELDS(EduaiModelRepeat) == 3, "a repeat has no features");

static EduaiTable tables[EDUAI_MODEL_ENTITIES] = {
	[EDUAI_MODEL_TENANT] = {"model_tenant", "model_tenant_pkey"},
	[EDUAI_MODEL_LEARNER] = {"model_learner", "model_learner_pkey"},
	[EDUAI_MODEL_SKILL] = {"model_skill", "model_skill_pkey"},
	[EDUAI_MODEL_ITEM] = {"model_item", "model_item_pkey"},
	[EDUAI_MODEL_PAIR] = {"model_learner_skill", "model_learner_skill_pkey"},
	[EDUAI_MODEL_REPEAT] = {"model_learner_item", "model_learner_item_pkey"},
};

typedef struct RowEntry
{
	const EduaiModelRow *key;
	EduaiModelRow *row;
	uint32 hash;
	char status;
} RowEntry;

static uint32
hash_row(const EduaiModelRow *row)
{
	uint32 hash = (uint32) row->entity;

	for (int i = 0; i < layouts[row->entity].names; i++)
		hash = hash_combine(
			hash, hash_bytes((const unsigned char *) row->names[i], strlen(row->names[i])));
	return hash;
}

static bool
same_row(const EduaiModelRow *a, const EduaiModelRow *b)
{
	if (a->entity != b->entity)
		return false;
	for (int i = 0; i < layouts[a->entity].names; i++)
		if (strcmp(a->names[i], b->names[i]) != 0)
			return false;
	return true;
}

#define SH_PREFIX            kept
#define SH_ELEMENT_TYPE      RowEntry
#define SH_KEY_TYPE          const EduaiModelRow *
#define SH_KEY               key
#define SH_HASH_KEY(tb, key) hash_row(key)
#define SH_EQUAL(tb, a, b)   same_row(a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE           static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct EduaiModelRows
{
	MemoryContext context; /* of all this */
	Snapshot snapshot;
	bool writes; /* the snapshot is registered here */
	int generation;
	Datum tenant;
	kept_hash *kept;
	EduaiScan scans[EDUAI_MODEL_ENTITIES]; /* opened at the first use */
};

static EduaiModelRows *
open_rows(const char *tenant, int generation, Snapshot snapshot, bool writes)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "eduai learner model", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	EduaiModelRows *rows = palloc0(sizeof(EduaiModelRows));

	rows->context = context;
	rows->snapshot = snapshot;
	rows->writes = writes;
	rows->generation = generation;
	rows->tenant = CStringGetTextDatum(tenant);
	rows->kept = kept_create(context, 256, NULL);
	MemoryContextSwitchTo(old);
	return rows;
}

EduaiModelRows *
eduai_projections_model_open(const char *tenant, int generation)
{
	return open_rows(tenant, generation, RegisterSnapshot(GetLatestSnapshot()), true);
}

EduaiModelRows *
eduai_projections_model_view(const char *tenant, int generation, Snapshot snapshot)
{
	return open_rows(tenant, generation, snapshot, false);
}

/* ---- reading ---- */

static double
field_of(char shape, Datum value)
{
	switch (shape)
	{
		case 'n':
			return (double) DatumGetInt64(value);
		case 't':
			return (double) DatumGetTimestampTz(value) / USECS_PER_SEC;
		default:
			return DatumGetFloat8(value);
	}
}

static const Datum *
read_extra(EduaiModelRow *row, const Datum *value)
{
	switch (layouts[row->entity].extra)
	{
		case EXTRA_NONE:
			break;
		case EXTRA_TALLY:
			row->tally.learners = DatumGetInt64(*value++);
			/* FALLTHROUGH */
		case EXTRA_TIMES:
			row->tally.timed = DatumGetInt64(*value++);
			row->tally.time_us = DatumGetInt64(*value++);
			break;
		case EXTRA_REVIEW:
			row->review.easiness = DatumGetFloat8(*value++);
			row->review.interval_days = DatumGetInt64(*value++);
			row->review.repetitions = DatumGetInt64(*value++);
			row->review.due_at = DatumGetTimestampTz(*value++);
			break;
	}
	return value;
}

/* Those that are not there, and any that a later release has more, are zero. */
static void
read_features(Datum value, double *features, int most)
{
	ArrayType *array = DatumGetArrayTypeP(value);
	int n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));

	if (n > 0 && !ARR_HASNULL(array))
		memcpy(features, ARR_DATA_PTR(array), sizeof(double) * Min(n, most));
	if ((Pointer) array != DatumGetPointer(value))
		pfree(array);
}

static void
read_row(EduaiModelRow *row, TupleTableSlot *slot)
{
	const Layout *layout = &layouts[row->entity];
	const Datum *value = slot->tts_values;
	double *field = row->state;
	int named = strlen(layout->shape);

	for (const char *shape = layout->shape; *shape; shape++)
		*field++ = field_of(*shape, *value++);
	value = read_extra(row, value);
	value += 2 + layout->names;
	if (layout->fields > named)
		read_features(*value, field, layout->fields - named);
	row->found = true;
	row->tid = slot->tts_tid;
}

static void
find(EduaiModelRows *rows, EduaiModelRow *row)
{
	const Layout *layout = &layouts[row->entity];
	EduaiScan *scan = &rows->scans[row->entity];
	ScanKeyData keys[2 + EDUAI_MODEL_NAMES];
	Datum names[EDUAI_MODEL_NAMES];

	if (scan->rel == NULL)
		eduai_core_table_open(scan, &tables[row->entity], rows->snapshot, 2 + layout->names);
	eduai_core_key_text(&keys[0], 1, rows->tenant);
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(rows->generation));
	for (int i = 0; i < layout->names; i++)
	{
		names[i] = CStringGetTextDatum(row->names[i]);
		eduai_core_key_text(&keys[2 + i], 3 + i, names[i]);
	}
	eduai_core_scan_seek(scan, keys);
	if (eduai_core_scan_next(scan, ForwardScanDirection))
		read_row(row, scan->slot);
	for (int i = 0; i < layout->names; i++)
		pfree(DatumGetPointer(names[i]));
}

static EduaiModelRow *
new_row(const EduaiModelRow *key)
{
	EduaiModelRow *row =
		palloc0(MAXALIGN(sizeof(EduaiModelRow)) + sizeof(double) * layouts[key->entity].fields);

	*row = *key;
	row->state = (char *) row + MAXALIGN(sizeof(EduaiModelRow));
	row->review = eduai_projections_review_new();
	if (key->entity == EDUAI_MODEL_TENANT)
		eduai_projections_model_start(row->state);
	return row;
}

EduaiModelRow *
eduai_projections_model_row(EduaiModelRows *rows, EduaiModelEntity entity, const char *first,
							const char *second, const char *third)
{
	EduaiModelRow key = {.entity = entity, .names = {first, second, third}};
	MemoryContext old;
	RowEntry *entry;
	EduaiModelRow *row;
	bool found;

	entry = kept_lookup(rows->kept, &key);
	if (entry != NULL)
		return entry->row;
	old = MemoryContextSwitchTo(rows->context);
	row = new_row(&key);
	find(rows, row);
	entry = kept_insert(rows->kept, row, &found);
	entry->row = row;
	MemoryContextSwitchTo(old);
	return row;
}

/* ---- writing ---- */

static Datum
column_of(char shape, double field)
{
	switch (shape)
	{
		case 'n':
			return Int64GetDatum((int64) field);
		case 't':
			return TimestampTzGetDatum((TimestampTz) rint(field * USECS_PER_SEC));
		default:
			return Float8GetDatum(field);
	}
}

static Datum *
form_extra(const EduaiModelRow *row, Datum *value)
{
	switch (layouts[row->entity].extra)
	{
		case EXTRA_NONE:
			break;
		case EXTRA_TALLY:
			*value++ = Int64GetDatum(row->tally.learners);
			/* FALLTHROUGH */
		case EXTRA_TIMES:
			*value++ = Int64GetDatum(row->tally.timed);
			*value++ = Int64GetDatum(row->tally.time_us);
			break;
		case EXTRA_REVIEW:
			*value++ = Float8GetDatum(row->review.easiness);
			*value++ = Int64GetDatum(row->review.interval_days);
			*value++ = Int64GetDatum(row->review.repetitions);
			*value++ = TimestampTzGetDatum(row->review.due_at);
			break;
	}
	return value;
}

static Datum
form_features(const double *features, int n)
{
	ArrayType *array;
	Size size;

	while (n > 0 && features[n - 1] == 0 && !signbit(features[n - 1]))
		n--;
	if (n == 0)
		return PointerGetDatum(construct_empty_array(FLOAT8OID));
	size = ARR_OVERHEAD_NONULLS(1) + sizeof(double) * n;
	array = palloc0(size);
	SET_VARSIZE(array, size);
	array->ndim = 1;
	array->elemtype = FLOAT8OID;
	ARR_DIMS(array)[0] = n;
	ARR_LBOUND(array)[0] = 1;
	memcpy(ARR_DATA_PTR(array), features, sizeof(double) * n);
	return PointerGetDatum(array);
}

static void
form_row(const EduaiModelRows *rows, const EduaiModelRow *row, Datum *values)
{
	const Layout *layout = &layouts[row->entity];
	const double *field = row->state;
	Datum *value = values;
	int named = strlen(layout->shape);

	for (const char *shape = layout->shape; *shape; shape++)
		*value++ = column_of(*shape, *field++);
	value = form_extra(row, value);
	*value++ = Int32GetDatum(rows->generation);
	*value++ = rows->tenant;
	for (int i = 0; i < layout->names; i++)
		*value++ = CStringGetTextDatum(row->names[i]);
	if (layout->fields > named)
		*value++ = form_features(field, layout->fields - named);
	Assert(value - values <= MAX_COLUMNS);
}

/* A table open for writing. */
typedef struct Writer
{
	Relation rel; /* NULL: not open */
	Relation indexes[MAX_INDEXES];
	IndexInfo *infos[MAX_INDEXES];
	int nindexes;
} Writer;

static void
open_writer(Writer *writer, EduaiModelEntity entity)
{
	List *oids;
	ListCell *cell;

	eduai_core_table_find(&tables[entity]);
	writer->rel = table_open(tables[entity].relid, RowExclusiveLock);
	oids = RelationGetIndexList(writer->rel);
	foreach (cell, oids)
	{
		int i = writer->nindexes++;

		if (i >= MAX_INDEXES)
			elog(ERROR, "too many indexes on \"%s\"", tables[entity].name);
		writer->indexes[i] = index_open(lfirst_oid(cell), RowExclusiveLock);
		writer->infos[i] = BuildIndexInfo(writer->indexes[i]);
	}
	list_free(oids);
}

static void
close_writer(Writer *writer)
{
	if (writer->rel == NULL)
		return;
	for (int i = 0; i < writer->nindexes; i++)
		index_close(writer->indexes[i], NoLock);
	table_close(writer->rel, NoLock);
}

static void
write_row(const EduaiModelRows *rows, Writer *writer, EduaiModelRow *row)
{
	static const bool nulls[MAX_COLUMNS] = {false};
	Datum values[MAX_COLUMNS];
	HeapTuple tuple;

	form_row(rows, row, values);
	tuple = heap_form_tuple(RelationGetDescr(writer->rel), values, (bool *) nulls);
	if (row->found)
		eduai_core_heap_update(writer->rel, &row->tid, tuple, writer->indexes, writer->infos,
							   writer->nindexes, values, nulls);
	else
		eduai_core_heap_insert(writer->rel, tuple, writer->indexes, writer->infos, writer->nindexes,
							   values, nulls);
}

static void
write_touched(EduaiModelRows *rows)
{
	MemoryContext scratch =
		AllocSetContextCreate(rows->context, "eduai learner model row", ALLOCSET_SMALL_SIZES);
	Writer writers[EDUAI_MODEL_ENTITIES] = {0};
	kept_iterator it;
	RowEntry *entry;

	kept_start_iterate(rows->kept, &it);
	while ((entry = kept_iterate(rows->kept, &it)) != NULL)
	{
		EduaiModelRow *row = entry->row;
		MemoryContext old;

		if (!row->touched)
			continue;
		if (writers[row->entity].rel == NULL)
			open_writer(&writers[row->entity], row->entity);
		old = MemoryContextSwitchTo(scratch);
		write_row(rows, &writers[row->entity], row);
		MemoryContextSwitchTo(old);
		MemoryContextReset(scratch);
	}
	for (int i = 0; i < EDUAI_MODEL_ENTITIES; i++)
		close_writer(&writers[i]);
}

void
eduai_projections_model_close(EduaiModelRows *rows)
{
	if (rows->writes)
		write_touched(rows);
	for (int i = 0; i < EDUAI_MODEL_ENTITIES; i++)
		eduai_core_scan_close(&rows->scans[i]);
	if (rows->writes)
	{
		UnregisterSnapshot(rows->snapshot);
		CommandCounterIncrement();
	}
	MemoryContextDelete(rows->context);
}
