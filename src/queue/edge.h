/*
 * edge.h: the rows of task_dependency, without SQL: from a task that waits to
 * each parent that keeps it waiting.
 *
 * Sessions insert edges, of new tasks or by add_dependency(); the dispatcher
 * alone deletes them, one by one as parents end, so nobody waits for anybody.
 * A child may run when it has no edge left.
 *
 * Reads see what is committed and what this transaction did, as of each row.
 */
#ifndef EDUAI_QUEUE_EDGE_H
#define EDUAI_QUEUE_EDGE_H

#include "postgres.h"
#include "storage/itemptr.h"

typedef struct EduaiEdges EduaiEdges;

/* For one call, closed before it returns; after an error the transaction's end does it. */
extern EduaiEdges *eduai_queue_edges_open(void);
extern void eduai_queue_edges_close(EduaiEdges *edges);

/* The caller counts commands.  Raises 23505 when the edge is there. */
extern void
eduai_queue_edge_insert(EduaiEdges *edges, const char *tenant, int64 parent_id, int64 task_id);

typedef struct Edge
{
	int64 parent_id;
	int64 task_id;
	ItemPointerData tid;
} Edge;

/* The edges to a parent, or those of a child; palloc'd, returns how many. */
extern int
eduai_queue_edges_to(EduaiEdges *edges, const char *tenant, int64 parent_id, Edge **list);
extern int eduai_queue_edges_of(EduaiEdges *edges, const char *tenant, int64 task_id, Edge **list);

/* Has the child an edge left? */
extern bool eduai_queue_edge_left(EduaiEdges *edges, const char *tenant, int64 task_id);

/* One that is gone, or that somebody else deletes, is none of ours. */
extern void eduai_queue_edge_delete(EduaiEdges *edges, const Edge *edge);

#endif
