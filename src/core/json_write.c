/*
 * json_write.c: see json_write.h.
 *
 * The server's own writer turns each value into one of its parser's, calls a
 * state machine for each and writes strings a byte at a time.  Here containers
 * are walked where they lie, and what needs no escape is copied in runs.  What is
 * nested deeper than most stacks allow is left to the server's, which has no limit.
 */
#include "postgres.h"

#include "core/json_write.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#define DEEPEST 100

/* The compiler makes of these what the processor has for many bytes at once. */
typedef unsigned char Bytes __attribute__((vector_size(16)));
typedef uint64 Halves __attribute__((vector_size(16)));

#define AT_ONCE ((int) sizeof(Bytes))

static bool
must_escape(unsigned char c)
{
	return c < ' ' || c == '"' || c == '\\';
}

/* Which of AT_ONCE bytes must. */
static inline Bytes
which_must(const char *at)
{
	Bytes bytes;

	memcpy(&bytes, at, sizeof(bytes));
	return (Bytes) ((bytes < ' ') | (bytes == '"') | (bytes == '\\'));
}

static inline bool
is_any(Bytes found)
{
	Halves halves = (Halves) found;

	return (halves[0] | halves[1]) != 0;
}

static inline bool
any_of_four(const char *at)
{
	return is_any((which_must(at) | which_must(at + AT_ONCE)) |
				  (which_must(at + 2 * AT_ONCE) | which_must(at + 3 * AT_ONCE)));
}

/* How many bytes from "at" need no escape. */
static int
plain_run(const char *at, int length)
{
	int n = 0;

	while (n + 4 * AT_ONCE <= length && !any_of_four(at + n))
		n += 4 * AT_ONCE;
	while (n + AT_ONCE <= length && !is_any(which_must(at + n)))
		n += AT_ONCE;
	/* the last ones together with some before them that were looked at */
	if (n + AT_ONCE > length && length >= AT_ONCE && !is_any(which_must(at + length - AT_ONCE)))
		return length;
	while (n < length && !must_escape((unsigned char) at[n]))
		n++;
	return n;
}

static void
write_escaped(StringInfo out, unsigned char c)
{
	static const char named[] = "b\bf\fn\nr\rt\t\"\"\\\\";

	for (const char *at = named; *at != '\0'; at += 2)
	{
		if ((unsigned char) at[1] == c)
		{
			appendStringInfoCharMacro(out, '\\');
			appendStringInfoCharMacro(out, *at);
			return;
		}
	}
	appendStringInfo(out, "\\u%04x", c);
}

static void
write_string(StringInfo out, const char *at, int length)
{
	const char *end = at + length;

	enlargeStringInfo(out, length + 2);
	appendStringInfoCharMacro(out, '"');
	while (at < end)
	{
		int run = plain_run(at, (int) (end - at));

		appendBinaryStringInfo(out, at, run);
		at += run;
		if (at < end)
			write_escaped(out, (unsigned char) *at++);
	}
	appendStringInfoCharMacro(out, '"');
}

static void
write_number(StringInfo out, Numeric number)
{
	char *text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));

	appendStringInfoString(out, text);
	pfree(text);
}

static void write_container(StringInfo out, const JsonbContainer *json, int depth);

/* The entries of a container one after the other; their bytes lie in "data" in the same order. */
typedef struct Entries
{
	const JEntry *next;
	char *data;
	uint32 offset; /* of the next one's bytes; what is aligned begins behind its padding */
	int depth;     /* of the container */
} Entries;

static void
write_next(StringInfo out, Entries *at)
{
	JEntry entry = *at->next++;
	uint32 begin = at->offset;

	JBE_ADVANCE_OFFSET(at->offset, entry);
	if (JBE_ISSTRING(entry))
		write_string(out, at->data + begin, (int) (at->offset - begin));
	else if (JBE_ISNUMERIC(entry))
		write_number(out, (Numeric) (at->data + INTALIGN(begin)));
	else if (JBE_ISCONTAINER(entry))
		write_container(out, (const JsonbContainer *) (at->data + INTALIGN(begin)), at->depth + 1);
	else if (JBE_ISBOOL_TRUE(entry))
		appendBinaryStringInfo(out, "true", 4);
	else if (JBE_ISBOOL_FALSE(entry))
		appendBinaryStringInfo(out, "false", 5);
	else
		appendBinaryStringInfo(out, "null", 4);
}

static void
write_array(StringInfo out, const JsonbContainer *json, int depth)
{
	int n = (int) JsonContainerSize(json);
	Entries values = {json->children, (char *) unconstify(JEntry *, json->children + n), 0, depth};
	bool bare = JsonContainerIsScalar(json); /* a value that is no container lies in an array */

	if (!bare)
		appendStringInfoCharMacro(out, '[');
	for (int i = 0; i < n; i++)
	{
		if (i > 0)
			appendBinaryStringInfo(out, ", ", 2);
		write_next(out, &values);
	}
	if (!bare)
		appendStringInfoCharMacro(out, ']');
}

/* All keys lie before all values. */
static void
write_object(StringInfo out, const JsonbContainer *json, int depth)
{
	int n = (int) JsonContainerSize(json);
	char *data = (char *) unconstify(JEntry *, json->children + 2 * n);
	Entries keys = {json->children, data, 0, depth};
	Entries values = {json->children + n, data, getJsonbOffset(json, n), depth};

	appendStringInfoCharMacro(out, '{');
	for (int i = 0; i < n; i++)
	{
		if (i > 0)
			appendBinaryStringInfo(out, ", ", 2);
		write_next(out, &keys);
		appendBinaryStringInfo(out, ": ", 2);
		write_next(out, &values);
	}
	appendStringInfoCharMacro(out, '}');
}

static void
write_container(StringInfo out, const JsonbContainer *json, int depth)
{
	if (depth > DEEPEST)
		(void) JsonbToCString(out, unconstify(JsonbContainer *, json), 0);
	else if (JsonContainerIsObject(json))
		write_object(out, json, depth);
	else
		write_array(out, json, depth);
}

void
eduai_core_json_write(StringInfo out, const JsonbContainer *json)
{
	write_container(out, json, 1);
}
