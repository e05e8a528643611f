/*
 * anonymise.h: making unknown whom old events are about.
 */
#ifndef EDUAI_PRIVACY_ANONYMISE_H
#define EDUAI_PRIVACY_ANONYMISE_H

#include "postgres.h"
#include "privacy/job.h"

/* The job that does it, for one tenant. */
#define EDUAI_JOB_ANONYMISE "anonymise"

extern void eduai_privacy_anonymise_init(void);

#endif
