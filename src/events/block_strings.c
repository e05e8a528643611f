/*
 * block_strings.c: columns of strings.  See block_column.h.
 *
 * A column is a table of its different values and an index for each row.
 * Few different values are sorted, so that neighbouring blocks have the same
 * sequence of bytes; many are kept in the order of their first appearance,
 * and a row then says how long ago its value first appeared (0: it is the
 * next new one), which suits what comes in bursts, such as sessions.
 *
 * The table is written as bytes, or, where all values are one prefix followed
 * by a number or a UUID, as the prefix and the numbers.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "events/block_column.h"
#include "utils/memutils.h"

#define ORDER_SORTED 0
#define ORDER_FIRST  1

#define TABLE_BYTES   0
#define TABLE_NUMBERS 1
#define TABLE_UUIDS   2

/* A prefix is copied in front of each value: a damaged block must not make that dear. */
#define PREFIX_BYTES 1024

#define NUMBER_DIGITS 18
#define UUID_TEXT     36
#define UUID_LENGTH   16

int
eduai_events_slice_compare(const EduaiSlice *a, const EduaiSlice *b)
{
	int order = memcmp(a->bytes, b->bytes, Min(a->length, b->length));

	return order != 0 ? order : a->length - b->length;
}

static bool
same(const EduaiSlice *a, const EduaiSlice *b)
{
	return a->length == b->length && memcmp(a->bytes, b->bytes, a->length) == 0;
}

/* ---- the table ---- */

typedef struct Table
{
	EduaiSlice *values; /* in order of first appearance */
	int n;
	int64 *index; /* per row, into values */
} Table;

static Table
make_table(const EduaiSlice *values, int n)
{
	Table t = {palloc(sizeof(EduaiSlice) * n), 0, palloc(sizeof(int64) * n)};
	uint32 size = 16;
	int *slots;

	while (size < (uint32) n * 2)
		size *= 2;
	slots = palloc0(sizeof(int) * size);
	for (int i = 0; i < n; i++)
	{
		uint32 at = hash_bytes((const unsigned char *) values[i].bytes, values[i].length);

		for (at &= size - 1; slots[at] != 0; at = (at + 1) & (size - 1))
			if (same(&t.values[slots[at] - 1], &values[i]))
				break;
		if (slots[at] == 0)
		{
			t.values[t.n++] = values[i];
			slots[at] = t.n;
		}
		t.index[i] = slots[at] - 1;
	}
	pfree(slots);
	return t;
}

typedef struct Ranked
{
	EduaiSlice value;
	int place;
} Ranked;

static int
compare_ranked(const void *a, const void *b)
{
	return eduai_events_slice_compare(&((const Ranked *) a)->value, &((const Ranked *) b)->value);
}

static void
sort_table(Table *t, int n)
{
	Ranked *ranked = palloc(sizeof(Ranked) * t->n);
	int64 *rank = palloc(sizeof(int64) * t->n);

	for (int i = 0; i < t->n; i++)
		ranked[i] = (Ranked){t->values[i], i};
	qsort(ranked, t->n, sizeof(Ranked), compare_ranked);
	for (int i = 0; i < t->n; i++)
	{
		t->values[i] = ranked[i].value;
		rank[ranked[i].place] = i;
	}
	for (int i = 0; i < n; i++)
		t->index[i] = rank[t->index[i]];
}

/* From the place in the table to how long ago that place was filled. */
static void
to_ages(int64 *index, int n)
{
	int64 next = 0;

	for (int i = 0; i < n; i++)
	{
		int64 place = index[i];

		index[i] = next - place;
		if (place == next)
			next++;
	}
}

static void
from_ages(int64 *index, int n)
{
	int64 next = 0;

	for (int i = 0; i < n; i++)
	{
		if (index[i] < 0 || index[i] > next)
			eduai_events_corrupted("place of a value");
		index[i] = next - index[i];
		if (index[i] == next)
			next++;
	}
}

/* ---- its values ---- */

static int
common_prefix(const EduaiSlice *values, int n)
{
	int common = values[0].length;

	for (int i = 1; i < n; i++)
	{
		int at = 0;

		while (at < common && at < values[i].length && values[i].bytes[at] == values[0].bytes[at])
			at++;
		common = at;
	}
	return common;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* A number as printing it would write it. */
static bool
as_number(const char *bytes, int length, int64 *value)
{
	if (length < 1 || length > NUMBER_DIGITS || (bytes[0] == '0' && length > 1))
		return false;
	*value = 0;
	for (int i = 0; i < length; i++)
	{
		if (!is_digit(bytes[i]))
			return false;
		*value = *value * 10 + (bytes[i] - '0');
	}
	return true;
}

static int
hex_value(char c)
{
	if (is_digit(c))
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool
is_dash_place(int at)
{
	return at == 8 || at == 13 || at == 18 || at == 23;
}

static bool
as_uuid(const char *bytes, int length, unsigned char *uuid)
{
	int digits = 0;

	if (length != UUID_TEXT)
		return false;
	for (int at = 0; at < UUID_TEXT; at++)
	{
		int value = hex_value(bytes[at]);

		if (is_dash_place(at) ? bytes[at] != '-' : value < 0)
			return false;
		if (is_dash_place(at))
			continue;
		if (digits % 2 == 0)
			uuid[digits / 2] = (unsigned char) (value << 4);
		else
			uuid[digits / 2] |= (unsigned char) value;
		digits++;
	}
	return true;
}

static bool
put_numbers(EduaiColumnWriter *w, const EduaiSlice *values, int n, int prefix)
{
	int64 *numbers = palloc(sizeof(int64) * n);

	/* "10" and "12" share a digit that belongs to the number */
	while (prefix > 0 && is_digit(values[0].bytes[prefix - 1]))
		prefix--;
	if (prefix > PREFIX_BYTES)
		return false;
	for (int i = 0; i < n; i++)
		if (!as_number(values[i].bytes + prefix, values[i].length - prefix, &numbers[i]))
			return false;
	appendStringInfoCharMacro(&w->text, TABLE_NUMBERS);
	eduai_events_put_varint(&w->text, prefix);
	appendBinaryStringInfo(&w->text, values[0].bytes, prefix);
	eduai_events_put_ints(w, numbers, n);
	return true;
}

static bool
put_uuids(EduaiColumnWriter *w, const EduaiSlice *values, int n)
{
	int prefix = values[0].length - UUID_TEXT;
	unsigned char *uuids;

	if (prefix < 0 || prefix > PREFIX_BYTES || prefix > common_prefix(values, n))
		return false;
	uuids = palloc(UUID_LENGTH * n);
	for (int i = 0; i < n; i++)
		if (values[i].length != prefix + UUID_TEXT ||
			!as_uuid(values[i].bytes + prefix, UUID_TEXT, uuids + UUID_LENGTH * i))
			return false;
	appendStringInfoCharMacro(&w->text, TABLE_UUIDS);
	eduai_events_put_varint(&w->text, prefix);
	appendBinaryStringInfo(&w->text, values[0].bytes, prefix);
	eduai_events_put_raw(w, uuids, UUID_LENGTH * n);
	return true;
}

static void
put_table(EduaiColumnWriter *w, const EduaiSlice *values, int n)
{
	int64 *lengths;

	if (put_uuids(w, values, n) || put_numbers(w, values, n, common_prefix(values, n)))
		return;
	lengths = palloc(sizeof(int64) * n);
	for (int i = 0; i < n; i++)
		lengths[i] = values[i].length;
	appendStringInfoCharMacro(&w->text, TABLE_BYTES);
	eduai_events_put_ints(w, lengths, n);
	for (int i = 0; i < n; i++)
		appendBinaryStringInfo(&w->text, values[i].bytes, values[i].length);
}

void
eduai_events_put_slices(EduaiColumnWriter *w, const EduaiSlice *values, int n)
{
	Table t;
	bool sorted;

	if (n == 0)
		return;
	t = make_table(values, n);
	sorted = t.n <= n / 3 || t.n == 1;
	appendStringInfoCharMacro(&w->text, sorted ? ORDER_SORTED : ORDER_FIRST);
	eduai_events_put_varint(&w->text, t.n);
	if (sorted)
		sort_table(&t, n);
	put_table(w, t.values, t.n);
	if (!sorted)
		to_ages(t.index, n);
	eduai_events_put_ints(w, t.index, n);
}

/* ---- reading ---- */

static EduaiSlice
read_prefix(EduaiColumnReader *r)
{
	int length = (int) eduai_events_get_count(r, PREFIX_BYTES);

	return (EduaiSlice){eduai_events_get_bytes(r, length), length};
}

/* Room for n values: the prefix and "more" bytes each. */
static char *
allocate_values(const EduaiSlice *prefix, int n, int more)
{
	return MemoryContextAllocHuge(CurrentMemoryContext, ((Size) prefix->length + more) * n);
}

static void
get_numbers(EduaiColumnReader *r, EduaiSlice *values, int n)
{
	EduaiSlice prefix = read_prefix(r);
	int64 *numbers = eduai_events_get_ints(r, n);
	char *at = allocate_values(&prefix, n, NUMBER_DIGITS);

	for (int i = 0; i < n; i++)
	{
		char digits[NUMBER_DIGITS];
		int first = NUMBER_DIGITS;
		int64 left = numbers[i];

		if (left < 0 || left > INT64CONST(999999999999999999))
			eduai_events_corrupted("number in a string");
		do
		{
			digits[--first] = (char) ('0' + left % 10);
			left /= 10;
		} while (left > 0);
		memcpy(at, prefix.bytes, prefix.length);
		memcpy(at + prefix.length, digits + first, NUMBER_DIGITS - first);
		values[i] = (EduaiSlice){at, prefix.length + NUMBER_DIGITS - first};
		at += values[i].length;
	}
}

static void
get_uuids(EduaiColumnReader *r, EduaiSlice *values, int n)
{
	static const char hex[] = "0123456789abcdef";
	EduaiSlice prefix = read_prefix(r);
	unsigned char uuid[UUID_LENGTH];
	char *at = allocate_values(&prefix, n, UUID_TEXT);

	for (int i = 0; i < n; i++)
	{
		int digit = 0;

		eduai_events_get_raw(r, uuid, UUID_LENGTH);
		values[i] = (EduaiSlice){at, prefix.length + UUID_TEXT};
		memcpy(at, prefix.bytes, prefix.length);
		at += prefix.length;
		for (int place = 0; place < UUID_TEXT; place++)
		{
			unsigned char byte = uuid[Min(digit / 2, UUID_LENGTH - 1)];

			*at++ = is_dash_place(place) ? '-' : hex[digit % 2 ? byte & 15 : byte >> 4];
			digit += !is_dash_place(place);
		}
	}
}

static void
get_table(EduaiColumnReader *r, EduaiSlice *values, int n)
{
	int64 *lengths;

	switch (*eduai_events_get_bytes(r, 1))
	{
		case TABLE_NUMBERS:
			get_numbers(r, values, n);
			break;
		case TABLE_UUIDS:
			get_uuids(r, values, n);
			break;
		case TABLE_BYTES:
			lengths = eduai_events_get_ints(r, n);
			for (int i = 0; i < n; i++)
			{
				if (lengths[i] < 0 || lengths[i] > MaxAllocSize)
					eduai_events_corrupted("length");
				values[i].length = (int) lengths[i];
				values[i].bytes = eduai_events_get_bytes(r, lengths[i]);
			}
			break;
		default:
			eduai_events_corrupted("form of a table");
	}
}

EduaiSlice *
eduai_events_get_slices(EduaiColumnReader *r, int n)
{
	EduaiSlice *table;
	EduaiSlice *values;
	int64 *index;
	int order;
	int ntable;

	if (n == 0)
		return NULL;
	order = (unsigned char) *eduai_events_get_bytes(r, 1);
	ntable = (int) eduai_events_get_count(r, n);
	if (order > ORDER_FIRST || ntable == 0)
		eduai_events_corrupted("table");
	table = palloc(sizeof(EduaiSlice) * ntable);
	get_table(r, table, ntable);
	index = eduai_events_get_ints(r, n);
	if (order == ORDER_FIRST)
		from_ages(index, n);
	values = palloc(sizeof(EduaiSlice) * n);
	for (int i = 0; i < n; i++)
	{
		if (index[i] < 0 || index[i] >= ntable)
			eduai_events_corrupted("place of a value");
		values[i] = table[index[i]];
	}
	return values;
}
