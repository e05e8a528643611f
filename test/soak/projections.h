/*
 * projections.h: what the parts of the soak of projections share.
 */
#ifndef PROJECTIONS_H
#define PROJECTIONS_H

#include "soak.h"

/* A projection under test. */
typedef struct Followed
{
	const char *name;
	bool is_inline;
	bool by_learner; /* its key; else the stream */
	unsigned types;  /* a bit for each type; 0: all */
	int lanes;
	bool skips; /* at the end its poison events are skipped, not repaired */
	int id;
} Followed;

#define FOLLOWED 5
extern Followed followed[FOLLOWED];

/* Every so many events the reducer raises, as long as it is not repaired. */
#define POISON_EVERY 5003

/* ---- projections_chaos.c ---- */

extern void *kills_main(void *arg);
/* Rebuilds one projection after the other: of the inline ones, or of the others with NULL. */
extern void *rebuilder_main(void *inlines);
/* Kills at which something was under way that could be torn. */
extern int kills_that_count(void);
extern void kills_report(void);
/* There were as many, and with many, some of every kind of what was under way. */
extern void kills_check(int wanted);

/* ---- projections_check.c ---- */

/* Reads, during the run, what must be so in any snapshot. */
extern void *observer_main(void *number);
extern uint64_t observations(void);
/* The event will not be counted for the projection. */
extern void check_skip(int projection, uint32_t event);
/* Every state is what the feed gives, folded here. */
extern void check_states(Session *session, const char *when);

#endif
