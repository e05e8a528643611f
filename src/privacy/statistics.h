/*
 * statistics.h: what the planner remembers of a table's rows.
 */
#ifndef EDUAI_PRIVACY_STATISTICS_H
#define EDUAI_PRIVACY_STATISTICS_H

#include "postgres.h"

/*
 * Makes the statistics of a table, its partitions and indexes anew; "name" is
 * the table's, quoted.  As eduai's owner, inside SPI; takes the locks that
 * ANALYZE takes, and may raise what they and the table's own code raise.
 */
extern void eduai_privacy_statistics_renew(Oid relid, const char *name);

#endif
