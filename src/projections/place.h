/*
 * place.h: how far a follower of the feed has come.
 *
 * A follower is one lane of one generation of a projection in one tenant.  Its
 * row of eduai.projection_position is read and written by whoever follows for
 * it, under its lock (follow.h), in the transaction that writes the states.
 * What it has passed over since, without an event that it wants, is known in
 * shared memory only.
 */
#ifndef EDUAI_PROJECTIONS_PLACE_H
#define EDUAI_PROJECTIONS_PLACE_H

#include "postgres.h"
#include "projections/catalog.h"
#include "storage/itemptr.h"

typedef struct EduaiFollower
{
	int projection;
	int generation;
	int lane;
	int lanes; /* of the projection */
	const char *tenant;
	bool alone; /* followed by a process of its own, which may take large steps */
} EduaiFollower;

typedef struct EduaiPlace
{
	bool found;
	ItemPointerData tid; /* when found */
	int64 position;      /* all events up to here are folded; 0 without a row */
	int64 events;        /* folded so far */
} EduaiPlace;

/* The lane of a key; stable for ever. */
extern int eduai_projections_lane(const char *key, int lanes);

/* Reads the row with the latest snapshot. */
extern void eduai_projections_place_read(const EduaiFollower *follower, EduaiPlace *place);

/* Writes the row that was read, with the new position and events; ends the command. */
extern void eduai_projections_place_write(const EduaiFollower *follower, const EduaiPlace *place);

/* From a position on to the end of what is known to hold nothing for the follower. */
extern int64 eduai_projections_place_passed(const EduaiFollower *follower, int64 position);

/*
 * Notes that there is nothing for the follower in position < p <= through.
 * Say only what is true whoever rolls back: of events that are in the log.
 */
extern void
eduai_projections_place_pass(const EduaiFollower *follower, int64 position, int64 through);

#endif
