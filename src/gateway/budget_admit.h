/*
 * budget_admit.h: refusing at enqueue what a budget would not let through.
 */
#ifndef EDUAI_GATEWAY_BUDGET_ADMIT_H
#define EDUAI_GATEWAY_BUDGET_ADMIT_H

/* Registers the enqueue hook. */
extern void eduai_gateway_budget_admit_init(void);

#endif
