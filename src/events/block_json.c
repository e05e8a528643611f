/*
 * block_json.c: jsonb values to shapes and leaves, and back.  See block_json.h.
 */
#include "postgres.h"

#include "core/json.h"
#include "core/json_write.h"
#include "events/block_json.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

/* A value beyond these is kept as one text. */
#define MAX_DEPTH 16
#define MAX_NODES 256

/* An array that would bring a value beyond this many leaves is kept as text. */
#define MAX_LEAVES 8192

/* A number beyond these is kept as text. */
#define NUMBER_DIGITS 18
#define NUMBER_TEXT   130000

/* ---- taking apart ---- */

static EduaiLeaf *
add_leaf(EduaiLeaves *leaves, char kind)
{
	if (leaves->n == leaves->size)
	{
		leaves->size = leaves->size ? leaves->size * 2 : 64;
		leaves->values = leaves->values ? repalloc(leaves->values, sizeof(EduaiLeaf) * leaves->size)
										: palloc(sizeof(EduaiLeaf) * leaves->size);
	}
	leaves->values[leaves->n] = (EduaiLeaf){.kind = kind};
	return &leaves->values[leaves->n++];
}

static void
add_text(EduaiLeaves *leaves, char kind, const char *bytes, int length)
{
	add_leaf(leaves, kind)->bytes = (EduaiSlice){bytes, length};
}

/* A number of few digits as an integer and a scale; the digits as written otherwise. */
static bool
small_number(const char *digits, int64 *number, int *scale)
{
	bool negative = *digits == '-';
	bool fraction = false;
	int significant = 0;

	*number = 0;
	*scale = 0;
	for (digits += negative; *digits; digits++)
	{
		if (*digits == '.')
		{
			fraction = true;
			continue;
		}
		*number = *number * 10 + (*digits - '0');
		*scale += fraction;
		significant += significant > 0 || *digits != '0';
		if (significant > NUMBER_DIGITS || *scale > EDUAI_NUMBER_SCALE)
			return false;
	}
	if (negative)
		*number = -*number;
	return true;
}

static bool
shred_number(Numeric value, EduaiLeaves *leaves, char *kind)
{
	char *digits = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value)));
	int64 number;
	int scale;
	EduaiLeaf *leaf;

	*kind = small_number(digits, &number, &scale) ? 'n' : 'N';
	if (*kind == 'N' && strlen(digits) > NUMBER_TEXT)
		return false;
	leaf = add_leaf(leaves, *kind);
	leaf->number = number;
	leaf->scale = scale;
	leaf->bytes = (EduaiSlice){digits, (int) strlen(digits)};
	return true;
}

static void
shred_text(JsonbContainer *container, StringInfo shape, EduaiLeaves *leaves)
{
	StringInfoData text;

	initStringInfo(&text);
	eduai_core_json_write(&text, container);
	appendStringInfoCharMacro(shape, 'j');
	add_text(leaves, 'j', text.data, text.len);
}

/* An array of small numbers only, or of strings only. */
static bool
shred_array(JsonbContainer *container, StringInfo shape, EduaiLeaves *leaves)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	int first = leaves->n;
	char kind = 's';
	JsonbValue v;
	JsonbIteratorToken token;

	if (leaves->n - leaves->first + (int) JsonContainerSize(container) > MAX_LEAVES)
		return false;
	add_leaf(leaves, 'A')->number = JsonContainerSize(container);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		char this = 's';

		if (token != WJB_ELEM)
			continue;
		if (v.type == jbvString)
			add_text(leaves, 's', v.val.string.val, v.val.string.len);
		else if (v.type != jbvNumeric || !shred_number(v.val.numeric, leaves, &this))
			break;
		if (this == 'N' || (leaves->n > first + 2 && this != kind))
			break;
		kind = this;
	}
	if (token != WJB_DONE)
	{
		leaves->n = first;
		return false;
	}
	appendStringInfoCharMacro(shape, 'A');
	appendStringInfoCharMacro(shape, kind);
	return true;
}

static bool
shred_object(JsonbContainer *container, int depth, StringInfo shape, EduaiLeaves *leaves);

/* False when the whole value is better kept as text. */
static bool
shred_value(const JsonbValue *v, int depth, StringInfo shape, EduaiLeaves *leaves)
{
	char kind = 'z';

	if (++leaves->nodes > MAX_NODES)
		return false;
	switch (v->type)
	{
		case jbvNull:
			break;
		case jbvBool:
			kind = 'b';
			add_leaf(leaves, kind)->number = v->val.boolean;
			break;
		case jbvString:
			kind = 's';
			add_text(leaves, kind, v->val.string.val, v->val.string.len);
			break;
		case jbvNumeric:
			if (!shred_number(v->val.numeric, leaves, &kind))
				return false;
			break;
		default:
			if (JsonContainerIsObject(v->val.binary.data))
				return shred_object(v->val.binary.data, depth + 1, shape, leaves);
			if (!shred_array(v->val.binary.data, shape, leaves))
				shred_text(v->val.binary.data, shape, leaves);
			return true;
	}
	appendStringInfoCharMacro(shape, kind);
	return true;
}

static bool
shred_object(JsonbContainer *container, int depth, StringInfo shape, EduaiLeaves *leaves)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbValue v;
	JsonbIteratorToken token;

	if (depth > MAX_DEPTH || JsonContainerSize(container) > MAX_NODES)
		return false;
	appendStringInfoCharMacro(shape, 'o');
	eduai_events_put_varint(shape, JsonContainerSize(container));
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			eduai_events_put_varint(shape, v.val.string.len);
			appendBinaryStringInfo(shape, v.val.string.val, v.val.string.len);
		}
		else if (token == WJB_VALUE && !shred_value(&v, depth, shape, leaves))
			return false;
	}
	return true;
}

void
eduai_events_json_shred(const Jsonb *json, StringInfo shape, EduaiLeaves *leaves)
{
	JsonbContainer *root = (JsonbContainer *) &json->root;
	int shape_start = shape->len;

	leaves->first = leaves->n;
	leaves->nodes = 0;
	if (JsonContainerIsObject(root) && shred_object(root, 1, shape, leaves))
		return;
	shape->len = shape_start;
	leaves->n = leaves->first;
	shred_text(root, shape, leaves);
}

/* ---- shapes ---- */

static int
find_column(EduaiLeafColumns *columns, char kind, const EduaiSlice *key)
{
	for (int i = 0; i < columns->n; i++)
		if (columns->values[i].kind == kind && columns->values[i].key.length == key->length &&
			memcmp(columns->values[i].key.bytes, key->bytes, key->length) == 0)
			return i;
	if (columns->n == columns->size)
	{
		columns->size = columns->size ? columns->size * 2 : 32;
		columns->values = columns->values
							  ? repalloc(columns->values, sizeof(EduaiLeafColumn) * columns->size)
							  : palloc(sizeof(EduaiLeafColumn) * columns->size);
	}
	columns->values[columns->n] = (EduaiLeafColumn){.kind = kind, .key = *key};
	return columns->n++;
}

bool
eduai_events_valid_text(const EduaiSlice *text)
{
	return pg_verifymbstr(text->bytes, text->length, true);
}

/* jsonb finds keys by bisection: shorter ones first, then by bytes. */
static bool
keys_ascend(const EduaiSlice *a, const EduaiSlice *b)
{
	return a->length < b->length ||
		   (a->length == b->length && memcmp(a->bytes, b->bytes, a->length) < 0);
}

static EduaiShapeNode *
add_node(EduaiShapeNodes *nodes, char kind, const EduaiSlice *key)
{
	if (nodes->n == nodes->size)
	{
		nodes->size = nodes->size ? nodes->size * 2 : 64;
		nodes->values = nodes->values
							? repalloc(nodes->values, sizeof(EduaiShapeNode) * nodes->size)
							: palloc(sizeof(EduaiShapeNode) * nodes->size);
	}
	nodes->values[nodes->n] = (EduaiShapeNode){.kind = kind, .key = *key};
	return &nodes->values[nodes->n++];
}

static void
parse_node(EduaiColumnReader *r, const EduaiSlice *key, int depth, EduaiShapeNodes *nodes,
		   EduaiLeafColumns *columns)
{
	char kind = *eduai_events_get_bytes(r, 1);
	EduaiShapeNode *node = add_node(nodes, kind, key);
	EduaiSlice last = {NULL, -1};
	int members;

	switch (kind)
	{
		case 'o':
			break;
		case 'z':
			return;
		case 'n':
		case 's':
		case 'b':
		case 'N':
		case 'j':
			node->column = find_column(columns, kind, key);
			return;
		case 'A':
			kind = *eduai_events_get_bytes(r, 1);
			if (kind != 'n' && kind != 's')
				eduai_events_corrupted("shape");
			node->column = find_column(columns, 'A', key);
			node->elements = find_column(columns, kind, key);
			return;
		default:
			eduai_events_corrupted("shape");
	}
	if (depth > MAX_DEPTH)
		eduai_events_corrupted("shape");
	members = node->members = (int) eduai_events_get_count(r, MAX_NODES);
	for (int i = 0; i < members; i++)
	{
		EduaiSlice member;

		member.length = (int) eduai_events_get_count(r, JENTRY_OFFLENMASK);
		member.bytes = eduai_events_get_bytes(r, member.length);
		if (!eduai_events_valid_text(&member) || (i > 0 && !keys_ascend(&last, &member)))
			eduai_events_corrupted("key");
		parse_node(r, &member, depth + 1, nodes, columns);
		last = member;
	}
}

void
eduai_events_json_parse_shape(EduaiColumnReader *r, EduaiShapeNodes *nodes,
							  EduaiLeafColumns *columns)
{
	EduaiSlice none = {"", 0};

	parse_node(r, &none, 1, nodes, columns);
}

static void
add_to_column(EduaiLeafColumn *column, const EduaiLeaf *leaf)
{
	switch (column->kind)
	{
		case 'n':
			eduai_events_ints_add(&column->scales, leaf->scale);
			eduai_events_ints_add(&column->ints, leaf->number);
			break;
		case 'b':
		case 'A':
			eduai_events_ints_add(&column->ints, leaf->number);
			break;
		default:
			eduai_events_slices_add(&column->slices, leaf->bytes.bytes, leaf->bytes.length);
	}
}

int
eduai_events_json_spread(const EduaiShapeNode *nodes, int n, const EduaiLeaf *leaves,
						 EduaiLeafColumns *columns)
{
	int used = 0;

	for (const EduaiShapeNode *node = nodes; node < nodes + n; node++)
	{
		int64 elements = 0;

		if (node->kind == 'o' || node->kind == 'z')
			continue;
		if (node->kind == 'A')
			elements = leaves[used].number;
		add_to_column(&columns->values[node->column], &leaves[used++]);
		for (; elements > 0; elements--)
			add_to_column(&columns->values[node->elements], &leaves[used++]);
	}
	return used;
}

/* ---- putting together ---- */

static Numeric
number_of_text(const EduaiSlice *text)
{
	int at = text->length > 0 && text->bytes[0] == '-';
	int digits = 0;
	int points = 0;

	for (; at < text->length; at++)
	{
		if (text->bytes[at] >= '0' && text->bytes[at] <= '9')
			digits++;
		else if (text->bytes[at] != '.' || ++points > 1)
			eduai_events_corrupted("number");
	}
	if (digits == 0 || text->length > NUMBER_TEXT)
		eduai_events_corrupted("number");
	return DatumGetNumeric(DirectFunctionCall3(numeric_in,
											   CStringGetDatum(pnstrdup(text->bytes, text->length)),
											   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

static Jsonb *
json_of_text(const EduaiSlice *text)
{
	char *why;
	Jsonb *json = NULL;

	if (eduai_events_valid_text(text))
		json = eduai_core_json_parse_bytes(text->bytes, text->length, &why);
	if (json == NULL)
		eduai_events_corrupted("JSON");
	return json;
}

/* jsonb's own packing takes no packed parts: unpacks a document to its values. */
static void
unpack(Jsonb *json, JsonbValue *value)
{
	JsonbIterator *it = JsonbIteratorInit(&json->root);
	JsonbParseState *state = NULL;
	JsonbValue *result = NULL;
	JsonbValue v;
	JsonbIteratorToken token;

	if (JB_ROOT_IS_SCALAR(json))
		eduai_events_corrupted("JSON");
	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
		result = pushJsonbValue(&state, token, token < WJB_BEGIN_ARRAY ? &v : NULL);
	if (result == NULL)
	{
		eduai_events_corrupted("JSON");
		return;
	}
	*value = *result;
}

static void
build_leaf(char kind, const EduaiLeafColumn *column, int place, JsonbValue *value)
{
	switch (kind)
	{
		case 'n':
			value->type = jbvNumeric;
			value->val.numeric = int64_div_fast_to_numeric(column->ints.values[place],
														   (int) column->scales.values[place]);
			break;
		case 'N':
			value->type = jbvNumeric;
			value->val.numeric = number_of_text(&column->slices.values[place]);
			break;
		case 'b':
			value->type = jbvBool;
			value->val.boolean = column->ints.values[place] != 0;
			break;
		case 's':
			if (!eduai_events_valid_text(&column->slices.values[place]))
				eduai_events_corrupted("string");
			value->type = jbvString;
			value->val.string.val = (char *) column->slices.values[place].bytes;
			value->val.string.len = column->slices.values[place].length;
			break;
		default:
			unpack(json_of_text(&column->slices.values[place]), value);
	}
}

static void
build_array(const EduaiLeafColumn *elements, int first, int n, JsonbValue *value)
{
	value->type = jbvArray;
	value->val.array.rawScalar = false;
	value->val.array.nElems = n;
	value->val.array.elems = palloc(sizeof(JsonbValue) * Max(n, 1));
	for (int i = 0; i < n; i++)
		build_leaf(elements->kind, elements, first + i, &value->val.array.elems[i]);
}

static void
build_value(const EduaiShapeNode **node, const int **place, const EduaiLeafColumn *columns,
			JsonbValue *value)
{
	const EduaiShapeNode *this = (*node)++;

	if (this->kind == 'z')
		value->type = jbvNull;
	else if (this->kind == 'A')
	{
		int at = *(*place)++;

		build_array(&columns[this->elements], *(*place)++,
					(int) columns[this->column].ints.values[at], value);
	}
	else if (this->kind != 'o')
		build_leaf(this->kind, &columns[this->column], *(*place)++, value);
	else
	{
		value->type = jbvObject;
		value->val.object.nPairs = this->members;
		value->val.object.pairs = palloc(sizeof(JsonbPair) * Max(this->members, 1));
		for (int i = 0; i < this->members; i++)
		{
			JsonbPair *pair = &value->val.object.pairs[i];

			pair->key.type = jbvString;
			pair->key.val.string.val = (char *) (*node)->key.bytes;
			pair->key.val.string.len = (*node)->key.length;
			pair->order = i;
			build_value(node, place, columns, &pair->value);
		}
	}
}

Jsonb *
eduai_events_json_build(const EduaiShapeNode **node, const int **place,
						const EduaiLeafColumn *columns)
{
	JsonbValue value;

	if ((*node)->kind == 'j')
	{
		const EduaiShapeNode *whole = *node;

		(*node)++;
		return json_of_text(&columns[whole->column].slices.values[*(*place)++]);
	}
	build_value(node, place, columns, &value);
	return JsonbValueToJsonb(&value);
}
