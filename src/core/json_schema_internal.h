/*
 * json_schema_internal.h: what the files json_schema*.c share.
 */
#ifndef EDUAI_CORE_JSON_SCHEMA_INTERNAL_H
#define EDUAI_CORE_JSON_SCHEMA_INTERNAL_H

#include "postgres.h"
#include "core/json_schema.h"
#include "utils/numeric.h"

/* A place in data or in a schema: a list from the place up to the root. */
typedef struct SchemaPath
{
	const struct SchemaPath *parent; /* NULL: this is the root, without a name */
	const char *key;                 /* NULL: an element of an array */
	int length;
	int index;
} SchemaPath;

/* The path as a JSON pointer; long names are cut short. */
extern char *eduai_core_schema_pointer(const SchemaPath *path);

/* What the value of a keyword must be, in the schema. */
typedef enum SchemaKind
{
	KIND_ANY,
	KIND_ARRAY,
	KIND_BOOLEAN,
	KIND_STRING,
	KIND_ID,       /* a string, at the root only */
	KIND_REF,      /* a reference to the root or one of its definitions */
	KIND_TYPE,     /* a type's name, or some */
	KIND_VALUES,   /* an array of anything, not empty */
	KIND_NAMES,    /* an array of strings */
	KIND_NAMES_OF, /* an object of such arrays */
	KIND_NUMBER,
	KIND_FACTOR, /* a number above 0 */
	KIND_COUNT,  /* an integer from 0 */
	KIND_PATTERN,
	KIND_SCHEMA,
	KIND_ITEMS, /* a schema or, in draft 7, a list of them */
	KIND_SCHEMA_LIST,
	KIND_SCHEMA_MAP,
	KIND_PATTERN_MAP, /* an object of schemas, its keys patterns */
} SchemaKind;

typedef enum SchemaWord
{
	WORD_ANNOTATION, /* says nothing about data */
	WORD_ADDITIONAL_PROPERTIES,
	WORD_ALL_OF,
	WORD_ANY_OF,
	WORD_CONST,
	WORD_CONTAINS,
	WORD_DEPENDENT_REQUIRED,
	WORD_ENUM,
	WORD_EXCLUSIVE_MAXIMUM,
	WORD_EXCLUSIVE_MINIMUM,
	WORD_FORMAT,
	WORD_IF,
	WORD_ITEMS,
	WORD_MAX_ITEMS,
	WORD_MAX_LENGTH,
	WORD_MAX_PROPERTIES,
	WORD_MAXIMUM,
	WORD_MIN_ITEMS,
	WORD_MIN_LENGTH,
	WORD_MIN_PROPERTIES,
	WORD_MINIMUM,
	WORD_MULTIPLE_OF,
	WORD_NOT,
	WORD_ONE_OF,
	WORD_PATTERN,
	WORD_PATTERN_PROPERTIES,
	WORD_PREFIX_ITEMS,
	WORD_PROPERTIES,
	WORD_PROPERTY_NAMES,
	WORD_REF,
	WORD_REQUIRED,
	WORD_TYPE,
	WORD_UNIQUE_ITEMS,
} SchemaWord;

typedef struct SchemaKeyword
{
	const char *name;
	SchemaWord word;
	SchemaKind kind;
} SchemaKeyword;

/* NULL for a keyword that is not supported. */
extern const SchemaKeyword *eduai_core_schema_keyword(const char *name, int length);

/* What is known of a check as it walks down schema and data. */
typedef struct SchemaCheck
{
	JsonbValue root;  /* the whole schema, an object or a boolean */
	int refs;         /* followed since the last step down into the data */
	int64 steps_left; /* keywords that may still be looked at; below 0: any number */
	bool quiet;       /* only the answer counts, as within "not" */
	EduaiViolation *violation;
} SchemaCheck;

/* A keyword's value, and the data that it is held against. */
typedef struct SchemaSite
{
	JsonbContainer *schema; /* the object that has the keyword */
	JsonbValue argument;
	const JsonbValue *value;
	const SchemaPath *path;
} SchemaSite;

/* Notes a violation and returns false. */
extern bool eduai_core_schema_fail(SchemaCheck *check, const SchemaPath *path, const char *message,
								   ...) pg_attribute_printf(3, 4);

/* The keywords that look at the value alone; true for any other word. */
extern bool eduai_core_schema_assert(SchemaCheck *check, SchemaWord word, const SchemaSite *site);

/* Whether a string has a format; true for formats that are not checked. */
extern bool
eduai_core_format_matches(const char *format, int format_length, const char *value, int length);

/* Whether a string matches a regular expression somewhere. */
extern bool
eduai_core_schema_pattern_matches(const JsonbValue *pattern, const char *value, int length);

/*
 * What "$ref" means: false when it has no supported form; else *target is the
 * schema, of type jbvNull when the root has no such definition.
 */
extern bool
eduai_core_schema_resolve(const JsonbValue *root, const JsonbValue *ref, JsonbValue *target);

/* Reading Jsonb. */
extern void eduai_core_schema_root(const Jsonb *json, JsonbValue *root);
extern bool eduai_core_schema_is_object(const JsonbValue *value);
extern bool eduai_core_schema_is_array(const JsonbValue *value);
extern bool
eduai_core_schema_get(JsonbContainer *object, const char *key, int length, JsonbValue *value);
extern bool eduai_core_schema_is_integer(Numeric number);
extern int eduai_core_schema_compare(Numeric a, Numeric b);

/* Loops over the elements of an array or the members of an object. */
extern JsonbIterator *eduai_core_schema_loop(JsonbContainer *container);
extern bool eduai_core_schema_element(JsonbIterator **it, JsonbValue *element);
extern bool eduai_core_schema_member(JsonbIterator **it, JsonbValue *key, JsonbValue *value);

#endif
