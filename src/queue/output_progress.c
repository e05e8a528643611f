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
#include "lib/stringinfo.h"
#include "queue/output.h"

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

Jsonb *
eduai_queue_progress_with_text(const char *tenant, int64 task_id, int attempt, Jsonb *progress)
{
	JsonbValue own;
	char *shown = NULL;

	if (eduai_core_preloaded() && !eduai_core_json_get(progress, "text", &own))
		shown = text_so_far(tenant, task_id, attempt);
	return shown != NULL ? eduai_core_json_with_text(progress, "text", shown) : progress;
}
