/*
 * followers.c: the projector's chore that lets all followers step.
 *
 * The chore keeps a table of followers: for each tenant those of every
 * projection.  A follower is due when its tenant was marked (signal.h), when
 * its last step said that there is more, or when it is to be tried again.  The
 * due ones step in turn, so that none waits for another's backlog; one that
 * raises is put off alone, for a second, doubling to a minute.
 *
 * While events come the chore looks again after a few milliseconds and nobody
 * needs to signal; when a look finds nothing it arms and sleeps, without a
 * time limit.
 *
 * A commit may be visible before an older one that drew its positions first:
 * the mark then lies below both, and the tenant was marked for nothing.  Such
 * tenants stay marked here until the mark has reached what was drawn when
 * their marks were taken.  The end of the older transaction, whichever way,
 * marks and wakes.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "core/chores.h"
#include "core/clock.h"
#include "core/guard.h"
#include "core/privilege.h"
#include "core/worker.h"
#include "events/position.h"
#include "events/projector.h"
#include "miscadmin.h"
#include "projections/catalog.h"
#include "projections/failing.h"
#include "projections/follow.h"
#include "projections/followers.h"
#include "projections/helper.h"
#include "projections/rebuild.h"
#include "projections/signal.h"
#include "projections/tenants.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* how long one run may take before the other chores get their turn */
#define RUN_MS 200
/* how soon it looks again after it found something */
#define PAUSE_MS 5
/* positions that make a follower's backlog worth a process of its own */
#define FAR_BEHIND 20000
/* how soon it tries again where somebody else was at it */
#define BUSY_MS 50
/* how often the tenants are listed at most when there are more than a board has places for */
#define LIST_US (1000 * 1000)

/* A generation that is followed. */
typedef struct Follow
{
	int projection;
	int generation;
	int lanes;
	int first; /* of its entries in a tenant's */
} Follow;

typedef struct Entry
{
	bool due;
	bool helped; /* a helper was at it when we last looked */
	int failures;
	int64 retry_us; /* not before; 0: at once */
} Entry;

typedef struct Tenant
{
	const char *name;
	int place;      /* on the board */
	bool marked;    /* something may lie beyond the mark */
	Entry *entries; /* nentries of them */
} Tenant;

/* In this context, all of it, made anew when tenants or projections change. */
static MemoryContext table_context = NULL;
static int *rebuilt = NULL; /* projections with a next generation */
static int nrebuilt = 0;
static Follow *follows = NULL;
static int nfollows = 0;
static Tenant *tenants = NULL;
static int ntenants = 0;
static int nentries = 0; /* followers of each tenant */
static int64 listed_us = 0;
static bool overflow = false; /* tenants without a place on the board */
static int64 awaited = 0;     /* marked tenants wait for the mark to reach this */

/* ---- the table ---- */

static int
list_follows(Follow *list)
{
	const EduaiProjectionList *all = eduai_projections_all();
	int n = 0;
	int first = 0;

	for (int i = 0; i < all->n; i++)
	{
		const EduaiProjection *p = &all->projections[i];

		if (p->kind == NULL || p->is_inline || p->live == 0)
			continue;
		if (p->kind->is_on != NULL && !p->kind->is_on())
			continue;
		list[n++] = (Follow){p->id, p->live, p->lanes, first};
		first += p->lanes;
	}
	nentries = first;
	return n;
}

static void
list_rebuilt(void)
{
	const EduaiProjectionList *all = eduai_projections_all();

	if (rebuilt != NULL)
		pfree(rebuilt);
	rebuilt = MemoryContextAlloc(TopMemoryContext, sizeof(int) * (all->n + 1));
	nrebuilt = 0;
	for (int i = 0; i < all->n; i++)
		if (all->projections[i].next != 0 && all->projections[i].kind != NULL)
			rebuilt[nrebuilt++] = all->projections[i].id;
}

/* What is due of a tenant that was in the table before stays so. */
static const Tenant *
find_tenant(const Tenant *old, int n, const char *name)
{
	int low = 0;
	int high = n - 1;

	while (low <= high)
	{
		int middle = low + (high - low) / 2;
		int order = strcmp(old[middle].name, name);

		if (order == 0)
			return &old[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return NULL;
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static void
fill_tenant(Tenant *tenant, const char *name, const Tenant *before, bool same_follows)
{
	*tenant = (Tenant){pstrdup(name), eduai_projections_signal_place(name), true,
					   palloc0_array(Entry, Max(nentries, 1))};
	overflow = overflow || tenant->place < 0;
	if (before != NULL && same_follows)
	{
		tenant->marked = before->marked;
		memcpy(tenant->entries, before->entries, sizeof(Entry) * nentries);
		return;
	}
	for (int i = 0; i < nentries; i++)
		tenant->entries[i].due = true;
}

/* In a transaction. */
static void
make_table(const Follow *list, int n)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "eduai followers", ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = table_context;
	MemoryContext old;
	bool same = n == nfollows && (n == 0 || memcmp(list, follows, sizeof(Follow) * n) == 0);
	int nnames = 0;
	char **names = n > 0 ? eduai_projections_tenants(&nnames) : NULL;
	Tenant *table;

	if (nnames > 1)
		qsort(names, nnames, sizeof(char *), compare_names);
	old = MemoryContextSwitchTo(context);
	table = palloc_array(Tenant, Max(nnames, 1));
	overflow = false;
	for (int i = 0; i < nnames; i++)
		fill_tenant(&table[i], names[i], find_tenant(tenants, ntenants, names[i]), same);
	follows = palloc_array(Follow, Max(n, 1));
	memcpy(follows, list, sizeof(Follow) * n);
	MemoryContextSwitchTo(old);
	table_context = context;
	tenants = table;
	ntenants = nnames;
	nfollows = n;
	listed_us = eduai_core_mono_us();
	if (before != NULL)
		MemoryContextDelete(before);
}

/* Looks what there is to follow, and for whom. */
static void
look_around(void)
{
	bool unknown = eduai_projections_signal_unknown();
	Follow *list;
	int n;

	eduai_projections_refresh();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	list_rebuilt();
	list = palloc_array(Follow, eduai_projections_all()->n + 1);
	n = list_follows(list);
	if (unknown && overflow && eduai_core_mono_us() - listed_us < LIST_US)
		unknown = false;
	if (unknown || table_context == NULL || n != nfollows ||
		memcmp(list, follows, sizeof(Follow) * n) != 0)
		make_table(list, n);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* The tenants that were marked become due. */
static void
take_marks(void)
{
	for (int t = 0; t < ntenants; t++)
	{
		if (eduai_projections_signal_taken(tenants[t].place))
			tenants[t].marked = true;
		if (tenants[t].marked)
			for (int i = 0; i < nentries; i++)
				tenants[t].entries[i].due = true;
	}
}

/* ---- steps ---- */

static EduaiFollower
follower_of(const Tenant *tenant, const Follow *follow, int lane)
{
	return (EduaiFollower){follow->projection, follow->generation, lane, follow->lanes,
						   tenant->name};
}

static void
put_off(Entry *entry, long ms)
{
	entry->due = true;
	entry->retry_us = eduai_core_mono_us() + ms * 1000;
}

/* In a PG_CATCH: leaves no transaction behind, says what happened. */
static void
clean_up_after(const EduaiFollower *f, MemoryContext context)
{
	ErrorData *error = eduai_core_catch(context);
	/* it may have failed because the extension is being dropped under it */
	if (!eduai_core_worker_should_stop())
	{
		eduai_projections_failing_note(f->projection, f->tenant, error);
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("eduai could not follow the feed of tenant \"%s\" for projection %d: %s",
						f->tenant, f->projection, error->message),
				 error->detail ? errdetail_internal("%s", error->detail) : 0,
				 error->hint ? errhint("%s", error->hint) : 0));
	}
	FreeErrorData(error);
}

static bool
try_step(const EduaiFollower *f, Entry *entry, EduaiStep *step)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool done = false;

	PG_TRY();
	{
		*step = eduai_projections_step(f);
		done = true;
	}
	PG_CATCH();
	{
		clean_up_after(f, context);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	if (done && entry->failures > 0)
		eduai_projections_failing_over(f->projection);
	entry->failures = done ? 0 : entry->failures + 1;
	return done;
}

/* One step of one follower; true when it found something. */
static bool
take_step(const EduaiFollower *f, Entry *entry)
{
	EduaiStep step;

	if (!try_step(f, entry, &step))
	{
		put_off(entry, eduai_core_chores_backoff_ms(entry->failures));
		return false;
	}
	entry->retry_us = 0;
	entry->due = step.outcome == EDUAI_STEP_MORE;
	if (step.outcome == EDUAI_STEP_BUSY)
	{
		/* who helps says when he has done */
		entry->helped = eduai_projections_is_helped(f);
		put_off(entry, entry->helped ? 1000 : BUSY_MS);
	}
	else if (step.outcome == EDUAI_STEP_MORE && step.through - step.scanned > FAR_BEHIND &&
			 eduai_projections_help(f))
	{
		entry->helped = true;
		put_off(entry, 1000);
	}
	return step.looked > 0;
}

/* Lets one that waits for a helper go on as soon as that has ended. */
static bool
is_due(const EduaiFollower *f, Entry *entry, int64 now_us)
{
	if (!entry->due)
		return false;
	if (entry->helped && !eduai_projections_is_helped(f))
		entry->helped = false;
	else if (entry->retry_us > now_us)
		return false;
	else if (entry->helped)
	{
		put_off(entry, 1000);
		return false;
	}
	return true;
}

typedef struct Round
{
	int64 end_us;
	bool stepped; /* somebody was due */
	bool found;   /* somebody found something */
	bool over;    /* the time is up */
} Round;

static void
step_tenant(Tenant *tenant, Round *round)
{
	for (int f = 0; f < nfollows; f++)
		for (int lane = 0; lane < follows[f].lanes; lane++)
		{
			Entry *entry = &tenant->entries[follows[f].first + lane];
			EduaiFollower follower = follower_of(tenant, &follows[f], lane);

			if (!is_due(&follower, entry, eduai_core_mono_us()))
				continue;
			CHECK_FOR_INTERRUPTS();
			round->stepped = true;
			if (take_step(&follower, entry))
				round->found = true;
			if (eduai_core_mono_us() > round->end_us || eduai_core_worker_should_stop())
			{
				round->over = true;
				return;
			}
		}
}

/* A step for each that is due, over and over until nobody is. */
static Round
take_steps(void)
{
	static int turn = 0; /* which tenant is first, so that none waits for ever */
	Round round = {eduai_core_mono_us() + RUN_MS * 1000};

	do
	{
		round.stepped = false;
		for (int i = 0; i < ntenants && !round.over; i++)
		{
			turn = (turn + 1) % ntenants;
			step_tenant(&tenants[turn], &round);
		}
	} while (round.stepped && !round.over);
	return round;
}

/* ---- sleeping ---- */

/* In how many ms the next one is to be tried again; -1: none is. */
static long
next_retry_ms(void)
{
	int64 next = PG_INT64_MAX;

	for (int t = 0; t < ntenants; t++)
		for (int i = 0; i < nentries; i++)
			if (tenants[t].entries[i].due)
				next = Min(next, tenants[t].entries[i].retry_us);
	if (next == PG_INT64_MAX)
		return -1;
	return (long) Max(0, (next - eduai_core_mono_us() + 999) / 1000);
}

/* Marked tenants have been looked at up to "mark". */
static void
settle_marks(int64 mark)
{
	if (mark < awaited)
		return;
	for (int t = 0; t < ntenants; t++)
		tenants[t].marked = false;
}

static long
sooner(long a_ms, long b_ms)
{
	if (a_ms < 0 || b_ms < 0)
		return Max(a_ms, b_ms);
	return Min(a_ms, b_ms);
}

/* Appenders wake it, unless something was marked meanwhile; -1: nobody else needs to. */
static long
fall_asleep(void)
{
	long retry_ms = next_retry_ms();

	if (retry_ms == 0 || nfollows == 0)
		return retry_ms;
	eduai_projections_signal_arm();
	if (eduai_projections_signal_any())
	{
		eduai_projections_signal_disarm();
		return 0;
	}
	return retry_ms;
}

static void
begin_first_run(void)
{
	eduai_projections_signal_attach();
	eduai_projections_helpers_forget();
	eduai_projections_failing_forget();
}

static long
follow(void)
{
	int64 mark;
	long rebuild_ms;
	Round round;

	if (table_context == NULL)
		begin_first_run();
	eduai_projections_signal_disarm();
	(void) eduai_projections_helpers_check();
	look_around();
	rebuild_ms = eduai_projections_rebuild_tend(rebuilt, nrebuilt);
	take_marks();
	/* the draws before the mark: a mark at or beyond them covers all who marked */
	awaited = eduai_events_position_drawn();
	mark = eduai_events_position_peek();
	round = take_steps();
	if (round.over)
		return 0;
	settle_marks(mark);
	return sooner(rebuild_ms, round.found ? PAUSE_MS : fall_asleep());
}

static bool
wanted(void)
{
	return eduai_projections_signal_any() || eduai_projections_helpers_check();
}

void
eduai_projections_followers_init(void)
{
	static const EduaiChore chore = {"projections", follow, wanted};

	eduai_events_chore_register(&chore);
}
