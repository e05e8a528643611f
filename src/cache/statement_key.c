/*
 * statement_key.c: the key of a cached_query() and its dependencies, of one
 * call.
 *
 * The key has the rewritten query (its hash), the parameters, who asks, and
 * every setting that PostgreSQL's functions that may be cached look at.  The
 * settings are read where PostgreSQL keeps them: looking up twenty names would
 * cost more than the hit.  They stand in the key as their SHA-256, which is
 * made anew only when one differs from the call before.
 */
#include "postgres.h"

#include "access/gin.h"
#include "cache/query.h"
#include "catalog/namespace.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "core/compat.h"
#include "miscadmin.h"
#include "parser/parser.h"
#include "pgtime.h"
#include "tsearch/ts_cache.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/tzparser.h"
#include "utils/xml.h"

#define NUMBERS 14
#define ROLES   4 /* the first of them say who asks */
#define TEXTS   6
#define PATH    1 /* search_path */

/* What the digest is of: the settings of the call before.  numbers[0], the role, is 0: of none. */
static int32 last_numbers[NUMBERS];
static char *last_texts[TEXTS];
static uint8 last_digest[PG_SHA256_DIGEST_LENGTH];
static uint64 turn = 1; /* goes on when one changed that literals are read by */

static void
append_text(StringInfo key, const char *text)
{
	int32 length = text ? (int32) strlen(text) : -1;

	appendBinaryStringInfo(key, (char *) &length, sizeof(length));
	if (text)
		appendBinaryStringInfo(key, text, length);
}

static void
read_numbers(int32 *numbers)
{
	Oid user;
	int security;

	GetUserIdAndSecContext(&user, &security);
	numbers[0] = (int32) user;
	numbers[1] = security;
	numbers[2] = (int32) GetSessionUserId();
	numbers[3] = row_security;
	numbers[4] = DateStyle;
	numbers[5] = DateOrder;
	numbers[6] = IntervalStyle;
	numbers[7] = extra_float_digits;
	numbers[8] = bytea_output;
	numbers[9] = xmlbinary;
	numbers[10] = xmloption;
	numbers[11] = Array_nulls;
	numbers[12] = GinFuzzySearchLimit;
	numbers[13] = quote_all_identifiers;
}

static void
read_texts(const char **texts)
{
	texts[0] = pg_get_timezone_name(session_timezone);
	texts[PATH] = namespace_search_path;
	texts[2] = locale_monetary;
	texts[3] = locale_numeric;
	texts[4] = locale_time;
	texts[5] = TSCurrentConfig;
	for (int i = 0; i < TEXTS; i++)
		if (texts[i] == NULL)
			texts[i] = "";
}

static bool
same_texts(const char *const *texts)
{
	for (int i = 0; i < TEXTS; i++)
		if (strcmp(texts[i], last_texts[i]) != 0)
			return false;
	return true;
}

static void
take_digest(const int32 *numbers, const char *const *texts)
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);
	bool good = hash != NULL && pg_cryptohash_init(hash) >= 0 &&
				pg_cryptohash_update(hash, (const uint8 *) numbers, sizeof(last_numbers)) >= 0;

	last_numbers[0] = 0;
	for (int i = 0; i < TEXTS; i++)
	{
		if (last_texts[i] != NULL)
			pfree(last_texts[i]);
		last_texts[i] = NULL;
		last_texts[i] = MemoryContextStrdup(TopMemoryContext, texts[i]);
		/* with its end, so that no two lists of texts are the same bytes */
		good =
			good && pg_cryptohash_update(hash, (const uint8 *) texts[i], strlen(texts[i]) + 1) >= 0;
	}
	if (!good || pg_cryptohash_final(hash, last_digest, sizeof(last_digest)) < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute a SHA-256")));
	pg_cryptohash_free(hash);
	memcpy(last_numbers, numbers, sizeof(last_numbers));
}

/* Only the role, its security and search_path may differ, which the plan cache looks at. */
static bool
reads_literals_alike(const int32 *numbers, const char *const *texts)
{
	if (last_numbers[0] == 0 ||
		memcmp(numbers + ROLES, last_numbers + ROLES, (NUMBERS - ROLES) * sizeof(int32)) != 0)
		return false;
	for (int i = 0; i < TEXTS; i++)
		if (i != PATH && strcmp(texts[i], last_texts[i]) != 0)
			return false;
	return true;
}

uint64
eduai_cache_settings(void)
{
	int32 numbers[NUMBERS];
	const char *texts[TEXTS];

	read_numbers(numbers);
	read_texts(texts);
	if (unlikely(memcmp(numbers, last_numbers, sizeof(numbers)) != 0 || !same_texts(texts)))
	{
		if (!reads_literals_alike(numbers, texts))
			turn++;
		take_digest(numbers, texts);
	}
	return turn;
}

void
eduai_cache_statement_normalise(const CachedStatement *s, char **params)
{
	for (int i = 0; i < s->nparams; i++)
	{
		const QueryParam *p = &s->params[i];

		if (p->keyed && params[i] != NULL)
			params[i] = OidOutputFunctionCall(
				p->output, OidInputFunctionCall(p->input, params[i], p->ioparam, -1));
	}
}

void
eduai_cache_statement_key(const CachedStatement *s, char *const *params, StringInfo key)
{
	ListCell *cell;

	appendBinaryStringInfo(key, (char *) s->digest, sizeof(s->digest));
	appendBinaryStringInfo(key, (char *) last_digest, sizeof(last_digest));
	foreach (cell, s->settings)
		append_text(key, GetConfigOptionByName(lfirst(cell), NULL, true));
	for (int i = 0; i < s->nparams; i++)
		append_text(key, params[i]);
}

static uint64
row_tag(const RowTag *tag, char *const *params)
{
	StringInfoData text;
	uint64 dep;

	initStringInfo(&text);
	for (int i = 0; i < tag->nparts; i++)
	{
		int param = tag->parts[i].param;

		appendStringInfoString(&text, tag->parts[i].text);
		if (param == 0)
			continue;
		if (params[param - 1] == NULL)
			return tag->table;
		appendStringInfoString(&text, params[param - 1]);
	}
	dep = eduai_cache_dep_tag(MyDatabaseId, NULL, text.data);
	pfree(text.data);
	return dep;
}

bool
eduai_cache_statement_deps(const CachedStatement *s, char *const *params, CacheDeps *deps)
{
	if (s->too_wide)
		return false;
	deps->n = s->deps.n;
	memcpy(deps->hash, s->deps.hash, s->deps.n * sizeof(deps->hash[0]));
	for (int i = 0; i < s->nrows; i++)
		if (!eduai_cache_deps_add(deps, row_tag(&s->rows[i], params)))
			return false;
	return true;
}
