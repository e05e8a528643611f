/*
 * read.h: reading in the calling statement's snapshot.
 */
#ifndef EDUAI_EVENTS_READ_H
#define EDUAI_EVENTS_READ_H

#include "postgres.h"
#include "core/plan.h"

/*
 * Runs a SELECT in the snapshot of the statement that called the function, so
 * that a STABLE function agrees with the rest of its query; it sees what the
 * transaction wrote before that statement.  Call it inside SPI, between
 * eduai_events_enter() and eduai_core_leave(); rows are in SPI_tuptable, their number is
 * returned.
 */
extern uint64 eduai_events_query(EduaiPlan *plan, Datum *args);

#endif
