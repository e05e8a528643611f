/*
 * block_column.c: columns of integers.  See block_column.h.
 *
 * A column of integers is written in the cheapest of these forms:
 *
 *	constant   one value for all
 *	varint	   into the text, where zstd finds repetitions and skew
 *	rice	   into the bits: the high part in unary, k low bits as they are;
 *			   within some percent of the entropy of what grows or is spread
 *			   evenly
 *
 * the latter two either of the distances from the least value or of the
 * differences between neighbours.  All arithmetic is modulo 2^64, so that any
 * value goes through.
 */
#include "postgres.h"

#include <math.h>

#include "events/block_column.h"
#include "port/pg_bitutils.h"
#include "port/pg_bswap.h"

#define FORM_CONSTANT 0
#define FORM_VARINT   1
#define FORM_RICE     2
#define FORM_DELTA    4 /* added to the last two */

/* A high part this long is replaced by the whole value. */
#define RICE_ESCAPE 24

/* ---- growing columns ---- */

void
eduai_events_ints_add(EduaiInts *ints, int64 value)
{
	if (ints->n == ints->size)
	{
		ints->size = ints->size ? ints->size * 2 : 32;
		ints->values = ints->values ? repalloc(ints->values, sizeof(int64) * ints->size)
									: palloc(sizeof(int64) * ints->size);
	}
	ints->values[ints->n++] = value;
}

void
eduai_events_slices_add(EduaiSlices *slices, const char *bytes, int length)
{
	if (slices->n == slices->size)
	{
		slices->size = slices->size ? slices->size * 2 : 32;
		slices->values = slices->values
							 ? repalloc(slices->values, sizeof(EduaiSlice) * slices->size)
							 : palloc(sizeof(EduaiSlice) * slices->size);
	}
	slices->values[slices->n++] = (EduaiSlice){bytes, length};
}

/* ---- writing ---- */

void
eduai_events_column_writer_init(EduaiColumnWriter *w)
{
	initStringInfo(&w->text);
	initStringInfo(&w->bits);
	w->pending = 0;
	w->npending = 0;
}

static void
put_bits(EduaiColumnWriter *w, uint64 value, int n)
{
	if (n > 32)
	{
		put_bits(w, value & 0xFFFFFFFF, 32);
		put_bits(w, value >> 32, n - 32);
		return;
	}
	w->pending |= (value & ((UINT64CONST(1) << n) - 1)) << w->npending;
	w->npending += n;
	while (w->npending >= 8)
	{
		appendStringInfoCharMacro(&w->bits, (char) (w->pending & 0xFF));
		w->pending >>= 8;
		w->npending -= 8;
	}
}

void
eduai_events_column_writer_flush(EduaiColumnWriter *w)
{
	if (w->npending > 0)
		put_bits(w, 0, 8 - w->npending);
}

void
eduai_events_put_raw(EduaiColumnWriter *w, const unsigned char *bytes, int n)
{
	for (int i = 0; i < n; i++)
		put_bits(w, bytes[i], 8);
}

static void
put_rice(EduaiColumnWriter *w, uint64 value, int k)
{
	uint64 high = value >> k;

	if (high >= RICE_ESCAPE)
	{
		put_bits(w, (UINT64CONST(1) << RICE_ESCAPE) - 1, RICE_ESCAPE);
		put_bits(w, value, 64);
		return;
	}
	put_bits(w, (UINT64CONST(1) << high) - 1, (int) high + 1);
	put_bits(w, value, k);
}

static double
rice_cost(const uint64 *values, int n, int k)
{
	double bits = 0;

	for (int i = 0; i < n; i++)
		bits += (values[i] >> k) >= RICE_ESCAPE ? RICE_ESCAPE + 64 : (values[i] >> k) + 1 + k;
	return bits;
}

/* The best k lies near the logarithm of the mean. */
static double
best_rice(const uint64 *values, int n, int *best_k)
{
	double sum = 0;
	double best = INFINITY;
	int middle;

	for (int i = 0; i < n; i++)
		sum += (double) values[i];
	middle = sum > n ? (int) log2(sum / n) : 0;
	for (int k = Max(middle - 6, 0); k <= Min(middle + 1, 60); k++)
	{
		double cost = rice_cost(values, n, k);

		if (cost < best)
		{
			best = cost;
			*best_k = k;
		}
	}
	return best;
}

/* The entropy of the varints' bytes, and something for the code's description. */
static double
varint_cost(const uint64 *values, int n)
{
	int count[256] = {0};
	int total = 0;
	double bits = 0;

	for (int i = 0; i < n; i++)
	{
		uint64 v = values[i];

		for (; v >= 0x80; v >>= 7, total++)
			count[(v & 0x7F) | 0x80]++;
		count[v]++;
		total++;
	}
	for (int i = 0; i < 256; i++)
		if (count[i] > 0)
			bits += 3 - count[i] * log2((double) count[i] / total);
	return bits;
}

typedef struct IntsPlan
{
	int form;
	int k;
	uint64 base; /* the least value, without FORM_DELTA */
	double cost;
} IntsPlan;

static void
consider(IntsPlan *plan, const uint64 *values, int n, int delta, uint64 base)
{
	int k = 0;
	double rice = best_rice(values, n, &k) + 8;
	double varint = varint_cost(values, n);

	if (varint < plan->cost)
		*plan = (IntsPlan){FORM_VARINT + delta, 0, base, varint};
	if (rice < plan->cost)
		*plan = (IntsPlan){FORM_RICE + delta, k, base, rice};
}

static int64
least(const int64 *values, int n)
{
	int64 min = values[0];

	for (int i = 1; i < n; i++)
		min = Min(min, values[i]);
	return min;
}

static void
to_distances(const int64 *values, int n, uint64 base, uint64 *out)
{
	for (int i = 0; i < n; i++)
		out[i] = (uint64) values[i] - base;
}

static void
to_deltas(const int64 *values, int n, uint64 *out)
{
	uint64 last = 0;

	for (int i = 0; i < n; i++)
	{
		out[i] = eduai_events_zigzag((int64) ((uint64) values[i] - last));
		last = (uint64) values[i];
	}
}

static bool
all_equal(const int64 *values, int n)
{
	for (int i = 1; i < n; i++)
		if (values[i] != values[0])
			return false;
	return true;
}

static IntsPlan
plan_ints(const int64 *values, int n, uint64 *work)
{
	IntsPlan plan = {.cost = INFINITY};
	uint64 base;

	if (n == 0 || all_equal(values, n))
		return (IntsPlan){FORM_CONSTANT, 0, n ? (uint64) values[0] : 0, 16};
	base = (uint64) least(values, n);
	to_distances(values, n, base, work);
	consider(&plan, work, n, 0, base);
	to_deltas(values, n, work);
	consider(&plan, work, n, FORM_DELTA, 0);
	return plan;
}

double
eduai_events_ints_cost(const int64 *values, int n)
{
	uint64 *work = palloc(sizeof(uint64) * Max(n, 1));
	double cost = plan_ints(values, n, work).cost;

	pfree(work);
	return cost;
}

void
eduai_events_put_ints(EduaiColumnWriter *w, const int64 *values, int n)
{
	uint64 *work = palloc(sizeof(uint64) * Max(n, 1));
	IntsPlan plan = plan_ints(values, n, work);

	if (n == 0)
		return;
	appendStringInfoCharMacro(&w->text, (char) plan.form);
	if (!(plan.form & FORM_DELTA))
		eduai_events_put_varint(&w->text, eduai_events_zigzag((int64) plan.base));
	if (plan.form == FORM_CONSTANT)
		return;
	if (plan.form & FORM_DELTA)
		to_deltas(values, n, work);
	else
		to_distances(values, n, plan.base, work);
	if (plan.form & FORM_RICE)
		appendStringInfoCharMacro(&w->text, (char) plan.k);
	for (int i = 0; i < n; i++)
		if (plan.form & FORM_RICE)
			put_rice(w, work[i], plan.k);
		else
			eduai_events_put_varint(&w->text, work[i]);
	pfree(work);
}

/* ---- reading ---- */

void
eduai_events_corrupted(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED), errmsg("a block of compacted events is damaged"),
			 errdetail("Invalid %s.", what)));
}

static inline uint64
get_varint(EduaiColumnReader *r)
{
	uint64 value;

	if (likely(r->text < r->text_end && *r->text < 0x80))
		return *r->text++;
	if (!eduai_events_take_varint(&r->text, r->text_end, &value))
		eduai_events_corrupted("number");
	return value;
}

uint64
eduai_events_get_varint(EduaiColumnReader *r)
{
	return get_varint(r);
}

uint64
eduai_events_get_count(EduaiColumnReader *r, uint64 limit)
{
	uint64 value = get_varint(r);

	if (value > limit)
		eduai_events_corrupted("count");
	return value;
}

const char *
eduai_events_get_bytes(EduaiColumnReader *r, size_t length)
{
	const char *bytes = (const char *) r->text;

	if (length > (size_t) (r->text_end - r->text))
		eduai_events_corrupted("length");
	r->text += length;
	return bytes;
}

/* At least 57 bits from a place on; what lies beyond the end is 0 or not ours. */
static inline uint64
peek_bits(const unsigned char *bits, uint64 at)
{
	uint64 word;

	memcpy(&word, bits + (at >> 3), sizeof(word));
#ifdef WORDS_BIGENDIAN
	word = pg_bswap64(word);
#endif
	return word >> (at & 7);
}

void
eduai_events_get_raw(EduaiColumnReader *r, unsigned char *bytes, int n)
{
	if (r->bit + (uint64) n * 8 > r->bit_end)
		eduai_events_corrupted("length");
	for (int i = 0; i < n; i++, r->bit += 8)
		bytes[i] = (unsigned char) peek_bits(r->bits, r->bit);
}

/* The low n bits from a place on; n may be 64. */
static inline uint64
get_bits(const unsigned char *bits, uint64 at, int n)
{
	if (likely(n <= 32))
		return peek_bits(bits, at) & ((UINT64CONST(1) << n) - 1);
	return (peek_bits(bits, at) & 0xFFFFFFFF) |
		   (peek_bits(bits, at + 32) & ((UINT64CONST(1) << (n - 32)) - 1)) << 32;
}

static void
get_rice(EduaiColumnReader *r, int k, uint64 base, int64 *values, int n)
{
	const unsigned char *bits = r->bits;
	uint64 at = r->bit;

	for (int i = 0; i < n; i++)
	{
		int high = pg_rightmost_one_pos64(~peek_bits(bits, at));
		bool escaped = high >= RICE_ESCAPE;
		int low = escaped ? 64 : k;

		at += escaped ? RICE_ESCAPE : high + 1;
		if (at + low > r->bit_end)
			eduai_events_corrupted("packed number");
		values[i] = (int64) (base + (get_bits(bits, at, low) | (escaped ? 0 : (uint64) high << k)));
		at += low;
	}
	r->bit = at;
}

static void
from_deltas(int64 *values, int n)
{
	uint64 last = 0;

	for (int i = 0; i < n; i++)
	{
		last += (uint64) eduai_events_unzigzag((uint64) values[i]);
		values[i] = (int64) last;
	}
}

int64 *
eduai_events_get_ints(EduaiColumnReader *r, int n)
{
	int64 *values;
	int form;
	int k;
	uint64 base = 0;

	if (n == 0)
		return NULL;
	form = (unsigned char) *eduai_events_get_bytes(r, 1);
	if (form != FORM_CONSTANT && (form & ~FORM_DELTA) != FORM_VARINT &&
		(form & ~FORM_DELTA) != FORM_RICE)
		eduai_events_corrupted("form of a column");
	if (!(form & FORM_DELTA))
		base = (uint64) eduai_events_unzigzag(eduai_events_get_varint(r));
	values = palloc(sizeof(int64) * n);
	if (form == FORM_CONSTANT)
	{
		for (int i = 0; i < n; i++)
			values[i] = (int64) base;
		return values;
	}
	k = form & FORM_RICE ? (unsigned char) *eduai_events_get_bytes(r, 1) : 0;
	if (k > 60)
		eduai_events_corrupted("form of a column");
	if (form & FORM_RICE)
		get_rice(r, k, base, values, n);
	else
		for (int i = 0; i < n; i++)
			values[i] = (int64) (base + get_varint(r));
	if (form & FORM_DELTA)
		from_deltas(values, n);
	return values;
}
