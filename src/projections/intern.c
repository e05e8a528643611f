/*
 * intern.c: names by dense numbers.  See intern.h.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "projections/intern.h"
#include "utils/memutils.h"

typedef struct NameEntry
{
	const char *name;
	uint32 hash;
	uint32 number;
	char status;
} NameEntry;

#define SH_PREFIX            names
#define SH_ELEMENT_TYPE      NameEntry
#define SH_KEY_TYPE          const char *
#define SH_KEY               name
#define SH_HASH_KEY(tb, key) hash_bytes((const unsigned char *) (key), (int) strlen(key))
#define SH_EQUAL(tb, a, b)   (strcmp(a, b) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE           static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct EduaiIntern
{
	MemoryContext context;
	names_hash *table;
	const char **names; /* by number */
	uint32 n;
	uint32 size;
};

EduaiIntern *
eduai_projections_intern_create(void)
{
	EduaiIntern *intern = palloc0_object(EduaiIntern);

	intern->context = CurrentMemoryContext;
	intern->table = names_create(CurrentMemoryContext, 64, NULL);
	intern->size = 64;
	intern->names = palloc_array(const char *, intern->size);
	return intern;
}

uint32
eduai_projections_intern(EduaiIntern *intern, const char *name)
{
	NameEntry *entry = names_lookup(intern->table, name);
	bool found;

	if (entry != NULL)
		return entry->number;
	if (intern->n == intern->size)
	{
		intern->size *= 2;
		intern->names = repalloc_huge(intern->names, sizeof(const char *) * (Size) intern->size);
	}
	name = MemoryContextStrdup(intern->context, name);
	entry = names_insert(intern->table, name, &found);
	entry->number = intern->n;
	intern->names[intern->n] = name;
	return intern->n++;
}

const char *
eduai_projections_interned(const EduaiIntern *intern, uint32 number)
{
	return intern->names[number];
}

uint32
eduai_projections_interned_count(const EduaiIntern *intern)
{
	return intern->n;
}
