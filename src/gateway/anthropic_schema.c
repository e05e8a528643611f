/*
 * anthropic_schema.c: a JSON schema as far as Anthropic's API takes one.
 *
 * It refuses bounds of numbers, lengths and counts, and objects that may have
 * further properties.  As Anthropic's own clients do, those bounds are left
 * out and objects closed; the answer is held against the whole schema by
 * whoever asked for that (analysis.c).  An object whose properties the schema
 * does not name, or that expressly may have others, cannot be closed: such a
 * schema is not for the API.
 */
#include "postgres.h"

#include "core/compat.h"
#include "gateway/anthropic.h"
#include "gateway/wire.h"
#include "miscadmin.h"

static const char *const left_out[] = {
	"minimum",     "maximum",       "exclusiveMinimum", "exclusiveMaximum",
	"multipleOf",  "minLength",     "maxLength",        "maxItems",
	"uniqueItems", "minProperties", "maxProperties",    "contains",
	"minContains", "maxContains",   "propertyNames",    "patternProperties",
};

/* Their values are objects of schemas, under names of any kind. */
static const char *const maps[] = {"properties", "$defs", "definitions"};

static const char *const further = "additionalProperties";

static bool
is_among(const JsonbValue *key, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strlen(list[i]) == key->val.string.len &&
			memcmp(list[i], key->val.string.val, key->val.string.len) == 0)
			return true;
	return false;
}

static bool
is_container(const JsonbValue *value, bool object)
{
	return value->type == jbvBinary && (object ? JsonContainerIsObject(value->val.binary.data)
											   : JsonContainerIsArray(value->val.binary.data));
}

typedef struct Reduction
{
	EduaiJson j;
	bool open; /* some object cannot be closed */
} Reduction;

static void put_schema(Reduction *r, const char *key, const JsonbValue *schema);

static void
put_map(Reduction *r, const char *key, const JsonbValue *map)
{
	JsonbIterator *it = JsonbIteratorInit(map->val.binary.data);
	JsonbIteratorToken token;
	JsonbValue name;
	JsonbValue schema;

	eduai_core_json_open_object(&r->j, key);
	while ((token = JsonbIteratorNext(&it, &name, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &schema, true);
		put_schema(r, pnstrdup(name.val.string.val, name.val.string.len), &schema);
	}
	eduai_core_json_close_object(&r->j);
}

/* anyOf and the like; enum and required are arrays of other things. */
static void
put_list(Reduction *r, const char *key, const JsonbValue *list)
{
	JsonbIterator *it = JsonbIteratorInit(list->val.binary.data);
	JsonbIteratorToken token;
	JsonbValue schema;

	eduai_core_json_open_array(&r->j, key);
	while ((token = JsonbIteratorNext(&it, &schema, true)) != WJB_DONE)
		if (token == WJB_ELEM)
			put_schema(r, NULL, &schema);
	eduai_core_json_close_array(&r->j);
}

static void
put_keyword(Reduction *r, const JsonbValue *name, const JsonbValue *value)
{
	static const char *const verbatim[] = {"enum",    "required", "const",
										   "default", "examples", "type"};
	char *key = pnstrdup(name->val.string.val, name->val.string.len);
	int64 least;

	/* of minItems only 0 and 1 are known */
	if (strcmp(key, "minItems") == 0 && value->type == jbvNumeric)
	{
		EduaiJson one;

		eduai_core_json_begin(&one);
		eduai_core_json_put_value(&one, "n", value);
		if (!eduai_core_json_int64(eduai_core_json_end(&one), "n", &least) || least > 1)
			return;
	}
	if (is_among(name, maps, lengthof(maps)) && is_container(value, true))
		put_map(r, key, value);
	else if (is_among(name, verbatim, lengthof(verbatim)) || value->type != jbvBinary)
		eduai_core_json_put_value(&r->j, key, value);
	else if (is_container(value, false))
		put_list(r, key, value);
	else
		put_schema(r, key, value);
}

static bool
has_properties(JsonbContainer *schema)
{
	JsonbValue *properties = getKeyJsonValueFromContainer(schema, "properties", 10, NULL);

	return properties != NULL && is_container(properties, true) &&
		   JsonContainerSize(properties->val.binary.data) > 0;
}

static bool
is_object_schema(JsonbContainer *schema)
{
	JsonbValue *type = getKeyJsonValueFromContainer(schema, "type", 4, NULL);

	return getKeyJsonValueFromContainer(schema, "properties", 10, NULL) != NULL ||
		   (type != NULL && type->type == jbvString && type->val.string.len == 6 &&
			memcmp(type->val.string.val, "object", 6) == 0);
}

static void
put_schema(Reduction *r, const char *key, const JsonbValue *schema)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue name;
	JsonbValue value;
	bool closed;

	check_stack_depth();
	if (!is_container(schema, true))
	{
		eduai_core_json_put_value(&r->j, key, schema);
		return;
	}
	closed = is_object_schema(schema->val.binary.data);
	r->open = r->open || (closed && !has_properties(schema->val.binary.data));
	eduai_core_json_open_object(&r->j, key);
	it = JsonbIteratorInit(schema->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &name, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		if (is_among(&name, &further, 1))
			r->open = r->open || value.type != jbvBool || value.val.boolean;
		else if (!is_among(&name, left_out, lengthof(left_out)))
			put_keyword(r, &name, &value);
	}
	if (closed)
		eduai_core_json_put_bool(&r->j, "additionalProperties", false);
	eduai_core_json_close_object(&r->j);
}

Jsonb *
eduai_gateway_plain_schema(const Jsonb *schema)
{
	Reduction r = {.open = false};
	JsonbValue root;

	root.type = jbvBinary;
	root.val.binary.data = (JsonbContainer *) &schema->root;
	root.val.binary.len = VARSIZE(schema) - VARHDRSZ;
	eduai_core_json_begin(&r.j);
	put_schema(&r, "schema", &root);
	if (r.open)
		return NULL;
	return eduai_core_json_child(eduai_core_json_end(&r.j), "schema");
}
