/*
 * attachments.h: attachments that payloads refer to, and pictures of answers
 * that become some.
 *
 * A call's bytes are read in the transaction that claims its task, because none
 * is open when it leaves; they are in the call's memory until it ended.
 */
#ifndef EDUAI_GATEWAY_ATTACHMENTS_H
#define EDUAI_GATEWAY_ATTACHMENTS_H

#include "gateway/call.h"

extern void eduai_gateway_attachments_init(void);

/*
 * Reads what the payload of a claimed call refers to, into call->files.  In the
 * claim's transaction.  A payload without any costs a scan of its bytes.
 */
extern void eduai_gateway_attachments_load(GatewayCall *call);

/* May it refer to an attachment somewhere?  A scan of its bytes.  NULL: no. */
extern bool eduai_gateway_mentions_attachments(const Jsonb *json);

/* The file of this id; NULL, and the outcome is bad_payload, when it is not there.  Pure. */
extern const CallFile *
eduai_gateway_attachment(const GatewayCall *call, const char *id, CallOutcome *outcome);

/*
 * A chat's payload with the attachments of its messages written into it,
 * as the providers want them: data: URLs for pictures and files, base64 for
 * sound.  NULL when it cannot be: the outcome says why.  Pure.
 */
extern Jsonb *
eduai_gateway_attachments_inline(const GatewayCall *call, Jsonb *payload, CallOutcome *outcome);

/* ---- pictures.c ---- */

/*
 * In the transaction that records a completed call, before the task's end is
 * written: pictures that the result has as base64 become attachments of the
 * task, {"attachment": id}.  unkeep: the end was not written after all; the
 * ids stay the same for the next time.
 */
extern void eduai_gateway_pictures_keep(const GatewayCall *call, CallOutcome *outcome);
extern void eduai_gateway_pictures_unkeep(const GatewayCall *call, const CallOutcome *outcome);

#endif
