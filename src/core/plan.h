/*
 * plan.h: SQL statements prepared once per backend.
 *
 * A statement is a static EduaiPlan.  Names in it are schema-qualified, and
 * it runs between SPI_connect() and SPI_finish(), inside
 * eduai_core_enter()/leave(), so that operators resolve in pg_catalog.
 */
#ifndef EDUAI_CORE_PLAN_H
#define EDUAI_CORE_PLAN_H

#include "postgres.h"
#include "executor/spi.h"

#define EDUAI_PLAN_ARGS 32

typedef struct EduaiPlan
{
	const char *sql;
	int nargs;
	Oid types[EDUAI_PLAN_ARGS];
	SPIPlanPtr plan; /* NULL until first used */
} EduaiPlan;

/*
 * Runs the statement and returns SPI_processed; rows are in SPI_tuptable.
 * nulls is SPI's ' '/'n' array or NULL.  The statement sees what a new
 * statement of the transaction would.
 */
extern uint64 eduai_core_run(EduaiPlan *plan, Datum *args, const char *nulls);

/*
 * The same for a SELECT in the snapshot of the statement that called the
 * function: it agrees with the rest of its query, and sees what the
 * transaction wrote before.
 */
extern uint64 eduai_core_query(EduaiPlan *plan, Datum *args, const char *nulls);

/*
 * The same, reading and writing with the latest snapshot whatever the
 * isolation level: for what a lock already serialises (a stream's last
 * version, a learner's progress row).
 */
extern uint64 eduai_core_run_latest(EduaiPlan *plan, Datum *args, const char *nulls);

/* Value of a column (1-based) of row "row" of SPI_tuptable. */
extern Datum eduai_core_value(uint64 row, int column, bool *isnull);
extern char *eduai_core_text(uint64 row, int column); /* NULL when null */
extern int64 eduai_core_int64(uint64 row, int column, int64 if_null);

/* One-dimensional array Datums for "unnest($1::bigint[], ...)" statements. */
extern Datum eduai_core_int8_array(const int64 *values, const bool *nulls, int n);
extern Datum eduai_core_int4_array(const int32 *values, const bool *nulls, int n);
extern Datum eduai_core_text_array(char *const *values, int n); /* NULL entries become NULL */
extern Datum eduai_core_datum_array(const Datum *values, const bool *nulls, int n, Oid element);

#endif
