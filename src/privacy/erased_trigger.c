/*
 * erased_trigger.c: rows of erasures that come from a dump or a publisher reach
 * the filter in shared memory.  See erased.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "privacy/erased.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(eduai_note_erased);

/* The trigger of the tables that the filter is made of: after each row inserted. */
Datum
eduai_note_erased(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation rel;
	int column;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("not called by a trigger")));
	rel = trigger->tg_relation;
	column = SPI_fnumber(RelationGetDescr(rel), "probe");
	if (column <= 0)
		eduai_privacy_erased_reload();
	else
	{
		bool isnull;
		EduaiErasedDigest digest = {
			.probe = DatumGetInt32(
				heap_getattr(trigger->tg_trigtuple, column, RelationGetDescr(rel), &isnull))};

		eduai_privacy_erased_mark(&digest);
	}
	PG_RETURN_POINTER(NULL);
}
