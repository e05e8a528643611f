/*
 * keeper.h: the worker "eduai keeper", which finishes what privacy began: the
 * erasures, the chain of the access log.
 */
#ifndef EDUAI_PRIVACY_KEEPER_H
#define EDUAI_PRIVACY_KEEPER_H

#include "core/chores.h"
#include "postgres.h"

extern void eduai_privacy_keeper_init(void);
/* Adds a static chore (core/chores.h); from the init functions only. */
extern void eduai_privacy_keeper_register(const EduaiChore *chore);
/* Wakes this database's keeper when the transaction commits; at once. */
extern void eduai_privacy_keeper_wake_at_commit(void);
extern void eduai_privacy_keeper_wake_now(void);

#endif
