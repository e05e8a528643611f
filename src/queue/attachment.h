/*
 * attachment.h: bytes that payloads refer to: {"attachment": "<id>"} anywhere
 * in one.
 *
 * Bytes about a learner are stored sealed under the learner's key, where there is
 * a key store: nobody knows yet what task will refer to them.
 *
 * A task's row in eduai.task_attachment keeps an attachment; it goes with the
 * last task that refers to it.
 */
#ifndef EDUAI_QUEUE_ATTACHMENT_H
#define EDUAI_QUEUE_ATTACHMENT_H

#include "postgres.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

extern void eduai_queue_attachment_init(void);

/*
 * Links the attachments that a payload refers to with its task, so that they
 * are kept as long.  Raises 22023 for one that does not exist.  Costs a scan of
 * the bytes when there are none.  SPI connected, as the owner.
 */
extern void eduai_queue_link_attachments(const char *tenant, int64 task_id, const Jsonb *payload);

/*
 * For tasks that are about to be forgotten: their links go, and attachments
 * that no other task refers to.  Never waits for a lock: what another session
 * is linking at the moment is left to drop_unlinked.  SPI connected, as the
 * owner.
 */
extern void eduai_queue_drop_attachments(char *const *tenants, const int64 *ids, int n);

/*
 * Drops attachments of a tenant (NULL: of all) that are older than this and that
 * no task refers to, most_n at most; returns how many.  Not for a process that
 * acts by itself: a restore may have yet to load what refers to them.  Never
 * waits for a lock.  SPI connected, as the owner.
 */
extern int64
eduai_queue_drop_unlinked_attachments(const char *tenant, int64 older_than_us, int most_n);

typedef enum AttachmentRead
{
	ATTACHMENT_READ,
	ATTACHMENT_MISSING,   /* the tenant has none of this id */
	ATTACHMENT_TOO_LARGE, /* more than "most" bytes: none was read */
	ATTACHMENT_LOCKED     /* it is sealed, and the key store cannot be used now */
} AttachmentRead;

/*
 * Reads one of at most so many bytes, into the caller's memory context.  In a
 * transaction, as the owner; connects SPI by itself.
 */
extern AttachmentRead eduai_queue_attachment_read(const char *tenant, const char *id, size_t most,
												  char **content_type, bytea **data);

/*
 * Keeps bytes as an attachment of the task, sealed as attach() does, under an id that was drawn before
 * (eduai_core_uuid7).  In a transaction, as the owner; connects SPI by itself.
 */
extern void eduai_queue_attachment_keep(const char *tenant, int64 task_id, const pg_uuid_t *id,
										const char *user_id, const char *content_type, bytea *data);

/* Takes that back, when the task turned out to be superseded. */
extern void eduai_queue_attachment_unkeep(const char *tenant, int64 task_id, const pg_uuid_t *id);

#endif
