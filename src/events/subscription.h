/*
 * subscription.h: what a subscription is and where its members stand.
 *
 * An arrangement is what a subscription is between two changes (creation, a
 * change of its members, a seek); its generation names it.  After a change the
 * members start from the change's position and are resetting: an
 * acknowledgement may then come from a consumer of the arrangement before, so
 * it counts only up to what this arrangement has delivered, which fetches
 * write down.  A member is resetting until its position reaches reset_until:
 * no consumer of an arrangement before was delivered anything beyond it.
 *
 * reset_until cannot be known by the change itself, since consumers fetch by
 * the arrangement before until the change is committed.  The first fetch that
 * sees the change committed sets it to the safe mark it reads after that: a
 * fetch reads how far it may go first and the arrangement second, so one that
 * saw the arrangement before did not go further.
 *
 * Locks: every writer of a member's row holds the member's lock to the end of
 * its transaction, every change of a subscription holds the subscription's and
 * then those of all members old and new.  Under them the latest snapshot shows
 * all there is, and nothing raises 40001 below SERIALIZABLE.
 */
#ifndef EDUAI_EVENTS_SUBSCRIPTION_H
#define EDUAI_EVENTS_SUBSCRIPTION_H

#include "postgres.h"
#include "events/feed.h"
#include "events/passed.h"

#define EDUAI_EVENTS_MAX_MEMBERS 256

/* Of EduaiMember.reset_until and delivered. */
#define EDUAI_EVENTS_UNKNOWN (-1)

typedef struct EduaiMember
{
	EduaiPassedKey key; /* with the generation and the member's number */
	EduaiFeedFilter filter;
	bool own_change; /* this very transaction made the arrangement */
	int64 position;
	bool resetting;
	int64 reset_until; /* while resetting */
	int64 delivered;   /* while resetting: the greatest position fetched */
} EduaiMember;

/*
 * Reads a member as it is now: what is committed, and what this transaction
 * did.  In SPI, as the extension's owner; the result lives in SPI's memory.
 * Raises 42704 without the subscription, 22023 without the member.
 */
extern void
eduai_events_member_read(const char *tenant, const char *name, int member, EduaiMember *found);

/* Takes the lock of a member's row; false, only with nowait, when it is not free. */
extern bool eduai_events_member_lock(const char *tenant, const char *name, int member, bool nowait);

/* Writes position, resetting, reset_until and delivered; the caller holds the lock. */
extern void
eduai_events_member_write(const char *tenant, const char *name, const EduaiMember *member);

/* Raises 22004 for NULL, 22023 for a name that cannot be. */
extern void eduai_events_check_subscription(const char *name);

#endif
