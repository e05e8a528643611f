/*
 * store_log.c: what was deleted lately, for values that come after.
 *
 * Sets of three deletions by hash, and a ring of patterns.  What is pushed out
 * leaves a horizon behind: until it is passed, more is refused than need be,
 * never less.
 */
#include "postgres.h"

#include "cache/store_internal.h"
#include "mb/pg_wchar.h"

static CacheDeletionSet *
set_of(uint64 what)
{
	return &eduai_cache_shared->log[(what >> 32) & (eduai_cache_shared->nlog - 1)];
}

static uint64
later(uint64 a, uint64 b)
{
	return Max(a, b);
}

void
eduai_cache_log_deletion(uint64 what, const CacheStamp *stamp)
{
	CacheDeletionSet *set = set_of(what);
	CacheDeletion *place = NULL;

	for (int i = 0; i < CACHE_LOG_WAYS && place == NULL; i++)
		if (set->last[i].what == what && eduai_cache_stamp_implies(stamp, &set->last[i].stamp))
			place = &set->last[i];
	for (int i = 0; i < CACHE_LOG_WAYS && place == NULL; i++)
		if (set->last[i].what == 0)
			place = &set->last[i];
	if (place == NULL)
	{
		place = &set->last[set->turn++ % CACHE_LOG_WAYS];
		set->lost = later(set->lost, eduai_cache_stamp_horizon(&place->stamp));
	}
	*place = (CacheDeletion){what, *stamp};
}

void
eduai_cache_log_pattern(Oid database, const char *tenant, const char *pattern, bool queries,
						const CacheStamp *stamp)
{
	CachePatternDeletion *place =
		&eduai_cache_shared->patterns[eduai_cache_shared->pattern_turn++ % CACHE_PATTERNS];

	if (OidIsValid(place->database))
		eduai_cache_shared->pattern_lost =
			later(eduai_cache_shared->pattern_lost, eduai_cache_stamp_horizon(&place->stamp));
	place->database = database;
	strlcpy(place->tenant, tenant, NAMEDATALEN);
	/* what is cut off matches anything: more is refused */
	if (strlcpy(place->pattern, pattern, CACHE_PATTERN_TEXT) >= CACHE_PATTERN_TEXT)
		place->pattern[CACHE_PATTERN_TEXT - 2] = '*';
	place->queries = queries;
	place->stamp = *stamp;
}

static bool
set_passes(uint64 what, const CacheSnapshot *built)
{
	CacheDeletionSet *set = set_of(what);

	if (built->xmin < set->lost)
		return false;
	for (int i = 0; i < CACHE_LOG_WAYS; i++)
		if (set->last[i].what == what && !eduai_cache_stamp_passed(&set->last[i].stamp, built))
			return false;
	return true;
}

static bool
concerns(const CachePatternDeletion *deletion, const CacheKey *key)
{
	if (deletion->database != key->database || strcmp(deletion->tenant, key->tenant) != 0)
		return false;
	if (key->scope != CACHE_SCOPE_VALUE)
		return deletion->queries;
	return eduai_cache_matches(deletion->pattern, strlen(deletion->pattern), key->key, key->length);
}

bool
eduai_cache_log_passes(const CacheItem *item, uint64 hash)
{
	if (item->built->xmin < eduai_cache_shared->pattern_lost || !set_passes(hash, item->built))
		return false;
	for (int i = 0; item->deps != NULL && i < item->deps->n; i++)
		if (!set_passes(item->deps->hash[i], item->built))
			return false;
	for (int i = 0; i < CACHE_PATTERNS; i++)
	{
		const CachePatternDeletion *deletion = &eduai_cache_shared->patterns[i];

		if (OidIsValid(deletion->database) && concerns(deletion, &item->key) &&
			!eduai_cache_stamp_passed(&deletion->stamp, item->built))
			return false;
	}
	return true;
}

/* The length of the character at the start of n bytes. */
static size_t
one_character(const char *text, size_t n)
{
	size_t length = (size_t) pg_encoding_mblen(GetDatabaseEncoding(), text);

	return Max(Min(length, n), 1);
}

/* The classical scan with one place to return to: linear but for hostile patterns. */
bool
eduai_cache_matches(const char *pattern, size_t pattern_length, const char *text, size_t length)
{
	size_t p = 0;
	size_t t = 0;
	size_t star = SIZE_MAX; /* where the last '*' stands, and how far it reached */
	size_t reached = 0;

	while (t < length)
	{
		if (p < pattern_length && pattern[p] == '*')
		{
			star = p++;
			reached = t;
		}
		else if (p < pattern_length && pattern[p] == '?')
		{
			t += one_character(text + t, length - t);
			p++;
		}
		else if (p < pattern_length && pattern[p] == text[t])
		{
			p++;
			t++;
		}
		else if (star != SIZE_MAX)
		{
			p = star + 1;
			reached += one_character(text + reached, length - reached);
			t = reached;
		}
		else
			return false;
	}
	while (p < pattern_length && pattern[p] == '*')
		p++;
	return p == pattern_length;
}
