/*
 * record.h: outcomes of calls become results, ledger rows and what follows
 * from them.  In a transaction, SPI connected.
 */
#ifndef EDUAI_GATEWAY_RECORD_H
#define EDUAI_GATEWAY_RECORD_H

#include "gateway/flight.h"

/*
 * Writes these outcomes.  done[i] becomes true when the flight needs no more
 * recording once the transaction commits, false when somebody holds what it
 * needs: nothing of it was written, and it is to be tried later.
 */
extern void eduai_gateway_record(const Fleet *fleet, Flight **flights, int n, bool *done);

/*
 * Attempts of dispatchers that died: each becomes uncertain, with a ledger row
 * that says so.  Returns how many were found, at most a batch; call it until
 * there are none.
 */
extern int eduai_gateway_record_orphans(void);

/* The same for running rows that came from elsewhere; for the sweep. */
extern int eduai_gateway_record_forgotten(void);

#endif
