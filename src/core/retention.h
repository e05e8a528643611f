/*
 * retention.h: what is kept for a time only, by subject.
 *
 * A room says what it can do about its old data; the privacy room has the
 * policies (set_retention()) and calls it.
 */
#ifndef EDUAI_CORE_RETENTION_H
#define EDUAI_CORE_RETENTION_H

#include "postgres.h"
#include "datatype/timestamp.h"

typedef struct EduaiRetentionSubject
{
	const char *name;    /* "events", "tasks", ... */
	const char *actions; /* of delete, anonymise, compact; separated by spaces */
	/*
	 * Does the action to some of the tenant's data older than "before", as the
	 * owner inside SPI: at most some 200 ms of work.  Returns how many rows or
	 * events; *more when there may be others.  May raise.
	 */
	int64 (*run)(const char *tenant, const char *action, TimestampTz before, bool *more);
} EduaiRetentionSubject;

#define EDUAI_RETENTION_SUBJECTS 16

/* From <room>_init() only; "subject" is static. */
extern void eduai_core_retention_register(const EduaiRetentionSubject *subject);
/* NULL when there is none. */
extern const EduaiRetentionSubject *eduai_core_retention_subject(const char *name);
/* The i-th, NULL past the last. */
extern const EduaiRetentionSubject *eduai_core_retention_nth(int i);
extern bool eduai_core_retention_allows(const EduaiRetentionSubject *subject, const char *action);

#endif
