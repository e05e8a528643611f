/*
 * task_event.h: the queue's changes of tasks, as events.
 */
#ifndef EDUAI_EVENTS_TASK_EVENT_H
#define EDUAI_EVENTS_TASK_EVENT_H

#include "postgres.h"

extern void eduai_events_task_event_init(void);

#endif
