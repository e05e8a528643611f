/*
 * generation.h: which generation of a projection's states is live, which one
 * is being built, which ones are to be deleted: eduai.projection_generation.
 *
 * A number is never used for other states: next is above all that have rows.
 * Whoever changes a row tells every backend.  A step may still be writing into
 * a generation that was retired meanwhile; who clears it waits for that.
 */
#ifndef EDUAI_PROJECTIONS_GENERATION_H
#define EDUAI_PROJECTIONS_GENERATION_H

#include "postgres.h"
#include "projections/catalog.h"

/*
 * A next generation is to be built from the log: registers one, unless the
 * caller or somebody else has.  In the caller's transaction; the projector
 * hears of it at commit.  Switches to the owner by itself.
 */
extern void eduai_projections_rebuild_wanted(int projection);

/*
 * The last act of creating a projection, in its transaction, with its row in
 * eduai.projection_generation: an async one is live, and behind (live 1, next 0);
 * an inline one is to be built (live 0, next 1), and is built here when that is possible without
 * waiting for an appender and soon done; else the projector sees to it.
 */
extern void eduai_projections_created(int projection);

/*
 * The next generation becomes the live one.  Inside SPI, as the owner,
 * followers held.  False when another one is being built by now.
 */
extern bool eduai_projections_generation_flip(int projection, int generation);

/* Registers a next generation unless one is being built.  Inside SPI, as the owner. */
extern void eduai_projections_generation_begin(int projection);

/*
 * For REPEATABLE READ: raises 40001 when the transaction's snapshot shows
 * another generation as live than the one that is folded into now, which its
 * reads would never see.
 */
extern void eduai_projections_generation_check(const EduaiProjection *projection);

/* The chore that deletes retired generations. */
extern void eduai_projections_generation_init(void);

#endif
