/*
 * state_sql.c: projection_state().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "events/validate.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "projections/admin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(eduai_projection_state);

/* projection_state(projection, key) returns jsonb */
Datum
eduai_projection_state(PG_FUNCTION_ARGS)
{
	/* the generation that is live in the reader's own snapshot, whatever has become of it since */
	static EduaiPlan read = {
		"SELECT state FROM eduai.projection_state WHERE tenant_id = $1 AND projection = $2"
		" AND generation = (SELECT coalesce((SELECT live FROM eduai.projection_generation"
		"  WHERE projection = $2), 1)) AND key = $3 AND version > 0",
		3,
		{TEXTOID, INT4OID, TEXTOID}};
	MemoryContext caller = CurrentMemoryContext;
	const EduaiProjection *projection = eduai_projections_named(fcinfo, 0, true);
	char *key = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	Jsonb *state = NULL;
	EduaiPrivilege saved;
	Datum args[3];
	bool isnull;

	eduai_events_check_name("key", key, true);
	args[0] = CStringGetTextDatum(eduai_core_tenant());
	args[1] = Int32GetDatum(projection->id);
	args[2] = PG_GETARG_DATUM(1);
	eduai_core_enter(&saved);
	SPI_connect();
	if (eduai_core_query(&read, args, NULL) > 0)
	{
		Datum value = eduai_core_value(0, 1, &isnull);

		MemoryContextSwitchTo(caller);
		state = DatumGetJsonbPCopy(value);
	}
	SPI_finish();
	eduai_core_leave(&saved);
	if (state == NULL)
		PG_RETURN_NULL();
	eduai_core_personal_note(TextDatumGetCString(args[0]),
							 projection->key == EDUAI_KEY_USER ? key : NULL, "projection", 1,
							 GetUserId());
	PG_RETURN_JSONB_P(state);
}
