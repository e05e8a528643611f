/*
 * retention.c: the subjects of retention.  See retention.h.
 */
#include "postgres.h"

#include "core/retention.h"

static const EduaiRetentionSubject *subjects[EDUAI_RETENTION_SUBJECTS];
static int nsubjects = 0;

void
eduai_core_retention_register(const EduaiRetentionSubject *subject)
{
	if (nsubjects == EDUAI_RETENTION_SUBJECTS)
		elog(FATAL, "too many subjects of retention");
	subjects[nsubjects++] = subject;
}

const EduaiRetentionSubject *
eduai_core_retention_nth(int i)
{
	return i < nsubjects ? subjects[i] : NULL;
}

const EduaiRetentionSubject *
eduai_core_retention_subject(const char *name)
{
	for (int i = 0; i < nsubjects; i++)
		if (strcmp(subjects[i]->name, name) == 0)
			return subjects[i];
	return NULL;
}

bool
eduai_core_retention_allows(const EduaiRetentionSubject *subject, const char *action)
{
	size_t length = strlen(action);
	const char *at = subject->actions;

	while ((at = strstr(at, action)) != NULL)
	{
		if ((at == subject->actions || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0'))
			return length > 0;
		at += length;
	}
	return false;
}
