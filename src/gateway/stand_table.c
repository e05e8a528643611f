/*
 * stand_table.c: where the instances' entries are.  See stand.h.
 *
 * A fixed table in shared memory (eduai.instance_slots), found by hash: the
 * hashes are an array of their own, so that a search touches few cache lines.
 * An entry is looked for from its home slot on, all the way round: a slot that
 * was freed ends no search, and nothing has to be moved.
 *
 * Locking: one LWLock for everything.  A search needs it shared, any write
 * exclusively.  Entries of this process's own need none; they are looked for
 * where the table has nothing.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "common/hashfn.h"
#include "core/shmem.h"
#include "gateway/stand_internal.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"

typedef struct StandTable
{
	int slots;
	int used;
	int64 refused;  /* how often an entry was wanted and there was no room */
	uint32 *hashes; /* 0: free */
	Stand *stands;
} StandTable;

typedef struct OwnStand
{
	struct OwnStand *next;
	Stand stand;
} OwnStand;

static StandTable *table = NULL;
static LWLockPadded *locks = NULL;
static OwnStand *own = NULL;
static int slots = 256;

/* ---- shared memory ---- */

static Size
table_size(void)
{
	Size size = add_size(MAXALIGN(sizeof(StandTable)), MAXALIGN(mul_size(slots, sizeof(uint32))));

	return add_size(size, mul_size(slots, sizeof(Stand)));
}

static void
table_create(void *ptr)
{
	StandTable *t = ptr;

	memset(ptr, 0, table_size());
	t->slots = slots;
	t->hashes = (uint32 *) ((char *) ptr + MAXALIGN(sizeof(StandTable)));
	t->stands = (Stand *) ((char *) t->hashes + MAXALIGN(slots * sizeof(uint32)));
}

void
eduai_gateway_stand_table_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_gateway",
										.size = table_size,
										.init = table_create,
										.nlocks = 1,
										.address = (void **) &table,
										.locks = &locks};

	DefineCustomIntVariable(
		"eduai.instance_slots",
		"How many instances of all databases have their state in shared memory.",
		"About 3 kB each. Where there are more, the state of those is the dispatcher's own: "
		"calls are balanced and limited all the same, instance_status shows them without it.",
		&slots, 256, 1, 65536,
		/* a library that is not preloaded may define nothing for the start */
		process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP, 0, NULL, NULL,
		NULL);
	eduai_core_shmem_register(&part);
}

void
eduai_gateway_stand_lock(LWLockMode mode)
{
	if (table != NULL)
		LWLockAcquire(&locks->lock, mode);
}

void
eduai_gateway_stand_unlock(void)
{
	if (table != NULL)
		LWLockRelease(&locks->lock);
}

/* ---- finding ---- */

static uint32
hash_of(Oid database, const char *name)
{
	uint32 hash = hash_combine(murmurhash32(database),
							   hash_bytes((const unsigned char *) name, strlen(name)));

	return hash != 0 ? hash : 1;
}

static uint32
identity_of(const Instance *instance)
{
	const char *parts[] = {instance->provider->name, instance->provider->base_url, instance->model};
	uint32 hash = 0;

	for (int i = 0; i < lengthof(parts); i++)
		hash = hash_combine(hash, hash_bytes((const unsigned char *) parts[i], strlen(parts[i])));
	return hash;
}

static bool
is_of(const Stand *stand, Oid database, const char *name)
{
	return stand->database == database && strcmp(stand->name, name) == 0;
}

/* the slot, -1: none */
static int
slot_of(Oid database, const char *name, uint32 hash)
{
	int slot = hash % table->slots;

	for (int k = 0; k < table->slots; k++)
	{
		if (table->hashes[slot] == hash && is_of(&table->stands[slot], database, name))
			return slot;
		if (++slot == table->slots)
			slot = 0;
	}
	return -1;
}

static Stand *
find_own(const char *name)
{
	for (OwnStand *o = own; o != NULL; o = o->next)
		if (is_of(&o->stand, MyDatabaseId, name))
			return &o->stand;
	return NULL;
}

static Stand *
find(const char *name)
{
	int slot = table != NULL ? slot_of(MyDatabaseId, name, hash_of(MyDatabaseId, name)) : -1;

	return slot >= 0 ? &table->stands[slot] : find_own(name);
}

Stand *
eduai_gateway_stand_find(const Instance *instance)
{
	return find(instance->name);
}

/* ---- making ---- */

static void
start(Stand *stand, const Instance *instance)
{
	memset(stand, 0, sizeof(*stand));
	stand->database = MyDatabaseId;
	strlcpy(stand->name, instance->name, sizeof(stand->name));
	stand->identity = identity_of(instance);
}

/* Another provider, URL or model: what was learnt is of another one. */
static void
recognise(Stand *stand, const Instance *instance)
{
	uint32 identity = identity_of(instance);

	stand->gone = false;
	if (stand->identity == identity)
		return;
	stand->identity = identity;
	memset(&stand->breaker, 0, sizeof(stand->breaker));
	memset(&stand->stats, 0, sizeof(stand->stats));
	memset(&stand->totals, 0, sizeof(stand->totals));
	stand->health = HEALTH_UNKNOWN;
	stand->checked_us = 0;
	stand->last_error[0] = '\0';
	eduai_gateway_headroom_forget_reports(&stand->headroom);
}

bool
eduai_gateway_stand_is_same(const Stand *stand, const Instance *instance)
{
	return stand->identity == identity_of(instance);
}

/* a free slot near the hash's home; -1: none */
static int
free_slot(uint32 hash)
{
	for (int k = 0; k < table->slots; k++)
		if (table->hashes[(hash + k) % table->slots] == 0)
			return (hash + k) % table->slots;
	return -1;
}

static Stand *
take_slot(const char *name)
{
	uint32 hash = hash_of(MyDatabaseId, name);
	int slot = table->used < table->slots ? free_slot(hash) : -1;

	if (slot < 0)
	{
		table->refused++;
		return NULL;
	}
	table->hashes[slot] = hash;
	table->used++;
	return &table->stands[slot];
}

Stand *
eduai_gateway_stand_make(const Instance *instance)
{
	Stand *stand = find(instance->name);

	if (stand == NULL && table != NULL)
	{
		stand = take_slot(instance->name);
		if (stand != NULL)
			start(stand, instance);
	}
	if (stand != NULL)
		recognise(stand, instance);
	return stand;
}

Stand *
eduai_gateway_stand_make_own(const Instance *instance)
{
	OwnStand *o = MemoryContextAllocZero(TopMemoryContext, sizeof(OwnStand));

	start(&o->stand, instance);
	o->next = own;
	own = o;
	return &o->stand;
}

bool
eduai_gateway_stand_copy(const Instance *instance, Stand *copy)
{
	const Stand *stand;

	memset(copy, 0, sizeof(*copy));
	eduai_gateway_stand_lock(LW_SHARED);
	stand = find(instance->name);
	if (stand != NULL)
		*copy = *stand;
	eduai_gateway_stand_unlock();
	return stand != NULL;
}

/* ---- making room ---- */

void
eduai_gateway_stand_free(Stand *stand)
{
	if (table == NULL || stand < table->stands || stand >= table->stands + table->slots)
		return;
	table->hashes[stand - table->stands] = 0;
	table->used--;
}

void
eduai_gateway_stand_each(Oid database, void (*visit)(Stand *stand, void *arg), void *arg)
{
	for (int slot = 0; table != NULL && slot < table->slots; slot++)
		if (table->hashes[slot] != 0 &&
			(database == InvalidOid || table->stands[slot].database == database))
			visit(&table->stands[slot], arg);
	if (database == InvalidOid || database == MyDatabaseId)
		for (OwnStand *o = own; o != NULL; o = o->next)
			visit(&o->stand, arg);
}

static const Instance *
instance_of(const Fleet *fleet, const char *name)
{
	for (int i = 0; i < fleet->ninstances; i++)
		if (strcmp(fleet->instances[i].name, name) == 0)
			return &fleet->instances[i];
	return NULL;
}

static void
keep_one(Stand *stand, void *arg)
{
	const Instance *instance = instance_of(arg, stand->name);

	if (instance != NULL)
		recognise(stand, instance);
	else if (stand->in_flight == 0)
		eduai_gateway_stand_free(stand);
	else
		stand->gone = true;
}

/*
 * Own entries move where there is room now, and end where nothing needs them.
 * Returns those that are to be freed, once the lock is.
 */
static OwnStand *
keep_own(const Fleet *fleet)
{
	OwnStand **link = &own;
	OwnStand *ended = NULL;

	while (*link != NULL)
	{
		OwnStand *o = *link;
		bool done = o->stand.in_flight == 0 && instance_of(fleet, o->stand.name) == NULL;

		if (!done && table != NULL && table->used < table->slots)
		{
			*take_slot(o->stand.name) = o->stand;
			done = true;
		}
		if (done)
		{
			*link = o->next;
			o->next = ended;
			ended = o;
		}
		else
			link = &o->next;
	}
	return ended;
}

typedef struct Databases
{
	Oid *oids;
	int n;
	int room;
} Databases;

static void
note_database(Stand *stand, void *arg)
{
	Databases *d = arg;

	if (stand->database == MyDatabaseId)
		return;
	for (int i = 0; i < d->n; i++)
		if (d->oids[i] == stand->database)
			return;
	if (d->n < d->room)
		d->oids[d->n++] = stand->database;
}

static void
forget_database(Stand *stand, void *arg)
{
	eduai_gateway_stand_free(stand);
}

static void
forget_dropped_databases(void)
{
	Databases d = {.room = slots};

	d.oids = palloc(sizeof(Oid) * slots);
	eduai_gateway_stand_lock(LW_SHARED);
	eduai_gateway_stand_each(InvalidOid, note_database, &d);
	eduai_gateway_stand_unlock();
	for (int i = 0; i < d.n; i++)
	{
		if (get_database_name(d.oids[i]) != NULL)
			continue;
		eduai_gateway_stand_lock(LW_EXCLUSIVE);
		eduai_gateway_stand_each(d.oids[i], forget_database, NULL);
		eduai_gateway_stand_unlock();
	}
	pfree(d.oids);
}

void
eduai_gateway_stand_keep(const Fleet *fleet)
{
	OwnStand *ended;
	OwnStand *next;

	if (table != NULL)
		forget_dropped_databases();
	eduai_gateway_stand_lock(LW_EXCLUSIVE);
	eduai_gateway_stand_each(MyDatabaseId, keep_one, (void *) fleet);
	ended = keep_own(fleet);
	eduai_gateway_stand_unlock();
	for (OwnStand *o = ended; o != NULL; o = next)
	{
		next = o->next;
		pfree(o);
	}
}

void
eduai_gateway_stand_room(int *total, int *used, int64 *refused)
{
	*total = table != NULL ? table->slots : 0;
	*used = table != NULL ? table->used : 0;
	*refused = table != NULL ? table->refused : 0;
}
