/*
 * pages.h: looking through a table a few pages at a time, by statements with
 * "ctid >= $1 AND ctid < $2", where no index leads to the rows.
 *
 * A row that is in the table when the look begins, and is not moved, is met
 * once.  How far it is can be kept as a number and outlives the process.
 */
#ifndef EDUAI_CORE_PAGES_H
#define EDUAI_CORE_PAGES_H

#include "postgres.h"

/* How many pages the table has now; 0 when it is not there. */
extern int64 eduai_core_pages_of(Oid relid);

/* The place before the first row of a page, as a tid. */
extern Datum eduai_core_page_start(int64 page);

#endif
