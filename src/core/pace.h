/*
 * pace.h: background work that leaves the processors to those who want them.
 *
 * A process that paces itself works, then rests: not at all where it had to
 * wait for nothing meanwhile, since then nobody wants what it uses; where it
 * waited for a quarter of the time or more, for a processor or a disk, so long
 * that it takes eduai.maintenance_share of a processor.
 *
 * It rests between transactions.  Within one its snapshot would keep every dead
 * row from being pruned, and rows that others change all the time then cost
 * them more than the processor does.
 */
#ifndef EDUAI_CORE_PACE_H
#define EDUAI_CORE_PACE_H

#include "postgres.h"

/* Work begins: at first, and after each rest. */
extern void eduai_core_pace_begin(void);

/* How long to rest now, outside of any transaction; 0 while there was too little work to tell. */
extern int64 eduai_core_pace_rest_us(void);

extern void eduai_core_pace_init(void);

#endif
