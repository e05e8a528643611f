/*
 * order_runs.c: the runs of an order row as bytes.  See order_runs.h.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "events/order_runs.h"
#include "events/varint.h"

#define FEW_NAMES 12                     /* below, looking at each is cheaper than a table */
#define PLACES    (EDUAI_RUNS_NAMES * 2) /* a power of two */

void
eduai_events_runs_begin(EduaiRunsBuilder *b)
{
	memset(b, 0, sizeof(*b));
}

/* The place in the table where the name is, or where it belongs. */
static int16 *
place_of(EduaiRunsBuilder *b, const char *name)
{
	uint32 at = hash_bytes((const unsigned char *) name, strlen(name));

	for (;; at++)
	{
		int16 *place = &b->places[at & (PLACES - 1)];

		if (*place == 0 || strcmp(b->names[*place], name) == 0)
			return place;
	}
}

static void
make_table(EduaiRunsBuilder *b)
{
	b->places = palloc0(sizeof(int16) * PLACES);
	for (int i = 1; i <= b->nnames; i++)
		*place_of(b, b->names[i]) = i;
}

/* The name's number, 0 when it is new. */
static int
known_number(EduaiRunsBuilder *b, const char *name)
{
	if (b->places)
		return *place_of(b, name);
	for (int i = 1; i <= b->nnames; i++)
		if (strcmp(b->names[i], name) == 0)
			return i;
	return 0;
}

static void
add_name(EduaiRunsBuilder *b, const char *name)
{
	if (b->nnames == FEW_NAMES)
		make_table(b);
	b->names[++b->nnames] = name;
	if (b->places)
		*place_of(b, name) = b->nnames;
}

static void
start(EduaiRunsBuilder *b)
{
	initStringInfo(&b->bytes);
	appendStringInfoSpaces(&b->bytes, VARHDRSZ);
	b->names = palloc(sizeof(char *) * (EDUAI_RUNS_NAMES + 1));
}

void
eduai_events_runs_add(EduaiRunsBuilder *b, const char *stream, int64 version, int count)
{
	int number;

	if (b->events == 0)
		start(b);
	number = known_number(b, stream);
	eduai_events_put_varint(&b->bytes, number);
	if (number == 0)
	{
		int length = strlen(stream);

		add_name(b, stream);
		eduai_events_put_varint(&b->bytes, length);
		appendBinaryStringInfo(&b->bytes, stream, length);
	}
	eduai_events_put_varint(&b->bytes, version);
	eduai_events_put_varint(&b->bytes, count);
	b->events += count;
}

bytea *
eduai_events_runs_finish(EduaiRunsBuilder *b)
{
	bytea *runs = (bytea *) b->bytes.data;

	SET_VARSIZE(runs, b->bytes.len);
	return runs;
}

/* ---- reading ---- */

typedef struct Cursor
{
	const unsigned char *at;
	const unsigned char *end;
} Cursor;

static void
corrupted(void)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("the runs of a row of \"eduai.event_order\" are damaged")));
}

static uint64
get_varint(Cursor *c)
{
	uint64 value;

	if (!eduai_events_take_varint(&c->at, c->end, &value))
		corrupted();
	return value;
}

static const char *
get_name(Cursor *c, char **names, int *nnames)
{
	uint64 number = get_varint(c);
	uint64 length;

	if (number > 0)
	{
		if (number > *nnames)
			corrupted();
		return names[number];
	}
	length = get_varint(c);
	if (length > c->end - c->at || *nnames >= EDUAI_RUNS_NAMES)
		corrupted();
	names[++*nnames] = pnstrdup((const char *) c->at, length);
	c->at += length;
	return names[*nnames];
}

static void
free_names(char **names, int nnames)
{
	for (int i = 1; i <= nnames; i++)
		pfree(names[i]);
}

bool
eduai_events_runs_read(const bytea *runs, int64 first, int events, EduaiRunSink sink, void *arg)
{
	Cursor c = {(const unsigned char *) VARDATA_ANY(runs),
				(const unsigned char *) VARDATA_ANY(runs) + VARSIZE_ANY_EXHDR(runs)};
	char *names[EDUAI_RUNS_NAMES + 1];
	int nnames = 0;
	bool more = true;

	while (more && events > 0)
	{
		EduaiRun run = {.position = first, .stream = get_name(&c, names, &nnames)};
		uint64 count;

		run.version = get_varint(&c);
		count = get_varint(&c);
		if (count == 0 || count > events)
			corrupted();
		run.count = count;
		first += count;
		events -= count;
		more = sink(&run, arg);
	}
	free_names(names, nnames);
	return more;
}
