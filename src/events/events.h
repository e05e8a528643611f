/*
 * events.h: the events room, the log of what learners do.
 */
#ifndef EDUAI_EVENTS_EVENTS_H
#define EDUAI_EVENTS_EVENTS_H

/* Registers the room's hooks; called once, from _PG_init(). */
extern void eduai_events_init(void);

#endif
