/*
 * event_type_cache.c: what a backend remembers of the registered event types.
 * See event_type_cache.h.
 *
 * One load reads what is small of all types, the built-in ones too: a name that
 * is not in the hash table is then known to be of neither, however many names an
 * application makes up.  JSON Schemas are read one by one, when an event of
 * the type is first appended.
 *
 * Registering invalidates the relcache entry of eduai.event_type_registration,
 * and so marks the cache as stale in every backend, at commit; the backend
 * that registers is told at once, and again if it rolls back.  An
 * invalidation can arrive at any access to a catalog: it only marks.  The
 * next find() loads a new cache, and drops the old one unless an upcaster
 * that runs further up the stack still uses it; then a later load drops it.
 *
 * Caveat: rows written by other means, as by a restore, reach sessions that
 * have loaded before only with the next invalidation.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/relcache.h"
#include "events/event_type_cache.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

typedef struct TypeCache
{
	MemoryContext context; /* of the cache and all it holds, but for the plans */
	HTAB *types;
	struct TypeCache *older; /* still in use when it was replaced */
} TypeCache;

static TypeCache *cache = NULL;
static bool stale = true;
static int pins = 0;
static Oid registration_relid = InvalidOid;

static void
on_relcache(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == registration_relid)
		stale = true;
}

void
eduai_events_type_cache_init(void)
{
	eduai_core_relcache_register(on_relcache);
}

static uint32
hash_name(const void *key, Size keysize)
{
	const EventTypeName *name = key;

	return hash_bytes((const unsigned char *) name->text, (int) name->length);
}

static int
match_name(const void *a, const void *b, Size keysize)
{
	const EventTypeName *x = a;
	const EventTypeName *y = b;

	return x->length != y->length ? 1 : memcmp(x->text, y->text, x->length);
}

static TypeCache *
make_cache(void)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "eduai event types", ALLOCSET_SMALL_SIZES);
	TypeCache *made = MemoryContextAllocZero(context, sizeof(TypeCache));
	HASHCTL control = {.keysize = sizeof(EventTypeName),
					   .entrysize = sizeof(EventType),
					   .hash = hash_name,
					   .match = match_name,
					   .hcxt = context};

	made->context = context;
	made->types = hash_create("eduai event types", 32, &control,
							  HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	return made;
}

static void
drop_cache(TypeCache *old)
{
	HASH_SEQ_STATUS scan;
	EventType *type;

	hash_seq_init(&scan, old->types);
	while ((type = hash_seq_search(&scan)) != NULL)
		for (int i = 0; i < type->nsteps; i++)
			if (type->steps[i].plan)
				SPI_freeplan(type->steps[i].plan);
	MemoryContextDelete(old->context);
}

/* Of the row of load_types(). */
static void
load_sensitive(TypeCache *into, EventType *type, uint64 row)
{
	Datum *fields;
	bool *nulls;
	bool isnull;
	Datum array = eduai_core_value(row, 4, &isnull);

	type->sensitive = NULL;
	type->nsensitive = 0;
	if (isnull)
		return;
	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &fields, &nulls,
					  &type->nsensitive);
	type->sensitive = MemoryContextAlloc(into->context, sizeof(char *) * (type->nsensitive + 1));
	for (int i = 0; i < type->nsensitive; i++)
		type->sensitive[i] =
			MemoryContextStrdup(into->context, nulls[i] ? "" : TextDatumGetCString(fields[i]));
}

static void
load_types(TypeCache *into)
{
	static EduaiPlan all = {"SELECT event_type, schema_version, json_schema IS NOT NULL,"
							" nullif(sensitive_fields, '{}') FROM eduai.event_type",
							0};
	uint64 n = eduai_core_run_latest(&all, NULL, NULL);

	for (uint64 i = 0; i < n; i++)
	{
		char *text = MemoryContextStrdup(into->context, eduai_core_text(i, 1));
		EventTypeName name = {text, strlen(text)};
		EventType *type = hash_search(into->types, &name, HASH_ENTER, NULL);
		bool isnull;

		type->schema_version = (int) eduai_core_int64(i, 2, 1);
		type->has_schema = DatumGetBool(eduai_core_value(i, 3, &isnull));
		type->schema = NULL;
		type->steps = NULL;
		type->nsteps = 0;
		load_sensitive(into, type, i);
	}
}

/* Of types that are not registered, upcasters have nothing to do yet. */
static void
load_steps(TypeCache *into)
{
	static EduaiPlan all = {
		"SELECT u.event_type, u.from_version, u.upcaster, u.registrant,"
		" (pg_catalog.count(*) OVER (PARTITION BY u.event_type))::int"
		" FROM eduai.event_upcaster u"
		" JOIN eduai.event_type_registration r ON r.event_type = u.event_type"
		" WHERE u.from_version < r.schema_version ORDER BY u.event_type, u.from_version",
		0};
	uint64 n = eduai_core_run_latest(&all, NULL, NULL);

	for (uint64 i = 0; i < n; i++)
	{
		char *text = eduai_core_text(i, 1);
		EventTypeName name = {text, strlen(text)};
		EventType *type = hash_search(into->types, &name, HASH_FIND, NULL);

		/* registered by another session after the types were read: it will invalidate */
		if (type == NULL)
			continue;
		if (type->steps == NULL)
			type->steps =
				MemoryContextAlloc(into->context, sizeof(UpcastStep) * eduai_core_int64(i, 5, 0));
		type->steps[type->nsteps++] = (UpcastStep){
			.from_version = (int) eduai_core_int64(i, 2, 0),
			.function = MemoryContextStrdup(into->context, eduai_core_text(i, 3)),
			.registrant = MemoryContextStrdup(into->context, eduai_core_text(i, 4)),
		};
	}
}

/* Reads the tables as the owner; an invalidation that comes meanwhile asks for another load. */
static void
load_into(TypeCache *into)
{
	EduaiPrivilege saved;

	stale = false;
	PG_TRY();
	{
		registration_relid = get_relname_relid("event_type_registration", eduai_core_schema());
		eduai_core_enter(&saved);
		SPI_connect();
		load_types(into);
		load_steps(into);
		SPI_finish();
		eduai_core_leave(&saved);
	}
	PG_CATCH();
	{
		stale = true;
		MemoryContextDelete(into->context);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

static void
load(void)
{
	TypeCache *loaded = make_cache();

	load_into(loaded);
	loaded->older = cache;
	cache = loaded;
	while (pins == 0 && cache->older != NULL)
	{
		TypeCache *old = cache->older;

		cache->older = old->older;
		drop_cache(old);
	}
}

EventType *
eduai_events_type_find(const char *text, size_t length)
{
	EventTypeName name = {text, length};

	if (stale)
		load();
	return hash_search(cache->types, &name, HASH_FIND, NULL);
}

void
eduai_events_type_pin(void)
{
	pins++;
}

void
eduai_events_type_unpin(void)
{
	pins--;
}

void
eduai_events_type_forget(void)
{
	CacheInvalidateRelcacheByRelid(
		get_relname_relid("event_type_registration", eduai_core_schema()));
	stale = true;
}

const Jsonb *
eduai_events_type_schema(EventType *type)
{
	static EduaiPlan one = {"SELECT json_schema, schema_version"
							" FROM eduai.event_type_registration WHERE event_type = $1",
							1,
							{TEXTOID}};
	EduaiPrivilege saved;
	Datum args[1] = {PointerGetDatum(cstring_to_text_with_len(type->name.text, type->name.length))};
	MemoryContext context = GetMemoryChunkContext((void *) type->name.text);

	if (type->schema != NULL || !type->has_schema)
		return type->schema;
	eduai_core_enter(&saved);
	SPI_connect();
	if (eduai_core_run_latest(&one, args, NULL) == 1)
	{
		bool isnull;
		Datum schema = eduai_core_value(0, 1, &isnull);

		type->has_schema = !isnull;
		type->schema_version = (int) eduai_core_int64(0, 2, 1);
		if (!isnull)
		{
			MemoryContext old = MemoryContextSwitchTo(context);

			type->schema = DatumGetJsonbPCopy(schema);
			MemoryContextSwitchTo(old);
		}
	}
	SPI_finish();
	eduai_core_leave(&saved);
	return type->schema;
}
