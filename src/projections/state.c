/*
 * state.c: a learner's state.  See state.h.
 *
 * Maps are kept in the order of their keys, as jsonb has them; lists are
 * searched from their start: a learner has tens of skills, not thousands.
 */
#include "postgres.h"

#include "projections/state.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

typedef enum FieldKind
{
	KIND_LIST,
	KIND_MAP,
	KIND_SCALAR,
} FieldKind;

#define FIELD(text, kind, initial)            \
	{                                         \
		text, sizeof(text) - 1, kind, initial \
	}

static const struct
{
	const char *name;
	int length;
	FieldKind kind;
	int64 initial;
} fields[FIELDS] = {
	[FIELD_SKILLS] = FIELD("skills", KIND_MAP, 0),
	[FIELD_ACHIEVEMENTS] = FIELD("achievements", KIND_LIST, 0),
	[FIELD_CURRENT_LEVEL] = FIELD("current_level", KIND_SCALAR, 1),
	[FIELD_SKILLS_MASTERED] = FIELD("skills_mastered", KIND_LIST, 0),
	[FIELD_EMOTION_PATTERNS] = FIELD("emotion_patterns", KIND_MAP, 0),
	[FIELD_TOTAL_TIME_SPENT] = FIELD("total_time_spent", KIND_SCALAR, 0),
	[FIELD_DIFFICULTY_HISTORY] = FIELD("difficulty_history", KIND_LIST, 0),
	[FIELD_EXERCISES_COMPLETED] = FIELD("exercises_completed", KIND_SCALAR, 0),
	[FIELD_LEARNING_PREFERENCES] = FIELD("learning_preferences", KIND_MAP, 0),
};

JsonbValue
eduai_projections_state_int(int64 value)
{
	JsonbValue number = {.type = jbvNumeric};

	number.val.numeric = int64_to_numeric(value);
	return number;
}

int64
eduai_projections_state_as_int(const JsonbValue *value)
{
	if (value == NULL || value->type != jbvNumeric)
		return 0;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(value->val.numeric)));
}

double
eduai_projections_state_as_double(const JsonbValue *value)
{
	if (value == NULL || value->type != jbvNumeric)
		return 0;
	return DatumGetFloat8(
		DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(value->val.numeric)));
}

/* Whether what was stored is of the field's kind; an administrator may have edited it. */
static bool
fits(const JsonbValue *value, FieldKind kind)
{
	switch (kind)
	{
		case KIND_LIST:
			return value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data);
		case KIND_MAP:
			return value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
		default:
			return value->type == jbvNumeric || value->type == jbvString;
	}
}

static JsonbValue
name_of(StateField field)
{
	JsonbValue name = {.type = jbvString};

	name.val.string.val = (char *) fields[field].name;
	name.val.string.len = fields[field].length;
	return name;
}

void
eduai_projections_state_read(State *state, const Jsonb *json)
{
	bool is_object = json != NULL && JB_ROOT_IS_OBJECT(json);
	int n = is_object ? JB_ROOT_COUNT(json) : 0;
	PackEntry *entries = palloc(sizeof(PackEntry) * (n + 1));
	int at = 0;

	memset(state, 0, sizeof(State));
	if (is_object)
		eduai_projections_pack_read(&json->root, entries);
	/* both are in the order of keys */
	for (StateField field = 0; field < FIELDS; field++)
	{
		StateItem *item = &state->items[field];
		JsonbValue name = name_of(field);

		while (at < n && eduai_projections_pack_compare(&entries[at].key, &name) < 0)
			at++;
		if (at < n && eduai_projections_pack_compare(&entries[at].key, &name) == 0 &&
			fits(&entries[at].value, fields[field].kind))
			item->packed = entries[at].value;
		else if (fields[field].kind == KIND_SCALAR)
			item->packed = eduai_projections_state_int(fields[field].initial);
		else
			item->packed.type = jbvNull;
	}
	pfree(entries);
}

/* Room for an entry at a place, which those from there on make. */
static PackEntry *
insert_entry(StateItem *item, int at)
{
	if (item->nentries == item->capacity)
	{
		item->capacity = Max(8, item->capacity * 2);
		item->entries = item->entries ? repalloc(item->entries, sizeof(PackEntry) * item->capacity)
									  : palloc(sizeof(PackEntry) * item->capacity);
	}
	memmove(&item->entries[at + 1], &item->entries[at], sizeof(PackEntry) * (item->nentries - at));
	item->nentries++;
	return &item->entries[at];
}

static void
unpack(StateItem *item)
{
	const JsonbContainer *container = item->packed.val.binary.data;

	item->nentries = JsonContainerSize(container);
	item->capacity = item->nentries + 8;
	item->entries = palloc(sizeof(PackEntry) * item->capacity);
	eduai_projections_pack_read(container, item->entries);
}

StateItem *
eduai_projections_state_open(State *state, StateField field)
{
	StateItem *item = &state->items[field];

	Assert(fields[field].kind != KIND_SCALAR);
	if (!item->unpacked && item->packed.type == jbvBinary)
		unpack(item);
	item->unpacked = true;
	return item;
}

static bool
same_string(const JsonbValue *a, const JsonbValue *b)
{
	return a->type == jbvString && b->type == jbvString && a->val.string.len == b->val.string.len &&
		   memcmp(a->val.string.val, b->val.string.val, a->val.string.len) == 0;
}

/* Whether a map has the key, and where it stands or would stand. */
static bool
find(const StateItem *map, const JsonbValue *key, int *at)
{
	int low = 0;
	int high = map->nentries;

	while (low < high)
	{
		int middle = (low + high) / 2;
		int order = eduai_projections_pack_compare(&map->entries[middle].key, key);

		if (order == 0)
		{
			*at = middle;
			return true;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*at = low;
	return false;
}

JsonbValue *
eduai_projections_state_get(const StateItem *map, const JsonbValue *key)
{
	int at;

	return find(map, key, &at) ? &map->entries[at].value : NULL;
}

void
eduai_projections_state_put(StateItem *map, const JsonbValue *key, const JsonbValue *value)
{
	int at;

	if (find(map, key, &at))
		map->entries[at].value = *value;
	else
		*insert_entry(map, at) = (PackEntry){*key, *value};
}

bool
eduai_projections_state_has(const StateItem *list, const JsonbValue *string)
{
	for (int i = 0; i < list->nentries; i++)
		if (same_string(&list->entries[i].value, string))
			return true;
	return false;
}

void
eduai_projections_state_add(StateItem *list, const JsonbValue *value)
{
	*insert_entry(list, list->nentries) = (PackEntry){{.type = jbvNull}, *value};
}

void
eduai_projections_state_keep_last(StateItem *list, int n)
{
	int surplus = list->nentries - n;

	if (surplus <= 0)
		return;
	memmove(list->entries, list->entries + surplus, sizeof(PackEntry) * n);
	list->nentries = n;
}

static JsonbValue
packed_item(const StateItem *item, FieldKind kind)
{
	Jsonb *packed;

	if (!item->unpacked && item->packed.type != jbvNull)
		return item->packed;
	packed = kind == KIND_MAP ? eduai_projections_pack_object(item->entries, item->nentries)
							  : eduai_projections_pack_array(item->entries, item->nentries);
	return eduai_projections_pack_value(packed);
}

void
eduai_projections_state_entries(const State *state, PackEntry *entries)
{
	for (StateField field = 0; field < FIELDS; field++)
		entries[field] =
			(PackEntry){name_of(field), packed_item(&state->items[field], fields[field].kind)};
}
