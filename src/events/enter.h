/*
 * enter.h: entering eduai's own tables to work on single rows.
 */
#ifndef EDUAI_EVENTS_ENTER_H
#define EDUAI_EVENTS_ENTER_H

#include "core/privilege.h"

/*
 * eduai_core_enter(), and until eduai_core_leave() the planner finds rows by
 * index and keeps one plan per statement.  A plan made while a table was small
 * or unanalysed would otherwise scan it, and go on scanning it as it grows
 * until the session sees the next ANALYZE: a load in one session would cost
 * the square of its rows.
 */
extern void eduai_events_enter(EduaiPrivilege *saved);

#endif
