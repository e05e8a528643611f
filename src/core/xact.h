/*
 * xact.h: the one transaction callback.
 *
 * Rooms register their hooks with a rank; lower ranks run first, at every
 * event.  The cache's judgement is the last that may raise; locks, which end
 * what keeps others waiting, come after all.
 *
 * What a hook may do: pre_commit and pre_prepare may raise and may run SQL.
 * commit, abort and prepare run after the decision: they must not raise,
 * allocate, look up a catalog or wait.  subxact is told of the start, the
 * commit and the abort of each savepoint, with the same rule for aborts.
 */
#ifndef EDUAI_CORE_XACT_H
#define EDUAI_CORE_XACT_H

#include "postgres.h"
#include "access/xact.h"

#define EDUAI_RANK_EVENTS      10
#define EDUAI_RANK_PROJECTIONS 20
#define EDUAI_RANK_QUEUE       30
#define EDUAI_RANK_GATEWAY     40
#define EDUAI_RANK_WORKER      80
#define EDUAI_RANK_FEED        85 /* draws positions: as late as can be */
#define EDUAI_RANK_CACHE       90
#define EDUAI_RANK_LOCKS       95

typedef struct EduaiXactHooks
{
	const char *name;
	int rank;
	void (*pre_commit)(void);
	void (*pre_prepare)(void);
	void (*commit)(void);
	void (*abort)(void);
	void (*prepare)(void); /* the transaction left this session */
	void (*subxact)(SubXactEvent event, SubTransactionId mine, SubTransactionId parent);
} EduaiXactHooks;

extern void eduai_core_xact_init(void);

/* Registers static hooks; called from <room>_init() only. */
extern void eduai_core_xact_register(const EduaiXactHooks *hooks);

#endif
