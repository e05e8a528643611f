/*
 * erase_hand.h: one erasure in the keeper's hands.  See erase_chore.c.
 *
 * Each function takes transactions of its own, outside of any; what they raise
 * leaves the erasure where its rows say it is.
 */
#ifndef EDUAI_PRIVACY_ERASE_HAND_H
#define EDUAI_PRIVACY_ERASE_HAND_H

#include "postgres.h"
#include "privacy/older.h"

/* An erasure as this keeper has it in hand. */
typedef struct EraseHand
{
	char *tenant;
	char *user_ref;
	char *user_id;
	EduaiOlder older; /* those to wait for */
	bool derived;     /* the second wait has begun */
	bool unsure;      /* steps ran while somebody older did */
	bool last;        /* gone through once more: now nobody older is left out */
	bool seen;        /* is still pending */
} EraseHand;

typedef enum EraseProgress
{
	ERASE_MADE,
	ERASE_WAITS, /* for a transaction, or for the time of a retry */
	ERASE_DONE,  /* no step is left */
} EraseProgress;

/* A transaction as the owner, inside SPI. */
extern void eduai_privacy_hand_transaction(void);
extern void eduai_privacy_hand_commit(void);

/* Is it early enough to wait for those who were there before? */
extern bool eduai_privacy_hand_is_patient(const EraseHand *hand);

/* Ledger, key, tombstone; true. */
extern bool eduai_privacy_hand_begin(EraseHand *hand);

/* The next step, for a while.  What a step raises is noted with it. */
extern EraseProgress eduai_privacy_hand_step(EraseHand *hand);

/* All steps are done: true when that was the end. */
extern bool eduai_privacy_hand_end(EraseHand *hand);

#endif
