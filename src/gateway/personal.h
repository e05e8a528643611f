/*
 * personal.h: a learner's data in this room, to be erased and exported:
 * the ledger and the budgets.
 */
#ifndef EDUAI_GATEWAY_PERSONAL_H
#define EDUAI_GATEWAY_PERSONAL_H

extern void eduai_gateway_personal_init(void);

#endif
