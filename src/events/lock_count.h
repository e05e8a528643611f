/*
 * lock_count.h: how many locks an append will take.
 */
#ifndef EDUAI_EVENTS_LOCK_COUNT_H
#define EDUAI_EVENTS_LOCK_COUNT_H

#include "core/hooks.h"

/*
 * Finds room for the locks of the batch's given event ids, streams, learners
 * and sessions; call before the first of them (core/lock.h).  May wait; false only
 * with batch->nowait.
 */
extern bool eduai_events_expect_locks(const EduaiAppendBatch *batch);

#endif
