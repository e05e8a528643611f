/*
 * statement.c: the statements of cached_query(), as a session keeps them.
 *
 * A statement is parsed twice: alone, which finds errors, its parameters'
 * types and that it is one SELECT; then as the body of the query that makes
 * JSON of its rows.  A text that parses alone cannot break out of that.
 *
 * A statement is parsed anew when its relations, functions or types changed,
 * under another search_path, and under another role where row security is in
 * it: PostgreSQL's plan cache says so.  It does not say when a new table, view
 * or function would take a name, nor what became of triggers and marks; so any
 * change of definitions, of the whole server, has statements parsed anew.
 * While this transaction changes some itself, each call does.
 */
#include "postgres.h"

#include "access/xact.h"
#include "cache/query.h"
#include "cache/steady.h"
#include "cache/writes.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "catalog/pg_proc.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "core/compat.h"
#include "miscadmin.h"
#include "nodes/nodes.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"

#define MAX_STATEMENTS 200 /* of a session; one more forgets all */

typedef struct StatementSlot
{
	uint64 hash; /* key */
	CachedStatement *statement;
} StatementSlot;

static HTAB *statements = NULL;
static CachedStatement *last = NULL; /* that was asked for; most often the next one */

static void
forget(CachedStatement *s)
{
	hash_search(statements, &s->hash, HASH_REMOVE, NULL);
	if (last == s)
		last = NULL;
	s->gone = true;
	if (s->busy > 0)
		return;
	SPI_freeplan(s->plan);
	MemoryContextDelete(s->context);
}

void
eduai_cache_statement_hold(CachedStatement *s)
{
	s->busy++;
}

void
eduai_cache_statement_release(CachedStatement *s)
{
	if (--s->busy > 0 || !s->gone)
		return;
	SPI_freeplan(s->plan);
	MemoryContextDelete(s->context);
}

static void
forget_all(void)
{
	HASH_SEQ_STATUS scan;
	StatementSlot *slot;

	hash_seq_init(&scan, statements);
	while ((slot = hash_seq_search(&scan)) != NULL)
		forget(slot->statement);
}

/* The count of changes that a statement made now may stand for; 0: none. */
static uint64
steady_changes(void)
{
	uint64 changes;

	if (!eduai_cache_catalog_steady(&changes))
		return 0;
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()) && eduai_cache_writes_catalog())
		return 0;
	return changes;
}

static bool
stands(const CachedStatement *s, uint64 changes)
{
	const CachedPlanSource *source = s->source;

	/* its literals were read by the settings of then */
	if (s->read_by != eduai_cache_settings() || !source->is_valid || changes == 0 ||
		s->changes != changes)
		return false;
	if (!eduai_search_path_matches(source->search_path))
		return false;
	return !source->dependsOnRLS ||
		   (source->rewriteRoleId == GetUserId() && source->rewriteRowSecurity == row_security);
}

/* ---- parsing ---- */

static void
refuse_statement(const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("cannot cache %s", what),
					errhint("Only a single SELECT can be cached.")));
}

/* The statement alone: its parameters' types, and where its text is. */
static RawStmt *
analyse_alone(CachedStatement *s, int nparams)
{
	List *raw = raw_parser(s->text, RAW_PARSE_DEFAULT);
	RawStmt *stmt;
	Oid *types = NULL;
	int n = 0;

	if (list_length(raw) != 1)
		refuse_statement(raw == NIL ? "an empty query" : "several statements");
	stmt = linitial_node(RawStmt, raw);
	if (!IsA(stmt->stmt, SelectStmt) || ((SelectStmt *) stmt->stmt)->intoClause != NULL)
		refuse_statement("a statement that is no SELECT");
	if (parse_analyze_varparams(copyObject(stmt), s->text, &types, &n, NULL)->hasModifyingCTE)
		refuse_statement("a SELECT that writes");
	if (n != nparams)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the query has %d parameters, but %d were given", n, nparams)));
	s->nparams = n;
	s->params = MemoryContextAllocZero(s->context, sizeof(QueryParam) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		QueryParam *p = &s->params[i];
		bool varlena;

		p->type = types[i];
		if (!OidIsValid(p->type) || p->type == UNKNOWNOID)
			ereport(ERROR, (errcode(ERRCODE_INDETERMINATE_DATATYPE),
							errmsg("could not determine data type of parameter $%d", i + 1),
							errhint("Add a cast: $%d::text.", i + 1)));
		getTypeInputInfo(p->type, &p->input, &p->ioparam);
		getTypeOutputInfo(p->type, &p->output, &varlena);
		p->keyed = func_volatile(p->input) != PROVOLATILE_IMMUTABLE;
	}
	return stmt;
}

/* The query that gives one value, the rows as a JSON array. */
static char *
wrap(const char *text, const RawStmt *stmt)
{
	const char *from = text + stmt->stmt_location;
	int length = stmt->stmt_len > 0 ? stmt->stmt_len : (int) strlen(from);

	return psprintf("SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(eduai_cached_row.*)),"
					" '[]'::pg_catalog.jsonb) FROM (%.*s\n) AS eduai_cached_row",
					length, from);
}

static void
take_digest(CachedStatement *s, List *queries)
{
	char *tree = nodeToString(queries);
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);

	if (hash == NULL || pg_cryptohash_init(hash) < 0 ||
		pg_cryptohash_update(hash, (uint8 *) s->text, strlen(s->text) + 1) < 0 ||
		pg_cryptohash_update(hash, (uint8 *) tree, strlen(tree)) < 0 ||
		pg_cryptohash_final(hash, s->digest, sizeof(s->digest)) < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute a SHA-256")));
	pg_cryptohash_free(hash);
	pfree(tree);
}

static void
prepare(CachedStatement *s, int nparams)
{
	char *text = wrap(s->text, analyse_alone(s, nparams));
	Oid types[FUNC_MAX_ARGS];
	SPIPlanPtr plan;
	MemoryContext old;

	if (s->nparams > FUNC_MAX_ARGS)
		ereport(ERROR, (errcode(ERRCODE_TOO_MANY_ARGUMENTS),
						errmsg("a cached query has at most %d parameters", FUNC_MAX_ARGS)));
	for (int i = 0; i < s->nparams; i++)
		types[i] = s->params[i].type;
	plan = SPI_prepare_cursor(text, s->nparams, types, CURSOR_OPT_PARALLEL_OK);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	s->source = linitial(SPI_plan_get_plan_sources(plan));
	/* the locations point into the text that was parsed */
	old = MemoryContextSwitchTo(s->context);
	eduai_cache_statement_examine(s, s->source->query_list, text);
	MemoryContextSwitchTo(old);
	take_digest(s, s->source->query_list);
	SPI_keepplan(plan);
	s->plan = plan;
}

static CachedStatement *
start(const char *text, uint64 hash)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "eduai cached query", ALLOCSET_SMALL_SIZES);
	CachedStatement *s = MemoryContextAllocZero(context, sizeof(CachedStatement));

	s->context = context;
	s->hash = hash;
	s->text = MemoryContextStrdup(context, text);
	s->length = strlen(text);
	return s;
}

static CachedStatement *
make(const char *text, uint64 hash, int nparams, uint64 changes)
{
	CachedStatement *s = start(text, hash);

	PG_TRY();
	{
		s->changes = changes;
		s->read_by = eduai_cache_settings();
		SPI_connect();
		prepare(s, nparams);
		SPI_finish();
	}
	PG_CATCH();
	{
		MemoryContextDelete(s->context);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return s;
}

static bool
is_of(const CachedStatement *s, const text *query, int nparams)
{
	return s->nparams == nparams && s->length == VARSIZE_ANY_EXHDR(query) &&
		   memcmp(s->text, VARDATA_ANY(query), s->length) == 0;
}

static CachedStatement *
find_or_make(const text *query, int nparams, uint64 changes)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) VARDATA_ANY(query),
									  (int) VARSIZE_ANY_EXHDR(query), 0);
	StatementSlot *slot;
	CachedStatement *s;

	if (statements == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(uint64),
					   .entrysize = sizeof(StatementSlot),
					   .hcxt = TopMemoryContext};

		statements =
			hash_create("eduai cached queries", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	slot = hash_search(statements, &hash, HASH_FIND, NULL);
	if (slot != NULL)
	{
		s = slot->statement;
		if (is_of(s, query, nparams) && stands(s, changes))
			return s;
		forget(s);
	}
	if (hash_get_num_entries(statements) >= MAX_STATEMENTS)
		forget_all();
	s = make(text_to_cstring(query), hash, nparams, changes);
	slot = hash_search(statements, &hash, HASH_ENTER, NULL);
	slot->statement = s;
	return s;
}

CachedStatement *
eduai_cache_statement(const text *query, int nparams)
{
	uint64 changes = steady_changes();

	AcceptInvalidationMessages();
	if (last == NULL || !is_of(last, query, nparams) || !stands(last, changes))
		last = find_or_make(query, nparams, changes);
	return last;
}
