/*
 * requirement.c: what a backend remembers of eduai.consent_requirement; see
 * consent.h.
 *
 * All of it, in a hash table by tenant and subject.  require_consent()
 * invalidates the table's relcache entry, and so marks the cache as stale in
 * every backend, at commit; the backend that calls it is told at once, and
 * again if it rolls back.  An invalidation can come at any access to a catalog:
 * it only marks.
 *
 * Caveat: rows written by other means, as by a restore, reach sessions that
 * have loaded before only with the next invalidation.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/relcache.h"
#include "executor/spi.h"
#include "privacy/consent.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#define TABLE "consent_requirement"

typedef struct Entry
{
	const ConsentRequirement *first; /* the key: its tenant and subject */
} Entry;

static MemoryContext context = NULL;
static HTAB *entries = NULL;
static int nrequirements = 0;
static bool stale = true;
static Oid relid_of_table = InvalidOid;

static void
on_relcache(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == relid_of_table)
		stale = true;
}

static uint32
hash_entry(const void *key, Size keysize)
{
	const ConsentRequirement *r = ((const Entry *) key)->first;

	return hash_combine(hash_bytes((const unsigned char *) r->tenant, (int) strlen(r->tenant)),
						hash_bytes((const unsigned char *) r->subject, (int) strlen(r->subject)));
}

static int
match_entry(const void *a, const void *b, Size keysize)
{
	const ConsentRequirement *x = ((const Entry *) a)->first;
	const ConsentRequirement *y = ((const Entry *) b)->first;

	return strcmp(x->subject, y->subject) != 0 || strcmp(x->tenant, y->tenant) != 0;
}

static HTAB *
make_table(MemoryContext in)
{
	HASHCTL control = {.keysize = sizeof(Entry),
					   .entrysize = sizeof(Entry),
					   .hash = hash_entry,
					   .match = match_entry,
					   .hcxt = in};

	return hash_create("eduai consent requirements", 32, &control,
					   HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

static void
add(HTAB *to, MemoryContext in, uint64 row)
{
	ConsentRequirement *r = MemoryContextAllocZero(in, sizeof(ConsentRequirement));
	Entry key = {r};
	Entry *entry;
	bool isnull;
	bool found;

	r->tenant = MemoryContextStrdup(in, eduai_core_text(row, 1));
	r->subject = MemoryContextStrdup(in, eduai_core_text(row, 2));
	r->purpose = MemoryContextStrdup(in, eduai_core_text(row, 3));
	r->redact = DatumGetBool(eduai_core_value(row, 4, &isnull));
	entry = hash_search(to, &key, HASH_ENTER, &found);
	if (found)
	{
		r->next = entry->first->next;
		/* the key stays the one that hashed */
		((ConsentRequirement *) entry->first)->next = r;
	}
}

static int
load_into(MemoryContext in, HTAB *to)
{
	static EduaiPlan all = {"SELECT tenant_id, subject, purpose, on_missing = 'redact'"
							" FROM eduai.consent_requirement ORDER BY tenant_id, subject, purpose",
							0};
	EduaiPrivilege saved;
	uint64 n;

	relid_of_table = get_relname_relid(TABLE, eduai_core_schema());
	eduai_core_enter(&saved);
	SPI_connect();
	n = eduai_core_run_latest(&all, NULL, NULL);
	for (uint64 i = 0; i < n; i++)
		add(to, in, i);
	SPI_finish();
	eduai_core_leave(&saved);
	return (int) n;
}

/* An invalidation that comes meanwhile asks for another load. */
static void
load(void)
{
	MemoryContext in =
		AllocSetContextCreate(TopMemoryContext, "eduai consent", ALLOCSET_SMALL_SIZES);
	HTAB *to = make_table(in);
	int n;

	stale = false;
	PG_TRY();
	{
		n = load_into(in, to);
	}
	PG_CATCH();
	{
		stale = true;
		MemoryContextDelete(in);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (context != NULL)
		MemoryContextDelete(context);
	context = in;
	entries = to;
	nrequirements = n;
}

bool
eduai_privacy_requires_consent(void)
{
	/* a prepared call in an open transaction may take no lock that would do it */
	AcceptInvalidationMessages();
	if (stale)
		load();
	return nrequirements > 0;
}

const ConsentRequirement *
eduai_privacy_requirements(const char *tenant, const char *subject)
{
	ConsentRequirement wanted = {.tenant = (char *) tenant, .subject = (char *) subject};
	Entry key = {&wanted};
	const Entry *entry;

	if (!eduai_privacy_requires_consent())
		return NULL;
	entry = hash_search(entries, &key, HASH_FIND, NULL);
	return entry ? entry->first : NULL;
}

void
eduai_privacy_requirements_forget(void)
{
	CacheInvalidateRelcacheByRelid(get_relname_relid(TABLE, eduai_core_schema()));
	stale = true;
}

void
eduai_privacy_requirements_init(void)
{
	eduai_core_relcache_register(on_relcache);
}
