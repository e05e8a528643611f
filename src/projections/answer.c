/*
 * answer.c: which events are answers, and what they say.  See answer.h.
 */
#include "postgres.h"

#include "core/json.h"
#include "projections/answer.h"

/* As in progress: longer names could not be keys of an index. */
#define MAX_NAME_BYTES 512

static char *
get_name(const Jsonb *data, const char *key)
{
	JsonbValue value;

	if (!eduai_core_json_get(data, key, &value) || value.type != jbvString ||
		value.val.string.len <= 0 || value.val.string.len > MAX_NAME_BYTES)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* A number, too: many applications count their exercises. */
static char *
get_item(const Jsonb *data, const char *key)
{
	JsonbValue value;
	char *text;

	if (!eduai_core_json_get(data, key, &value) || value.type != jbvNumeric)
		return get_name(data, key);
	text = eduai_core_json_text(data, key);
	return strlen(text) <= MAX_NAME_BYTES ? text : NULL;
}

bool
eduai_projections_answer_read(const Jsonb *data, EduaiAnswer *answer)
{
	if (!eduai_core_json_bool(data, "correct", &answer->correct))
		return false;
	answer->skill = get_name(data, "skill_name");
	if (answer->skill == NULL)
		answer->skill = get_name(data, "skill");
	if (answer->skill == NULL)
		return false;
	answer->item = get_item(data, "item");
	if (answer->item == NULL)
		answer->item = get_item(data, "exercise");
	return true;
}
