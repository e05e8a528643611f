/*
 * progress_store.h: the table of the learners' progress.
 */
#ifndef EDUAI_PROJECTIONS_PROGRESS_STORE_H
#define EDUAI_PROJECTIONS_PROGRESS_STORE_H

#include "postgres.h"
#include "core/hooks.h"
#include "projections/progress.h"

/*
 * Locks the learners of the batch, sorted, to the end of the transaction.
 * Returns false only with batch->nowait, when one is not free.
 */
extern bool eduai_projections_lock_learners(EduaiAppendBatch *batch);

/*
 * Folds the batch into its learners' rows, each read and written once.  Call
 * it inside SPI, as the extension's owner, with the learners locked.
 */
extern void eduai_projections_fold_batch(EduaiAppendBatch *batch);

#endif
