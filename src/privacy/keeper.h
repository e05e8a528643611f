/*
 * keeper.h: the worker "eduai keeper", which finishes what privacy began: the
 * erasures, the chain of the access log.
 *
 * A chore's run() is called outside any transaction, makes its own, short ones,
 * and returns after at most some 200 ms of work: true when there is more to do.
 * An error in it is logged, and the chore is tried again later (1 s doubling to
 * a minute).  It is called when the keeper was woken and at least each period.
 */
#ifndef EDUAI_PRIVACY_KEEPER_H
#define EDUAI_PRIVACY_KEEPER_H

#include "postgres.h"

typedef struct EduaiKeeperChore
{
	const char *name;
	int period_ms;
	bool (*run)(void);
} EduaiKeeperChore;

extern void eduai_privacy_keeper_init(void);
/* "chore" is static; from the init functions only. */
extern void eduai_privacy_keeper_register(const EduaiKeeperChore *chore);
/* Wakes this database's keeper when the transaction commits; at once. */
extern void eduai_privacy_keeper_wake_at_commit(void);
extern void eduai_privacy_keeper_wake_now(void);

#endif
