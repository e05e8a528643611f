/*
 * personal_rows.c: what stores have in common: rows of a query, a page at a
 * time, so that a large history takes no memory.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/personal.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define ROWS_AT_ONCE 200

static void
hand_over(const char *source, SPITupleTable *rows, EduaiPersonalRow row, void *arg)
{
	for (uint64 i = 0; i < rows->numvals; i++)
	{
		bool isnull;
		Datum value = SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull);

		if (!isnull)
			row(arg, source, DatumGetJsonbP(value));
	}
}

void
eduai_core_personal_export_rows(const char *source, const char *sql, const char *tenant,
								const char *user_id, EduaiPersonalRow row, void *arg)
{
	Oid types[] = {TEXTOID, TEXTOID};
	Datum values[] = {CStringGetTextDatum(tenant), CStringGetTextDatum(user_id)};
	Portal portal = SPI_cursor_open_with_args(NULL, sql, 2, types, values, NULL, true, 0);
	MemoryContext page =
		AllocSetContextCreate(CurrentMemoryContext, "eduai export page", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		SPITupleTable *rows;
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, ROWS_AT_ONCE);
		rows = SPI_tuptable;
		if (SPI_processed == 0)
			break;
		old = MemoryContextSwitchTo(page);
		hand_over(source, rows, row, arg);
		MemoryContextSwitchTo(old);
		MemoryContextReset(page);
		SPI_freetuptable(rows);
	}
	SPI_cursor_close(portal);
	MemoryContextDelete(page);
}

void
eduai_core_personal_tell_learners(const char *sql, EduaiPersonalLearner learner, void *arg)
{
	Portal portal = SPI_cursor_open_with_args(NULL, sql, 0, NULL, NULL, NULL, true, 0);

	for (;;)
	{
		SPITupleTable *rows;

		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, ROWS_AT_ONCE);
		rows = SPI_tuptable;
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < rows->numvals; i++)
			learner(arg, SPI_getvalue(rows->vals[i], rows->tupdesc, 1),
					SPI_getvalue(rows->vals[i], rows->tupdesc, 2));
		SPI_freetuptable(rows);
	}
	SPI_cursor_close(portal);
}
