/*
 * ledger_test.c: the judge must be seen to judge.
 *
 * A small true story (three writers, a reader, a subscription of two members)
 * raises nothing; then each doctored version of it must raise a violation with
 * the right words.  Prints "N passed, N failed".
 */
#include "ledger.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

static jmp_buf back;
static char complaint[2048];

static void
complain(const char *text)
{
	snprintf(complaint, sizeof(complaint), "%s", text);
	longjmp(back, 1);
}

/* What is doctored. */
typedef enum Lie
{
	NONE,
	SKIPPED,          /* a reader does not get an event that another got */
	NEVER_SEEN,       /* nobody gets a committed event */
	HALF_SEEN,        /* an ambiguous transaction is there in part */
	INVERTED,         /* the feed against real time */
	SEEN_INVERTED,    /* the same, where only a reader knew */
	TWICE,            /* an event at two positions */
	POSITION_TWICE,   /* two events at one position */
	BACKWARDS,        /* a page not in order */
	AGAIN,            /* an acknowledged event once more */
	LATE,             /* an event below what was read */
	VERSION_GAP,      /* a stream's version is missing */
	VERSION_TOLD,     /* the append told another version */
	ROLLED_BACK_SEEN, /* an event of a savepoint that was rolled back */
	UNCOMMITTED,      /* an event before its COMMIT was sent */
	CHANGED,          /* an event that says another stream than it was written to */
	FILTERED,         /* an event that the subscription does not want */
	WRONG_MEMBER,     /* a stream at two members */
	UNDELIVERED,      /* a subscription that passes an event by */
	STREAM_SHORT,     /* read_stream gives less than the feed */
	STREAM_GAP,
	LIES
} Lie;

static const char *const expected[LIES] = {
	[NONE] = "",
	[SKIPPED] = "skipped",
	[NEVER_SEEN] = "lost",
	[HALF_SEEN] = "in part",
	[INVERTED] = "order:",
	[SEEN_INVERTED] = "order:",
	[TWICE] = "is the second of",
	[POSITION_TWICE] = "used twice",
	[BACKWARDS] = "position 1 after 2",
	[AGAIN] = "position 1 after 1",
	[LATE] = "appeared late",
	[VERSION_GAP] = "next version of the stream",
	[VERSION_TOLD] = "was told for",
	[ROLLED_BACK_SEEN] = "saw at position 7 what was rolled back",
	[UNCOMMITTED] = "what was not committed",
	[CHANGED] = "nobody made",
	[FILTERED] = "does not pass the filter",
	[WRONG_MEMBER] = "of a stream of member",
	[UNDELIVERED] = "never got",
	[STREAM_SHORT] = "the feed 2",
	[STREAM_GAP] = "at place 2",
};

static Sighting
sight(int64_t position, uint32_t event, uint32_t txn, uint32_t stream, int64_t version)
{
	return (Sighting){position, version, event, txn, stream, 1, 0};
}

/*
 * Streams 4, 8 and 12 of category 0, 5 of category 1.  Transaction 1: events 1, 2;
 * transaction 2: event 3 and a dropped 4; transaction 3: events 5, 6, ambiguous;
 * transaction 4: event 7, open; inverted, it is known to be committed before
 * the second asks, and comes after it.
 */
static void
tell_writers(Lie lie)
{
	static const uint32_t streams[] = {0, 4, 5, 4, 4, 8, 5, 12};
	static const uint32_t owners[] = {0, 1, 1, 2, 2, 3, 3, 4};

	for (int t = 1; t <= 4; t++)
		ledger_begin(1);
	for (int e = 1; e <= 7; e++)
		ledger_event(owners[e], streams[e], 0);
	ledger_committing(1);
	ledger_committed(1);
	if (lie == INVERTED || lie == SEEN_INVERTED)
		ledger_committing(4);
	if (lie == INVERTED)
		ledger_committed(4);
	ledger_versioned(1, lie == VERSION_TOLD ? 2 : 1);
}

static void
tell_rest(void)
{
	ledger_drop(4);
	ledger_committing(2);
	ledger_committed(2);
	ledger_committing(3);
	ledger_ambiguous(3);
}

static int
make_page(Lie lie, Sighting *page)
{
	int n = 0;

	page[n++] = sight(1, 1, 1, 4, 1);
	page[n++] = sight(2, 2, 1, 5, 1);
	page[n++] = sight(3, 3, 2, 4, 2);
	page[n++] = sight(5, 5, 3, 8, 1);
	if (lie != HALF_SEEN)
		page[n++] = sight(6, 6, 3, 5, 2);
	if (lie == TWICE)
		page[n++] = sight(7, 1, 1, 4, 1);
	if (lie == ROLLED_BACK_SEEN)
		page[n++] = sight(7, 4, 2, 4, 3);
	if (lie == UNCOMMITTED || lie == INVERTED || lie == SEEN_INVERTED)
		page[n++] = sight(7, 7, 4, 12, 1);
	if (lie == VERSION_GAP)
		page[4].version = 3;
	if (lie == CHANGED)
		page[3].stream = 4;
	if (lie == BACKWARDS)
	{
		page[0].position = 2;
		page[1].position = 1;
	}
	return n;
}

static void
read_feed(Lie lie)
{
	const Reader front = {"front", 0, -1, -1, 0};
	const Reader other = {"other", 0, -1, -1, 0};
	Sighting page[16];
	Sighting early = sight(0, 7, 4, 12, 1);
	int n = make_page(lie, page);

	if (lie == SEEN_INVERTED)
		ledger_stream_page(12, &early, 1, ledger_clock());
	tell_rest();
	if (lie == NEVER_SEEN)
	{
		ledger_committing(4);
		ledger_committed(4);
	}
	ledger_page(&front, 0, page, n, ledger_clock());
	if (lie == POSITION_TWICE)
	{
		page[1] = sight(1, 2, 1, 5, 1);
		ledger_page(&other, 0, page + 1, 1, ledger_clock());
	}
	if (lie == LATE)
	{
		ledger_committing(4);
		page[0] = sight(4, 7, 4, 12, 1);
		ledger_page(&other, 3, page, 1, ledger_clock());
	}
	if (lie == SKIPPED)
		memmove(page + 1, page + 2, sizeof(Sighting) * 3);
	ledger_page(&other, 0, page, 3, ledger_clock());
}

static void
read_subscription(Lie lie)
{
	int wanted = ledger_subscription("learners", 0, 0, 2);
	Reader zero = {"member 0", 0, 0, wanted, 0};
	Reader one = {"member 1", 0, 0, wanted, 1};
	Sighting first[] = {sight(1, 1, 1, 4, 1), sight(3, 3, 2, 4, 2)};
	Sighting second[] = {sight(5, 5, 3, 8, 1)};
	Sighting foreign = sight(2, 2, 1, 5, 1);

	ledger_page(&zero, 0, first, lie == UNDELIVERED ? 1 : 2, ledger_clock());
	if (lie == AGAIN)
		ledger_page(&zero, 1, first, 1, ledger_clock());
	if (lie == FILTERED)
		ledger_page(&one, 0, &foreign, 1, ledger_clock());
	if (lie == WRONG_MEMBER)
		ledger_page(&one, 0, first, 1, ledger_clock());
	ledger_page(&one, 0, second, 1, ledger_clock());
	ledger_drained(&zero);
	ledger_drained(&one);
}

static void
tell(Lie lie)
{
	Sighting stream[] = {sight(0, 1, 1, 4, 1), sight(0, 3, 2, 4, 2)};

	ledger_init();
	tell_writers(lie);
	read_feed(lie);
	read_subscription(lie);
	if (lie == STREAM_GAP)
		stream[1].version = 3;
	ledger_stream_page(4, stream, lie == STREAM_SHORT ? 1 : 2, ledger_clock());
	ledger_audit();
	ledger_finish();
	ledger_stream_end(4, lie == STREAM_SHORT ? 1 : 2);
}

int
main(void)
{
	volatile int passed = 0;
	volatile int failed = 0;

	ledger_on_violation = complain;
	for (volatile int lie = NONE; lie < LIES; lie++)
	{
		complaint[0] = '\0';
		if (setjmp(back) == 0)
			tell(lie);
		if (lie == NONE ? complaint[0] == '\0' : strstr(complaint, expected[lie]) != NULL)
			passed++;
		else
		{
			printf("lie %d: expected \"%s\", got \"%s\"\n", lie, expected[lie], complaint);
			failed++;
		}
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
