/*
 * json_schema_require.c: whether a JSON Schema can be registered.
 * See json_schema.h.
 *
 * A keyword that would not be heeded is refused: a schema that promises more
 * than is checked would be worse than none.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "core/json_schema_internal.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "regex/regex.h"

static void
require_schema(const JsonbValue *root, const JsonbValue *schema, const SchemaPath *path);

static void malformed(const SchemaPath *path, const char *wanted) __attribute__((noreturn));

static void
malformed(const SchemaPath *path, const char *wanted)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid JSON Schema"),
					path->parent ? errdetail("The value at \"%s\" must be %s.",
											 eduai_core_schema_pointer(path), wanted)
								 : errdetail("It must be %s.", wanted)));
}

static void unsupported(const SchemaPath *path, const char *name) __attribute__((noreturn));

static void
unsupported(const SchemaPath *path, const char *name)
{
	static const struct
	{
		const char *name;
		const char *hint;
	} hints[] = {
		{"additionalItems", "Give \"prefixItems\" the first elements, and \"items\" the others."},
		{"dependencies", "Use \"dependentRequired\", or \"if\" and \"then\"."},
		{"dependentSchemas", "Use \"if\" and \"then\"."},
		{"id", "Write it \"$id\"."},
		{"unevaluatedProperties", "Use \"additionalProperties\" beside \"properties\"."},
		{"unevaluatedItems", "Use \"items\" beside \"prefixItems\"."},
	};
	const char *hint = "Leave it out; \"$comment\" and \"description\" hold text of any kind.";

	for (int i = 0; i < lengthof(hints); i++)
		if (strcmp(name, hints[i].name) == 0)
			hint = hints[i].hint;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("JSON Schema keyword \"%.*s\" is not supported",
					pg_mbcliplen(name, strlen(name), 64), name),
			 errdetail("It is at \"%s\".", eduai_core_schema_pointer(path)), errhint("%s", hint)));
}

static bool
is_type_name(const JsonbValue *name)
{
	static const char *const types[] = {"null",   "boolean", "object", "array",
										"number", "string",  "integer"};

	if (name->type != jbvString)
		return false;
	for (int i = 0; i < lengthof(types); i++)
		if (name->val.string.len == (int) strlen(types[i]) &&
			memcmp(name->val.string.val, types[i], name->val.string.len) == 0)
			return true;
	return false;
}

static void
require_type(const JsonbValue *value, const SchemaPath *path)
{
	bool good = is_type_name(value);

	if (eduai_core_schema_is_array(value) && JsonContainerSize(value->val.binary.data) > 0)
	{
		JsonbIterator *it = eduai_core_schema_loop(value->val.binary.data);
		JsonbValue name;

		good = true;
		while (eduai_core_schema_element(&it, &name))
			good = good && is_type_name(&name);
	}
	if (!good)
		malformed(path, "null, boolean, object, array, number, string or integer, or an array of "
						"some of them");
}

static void
require_names(const JsonbValue *value, const SchemaPath *path)
{
	JsonbIterator *it;
	JsonbValue name;

	if (!eduai_core_schema_is_array(value))
		malformed(path, "an array of strings");
	it = eduai_core_schema_loop(value->val.binary.data);
	while (eduai_core_schema_element(&it, &name))
		if (name.type != jbvString)
			malformed(path, "an array of strings");
}

static void
require_number(const JsonbValue *value, SchemaKind kind, const SchemaPath *path)
{
	int sign;

	if (value->type != jbvNumeric)
		malformed(path, "a number");
	sign = eduai_core_schema_compare(value->val.numeric, int64_to_numeric(0));
	if (kind == KIND_FACTOR && sign <= 0)
		malformed(path, "a number above 0");
	if (kind == KIND_COUNT && (sign < 0 || !eduai_core_schema_is_integer(value->val.numeric)))
		malformed(path, "an integer from 0");
}

static void
require_pattern(const JsonbValue *value, const SchemaPath *path)
{
	pg_wchar *wide;
	regex_t expression;
	int length;
	int code;

	if (value->type != jbvString)
		malformed(path, "a regular expression");
	wide = palloc(sizeof(pg_wchar) * (value->val.string.len + 1));
	length = pg_mb2wchar_with_len(value->val.string.val, wide, value->val.string.len);
	code = pg_regcomp(&expression, wide, length, REG_ADVANCED | REG_NOSUB, C_COLLATION_OID);
	CHECK_FOR_INTERRUPTS();
	if (code != REG_OKAY)
	{
		char why[100];

		pg_regerror(code, &expression, why, sizeof(why));
		malformed(path, psprintf("a regular expression (%s)", why));
	}
	pg_regfree(&expression);
	pfree(wide);
}

static void
require_ref(const JsonbValue *root, const JsonbValue *value, const SchemaPath *path)
{
	JsonbValue target;

	if (value->type != jbvString)
		malformed(path, "a string");
	if (!eduai_core_schema_resolve(root, value, &target))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("this form of \"$ref\" in a JSON Schema is not supported"),
						errdetail("It is at \"%s\".", eduai_core_schema_pointer(path)),
						errhint("Refer to \"#\", \"#/$defs/NAME\" or \"#/definitions/NAME\".")));
	if (target.type == jbvNull)
		malformed(path, "a reference to a definition of the schema");
}

/* ---- values that hold schemas ---- */

static void
require_list(const JsonbValue *root, const JsonbValue *value, const SchemaPath *path)
{
	JsonbIterator *it;
	JsonbValue schema;
	SchemaPath below = {path, NULL, 0, 0};

	if (!eduai_core_schema_is_array(value) || JsonContainerSize(value->val.binary.data) == 0)
		malformed(path, "an array of schemas, not empty");
	it = eduai_core_schema_loop(value->val.binary.data);
	for (; eduai_core_schema_element(&it, &schema); below.index++)
		require_schema(root, &schema, &below);
}

/* An object whose keys are patterns or names, and whose values are schemas or names. */
static void
require_map(const JsonbValue *root, const JsonbValue *value, SchemaKind kind,
			const SchemaPath *path)
{
	JsonbIterator *it;
	JsonbValue key;
	JsonbValue member;

	if (!eduai_core_schema_is_object(value))
		malformed(path, "an object");
	it = eduai_core_schema_loop(value->val.binary.data);
	while (eduai_core_schema_member(&it, &key, &member))
	{
		SchemaPath below = {path, key.val.string.val, key.val.string.len, 0};

		if (kind == KIND_PATTERN_MAP)
			require_pattern(&key, &below);
		if (kind == KIND_NAMES_OF)
			require_names(&member, &below);
		else
			require_schema(root, &member, &below);
	}
}

static void
require_value(const JsonbValue *root, SchemaKind kind, const JsonbValue *value,
			  const SchemaPath *path)
{
	switch (kind)
	{
		case KIND_ANY:
			break;
		case KIND_ARRAY:
			if (!eduai_core_schema_is_array(value))
				malformed(path, "an array");
			break;
		case KIND_VALUES:
			if (!eduai_core_schema_is_array(value) ||
				JsonContainerSize(value->val.binary.data) == 0)
				malformed(path, "an array, not empty");
			break;
		case KIND_BOOLEAN:
			if (value->type != jbvBool)
				malformed(path, "a boolean");
			break;
		case KIND_ID:
			/* below the root it would begin a schema of its own, with references of its own */
			if (path->parent->parent != NULL)
				unsupported(path, pnstrdup(path->key, path->length));
			/* FALLTHROUGH */
		case KIND_STRING:
			if (value->type != jbvString)
				malformed(path, "a string");
			break;
		case KIND_REF:
			require_ref(root, value, path);
			break;
		case KIND_TYPE:
			require_type(value, path);
			break;
		case KIND_NAMES:
			require_names(value, path);
			break;
		case KIND_NUMBER:
		case KIND_FACTOR:
		case KIND_COUNT:
			require_number(value, kind, path);
			break;
		case KIND_PATTERN:
			require_pattern(value, path);
			break;
		case KIND_ITEMS:
		case KIND_SCHEMA:
			if (kind == KIND_ITEMS && eduai_core_schema_is_array(value))
				require_list(root, value, path);
			else
				require_schema(root, value, path);
			break;
		case KIND_SCHEMA_LIST:
			require_list(root, value, path);
			break;
		case KIND_SCHEMA_MAP:
		case KIND_PATTERN_MAP:
		case KIND_NAMES_OF:
			require_map(root, value, kind, path);
			break;
	}
}

static void
require_schema(const JsonbValue *root, const JsonbValue *schema, const SchemaPath *path)
{
	JsonbIterator *it;
	JsonbValue key;
	JsonbValue value;

	check_stack_depth();
	if (schema->type == jbvBool)
		return;
	if (!eduai_core_schema_is_object(schema))
		malformed(path, "an object or a boolean");
	it = eduai_core_schema_loop(schema->val.binary.data);
	while (eduai_core_schema_member(&it, &key, &value))
	{
		SchemaPath below = {path, key.val.string.val, key.val.string.len, 0};
		const SchemaKeyword *keyword =
			eduai_core_schema_keyword(key.val.string.val, key.val.string.len);

		if (keyword)
			require_value(root, keyword->kind, &value, &below);
		else
			unsupported(&below, pnstrdup(key.val.string.val, key.val.string.len));
	}
}

void
eduai_core_schema_require(const Jsonb *schema)
{
	SchemaPath top = {NULL, NULL, 0, 0};
	JsonbValue root;

	eduai_core_schema_root(schema, &root);
	require_schema(&root, &root, &top);
}

static bool has_pattern(const JsonbValue *schema);

/* The value of a keyword that holds schemas: some of them, or one. */
static bool
has_pattern_within(SchemaKind kind, const JsonbValue *value)
{
	JsonbIterator *it;
	JsonbValue key;
	JsonbValue member;

	if (kind == KIND_SCHEMA || (kind == KIND_ITEMS && !eduai_core_schema_is_array(value)))
		return has_pattern(value);
	it = eduai_core_schema_loop(value->val.binary.data);
	if (kind == KIND_SCHEMA_MAP)
	{
		while (eduai_core_schema_member(&it, &key, &member))
			if (has_pattern(&member))
				return true;
		return false;
	}
	while (eduai_core_schema_element(&it, &member))
		if (has_pattern(&member))
			return true;
	return false;
}

static bool
has_pattern(const JsonbValue *schema)
{
	JsonbIterator *it;
	JsonbValue key;
	JsonbValue value;

	check_stack_depth();
	if (!eduai_core_schema_is_object(schema))
		return false;
	it = eduai_core_schema_loop(schema->val.binary.data);
	while (eduai_core_schema_member(&it, &key, &value))
	{
		const SchemaKeyword *keyword =
			eduai_core_schema_keyword(key.val.string.val, key.val.string.len);
		SchemaKind kind = keyword != NULL ? keyword->kind : KIND_ANY;

		if (kind == KIND_PATTERN || kind == KIND_PATTERN_MAP)
			return true;
		if ((kind == KIND_SCHEMA || kind == KIND_ITEMS || kind == KIND_SCHEMA_LIST ||
			 kind == KIND_SCHEMA_MAP) &&
			has_pattern_within(kind, &value))
			return true;
	}
	return false;
}

bool
eduai_core_schema_has_pattern(const Jsonb *schema)
{
	JsonbValue root;

	eduai_core_schema_root(schema, &root);
	return has_pattern(&root);
}
