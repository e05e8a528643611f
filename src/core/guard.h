/*
 * guard.h: running what users wrote, so that what goes wrong stays theirs.
 */
#ifndef EDUAI_CORE_GUARD_H
#define EDUAI_CORE_GUARD_H

#include "postgres.h"

/*
 * Runs work(arg) in a subtransaction for at most limit_ms (0: as long as it
 * likes).  Returns NULL when it ended well; else the error, copied into the
 * current context, with everything that it did rolled back.  In a background
 * process, session-level advisory locks that it took are released either way;
 * in an application's session nobody can tell them from the session's own.
 *
 * The limit is a statement timeout, which code may catch; but once the time is
 * over each subtransaction that is rolled back cancels again.  It takes nothing
 * from the session's statement_timeout: whichever is over first cancels.
 * Guards may nest; an inner one ends no later than those around it.  The
 * termination of this process is not caught.
 */
extern ErrorData *eduai_core_guard(void (*work)(void *arg), void *arg, int limit_ms);

/*
 * For workers, in a PG_CATCH around transactions of their own: ends the one that
 * failed and returns the error, copied into "context", which is current then.
 */
extern ErrorData *eduai_core_catch(MemoryContext context);

/* Whether the error that the last guard returned was its own limit's. */
extern bool eduai_core_guard_ran_out(void);

extern void eduai_core_guard_init(void);

#endif
