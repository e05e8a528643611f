/*
 * personal.h: what the cache may hold of a learner, to be erased.
 */
#ifndef EDUAI_CACHE_PERSONAL_H
#define EDUAI_CACHE_PERSONAL_H

extern void eduai_cache_personal_init(void);

#endif
