/*
 * adopt.c: adopt_database(): this database belongs here from now on.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/status.h"
#include "fmgr.h"
#include "gateway/gateway.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(eduai_adopt_database);

Datum
eduai_adopt_database(PG_FUNCTION_ARGS)
{
	static EduaiPlan forget = {"DELETE FROM eduai.adoption WHERE home <> $1", 1, {TEXTOID}};
	static EduaiPlan record = {
		"INSERT INTO eduai.adoption (home) VALUES ($1) ON CONFLICT DO NOTHING", 1, {TEXTOID}};
	static EduaiPlan move = {"UPDATE eduai.provider SET home = $1 WHERE home <> $1", 1, {TEXTOID}};
	Datum args[1] = {CStringGetTextDatum(eduai_core_home())};
	EduaiPrivilege saved;

	eduai_core_enter(&saved);
	SPI_connect();
	eduai_core_run(&forget, args, NULL);
	eduai_core_run(&record, args, NULL);
	eduai_core_run(&move, args, NULL);
	SPI_finish();
	eduai_core_leave(&saved);
	eduai_gateway_reload_at_commit();
	PG_RETURN_VOID();
}
