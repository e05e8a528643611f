/*
 * json_schema.c: holding data against a JSON Schema.  See json_schema.h.
 *
 * matches() walks the members of a schema object in the order in which jsonb
 * keeps them, short keywords first, and stops at the first that the data
 * violates.  This file has the keywords that hold schemas themselves; those
 * that look at a value alone are in json_schema_assert.c.
 *
 * A reference that is followed without a step down into the data may come
 * back to itself for ever, so their number in a row is limited; the stack's
 * depth limits the rest.
 */
#include "postgres.h"

#include "core/json_schema_internal.h"
#include "miscadmin.h"

/* references followed in a row before they are taken for a loop */
#define MAX_REFS 100

typedef bool (*SchemaRule)(SchemaCheck *check, const SchemaSite *site);

static bool matches(SchemaCheck *check, const JsonbValue *schema, const JsonbValue *value,
					const SchemaPath *path);

bool
eduai_core_schema_fail(SchemaCheck *check, const SchemaPath *path, const char *message, ...)
{
	StringInfoData text;
	va_list args;
	int needed;

	if (check->quiet)
		return false;
	initStringInfo(&text);
	do
	{
		va_start(args, message);
		needed = appendStringInfoVA(&text, message, args);
		va_end(args);
		if (needed > 0)
			enlargeStringInfo(&text, needed);
	} while (needed > 0);
	check->violation = palloc(sizeof(EduaiViolation));
	check->violation->path = eduai_core_schema_pointer(path);
	check->violation->message = text.data;
	return false;
}

/* The same place, only for the answer. */
static bool
matches_quietly(SchemaCheck *check, const JsonbValue *schema, const SchemaSite *site)
{
	bool quiet = check->quiet;
	bool answer;

	check->quiet = true;
	answer = matches(check, schema, site->value, site->path);
	check->quiet = quiet;
	return answer;
}

/* One step down into the data. */
static bool
matches_below(SchemaCheck *check, const JsonbValue *schema, const JsonbValue *value,
			  const SchemaPath *path)
{
	int refs = check->refs;
	bool answer;

	check->refs = 0;
	answer = matches(check, schema, value, path);
	check->refs = refs;
	return answer;
}

static bool
matches_member(SchemaCheck *check, const JsonbValue *schema, const SchemaSite *site,
			   const JsonbValue *key, const JsonbValue *value)
{
	SchemaPath path = {site->path, key->val.string.val, key->val.string.len, 0};

	return matches_below(check, schema, value, &path);
}

static bool
matches_element(SchemaCheck *check, const JsonbValue *schema, const SchemaSite *site, int index,
				const JsonbValue *value)
{
	SchemaPath path = {site->path, NULL, 0, index};

	return matches_below(check, schema, value, &path);
}

/* ---- in place ---- */

static bool
ref(SchemaCheck *check, const SchemaSite *site)
{
	JsonbValue target;
	bool answer;

	if (!eduai_core_schema_resolve(&check->root, &site->argument, &target) ||
		target.type == jbvNull)
		elog(ERROR, "a JSON Schema refers to what it does not have");
	if (check->refs >= MAX_REFS)
		ereport(ERROR, (errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
						errmsg("the references of a JSON Schema lead to each other"),
						errdetail("%d \"$ref\" were followed in a row.", MAX_REFS),
						errhint("Write the schema without the loop.")));
	check->refs++;
	answer = matches(check, &target, site->value, site->path);
	check->refs--;
	return answer;
}

static bool
all_of(SchemaCheck *check, const SchemaSite *site)
{
	JsonbIterator *it = eduai_core_schema_loop(site->argument.val.binary.data);
	JsonbValue schema;

	while (eduai_core_schema_element(&it, &schema))
		if (!matches(check, &schema, site->value, site->path))
			return false;
	return true;
}

/* How many of a list of schemas match, counted up to most. */
static int
count_matches(SchemaCheck *check, const SchemaSite *site, int most)
{
	JsonbIterator *it = eduai_core_schema_loop(site->argument.val.binary.data);
	JsonbValue schema;
	int n = 0;

	while (n < most && eduai_core_schema_element(&it, &schema))
		n += matches_quietly(check, &schema, site) ? 1 : 0;
	return n;
}

static bool
any_of(SchemaCheck *check, const SchemaSite *site)
{
	return count_matches(check, site, 1) == 1 ||
		   eduai_core_schema_fail(check, site->path, "must match one of the schemas of \"anyOf\"");
}

static bool
one_of(SchemaCheck *check, const SchemaSite *site)
{
	int n = count_matches(check, site, 2);

	return n == 1 || eduai_core_schema_fail(check, site->path,
											n == 0 ? "must match one of the schemas of \"oneOf\""
												   : "must not match more than one of the "
													 "schemas of \"oneOf\"");
}

static bool
excluded(SchemaCheck *check, const SchemaSite *site)
{
	return !matches_quietly(check, &site->argument, site) ||
		   eduai_core_schema_fail(check, site->path, "must not match the schema of \"not\"");
}

static bool
if_then_else(SchemaCheck *check, const SchemaSite *site)
{
	const char *branch = matches_quietly(check, &site->argument, site) ? "then" : "else";
	JsonbValue schema;

	return !eduai_core_schema_get(site->schema, branch, strlen(branch), &schema) ||
		   matches(check, &schema, site->value, site->path);
}

/* ---- objects ---- */

static bool
properties(SchemaCheck *check, const SchemaSite *site)
{
	JsonbIterator *it;
	JsonbValue key;
	JsonbValue schema;
	JsonbValue value;

	if (!eduai_core_schema_is_object(site->value))
		return true;
	it = eduai_core_schema_loop(site->argument.val.binary.data);
	while (eduai_core_schema_member(&it, &key, &schema))
		if (eduai_core_schema_get(site->value->val.binary.data, key.val.string.val,
								  key.val.string.len, &value) &&
			!matches_member(check, &schema, site, &key, &value))
			return false;
	return true;
}

static bool
pattern_properties(SchemaCheck *check, const SchemaSite *site)
{
	JsonbIterator *patterns;
	JsonbIterator *members;
	JsonbValue pattern;
	JsonbValue schema;
	JsonbValue key;
	JsonbValue value;

	if (!eduai_core_schema_is_object(site->value))
		return true;
	patterns = eduai_core_schema_loop(site->argument.val.binary.data);
	while (eduai_core_schema_member(&patterns, &pattern, &schema))
	{
		members = eduai_core_schema_loop(site->value->val.binary.data);
		while (eduai_core_schema_member(&members, &key, &value))
			if (eduai_core_schema_pattern_matches(&pattern, key.val.string.val,
												  key.val.string.len) &&
				!matches_member(check, &schema, site, &key, &value))
				return false;
	}
	return true;
}

/* Whether "properties" or "patternProperties" beside it speak of a property. */
static bool
is_covered(const SchemaSite *site, const JsonbValue *key)
{
	JsonbIterator *it;
	JsonbValue map;
	JsonbValue pattern;
	JsonbValue value;

	if (eduai_core_schema_get(site->schema, "properties", strlen("properties"), &map) &&
		eduai_core_schema_get(map.val.binary.data, key->val.string.val, key->val.string.len,
							  &value))
		return true;
	if (!eduai_core_schema_get(site->schema, "patternProperties", strlen("patternProperties"),
							   &map))
		return false;
	it = eduai_core_schema_loop(map.val.binary.data);
	while (eduai_core_schema_member(&it, &pattern, &value))
		if (eduai_core_schema_pattern_matches(&pattern, key->val.string.val, key->val.string.len))
			return true;
	return false;
}

static bool
additional_properties(SchemaCheck *check, const SchemaSite *site)
{
	JsonbIterator *it;
	JsonbValue key;
	JsonbValue value;

	if (!eduai_core_schema_is_object(site->value))
		return true;
	it = eduai_core_schema_loop(site->value->val.binary.data);
	while (eduai_core_schema_member(&it, &key, &value))
		if (!is_covered(site, &key) && !matches_member(check, &site->argument, site, &key, &value))
			return false;
	return true;
}

static bool
property_names(SchemaCheck *check, const SchemaSite *site)
{
	JsonbIterator *it;
	JsonbValue key;
	JsonbValue value;
	SchemaSite name = *site;

	if (!eduai_core_schema_is_object(site->value))
		return true;
	name.value = &key;
	it = eduai_core_schema_loop(site->value->val.binary.data);
	while (eduai_core_schema_member(&it, &key, &value))
		if (!matches_quietly(check, &site->argument, &name))
			return eduai_core_schema_fail(
				check, site->path, "must have only property names that \"propertyNames\" allows");
	return true;
}

/* ---- arrays ---- */

/* A list of schemas against the first elements. */
static bool
prefix_items(SchemaCheck *check, const SchemaSite *site)
{
	JsonbIterator *schemas;
	JsonbIterator *elements;
	JsonbValue schema;
	JsonbValue value;
	int index = 0;

	if (!eduai_core_schema_is_array(site->value))
		return true;
	schemas = eduai_core_schema_loop(site->argument.val.binary.data);
	elements = eduai_core_schema_loop(site->value->val.binary.data);
	while (eduai_core_schema_element(&schemas, &schema) &&
		   eduai_core_schema_element(&elements, &value))
		if (!matches_element(check, &schema, site, index++, &value))
			return false;
	return true;
}

static bool
items(SchemaCheck *check, const SchemaSite *site)
{
	JsonbIterator *it;
	JsonbValue prefix;
	JsonbValue value;
	int first = 0;

	if (!eduai_core_schema_is_array(site->value))
		return true;
	/* draft 7 writes "prefixItems" so */
	if (eduai_core_schema_is_array(&site->argument))
		return prefix_items(check, site);
	if (eduai_core_schema_get(site->schema, "prefixItems", strlen("prefixItems"), &prefix))
		first = JsonContainerSize(prefix.val.binary.data);
	it = eduai_core_schema_loop(site->value->val.binary.data);
	for (int index = 0; eduai_core_schema_element(&it, &value); index++)
		if (index >= first && !matches_element(check, &site->argument, site, index, &value))
			return false;
	return true;
}

static bool
contains(SchemaCheck *check, const SchemaSite *site)
{
	JsonbIterator *it;
	JsonbValue value;
	bool quiet = check->quiet;
	bool found = false;

	if (!eduai_core_schema_is_array(site->value))
		return true;
	check->quiet = true;
	it = eduai_core_schema_loop(site->value->val.binary.data);
	for (int index = 0; !found && eduai_core_schema_element(&it, &value); index++)
		found = matches_element(check, &site->argument, site, index, &value);
	check->quiet = quiet;
	return found || eduai_core_schema_fail(check, site->path,
										   "must contain an element that matches the schema of "
										   "\"contains\"");
}

/* ---- the walk ---- */

static SchemaRule
rule_of(SchemaWord word)
{
	switch (word)
	{
		case WORD_REF:
			return ref;
		case WORD_ALL_OF:
			return all_of;
		case WORD_ANY_OF:
			return any_of;
		case WORD_ONE_OF:
			return one_of;
		case WORD_NOT:
			return excluded;
		case WORD_IF:
			return if_then_else;
		case WORD_PROPERTIES:
			return properties;
		case WORD_PATTERN_PROPERTIES:
			return pattern_properties;
		case WORD_ADDITIONAL_PROPERTIES:
			return additional_properties;
		case WORD_PROPERTY_NAMES:
			return property_names;
		case WORD_PREFIX_ITEMS:
			return prefix_items;
		case WORD_ITEMS:
			return items;
		case WORD_CONTAINS:
			return contains;
		default:
			return NULL;
	}
}

/* A keyword costs a step, and one more for each thing that it lists. */
static void
spend_steps(SchemaCheck *check, const JsonbValue *argument)
{
	if (check->steps_left < 0)
		return;
	check->steps_left -=
		1 + (argument->type == jbvBinary ? JsonContainerSize(argument->val.binary.data) : 0);
	if (check->steps_left < 0)
		ereport(ERROR, (errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
						errmsg("the data takes too long to hold against the JSON Schema"),
						errhint("Write the schema with fewer alternatives, or give less data.")));
}

static bool
matches(SchemaCheck *check, const JsonbValue *schema, const JsonbValue *value,
		const SchemaPath *path)
{
	SchemaSite site = {.value = value, .path = path};
	JsonbIterator *it;
	JsonbValue key;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	if (schema->type == jbvBool)
		return schema->val.boolean || eduai_core_schema_fail(check, path, "must not be there");
	site.schema = schema->val.binary.data;
	it = eduai_core_schema_loop(site.schema);
	while (eduai_core_schema_member(&it, &key, &site.argument))
	{
		const SchemaKeyword *keyword =
			eduai_core_schema_keyword(key.val.string.val, key.val.string.len);
		SchemaRule rule;

		if (keyword == NULL)
			elog(ERROR, "a JSON Schema has a keyword that is not supported");
		spend_steps(check, &site.argument);
		rule = rule_of(keyword->word);
		if (rule ? !rule(check, &site) : !eduai_core_schema_assert(check, keyword->word, &site))
			return false;
	}
	return true;
}

EduaiViolation *
eduai_core_schema_violation_within(const Jsonb *schema, const Jsonb *data, int64 steps)
{
	SchemaCheck check = {.steps_left = steps};
	SchemaPath root = {NULL, NULL, 0, 0};
	JsonbValue value;

	eduai_core_schema_root(schema, &check.root);
	eduai_core_schema_root(data, &value);
	return matches(&check, &check.root, &value, &root) ? NULL : check.violation;
}

EduaiViolation *
eduai_core_schema_violation(const Jsonb *schema, const Jsonb *data)
{
	return eduai_core_schema_violation_within(schema, data, -1);
}
