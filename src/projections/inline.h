/*
 * inline.h: folding in the transaction that appends.
 */
#ifndef EDUAI_PROJECTIONS_INLINE_H
#define EDUAI_PROJECTIONS_INLINE_H

/* Registers the append hooks. */
extern void eduai_projections_inline_init(void);

#endif
