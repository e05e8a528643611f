/*
 * anonymise_data.c: what stays of an event's data when its learner is made
 * unknown.  See anonymise_data.h.
 *
 * Keys and values are counted by their hashes of 64 bits, each with as many
 * learners as make it common.  Memory is bounded: of what comes after
 * MOST_VALUES different ones nothing is common.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "privacy/anonymise_data.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#define MOST_VALUES 1000000
#define SEED        UINT64CONST(0x9ae16a3b2f90404f)

typedef struct Value
{
	uint64 hash;
	int n; /* learners; "least" when it is common */
	bool known;
	uint64 learners[FLEXIBLE_ARRAY_MEMBER];
} Value;

struct EduaiCommon
{
	HTAB *values;
	int least;
};

typedef struct Walk
{
	const EduaiAnonymiser *a;
	bool counting;
	uint64 learner;
	JsonbParseState *state;
	JsonbValue *result;
} Walk;

/* ---- what is common ---- */

EduaiCommon *
eduai_privacy_common_make(int least, const int64 *known, int nknown)
{
	EduaiCommon *common = palloc(sizeof(EduaiCommon));
	HASHCTL info = {.keysize = sizeof(uint64),
					.entrysize = offsetof(Value, learners) + sizeof(uint64) * least,
					.hcxt = CurrentMemoryContext};

	common->least = least;
	common->values =
		hash_create("eduai common values", 1024, &info, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (int i = 0; i < nknown; i++)
	{
		uint64 hash = (uint64) known[i];
		Value *value = hash_search(common->values, &hash, HASH_ENTER, NULL);

		value->n = least;
		value->known = true;
	}
	return common;
}

int64 *
eduai_privacy_common_new(const EduaiCommon *common, int *n)
{
	int64 *hashes = palloc(sizeof(int64) * (hash_get_num_entries(common->values) + 1));
	HASH_SEQ_STATUS status;
	Value *value;

	*n = 0;
	hash_seq_init(&status, common->values);
	while ((value = hash_seq_search(&status)) != NULL)
		if (value->n >= common->least && !value->known)
			hashes[(*n)++] = (int64) value->hash;
	return hashes;
}

static void
count(EduaiCommon *common, uint64 hash, uint64 learner)
{
	bool found;
	Value *value = hash_search(common->values, &hash, HASH_FIND, NULL);

	if (value == NULL)
	{
		if (hash_get_num_entries(common->values) >= MOST_VALUES)
			return;
		value = hash_search(common->values, &hash, HASH_ENTER, &found);
		value->n = 0;
		value->known = false;
	}
	if (value->n >= common->least)
		return;
	for (int i = 0; i < value->n; i++)
		if (value->learners[i] == learner)
			return;
	value->learners[value->n++] = learner;
}

static bool
is_common(const EduaiCommon *common, uint64 hash)
{
	const Value *value = hash_search(common->values, &hash, HASH_FIND, NULL);

	return value != NULL && value->n >= common->least;
}

/* kind: 'k' a key, 's' a string, 'n' a number, 'c' a category */
static uint64
hash_of(char kind, const char *key, int key_length, const char *bytes, int length)
{
	uint64 seed = SEED ^ (uint64) (unsigned char) kind;

	seed = DatumGetUInt64(hash_any_extended((const unsigned char *) key, key_length, seed));
	return DatumGetUInt64(hash_any_extended((const unsigned char *) bytes, length, seed));
}

/* Counts it, or says whether it is common. */
static bool
meet(Walk *w, char kind, const JsonbValue *key, const char *bytes, int length)
{
	uint64 hash = hash_of(kind, key->val.string.val, key->val.string.len, bytes, length);

	if (w->counting)
		count(w->a->common, hash, w->learner);
	return !w->counting && is_common(w->a->common, hash);
}

void
eduai_privacy_anonymise_count_category(const EduaiAnonymiser *a, const char *bytes, int length,
									   uint64 learner)
{
	count(a->common, hash_of('c', "", 0, bytes, length), learner);
}

bool
eduai_privacy_category_is_common(const EduaiAnonymiser *a, const char *bytes, int length)
{
	return is_common(a->common, hash_of('c', "", 0, bytes, length));
}

/* ---- keys ---- */

HTAB *
eduai_privacy_listed_keys(const char *list)
{
	HASHCTL info = {.keysize = NAMEDATALEN, .entrysize = NAMEDATALEN, .hcxt = CurrentMemoryContext};
	HTAB *keys =
		hash_create("eduai listed keys", 64, &info, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	char *copy = pstrdup(list ? list : "");
	char *rest = NULL;

	for (char *word = strtok_r(copy, ", \t\n", &rest); word; word = strtok_r(NULL, ", \t\n", &rest))
		if (strlen(word) < NAMEDATALEN)
			(void) hash_search(keys, word, HASH_ENTER, NULL);
	return keys;
}

static bool
is_listed(HTAB *keys, const JsonbValue *key)
{
	char name[NAMEDATALEN];

	if (key->val.string.len >= NAMEDATALEN)
		return false;
	memcpy(name, key->val.string.val, key->val.string.len);
	name[key->val.string.len] = '\0';
	return hash_search(keys, name, HASH_FIND, NULL) != NULL;
}

static bool
is_sensitive(const EduaiAnonymiser *a, const JsonbValue *key)
{
	for (int i = 0; i < a->nsensitive; i++)
		if ((int) strlen(a->sensitive[i]) == key->val.string.len &&
			memcmp(a->sensitive[i], key->val.string.val, key->val.string.len) == 0)
			return true;
	return false;
}

/* {"$sealed": ...} alone */
static bool
is_sealed(JsonbContainer *container)
{
	return JsonContainerIsObject(container) && JsonContainerSize(container) == 1 &&
		   getKeyJsonValueFromContainer(container, "$sealed", 7, NULL) != NULL;
}

/* ---- walking ---- */

static void walk_container(Walk *w, JsonbContainer *container, const JsonbValue *key, bool top);

/* A value of a key; false when nothing of it stays.  "token" says where it is pushed. */
static bool
keep_scalar(Walk *w, const JsonbValue *key, JsonbValue *value)
{
	bool listed = is_listed(w->a->listed, key);

	switch (value->type)
	{
		case jbvBool:
		case jbvNull:
			return true;
		case jbvString:
			if (!listed)
				return false;
			if (!meet(w, 's', key, value->val.string.val, value->val.string.len))
				value->type = jbvNull;
			return true;
		case jbvNumeric:
			if (!listed)
			{
				char *text = DatumGetCString(
					DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));

				if (!meet(w, 'n', key, text, (int) strlen(text)))
					value->type = jbvNull;
			}
			return true;
		default:
			return false;
	}
}

static void
push(Walk *w, JsonbIteratorToken token, JsonbValue *value)
{
	if (!w->counting)
		w->result = pushJsonbValue(&w->state, token, value);
}

static void
walk_object(Walk *w, JsonbContainer *container, bool top)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	JsonbValue key;
	JsonbValue value;

	push(w, WJB_BEGIN_OBJECT, NULL);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		bool listed;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		if (top && is_sensitive(w->a, &key))
			continue;
		listed = is_listed(w->a->listed, &key);
		if (!listed && !meet(w, 'k', &key, "", 0) && !w->counting)
			continue;
		if (value.type == jbvBinary)
		{
			if (is_sealed(value.val.binary.data))
				continue;
			push(w, WJB_KEY, &key);
			walk_container(w, value.val.binary.data, &key, false);
			continue;
		}
		if (!keep_scalar(w, &key, &value))
			continue;
		push(w, WJB_KEY, &key);
		push(w, WJB_VALUE, &value);
	}
	push(w, WJB_END_OBJECT, NULL);
}

static void
walk_array(Walk *w, JsonbContainer *container, const JsonbValue *key)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	JsonbValue value;

	push(w, WJB_BEGIN_ARRAY, NULL);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (value.type == jbvBinary)
		{
			if (!is_sealed(value.val.binary.data))
				walk_container(w, value.val.binary.data, key, false);
		}
		else if (keep_scalar(w, key, &value))
			push(w, WJB_ELEM, &value);
	}
	push(w, WJB_END_ARRAY, NULL);
}

static void
walk_container(Walk *w, JsonbContainer *container, const JsonbValue *key, bool top)
{
	check_stack_depth();
	if (JsonContainerIsObject(container))
		walk_object(w, container, top);
	else
		walk_array(w, container, key);
}

static const JsonbValue no_key = {.type = jbvString, .val.string = {.len = 0, .val = ""}};

void
eduai_privacy_anonymise_count(const EduaiAnonymiser *a, const Jsonb *data, uint64 learner)
{
	Walk w = {.a = a, .counting = true, .learner = learner};

	walk_container(&w, (JsonbContainer *) &data->root, &no_key, true);
}

Jsonb *
eduai_privacy_anonymise_data(const EduaiAnonymiser *a, const Jsonb *data)
{
	Walk w = {.a = a};

	walk_container(&w, (JsonbContainer *) &data->root, &no_key, true);
	return JsonbValueToJsonb(w.result);
}

Jsonb *
eduai_privacy_anonymise_metadata(HTAB *listed, const Jsonb *metadata)
{
	JsonbIterator *it = JsonbIteratorInit((JsonbContainer *) &metadata->root);
	JsonbParseState *state = NULL;
	JsonbIteratorToken token;
	JsonbValue key;
	JsonbValue value;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		if (!is_listed(listed, &key))
			continue;
		(void) pushJsonbValue(&state, WJB_KEY, &key);
		(void) pushJsonbValue(&state, WJB_VALUE, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}
