/*
 * personal.h: limits that were set for a learner, to be erased and exported.
 */
#ifndef EDUAI_RATELIMIT_PERSONAL_H
#define EDUAI_RATELIMIT_PERSONAL_H

extern void eduai_ratelimit_personal_init(void);

#endif
