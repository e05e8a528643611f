/*
 * What cppcheck.sh puts in front of every file instead of PostgreSQL's headers:
 * the macros that decide where control goes.
 */
#define ERROR 21
#define FATAL 22
#define PANIC 23
#define ereport(elevel, ...)   \
	do                         \
	{                          \
		if ((elevel) >= ERROR) \
			abort();           \
	} while (0)
#define elog(elevel, ...)      \
	do                         \
	{                          \
		if ((elevel) >= ERROR) \
			abort();           \
	} while (0)
#define Assert(condition) \
	do                    \
	{                     \
		if (!(condition)) \
			abort();      \
	} while (0)
#define PG_TRY() \
	do           \
	{            \
		if (1)   \
		{
#define PG_CATCH() \
	}              \
	else           \
	{
#define PG_FINALLY() \
	}                \
	{
#define PG_END_TRY() \
	}                \
	}                \
	while (0)
#define PG_RETURN_NULL()          return 0
#define PG_RETURN_VOID()          return 0
#define PG_FUNCTION_INFO_V1(name) extern Datum name(FunctionCallInfo fcinfo)
#define PG_MODULE_MAGIC           extern int pg_module_magic
#define PGDLLEXPORT
#define pg_noreturn
#define pg_attribute_noreturn()
#define pg_attribute_printf(format, first)
#define pg_attribute_unused()
#define PG_USED_FOR_ASSERTS_ONLY
#define StaticAssertDecl(condition, message) extern int static_assertion
#define StaticAssertStmt(condition, message)
#define foreach(cell, list) for (cell = list_head(list); cell != NULL; cell = lnext(list, cell))
