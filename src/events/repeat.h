/*
 * repeat.h: events that were appended before, told by the ids callers give.
 */
#ifndef EDUAI_EVENTS_REPEAT_H
#define EDUAI_EVENTS_REPEAT_H

#include "postgres.h"
#include "core/hooks.h"

/* What repeat[i] says of event i, when it is not the index of an earlier one. */
#define EDUAI_EVENTS_NEW    (-1)
#define EDUAI_EVENTS_STORED (-2)

/*
 * Locks the given ids of the batch and looks for what is stored under them.
 *
 * Fills repeat[]: EDUAI_EVENTS_NEW; EDUAI_EVENTS_STORED, the version and times
 * being then those of the stored event; or the index of an earlier event of
 * this batch with the same id.  time_given[i] says whether the caller set
 * occurred_at: only then does it belong to the content that is compared.
 *
 * Call it inside SPI, as the extension's owner.  The locks last to the end of
 * the transaction.  Returns false only with batch->nowait, when an id is not
 * free.  Raises UE006 for an id with other content.
 */
extern bool eduai_events_find_repeats(EduaiAppendBatch *batch, const bool *time_given, int *repeat);

#endif
