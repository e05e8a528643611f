/*
 * core.h: the room's entry, called first by _PG_init().
 */
#ifndef EDUAI_CORE_CORE_H
#define EDUAI_CORE_CORE_H

extern void eduai_core_init(void);

#endif
