/*
 * retain.h: what becomes of old data: the subjects of retention that are this
 * room's, the policies, and the jobs that carry them out.
 */
#ifndef EDUAI_PRIVACY_RETAIN_H
#define EDUAI_PRIVACY_RETAIN_H

#include "postgres.h"
#include "datatype/timestamp.h"

extern void eduai_privacy_retain_subjects_init(void);
extern void eduai_privacy_retain_init(void);
extern void eduai_privacy_maintenance_init(void);

/*
 * One policy after the other, of the subject or (NULL) of all, in the order in
 * which they are due to be carried out; palloc'd.
 */
typedef struct EduaiRetentionPolicy
{
	char *tenant;
	char *subject;
	char *action;
	TimestampTz before;
} EduaiRetentionPolicy;

/* As the owner, inside SPI. */
extern EduaiRetentionPolicy *eduai_privacy_policies(const char *subject, int *n);

#endif
