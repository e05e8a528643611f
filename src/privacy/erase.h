/*
 * erase.h: erasures between the call, the ledger and the keeper.
 *
 * Terms
 *
 *   intent   the row of eduai.erasure: committed by erase_user(), from then on
 *            nothing new is kept about the learner.
 *   step     a row of eduai.erasure_step: one store, or one table that an
 *            application registered, to be gone through for an intent.
 *
 * All of it as the extension's owner, inside SPI.
 */
#ifndef EDUAI_PRIVACY_ERASE_H
#define EDUAI_PRIVACY_ERASE_H

#include "postgres.h"
#include "core/personal.h"
#include "fmgr.h"
#include "privacy/erased.h"

/* Steps of registered tables have this before "schema.table.column". */
#define EDUAI_ERASE_TABLE "table:"

/*
 * Records an intent and its steps; false when there is one already.  "digest"
 * is that of the learner.  The keeper is woken at commit.
 */
extern bool eduai_privacy_erase_intend(const char *tenant, const char *user_id, const char *reason,
									   const EduaiErasedDigest *digest);

/*
 * Locks the table of erasures until the transaction ends: in mode SHARE ROW
 * EXCLUSIVE none begins or ends meanwhile.  Inside SPI, as the owner.
 */
extern void eduai_privacy_erasures_hold(const char *mode);

/*
 * Is an erasure of the tenant at its events, or about to be?  Then long work on
 * the tenant's blocks lets it go first.  Not one that fails.
 */
extern bool eduai_privacy_erase_wants_blocks(const char *tenant);

/* The first argument, a learner's id; refused when it is null, empty or too long. */
extern char *eduai_privacy_user_argument(FunctionCallInfo fcinfo);

/* ---- registered tables ---- */

/*
 * Removes some rows of a registered table, "schema.table.column"; when none is
 * left, the planner's statistics forget those removed.
 */
extern int64 eduai_privacy_table_erase(EduaiPersonalWork *work, const char *source);
/* The rows that the registered tables have about the learner, each as "table:...". */
extern void eduai_privacy_tables_export(const char *tenant, const char *user_id,
										EduaiPersonalRow row, void *arg);
/* Tells the learners that the registered tables name. */
extern void eduai_privacy_tables_learners(EduaiPersonalLearner learner, void *arg);

extern void eduai_privacy_erase_chore_init(void);

#endif
