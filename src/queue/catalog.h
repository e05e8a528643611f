/*
 * catalog.h: task types and pools: the built-in ones and what administrators
 * defined, kept per backend until the tables change.
 */
#ifndef EDUAI_QUEUE_CATALOG_H
#define EDUAI_QUEUE_CATALOG_H

#include "postgres.h"

typedef struct TaskType
{
	char *name;
	bool by_gateway;
	char *pool;
	int max_attempts;
	int64 timeout_ms;
	char *on_uncertain; /* "retry" or "hold" */
	bool paused;        /* pause_queue(): nothing of it is started */
} TaskType;

typedef struct Pool
{
	char *name;
	int max_concurrent;
	int scale_to; /* max_concurrent when it does not scale */
	int reserved_critical;
} Pool;

extern void eduai_queue_catalog_init(void);

/* The tables are read again at the next use, as after an invalidation. */
extern void eduai_queue_catalog_mark_stale(void);

/*
 * NULL when unknown.  The answer is valid until the next call of a function
 * of this header.  Call with SPI connected, as the owner.
 */
extern const TaskType *eduai_queue_type(const char *name);
extern const Pool *eduai_queue_pool(const char *name);

/* All pools; *n of them. */
extern const Pool *eduai_queue_pools(int *n);

/* All types; *n of them. */
extern const TaskType *eduai_queue_types(int *n);

/* Raises 22023 for an unknown type, naming it. */
extern const TaskType *eduai_queue_require_type(const char *name);

#endif
