/*
 * tag.c: a value's dependencies on its tags.  See tag.h.
 */
#include "postgres.h"

#include "cache/tag.h"
#include "common/hashfn.h"

/* The lowest bits, which say what kind of dependency it is, are a table's: it has no family. */
#define KIND_BITS UINT64CONST(3)

uint64
eduai_cache_tag_of_tenant(Oid database, const char *tenant, const char *tag)
{
	uint64 of_tenant = hash_bytes_extended((const unsigned char *) tenant, (int) strlen(tenant),
										   (uint64) database << 1 | 1);

	return hash_bytes_extended((const unsigned char *) tag, (int) strlen(tag), of_tenant) &
		   ~KIND_BITS;
}

bool
eduai_cache_tag_add(CacheDeps *deps, Oid database, const char *tenant, const char *tag)
{
	return eduai_cache_deps_add(deps, eduai_cache_dep_tag(database, tenant, tag)) &&
		   eduai_cache_deps_add(deps, eduai_cache_tag_of_tenant(database, tenant, tag));
}
