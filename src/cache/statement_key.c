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

/* The settings of the last call, whole; empty: none that the digest is of. */
static StringInfoData last_settings;
static uint8 last_digest[PG_SHA256_DIGEST_LENGTH];

static void
append_text(StringInfo key, const char *text)
{
	int32 length = text ? (int32) strlen(text) : -1;

	appendBinaryStringInfo(key, (char *) &length, sizeof(length));
	if (text)
		appendBinaryStringInfo(key, text, length);
}

static void
append_settings(StringInfo key)
{
	Oid user;
	int security;
	int32 numbers[14];

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
	appendBinaryStringInfo(key, (char *) numbers, sizeof(numbers));
	append_text(key, pg_get_timezone_name(session_timezone));
	append_text(key, namespace_search_path);
	append_text(key, GetConfigOption("lc_monetary", false, false));
	append_text(key, GetConfigOption("lc_numeric", false, false));
	append_text(key, GetConfigOption("lc_time", false, false));
	append_text(key, TSCurrentConfig);
}

static void
take_digest(const StringInfo settings)
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);

	resetStringInfo(&last_settings);
	if (hash == NULL || pg_cryptohash_init(hash) < 0 ||
		pg_cryptohash_update(hash, (uint8 *) settings->data, settings->len) < 0 ||
		pg_cryptohash_final(hash, last_digest, sizeof(last_digest)) < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute a SHA-256")));
	pg_cryptohash_free(hash);
	appendBinaryStringInfo(&last_settings, settings->data, settings->len);
}

/* Behind what the key has: the settings' digest. */
static void
append_settings_digest(StringInfo key)
{
	int from = key->len;

	if (unlikely(last_settings.data == NULL))
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		initStringInfo(&last_settings);
		MemoryContextSwitchTo(old);
	}
	append_settings(key);
	if (unlikely(key->len - from != last_settings.len ||
				 memcmp(key->data + from, last_settings.data, last_settings.len) != 0))
	{
		StringInfoData settings = {.data = key->data + from, .len = key->len - from};

		take_digest(&settings);
	}
	key->len = from;
	appendBinaryStringInfo(key, (char *) last_digest, sizeof(last_digest));
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
	append_settings_digest(key);
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
