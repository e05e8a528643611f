/*
 * sensitive.h: the fields of data that a type's registration calls sensitive:
 * sealed on their way into the log, in clear for who may see them on their way
 * out (core/personal.h).  Everything in between, reducers, blocks, snapshots and
 * upcasters included, has them sealed.
 */
#ifndef EDUAI_EVENTS_SENSITIVE_H
#define EDUAI_EVENTS_SENSITIVE_H

#include "postgres.h"
#include "core/hooks.h"
#include "utils/jsonb.h"

/*
 * Seals the sensitive fields of the batch's events; those of events about
 * nobody have no key and stay as they are.  Returns the data as they were, by
 * event, or NULL when nothing was sealed.  Raises 55000 when a field must be
 * sealed and cannot be.
 */
extern Jsonb **eduai_events_seal_sensitive(EduaiAppendBatch *batch);

/* Data for eduai's own comparison. */
extern const Jsonb *eduai_events_in_clear(const char *tenant, const char *user_id,
										  const char *event_type, const Jsonb *data);

/* Without the type's sensitive fields; the same pointer when there is none in it. */
extern Jsonb *eduai_events_without_sensitive(const char *event_type, Jsonb *data);

#endif
