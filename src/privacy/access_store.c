/*
 * access_store.c: what the access log holds about a learner: a row that says
 * whose a reference is.  Erasing it leaves the chain as it is and nobody can
 * tell any more whom its rows were about.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/json.h"
#include "core/personal.h"
#include "core/plan.h"
#include "privacy/access_log.h"
#include "utils/builtins.h"

static EduaiPlan drop_reference = {
	"DELETE FROM eduai.access_learner WHERE tenant_id = $1 AND user_id = $2",
	2,
	{TEXTOID, TEXTOID}};

static EduaiPlan find_reference = {
	"SELECT FROM eduai.access_learner WHERE tenant_id = $1 AND user_id = $2",
	2,
	{TEXTOID, TEXTOID}};

static EduaiPlan read_rows = {
	"SELECT jsonb_build_object('at', l.at, 'role', l.role, 'purpose', l.purpose, 'source', l.source,"
	" 'rows', l.rows), l.seq FROM eduai.access_learner a JOIN eduai.access_log l"
	" ON l.tenant_id = a.tenant_id AND l.learner = a.ref"
	" WHERE a.tenant_id = $1 AND a.user_id = $2 AND l.seq > $3 ORDER BY l.seq LIMIT 1000",
	3,
	{TEXTOID, TEXTOID, INT8OID}};

static int64
erase(const char *tenant, const char *user_id, int limit, bool *more)
{
	Datum args[] = {CStringGetTextDatum(tenant), CStringGetTextDatum(user_id)};

	*more = false;
	return (int64) eduai_core_run_latest(&drop_reference, args, NULL);
}

static int64
remaining(const char *tenant, const char *user_id)
{
	Datum args[] = {CStringGetTextDatum(tenant), CStringGetTextDatum(user_id)};

	return (int64) eduai_core_run_latest(&find_reference, args, NULL);
}

static void
export_rows(const char *tenant, const char *user_id, EduaiPersonalRow row, void *arg)
{
	Datum args[] = {CStringGetTextDatum(tenant), CStringGetTextDatum(user_id), Int64GetDatum(0)};
	uint64 n = 1000;

	while (n == 1000)
	{
		SPITupleTable *table;

		n = eduai_core_run_latest(&read_rows, args, NULL);
		table = SPI_tuptable;
		if (n > 0)
			args[2] = Int64GetDatum(eduai_core_int64(n - 1, 2, 0));
		for (uint64 i = 0; i < n; i++)
		{
			bool isnull;

			SPI_tuptable = table; /* the receiver may run statements */
			row(arg, "access_log", DatumGetJsonbP(eduai_core_value(i, 1, &isnull)));
		}
		SPI_freetuptable(table);
	}
}

void
eduai_privacy_access_store_init(void)
{
	static const EduaiPersonalStore store = {"access_log", 900, erase, remaining, export_rows};

	eduai_core_personal_register_store(&store);
}
