/*
 * budget_list.h: the budgets as set_budget() was told, and whom they are for.
 * Private to budget*.c; of the dispatcher and of sessions.
 */
#ifndef EDUAI_GATEWAY_BUDGET_LIST_H
#define EDUAI_GATEWAY_BUDGET_LIST_H

#include "gateway/budget_period.h"
#include "utils/numeric.h"

typedef enum BudgetScope
{
	SCOPE_TENANT,
	SCOPE_EACH_USER, /* user:* */
	SCOPE_USER,
	SCOPE_PROVIDER
} BudgetScope;

typedef struct Budget
{
	int64 budget_id;
	int64 revision;
	char *tenant; /* empty: a provider's */
	char *scope;  /* as it was given */
	BudgetScope kind;
	char *name;      /* the user, the provider; else NULL */
	char *task_type; /* NULL: all */
	Interval per;
	Numeric usd;
	bool defers; /* on_exceeded */
	bool refuses;
	/* when the list was read */
	BudgetPeriod now;
	bool counted; /* by the dispatcher, in this time zone */
	bool seen;    /* by it, in this revision */
} Budget;

/* Of whom a call is. */
typedef struct BudgetSubject
{
	const char *tenant;
	const char *user_id; /* NULL: none */
	const char *provider;
	const char *task_type;
} BudgetSubject;

/* Those of providers come first, then by tenant. */
typedef struct BudgetList
{
	Budget *budgets;
	int n;
	pg_tz *timezone;
} BudgetList;

/* Reads all, into a context.  SPI connected, as the owner. */
extern void
eduai_gateway_budget_list_read(BudgetList *list, MemoryContext context, TimestampTz now);

/*
 * The budgets that count a subject, from index "at" on (0 to begin): the next
 * one's index + 1, 0 for no more.  limits: only those that limit it, too: a
 * user's own budget takes him out of user:* for its task type and period.
 */
extern int eduai_gateway_budget_list_next(const BudgetList *list, const BudgetSubject *subject,
										  bool limits, int at);

/* A number that is another after a change that this session may see. */
extern uint64 eduai_gateway_budget_changes(void);
extern void eduai_gateway_budget_list_init(void);

#endif
