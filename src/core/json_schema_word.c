/*
 * json_schema_word.c: the keywords of JSON Schema, paths and references.
 * See json_schema.h.
 */
#include "postgres.h"

#include "core/json_schema_internal.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"

/* the longest name shown of a path, in bytes */
#define SHOWN_NAME 64

/* In the order of their bytes. */
static const SchemaKeyword keywords[] = {
	{"$comment", WORD_ANNOTATION, KIND_STRING},
	{"$defs", WORD_ANNOTATION, KIND_SCHEMA_MAP},
	{"$id", WORD_ANNOTATION, KIND_ID},
	{"$ref", WORD_REF, KIND_REF},
	{"$schema", WORD_ANNOTATION, KIND_ID},
	{"additionalProperties", WORD_ADDITIONAL_PROPERTIES, KIND_SCHEMA},
	{"allOf", WORD_ALL_OF, KIND_SCHEMA_LIST},
	{"anyOf", WORD_ANY_OF, KIND_SCHEMA_LIST},
	{"const", WORD_CONST, KIND_ANY},
	{"contains", WORD_CONTAINS, KIND_SCHEMA},
	{"default", WORD_ANNOTATION, KIND_ANY},
	{"definitions", WORD_ANNOTATION, KIND_SCHEMA_MAP},
	{"dependentRequired", WORD_DEPENDENT_REQUIRED, KIND_NAMES_OF},
	{"deprecated", WORD_ANNOTATION, KIND_BOOLEAN},
	{"description", WORD_ANNOTATION, KIND_STRING},
	{"else", WORD_ANNOTATION, KIND_SCHEMA},
	{"enum", WORD_ENUM, KIND_VALUES},
	{"examples", WORD_ANNOTATION, KIND_ARRAY},
	{"exclusiveMaximum", WORD_EXCLUSIVE_MAXIMUM, KIND_NUMBER},
	{"exclusiveMinimum", WORD_EXCLUSIVE_MINIMUM, KIND_NUMBER},
	{"format", WORD_FORMAT, KIND_STRING},
	{"if", WORD_IF, KIND_SCHEMA},
	{"items", WORD_ITEMS, KIND_ITEMS},
	{"maxItems", WORD_MAX_ITEMS, KIND_COUNT},
	{"maxLength", WORD_MAX_LENGTH, KIND_COUNT},
	{"maxProperties", WORD_MAX_PROPERTIES, KIND_COUNT},
	{"maximum", WORD_MAXIMUM, KIND_NUMBER},
	{"minItems", WORD_MIN_ITEMS, KIND_COUNT},
	{"minLength", WORD_MIN_LENGTH, KIND_COUNT},
	{"minProperties", WORD_MIN_PROPERTIES, KIND_COUNT},
	{"minimum", WORD_MINIMUM, KIND_NUMBER},
	{"multipleOf", WORD_MULTIPLE_OF, KIND_FACTOR},
	{"not", WORD_NOT, KIND_SCHEMA},
	{"oneOf", WORD_ONE_OF, KIND_SCHEMA_LIST},
	{"pattern", WORD_PATTERN, KIND_PATTERN},
	{"patternProperties", WORD_PATTERN_PROPERTIES, KIND_PATTERN_MAP},
	{"prefixItems", WORD_PREFIX_ITEMS, KIND_SCHEMA_LIST},
	{"properties", WORD_PROPERTIES, KIND_SCHEMA_MAP},
	{"propertyNames", WORD_PROPERTY_NAMES, KIND_SCHEMA},
	{"readOnly", WORD_ANNOTATION, KIND_BOOLEAN},
	{"required", WORD_REQUIRED, KIND_NAMES},
	{"then", WORD_ANNOTATION, KIND_SCHEMA},
	{"title", WORD_ANNOTATION, KIND_STRING},
	{"type", WORD_TYPE, KIND_TYPE},
	{"uniqueItems", WORD_UNIQUE_ITEMS, KIND_BOOLEAN},
	{"writeOnly", WORD_ANNOTATION, KIND_BOOLEAN},
};

static int
compare_name(const char *name, int length, const char *known)
{
	int order = strncmp(name, known, length);

	/* a jsonb key may hold anything but NUL, so strncmp() reads all of it */
	return order != 0 ? order : known[length] == '\0' ? 0 : -1;
}

const SchemaKeyword *
eduai_core_schema_keyword(const char *name, int length)
{
	int low = 0;
	int high = lengthof(keywords) - 1;

	while (low <= high)
	{
		int middle = (low + high) / 2;
		int order = compare_name(name, length, keywords[middle].name);

		if (order == 0)
			return &keywords[middle];
		if (order < 0)
			high = middle - 1;
		else
			low = middle + 1;
	}
	return NULL;
}

static void
append_name(StringInfo to, const char *name, int length)
{
	int shown = pg_mbcliplen(name, length, SHOWN_NAME);

	for (int i = 0; i < shown; i++)
	{
		unsigned char c = name[i];

		if (c == '~')
			appendStringInfoString(to, "~0");
		else if (c == '/')
			appendStringInfoString(to, "~1");
		else if (c < 0x20 || c == 0x7f)
			appendStringInfo(to, "\\x%02x", c);
		else
			appendStringInfoChar(to, c);
	}
	if (shown < length)
		appendStringInfoString(to, "...");
}

static void
append_path(StringInfo to, const SchemaPath *path)
{
	check_stack_depth();
	if (path->parent == NULL)
		return;
	append_path(to, path->parent);
	appendStringInfoChar(to, '/');
	if (path->key)
		append_name(to, path->key, path->length);
	else
		appendStringInfo(to, "%d", path->index);
}

char *
eduai_core_schema_pointer(const SchemaPath *path)
{
	StringInfoData text;

	initStringInfo(&text);
	append_path(&text, path);
	return text.data;
}

/* ---- references ---- */

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The name in a JSON pointer's URI fragment; NULL when it is none, or a path. */
static char *
unescape(const char *text, int length, int *out_length)
{
	char *bytes = palloc(length + 1);
	int n = 0;
	int out = 0;

	for (int i = 0; i < length; i++)
	{
		char c = text[i];

		if (c == '%')
		{
			int high = i + 1 < length ? hex_digit(text[i + 1]) : -1;
			int low = i + 2 < length ? hex_digit(text[i + 2]) : -1;

			if (high < 0 || low < 0)
				return NULL;
			c = (char) (high * 16 + low);
			i += 2;
		}
		bytes[n++] = c;
	}
	for (int i = 0; i < n; i++, out++)
	{
		if (bytes[i] == '/')
			return NULL;
		bytes[out] = bytes[i];
		if (bytes[i] != '~')
			continue;
		i++;
		if (i == n || (bytes[i] != '0' && bytes[i] != '1'))
			return NULL;
		bytes[out] = bytes[i] == '0' ? '~' : '/';
	}
	*out_length = out;
	return bytes;
}

/* Looks a name up in a container of definitions when ref begins with its prefix. */
static bool
resolve_in(const JsonbValue *root, const char *container, const JsonbValue *ref, JsonbValue *target)
{
	char *prefix = psprintf("#/%s/", container);
	int skip = strlen(prefix);
	int length = ref->val.string.len - skip;
	JsonbValue map;
	char *name;

	if (length < 0 || strncmp(ref->val.string.val, prefix, skip) != 0)
		return false;
	name = unescape(ref->val.string.val + skip, length, &length);
	if (name == NULL)
		return false;
	target->type = jbvNull;
	if (eduai_core_schema_is_object(root) &&
		eduai_core_schema_get(root->val.binary.data, container, strlen(container), &map) &&
		eduai_core_schema_is_object(&map) &&
		!eduai_core_schema_get(map.val.binary.data, name, length, target))
		target->type = jbvNull;
	return true;
}

bool
eduai_core_schema_resolve(const JsonbValue *root, const JsonbValue *ref, JsonbValue *target)
{
	if (ref->val.string.len == 1 && ref->val.string.val[0] == '#')
	{
		*target = *root;
		return true;
	}
	return resolve_in(root, "$defs", ref, target) || resolve_in(root, "definitions", ref, target);
}

/* ---- reading Jsonb ---- */

void
eduai_core_schema_root(const Jsonb *json, JsonbValue *root)
{
	JsonbContainer *container = (JsonbContainer *) &json->root;

	if (JsonbExtractScalar(container, root))
		return;
	root->type = jbvBinary;
	root->val.binary.data = container;
	root->val.binary.len = VARSIZE(json) - VARHDRSZ;
}

bool
eduai_core_schema_is_object(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
}

bool
eduai_core_schema_is_array(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data);
}

bool
eduai_core_schema_get(JsonbContainer *object, const char *key, int length, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(object, key, length, value) != NULL;
}

int
eduai_core_schema_compare(Numeric a, Numeric b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a), NumericGetDatum(b)));
}

bool
eduai_core_schema_is_integer(Numeric number)
{
	Datum whole = DirectFunctionCall2(numeric_trunc, NumericGetDatum(number), Int32GetDatum(0));

	return eduai_core_schema_compare(number, DatumGetNumeric(whole)) == 0;
}

JsonbIterator *
eduai_core_schema_loop(JsonbContainer *container)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbValue begin;

	(void) JsonbIteratorNext(&it, &begin, true);
	return it;
}

bool
eduai_core_schema_element(JsonbIterator **it, JsonbValue *element)
{
	return JsonbIteratorNext(it, element, true) == WJB_ELEM;
}

bool
eduai_core_schema_member(JsonbIterator **it, JsonbValue *key, JsonbValue *value)
{
	if (JsonbIteratorNext(it, key, true) != WJB_KEY)
		return false;
	(void) JsonbIteratorNext(it, value, true);
	return true;
}
