/*
 * query.h: the statements of cached_query(), as a session keeps them.
 *
 *   statement   a query text that was parsed, checked and rewritten with its
 *               caller's rights; kept until something it was made of changes.
 *   narrowed    a table that it reads only where columns equal parameters or
 *               constants, and that cache_watch() tags by those columns: the
 *               result then depends on these rows' tag, not on the table.
 */
#ifndef EDUAI_CACHE_QUERY_H
#define EDUAI_CACHE_QUERY_H

#include "postgres.h"
#include "cache/validity.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "utils/plancache.h"

/* A part of a row's tag: text, then a parameter (from 1), or nothing (0). */
typedef struct RowTagPart
{
	char *text;
	int param;
} RowTagPart;

typedef struct RowTag
{
	uint64 table; /* the dependency when the tag cannot be made */
	int nparts;
	RowTagPart *parts;
} RowTag;

typedef struct QueryParam
{
	Oid type;
	bool keyed; /* its input is not immutable ('now'): the key has what it means */
	Oid input, ioparam;
	Oid output;
} QueryParam;

typedef struct CachedStatement
{
	uint64 hash; /* of the text; the key in the session's table */
	char *text;
	size_t length; /* of the text */
	MemoryContext context;
	SPIPlanPtr plan;
	CachedPlanSource *source;
	uint64 changes; /* of definitions, when it was made; 0: in the midst of one */
	uint64 read_by; /* eduai_cache_settings() when it was made */
	int nparams;
	QueryParam *params;
	uint32 advice;    /* a place in cache_advice, of the last call's tenant and kind; or 0 */
	int busy;         /* calls that compute it: it may not go away */
	bool gone;        /* it goes with the last of them */
	bool too_wide;    /* it depends on more than an entry can */
	CacheDeps deps;   /* but the narrowed tables */
	CacheDeps tables; /* all of them: not one may be written by this transaction */
	int nrows;
	RowTag *rows;
	List *settings; /* names given to current_setting() */
	uint8 digest[32];
} CachedStatement;

/* The statement of the text, parsed anew when it has to be; raises what is wrong with it. */
extern CachedStatement *eduai_cache_statement(const text *query, int nparams);

/* While a call computes it, which may run other calls. */
extern void eduai_cache_statement_hold(CachedStatement *s);
extern void eduai_cache_statement_release(CachedStatement *s);

/*
 * Fills deps, tables, rows and settings from the rewritten queries; raises
 * 22023 for what cannot be cached.  "text" is the source of what the queries'
 * locations point into.
 */
extern void eduai_cache_statement_examine(CachedStatement *s, List *queries, const char *text);

/* Is the relation narrowed by the query's conditions? Adds it to s->rows. */
extern bool eduai_cache_statement_narrow(CachedStatement *s, Query *query, int rtindex);

/* The parameters' texts in place: what their types make of them, where that matters. */
extern void eduai_cache_statement_normalise(const CachedStatement *s, char **params);

/*
 * Looks at the settings that results depend on, for the next key.  What it
 * returns changes when one of those did by which literals are read.
 */
extern uint64 eduai_cache_settings(void);

/* All that the result depends on, but the tables' rows; after eduai_cache_settings(). */
extern void
eduai_cache_statement_key(const CachedStatement *s, char *const *params, StringInfo key);

/* What the result depends on with these parameters; false when it is too much. */
extern bool
eduai_cache_statement_deps(const CachedStatement *s, char *const *params, CacheDeps *deps);

/*
 * May the function, which is not PostgreSQL's own and not immutable, be used?
 * Adds the tables that cache_allow_function() was given for it.
 */
extern bool eduai_cache_function_allowed(Oid function, CachedStatement *s);

extern void eduai_cache_query_init(void);

#endif
