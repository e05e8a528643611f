/*
 * output_progress.c: the text that a task has given so far, as a part of its
 * progress.
 *
 * It is read from shared memory when somebody looks at the task, and written
 * nowhere.  A text whose beginning had to give room is not shown: nobody could
 * tell that it is not all.
 */
#include "postgres.h"

#include "core/json.h"
#include "core/shmem.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "queue/output.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(eduai_shown_progress);

/* NULL: none, or not all of it is there, as of another attempt. */
static char *
text_so_far(const char *tenant, int64 task_id, int attempt)
{
	OutputLook look = {0};
	int base = eduai_queue_output_base(attempt);
	StringInfoData all;
	const char *text;
	int after = base;
	int length;
	int seq;

	initStringInfo(&all);
	do
	{
		eduai_queue_output_look(tenant, task_id, after, &look);
		if (!look.found || look.first_seq > after + 1)
			return NULL;
		while (eduai_queue_output_next(&look, &seq, &text, &length))
		{
			appendBinaryStringInfo(&all, text, length);
			after = seq;
		}
	} while (!look.whole);
	return all.len > 0 ? all.data : NULL;
}

Datum
eduai_shown_progress(PG_FUNCTION_ARGS)
{
	Jsonb *progress = PG_ARGISNULL(4) ? NULL : PG_GETARG_JSONB_P(4);
	JsonbValue own;
	char *shown = NULL;

	if (!PG_ARGISNULL(0) && !PG_ARGISNULL(1) && !PG_ARGISNULL(2) && !PG_ARGISNULL(3) &&
		eduai_core_preloaded() && !eduai_core_json_get(progress, "text", &own) &&
		strcmp(text_to_cstring(PG_GETARG_TEXT_PP(2)), "running") == 0)
		shown = text_so_far(text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_GETARG_INT64(1),
							PG_GETARG_INT32(3));
	if (shown != NULL)
		progress = eduai_core_json_with_text(progress, "text", shown);
	if (progress == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(progress);
}
