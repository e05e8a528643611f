/*
 * state.c: a learner's state.  See state.h.
 *
 * Lists and maps are searched from their start: a learner has tens of skills
 * and emotions, not thousands.
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

static const struct
{
	const char *name;
	FieldKind kind;
	int64 initial;
} fields[FIELDS] = {
	[FIELD_SKILLS_MASTERED] = {"skills_mastered", KIND_LIST, 0},
	[FIELD_SKILLS] = {"skills", KIND_MAP, 0},
	[FIELD_CURRENT_LEVEL] = {"current_level", KIND_SCALAR, 1},
	[FIELD_TOTAL_TIME_SPENT] = {"total_time_spent", KIND_SCALAR, 0},
	[FIELD_EXERCISES_COMPLETED] = {"exercises_completed", KIND_SCALAR, 0},
	[FIELD_ACHIEVEMENTS] = {"achievements", KIND_LIST, 0},
	[FIELD_EMOTION_PATTERNS] = {"emotion_patterns", KIND_MAP, 0},
	[FIELD_LEARNING_PREFERENCES] = {"learning_preferences", KIND_MAP, 0},
	[FIELD_DIFFICULTY_HISTORY] = {"difficulty_history", KIND_LIST, 0},
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

void
eduai_projections_state_read(State *state, const Jsonb *json)
{
	memset(state, 0, sizeof(State));
	for (StateField field = 0; field < FIELDS; field++)
	{
		StateItem *item = &state->items[field];
		const char *name = fields[field].name;

		if (json != NULL && JB_ROOT_IS_OBJECT(json) &&
			getKeyJsonValueFromContainer((JsonbContainer *) &json->root, name, strlen(name),
										 &item->packed) != NULL &&
			fits(&item->packed, fields[field].kind))
			continue;
		item->packed.type = jbvNull;
		if (fields[field].kind == KIND_SCALAR)
			item->packed = eduai_projections_state_int(fields[field].initial);
	}
}

static StateEntry *
new_entry(StateItem *item)
{
	if (item->nentries == item->capacity)
	{
		item->capacity = Max(8, item->capacity * 2);
		item->entries = item->entries ? repalloc(item->entries, sizeof(StateEntry) * item->capacity)
									  : palloc(sizeof(StateEntry) * item->capacity);
	}
	return &item->entries[item->nentries++];
}

static void
unpack(StateItem *item)
{
	JsonbIterator *it = JsonbIteratorInit(item->packed.val.binary.data);
	JsonbIteratorToken token;
	JsonbValue value;

	(void) JsonbIteratorNext(&it, &value, false);
	while ((token = JsonbIteratorNext(&it, &value, true)) == WJB_KEY || token == WJB_ELEM)
	{
		StateEntry *entry = new_entry(item);

		entry->key = value;
		if (token == WJB_KEY)
			(void) JsonbIteratorNext(&it, &value, true);
		entry->value = value;
	}
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

JsonbValue *
eduai_projections_state_get(StateItem *map, const JsonbValue *key)
{
	for (int i = 0; i < map->nentries; i++)
		if (same_string(&map->entries[i].key, key))
			return &map->entries[i].value;
	return NULL;
}

void
eduai_projections_state_put(StateItem *map, const JsonbValue *key, const JsonbValue *value)
{
	JsonbValue *present = eduai_projections_state_get(map, key);
	StateEntry *entry;

	if (present != NULL)
	{
		*present = *value;
		return;
	}
	entry = new_entry(map);
	entry->key = *key;
	entry->value = *value;
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
	StateEntry *entry = new_entry(list);

	entry->key.type = jbvNull;
	entry->value = *value;
}

void
eduai_projections_state_keep_last(StateItem *list, int n)
{
	int surplus = list->nentries - n;

	if (surplus <= 0)
		return;
	memmove(list->entries, list->entries + surplus, sizeof(StateEntry) * n);
	list->nentries = n;
}

static void
push_entries(const StateItem *item, bool is_map, JsonbParseState **into)
{
	pushJsonbValue(into, is_map ? WJB_BEGIN_OBJECT : WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < item->nentries; i++)
	{
		if (is_map)
			pushJsonbValue(into, WJB_KEY, &item->entries[i].key);
		pushJsonbValue(into, is_map ? WJB_VALUE : WJB_ELEM, &item->entries[i].value);
	}
	pushJsonbValue(into, is_map ? WJB_END_OBJECT : WJB_END_ARRAY, NULL);
}

void
eduai_projections_state_push(const State *state, JsonbParseState **into)
{
	for (StateField field = 0; field < FIELDS; field++)
	{
		StateItem item = state->items[field];
		JsonbValue key = {.type = jbvString};

		key.val.string.val = (char *) fields[field].name;
		key.val.string.len = strlen(fields[field].name);
		pushJsonbValue(into, WJB_KEY, &key);
		if (item.unpacked || item.packed.type == jbvNull)
			push_entries(&item, fields[field].kind == KIND_MAP, into);
		else
			pushJsonbValue(into, WJB_VALUE, &item.packed);
	}
}
