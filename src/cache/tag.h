/*
 * tag.h: a value's dependencies on its tags.
 *
 * Each tag is two: the tag as rows of watched tables carry it, whatever tenant
 * they are of (eduai_cache_dep_tag()), and the tenant's own, which
 * cache_delete_tag() writes, so that it leaves other tenants' values alone.
 */
#ifndef EDUAI_CACHE_TAG_H
#define EDUAI_CACHE_TAG_H

#include "postgres.h"
#include "cache/validity.h"

extern uint64 eduai_cache_tag_of_tenant(Oid database, const char *tenant, const char *tag);

/* Adds both; false when there is no room. */
extern bool eduai_cache_tag_add(CacheDeps *deps, Oid database, const char *tenant, const char *tag);

#endif
