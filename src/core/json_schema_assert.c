/*
 * json_schema_assert.c: the keywords that look at a value alone.
 * See json_schema.h.
 *
 * Numbers are compared as numeric, exactly: 1 equals 1.0, and is an integer.
 * Messages quote the schema, never the data.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "core/json.h"
#include "core/json_schema_internal.h"
#include "mb/pg_wchar.h"
#include "regex/regex.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/* the longest part of a schema that a message quotes, in bytes */
#define SHOWN_BYTES 200

static const char *
shown(const JsonbValue *value)
{
	char *text = eduai_core_json_cstring(JsonbValueToJsonb((JsonbValue *) value));
	int length = strlen(text);

	if (length > SHOWN_BYTES)
		text = psprintf("%.*s...", pg_mbcliplen(text, length, SHOWN_BYTES), text);
	return text;
}

/* ---- any value ---- */

static bool
values_equal(const JsonbValue *a, const JsonbValue *b)
{
	if (a->type != b->type)
		return false;
	switch (a->type)
	{
		case jbvNull:
			return true;
		case jbvBool:
			return a->val.boolean == b->val.boolean;
		case jbvNumeric:
			return eduai_core_schema_compare(a->val.numeric, b->val.numeric) == 0;
		case jbvString:
			return a->val.string.len == b->val.string.len &&
				   memcmp(a->val.string.val, b->val.string.val, a->val.string.len) == 0;
		default:
			return compareJsonbContainers(a->val.binary.data, b->val.binary.data) == 0;
	}
}

static bool
has_type(const JsonbValue *value, const JsonbValue *name)
{
	const char *text = name->val.string.val;
	int length = name->val.string.len;

#define IS(literal) (length == (int) strlen(literal) && memcmp(text, literal, length) == 0)
	switch (value->type)
	{
		case jbvNull:
			return IS("null");
		case jbvBool:
			return IS("boolean");
		case jbvString:
			return IS("string");
		case jbvNumeric:
			return IS("number") ||
				   (IS("integer") && eduai_core_schema_is_integer(value->val.numeric));
		default:
			return eduai_core_schema_is_object(value) ? IS("object") : IS("array");
	}
#undef IS
}

static bool
type(SchemaCheck *check, const SchemaSite *site)
{
	JsonbIterator *it;
	JsonbValue name;

	if (site->argument.type == jbvString)
		return has_type(site->value, &site->argument) ||
			   eduai_core_schema_fail(check, site->path, "must be of type %s",
									  shown(&site->argument));
	it = eduai_core_schema_loop(site->argument.val.binary.data);
	while (eduai_core_schema_element(&it, &name))
		if (has_type(site->value, &name))
			return true;
	return eduai_core_schema_fail(check, site->path, "must be of a type of %s",
								  check->quiet ? "" : shown(&site->argument));
}

static bool
enumeration(SchemaCheck *check, const SchemaSite *site)
{
	JsonbIterator *it = eduai_core_schema_loop(site->argument.val.binary.data);
	JsonbValue allowed;

	while (eduai_core_schema_element(&it, &allowed))
		if (values_equal(&allowed, site->value))
			return true;
	return eduai_core_schema_fail(check, site->path, "must be one of %s",
								  check->quiet ? "" : shown(&site->argument));
}

static bool
constant(SchemaCheck *check, const SchemaSite *site)
{
	return values_equal(&site->argument, site->value) ||
		   eduai_core_schema_fail(check, site->path, "must be %s",
								  check->quiet ? "" : shown(&site->argument));
}

/* ---- numbers ---- */

static bool
is_multiple(Numeric number, Numeric factor)
{
	Datum rest = DirectFunctionCall2(numeric_mod, NumericGetDatum(number), NumericGetDatum(factor));

	return eduai_core_schema_compare(DatumGetNumeric(rest), int64_to_numeric(0)) == 0;
}

static bool
number(SchemaCheck *check, SchemaWord word, const SchemaSite *site)
{
	Numeric limit = site->argument.val.numeric;
	const char *wanted;
	bool good;
	int order;

	if (site->value->type != jbvNumeric)
		return true;
	if (word == WORD_MULTIPLE_OF)
		return is_multiple(site->value->val.numeric, limit) ||
			   eduai_core_schema_fail(check, site->path, "must be a multiple of %s",
									  shown(&site->argument));
	order = eduai_core_schema_compare(site->value->val.numeric, limit);
	switch (word)
	{
		case WORD_MINIMUM:
			good = order >= 0;
			wanted = "at least";
			break;
		case WORD_MAXIMUM:
			good = order <= 0;
			wanted = "at most";
			break;
		case WORD_EXCLUSIVE_MINIMUM:
			good = order > 0;
			wanted = "more than";
			break;
		default:
			good = order < 0;
			wanted = "less than";
			break;
	}
	return good || eduai_core_schema_fail(check, site->path, "must be %s %s", wanted,
										  shown(&site->argument));
}

/* ---- counts ---- */

static bool
count(SchemaCheck *check, const SchemaSite *site, int n, bool least, const char *things)
{
	int order = eduai_core_schema_compare(int64_to_numeric(n), site->argument.val.numeric);

	return (least ? order >= 0 : order <= 0) ||
		   eduai_core_schema_fail(check, site->path, "must have %s %s %s",
								  least ? "at least" : "at most", shown(&site->argument), things);
}

static bool
count_characters(SchemaCheck *check, const SchemaSite *site, bool least)
{
	if (site->value->type != jbvString)
		return true;
	return count(check, site,
				 pg_mbstrlen_with_len(site->value->val.string.val, site->value->val.string.len),
				 least, "characters");
}

static bool
count_elements(SchemaCheck *check, const SchemaSite *site, bool least)
{
	return !eduai_core_schema_is_array(site->value) ||
		   count(check, site, JsonContainerSize(site->value->val.binary.data), least, "elements");
}

static bool
count_properties(SchemaCheck *check, const SchemaSite *site, bool least)
{
	return !eduai_core_schema_is_object(site->value) ||
		   count(check, site, JsonContainerSize(site->value->val.binary.data), least, "properties");
}

/* ---- strings ---- */

bool
eduai_core_schema_pattern_matches(const JsonbValue *pattern, const char *value, int length)
{
	text *expression = cstring_to_text_with_len(pattern->val.string.val, pattern->val.string.len);

	return RE_compile_and_execute(expression, (char *) value, length, REG_ADVANCED, C_COLLATION_OID,
								  0, NULL);
}

static bool
pattern(SchemaCheck *check, const SchemaSite *site)
{
	return site->value->type != jbvString ||
		   eduai_core_schema_pattern_matches(&site->argument, site->value->val.string.val,
											 site->value->val.string.len) ||
		   eduai_core_schema_fail(check, site->path, "must match the pattern %s",
								  check->quiet ? "" : shown(&site->argument));
}

static bool
format(SchemaCheck *check, const SchemaSite *site)
{
	return site->value->type != jbvString ||
		   eduai_core_format_matches(site->argument.val.string.val, site->argument.val.string.len,
									 site->value->val.string.val, site->value->val.string.len) ||
		   eduai_core_schema_fail(check, site->path, "must have the format %s",
								  shown(&site->argument));
}

/* ---- objects and arrays ---- */

/* Whether an object has all of a list of properties; "why" ends the message. */
static bool
has_all(SchemaCheck *check, const SchemaSite *site, const JsonbValue *names, const char *why)
{
	JsonbIterator *it = eduai_core_schema_loop(names->val.binary.data);
	JsonbValue name;
	JsonbValue value;

	while (eduai_core_schema_element(&it, &name))
		if (!eduai_core_schema_get(site->value->val.binary.data, name.val.string.val,
								   name.val.string.len, &value))
			return eduai_core_schema_fail(check, site->path, "must have the property %s%s",
										  shown(&name), why);
	return true;
}

static bool
required(SchemaCheck *check, const SchemaSite *site)
{
	return !eduai_core_schema_is_object(site->value) || has_all(check, site, &site->argument, "");
}

static bool
dependent_required(SchemaCheck *check, const SchemaSite *site)
{
	JsonbIterator *it;
	JsonbValue key;
	JsonbValue names;
	JsonbValue value;

	if (!eduai_core_schema_is_object(site->value))
		return true;
	it = eduai_core_schema_loop(site->argument.val.binary.data);
	while (eduai_core_schema_member(&it, &key, &names))
		if (eduai_core_schema_get(site->value->val.binary.data, key.val.string.val,
								  key.val.string.len, &value) &&
			!has_all(check, site, &names, psprintf(" beside %s", shown(&key))))
			return false;
	return true;
}

static int
compare_json(const void *a, const void *b)
{
	Jsonb *x = *(Jsonb *const *) a;
	Jsonb *y = *(Jsonb *const *) b;

	return compareJsonbContainers(&x->root, &y->root);
}

static bool
unique_items(SchemaCheck *check, const SchemaSite *site)
{
	JsonbIterator *it;
	JsonbValue value;
	Jsonb **elements;
	int n = 0;

	if (!site->argument.val.boolean || !eduai_core_schema_is_array(site->value))
		return true;
	elements = palloc(sizeof(Jsonb *) * Max(JsonContainerSize(site->value->val.binary.data), 1));
	it = eduai_core_schema_loop(site->value->val.binary.data);
	while (eduai_core_schema_element(&it, &value))
		elements[n++] = JsonbValueToJsonb(&value);
	qsort(elements, n, sizeof(Jsonb *), compare_json);
	for (int i = 1; i < n; i++)
		if (compare_json(&elements[i - 1], &elements[i]) == 0)
			return eduai_core_schema_fail(check, site->path, "must not have equal elements");
	return true;
}

bool
eduai_core_schema_assert(SchemaCheck *check, SchemaWord word, const SchemaSite *site)
{
	switch (word)
	{
		case WORD_TYPE:
			return type(check, site);
		case WORD_ENUM:
			return enumeration(check, site);
		case WORD_CONST:
			return constant(check, site);
		case WORD_MINIMUM:
		case WORD_MAXIMUM:
		case WORD_EXCLUSIVE_MINIMUM:
		case WORD_EXCLUSIVE_MAXIMUM:
		case WORD_MULTIPLE_OF:
			return number(check, word, site);
		case WORD_MIN_LENGTH:
		case WORD_MAX_LENGTH:
			return count_characters(check, site, word == WORD_MIN_LENGTH);
		case WORD_MIN_ITEMS:
		case WORD_MAX_ITEMS:
			return count_elements(check, site, word == WORD_MIN_ITEMS);
		case WORD_MIN_PROPERTIES:
		case WORD_MAX_PROPERTIES:
			return count_properties(check, site, word == WORD_MIN_PROPERTIES);
		case WORD_PATTERN:
			return pattern(check, site);
		case WORD_FORMAT:
			return format(check, site);
		case WORD_REQUIRED:
			return required(check, site);
		case WORD_DEPENDENT_REQUIRED:
			return dependent_required(check, site);
		case WORD_UNIQUE_ITEMS:
			return unique_items(check, site);
		default:
			return true;
	}
}
