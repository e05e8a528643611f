/*
 * status.h: version(), home(), health() and health_problems().
 */
#ifndef EDUAI_CORE_STATUS_H
#define EDUAI_CORE_STATUS_H

extern void eduai_core_status_init(void);

/* "system identifier/database oid/fleet": where this database is; palloc'd */
extern char *eduai_core_home(void);

#endif
