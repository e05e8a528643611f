/*
 * catalog.c: the projections that there are, as a backend remembers them.
 * See catalog.h.
 *
 * Changes invalidate the relcache entry of eduai.projection_generation, which
 * every backend hears of when it next takes a lock: whoever folds inline takes
 * the gate's first (state_table.h), and so folds into the generation that is
 * live from then on.  A list that is replaced is kept to the end of the
 * transaction: somebody further up may be looking at it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/relcache.h"
#include "core/worker.h"
#include "core/xact.h"
#include "events/projector.h"
#include "projections/catalog.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#define MAX_KINDS 3
#define OWN       2 /* of eduai's own */

typedef struct KindEntry
{
	int id;
	const EduaiProjectionKind *kind;
} KindEntry;

typedef struct Catalog
{
	MemoryContext context;
	EduaiProjectionList list;
	struct Catalog *older; /* replaced in this transaction */
} Catalog;

static KindEntry kinds[MAX_KINDS];
static int nkinds = 0;

static Catalog *catalog = NULL;
static bool stale = true;
static Oid generation_relid = InvalidOid;

static const EduaiProjection own[OWN] = {
	{.id = EDUAI_PROJECTION_PROGRESS,
	 .name = "progress",
	 .key = EDUAI_KEY_USER,
	 .is_inline = true,
	 .lanes = 1,
	 .live = 1},
	{.id = EDUAI_PROJECTION_MODEL,
	 .name = "learner_model",
	 .key = EDUAI_KEY_USER,
	 .lanes = 1,
	 .live = 1},
};

void
eduai_projections_kind_register(int id, const EduaiProjectionKind *kind)
{
	if (nkinds >= MAX_KINDS)
		elog(FATAL, "too many kinds of projections");
	kinds[nkinds++] = (KindEntry){id, kind};
}

static const EduaiProjectionKind *
kind_of(int id)
{
	for (int i = 0; i < nkinds; i++)
		if (kinds[i].id == id)
			return kinds[i].kind;
	return NULL;
}

const EduaiProjectionKind *
eduai_projections_kind(int projection)
{
	return kind_of(projection >= EDUAI_PROJECTION_USERS ? 0 : projection);
}

static void
on_relcache(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == generation_relid)
		stale = true;
}

static void
drop_older(void)
{
	while (catalog != NULL && catalog->older != NULL)
	{
		Catalog *old = catalog->older;

		catalog->older = old->older;
		MemoryContextDelete(old->context);
	}
}

/* ---- loading ---- */

static EduaiProjectionKey
key_named(const char *name)
{
	if (strcmp(name, "stream") == 0)
		return EDUAI_KEY_STREAM;
	return strcmp(name, "session_id") == 0 ? EDUAI_KEY_SESSION : EDUAI_KEY_USER;
}

static const char **
read_types(uint64 row, int column, int *n)
{
	bool isnull;
	Datum array = eduai_core_value(row, column, &isnull);
	const char **names;
	Datum *values;

	*n = 0;
	if (isnull)
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &values, NULL,
					  n);
	names = palloc(sizeof(char *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		names[i] = TextDatumGetCString(values[i]);
	return names;
}

/* What can be altered: the five columns from "first" on. */
static void
read_definition(uint64 row, int first, EduaiProjection *p)
{
	bool isnull;

	p->schema_version = (int) eduai_core_int64(row, first, 1);
	p->initial = DatumGetJsonbPCopy(eduai_core_value(row, first + 1, &isnull));
	p->event_types = read_types(row, first + 2, &p->ntypes);
	p->reducer = pstrdup(eduai_core_text(row, first + 3));
	p->role = pstrdup(eduai_core_text(row, first + 4));
}

/* Alterations that are not live yet stand beside the projection. */
static void
read_altered(uint64 row, EduaiProjection *p)
{
	EduaiProjection *altered;

	p->altered_from = (int) eduai_core_int64(row, 14, 0);
	if (p->altered_from == 0)
		return;
	if (p->live >= p->altered_from)
	{
		read_definition(row, 15, p);
		return;
	}
	altered = palloc(sizeof(EduaiProjection));
	*altered = *p;
	read_definition(row, 15, altered);
	p->altered = altered;
}

/* In the catalogue's context; the columns are those of the statement in load(). */
static void
read_row(uint64 row, EduaiProjection *p)
{
	p->id = (int) eduai_core_int64(row, 1, 0);
	p->lanes = (int) eduai_core_int64(row, 2, 1);
	p->name = pstrdup(eduai_core_text(row, 3));
	p->key = key_named(eduai_core_text(row, 4));
	p->is_inline = strcmp(eduai_core_text(row, 5), "inline") == 0;
	p->raises = strcmp(eduai_core_text(row, 6), "raise") == 0;
	p->live = (int) eduai_core_int64(row, 7, 0);
	p->next = (int) eduai_core_int64(row, 8, 0);
	p->kind = kind_of(0);
	read_definition(row, 9, p);
	read_altered(row, p);
}

static EduaiProjection *
read_own(EduaiProjection *p)
{
	for (int i = 0; i < OWN; i++)
		if (kind_of(own[i].id) != NULL)
		{
			*p = own[i];
			p->kind = kind_of(own[i].id);
			p++;
		}
	return p;
}

static void
read_own_generations(EduaiProjection *list, const EduaiProjection *end)
{
	static EduaiPlan read = {"SELECT projection, live, next FROM eduai.projection_generation"
							 " WHERE projection < 100",
							 0};
	uint64 n = eduai_core_run_latest(&read, NULL, NULL);

	for (uint64 row = 0; row < n; row++)
		for (EduaiProjection *p = list; p < end; p++)
			if (p->id == eduai_core_int64(row, 1, 0))
			{
				p->live = (int) eduai_core_int64(row, 2, 1);
				p->next = (int) eduai_core_int64(row, 3, 0);
			}
}

static void
load_into(Catalog *into)
{
	static EduaiPlan read = {
		"SELECT p.projection, p.lanes, p.name, p.key, p.mode, p.on_error, g.live, g.next,"
		" p.schema_version, p.initial, p.event_types, p.reducer, p.role::text,"
		" a.generation, a.schema_version, a.initial, a.event_types, a.reducer, a.role::text"
		" FROM eduai.projection p JOIN eduai.projection_generation g USING (projection)"
		" LEFT JOIN eduai.projection_altered a USING (projection)"
		" ORDER BY p.projection",
		0};
	uint64 n = eduai_core_run_latest(&read, NULL, NULL);
	MemoryContext old = MemoryContextSwitchTo(into->context);
	EduaiProjection *list = palloc0(sizeof(EduaiProjection) * (n + OWN));
	EduaiProjection *p = read_own(list);
	EduaiProjection *users = p;

	for (uint64 row = 0; row < n; row++, p++)
	{
		read_row(row, p);
		into->list.any_async = into->list.any_async || !p->is_inline || p->next != 0;
	}
	into->list.projections = list;
	into->list.n = (int) (p - list);
	MemoryContextSwitchTo(old);
	read_own_generations(list, users);
}

static void
load(void)
{
	MemoryContext context =
		AllocSetContextCreate(CacheMemoryContext, "eduai projections", ALLOCSET_SMALL_SIZES);
	Catalog *loaded = MemoryContextAllocZero(context, sizeof(Catalog));
	EduaiPrivilege saved;

	loaded->context = context;
	/* an invalidation that comes meanwhile asks for another load */
	stale = false;
	PG_TRY();
	{
		generation_relid = get_relname_relid("projection_generation", eduai_core_schema());
		eduai_core_enter(&saved);
		SPI_connect();
		load_into(loaded);
		SPI_finish();
		eduai_core_leave(&saved);
	}
	PG_CATCH();
	{
		stale = true;
		MemoryContextDelete(context);
		PG_RE_THROW();
	}
	PG_END_TRY();
	loaded->older = catalog;
	catalog = loaded;
}

const EduaiProjectionList *
eduai_projections_all(void)
{
	if (stale)
		load();
	return &catalog->list;
}

/* ---- looking ---- */

const EduaiProjection *
eduai_projections_find(const char *name)
{
	const EduaiProjectionList *all = eduai_projections_all();

	for (int i = 0; i < all->n; i++)
		if (strcmp(all->projections[i].name, name) == 0)
			return &all->projections[i];
	return NULL;
}

const EduaiProjection *
eduai_projections_by_id(int id)
{
	const EduaiProjectionList *all = eduai_projections_all();

	for (int i = 0; i < all->n; i++)
		if (all->projections[i].id == id)
			return &all->projections[i];
	return NULL;
}

bool
eduai_projections_is_own(const char *name)
{
	for (int i = 0; i < OWN; i++)
		if (strcmp(own[i].name, name) == 0)
			return true;
	return false;
}

const EduaiProjection *
eduai_projections_as_of(const EduaiProjection *projection, int generation)
{
	if (projection->altered != NULL && generation >= projection->altered_from)
		return projection->altered;
	return projection;
}

const char *
eduai_projections_key(const EduaiProjection *projection, const EduaiEvent *event)
{
	switch (projection->key)
	{
		case EDUAI_KEY_USER:
			return event->user_id;
		case EDUAI_KEY_STREAM:
			return event->stream;
		case EDUAI_KEY_SESSION:
			return event->session_id;
	}
	return NULL;
}

bool
eduai_projections_wants(const EduaiProjection *projection, const EduaiEvent *event)
{
	if (eduai_projections_key(projection, event) == NULL)
		return false;
	if (projection->event_types == NULL)
		return true;
	for (int i = 0; i < projection->ntypes; i++)
		if (strcmp(projection->event_types[i], event->event_type) == 0)
			return true;
	return false;
}

void
eduai_projections_forget(void)
{
	CacheInvalidateRelcacheByRelid(get_relname_relid("projection_generation", eduai_core_schema()));
	stale = true;
	eduai_events_projector_reconfigure_at_commit();
}

void
eduai_projections_refresh(void)
{
	if (eduai_core_worker_reconfigured())
		stale = true;
}

static void
on_end(void)
{
	drop_older();
}

/* What a transaction that failed had changed is not so. */
static void
on_abort(void)
{
	drop_older();
	stale = true;
}

void
eduai_projections_catalog_init(void)
{
	static const EduaiXactHooks hooks = {.name = "projections",
										 .rank = EDUAI_RANK_PROJECTIONS,
										 .commit = on_end,
										 .abort = on_abort,
										 .prepare = on_end};

	eduai_core_relcache_register(on_relcache);
	eduai_core_xact_register(&hooks);
}
