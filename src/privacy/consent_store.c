/*
 * consent_store.c: consents as a store of personal data (core/personal.h).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/personal.h"
#include "core/plan.h"
#include "privacy/consent.h"
#include "utils/builtins.h"

#define RANK 90

static int64
erase(const char *tenant, const char *user_id, int limit, bool *more)
{
	static EduaiPlan some = {
		"DELETE FROM eduai.consent WHERE tenant_id = $1 AND user_id = $2 AND ctid = ANY (ARRAY("
		"SELECT ctid FROM eduai.consent WHERE tenant_id = $1 AND user_id = $2 LIMIT $3))",
		3,
		{TEXTOID, TEXTOID, INT4OID}};
	Datum args[3] = {CStringGetTextDatum(tenant), CStringGetTextDatum(user_id),
					 Int32GetDatum(limit)};
	int64 n = (int64) eduai_core_run_latest(&some, args, NULL);

	*more = n >= limit;
	return n;
}

static int64
remaining(const char *tenant, const char *user_id)
{
	static EduaiPlan count = {"SELECT pg_catalog.count(*) FROM eduai.consent"
							  " WHERE tenant_id = $1 AND user_id = $2",
							  2,
							  {TEXTOID, TEXTOID}};
	Datum args[2] = {CStringGetTextDatum(tenant), CStringGetTextDatum(user_id)};

	eduai_core_run_latest(&count, args, NULL);
	return eduai_core_int64(0, 1, 0);
}

static void
export_rows(const char *tenant, const char *user_id, EduaiPersonalRow row, void *arg)
{
	static EduaiPlan all = {"SELECT pg_catalog.to_jsonb(c) - 'tenant_id' FROM eduai.consent c"
							" WHERE tenant_id = $1 AND user_id = $2 ORDER BY consent_id",
							2,
							{TEXTOID, TEXTOID}};
	Datum args[2] = {CStringGetTextDatum(tenant), CStringGetTextDatum(user_id)};
	uint64 n = eduai_core_run_latest(&all, args, NULL);
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 i = 0; i < n; i++)
	{
		bool isnull;

		/* the receiver may run statements of its own */
		SPI_tuptable = rows;
		row(arg, "consents", DatumGetJsonbP(eduai_core_value(i, 1, &isnull)));
	}
}

void
eduai_privacy_consent_store_init(void)
{
	static const EduaiPersonalStore store = {.name = "consents",
											 .rank = RANK,
											 .erase = erase,
											 .remaining = remaining,
											 .export = export_rows};

	eduai_core_personal_register_store(&store);
}
