/*
 * passed.h: what the fetches of subscriptions have passed over, in shared
 * memory.
 *
 * A fact says: of one member of one generation of a subscription, no event in
 * after < position <= through is for it.  The generation fixes the filter and
 * the number of members, positions at or below the safe mark never get new
 * events, and no acknowledgement is part of a fact: so it stays true whoever
 * commits or rolls back, and may be shared between sessions at once.  A
 * generation is a random number that no other change of a subscription has:
 * one that was rolled back is seen by nobody.
 *
 * Losing an entry costs a rescan and the time of the last fetch.
 */
#ifndef EDUAI_EVENTS_PASSED_H
#define EDUAI_EVENTS_PASSED_H

#include "postgres.h"
#include "datatype/timestamp.h"

typedef struct EduaiPassedKey
{
	Oid database;
	Oid table; /* of the subscriptions: another one after DROP EXTENSION */
	int64 generation;
	int32 member;
} EduaiPassedKey;

typedef struct EduaiFact
{
	int64 after;
	int64 through; /* not beyond after: says nothing */
} EduaiFact;

typedef struct EduaiPassed
{
	EduaiFact lead;         /* from the member's position on */
	EduaiFact tail;         /* after the last event that was fetched */
	TimestampTz fetched_at; /* 0: not known */
} EduaiPassed;

extern void eduai_events_passed_init(void);

/* What is known, zeroes when nothing is or without preload. */
extern EduaiPassed eduai_events_passed_get(const EduaiPassedKey *key);

/* Notes it in place of what was known; evicts the least recently used. */
extern void eduai_events_passed_put(const EduaiPassedKey *key, const EduaiPassed *passed);

/* From a position to the end of what is known to hold nothing after it. */
extern int64 eduai_events_passed_from(const EduaiPassed *passed, int64 position);

#endif
