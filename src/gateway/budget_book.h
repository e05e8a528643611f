/*
 * budget_book.h: the budgets and their sums, as the dispatcher has them in
 * memory.  Private to budget*.c.
 *
 * Everything here is in a transaction, SPI connected, as the owner.  What a
 * transaction changed is dropped when it aborts, and read again.
 */
#ifndef EDUAI_GATEWAY_BUDGET_BOOK_H
#define EDUAI_GATEWAY_BUDGET_BOOK_H

#include "gateway/budget.h"
#include "gateway/budget_list.h"
#include "utils/numeric.h"

/* Of a budget, a user ("" unless it is each user's) and a period. */
typedef struct BudgetSum
{
	int budget; /* index; key */
	char *user;
	TimestampTz starts_at;
	Numeric spent;
	Numeric reserved;
	Numeric unwritten; /* of spent; NULL: nothing */
	struct BudgetSum *next_unwritten;
} BudgetSum;

/* A row of eduai.budget_reservation. */
typedef struct BudgetReservation
{
	BudgetSubject subject;
	int64 task_id;
	int attempt;
	bool hedge; /* of the second call of the attempt */
	const char *instance;
	const char *model;
	Numeric bound_usd;
	TimestampTz reserved_at;
} BudgetReservation;

extern void eduai_gateway_budget_book_init(void);

/* Reads it again if it is not as things are. */
extern void eduai_gateway_budget_book_refresh(const Fleet *fleet);

/* Are there neither budgets nor reservations? */
extern bool eduai_gateway_budget_book_empty(void);

/* As eduai_gateway_budget_list_next(). */
extern int eduai_gateway_budget_next(const BudgetSubject *subject, bool limits, int at);
extern const Budget *eduai_gateway_budget_at(int index);

/* The sum of a budget for a subject in the period that begins then. */
extern BudgetSum *
eduai_gateway_budget_sum(int index, const BudgetSubject *subject, TimestampTz starts_at);

/* Changes a sum by these, which may be NULL; what is spent is written by write_sums(). */
extern void eduai_gateway_budget_change(BudgetSum *sum, Numeric spent, Numeric reserved, bool less);
extern void eduai_gateway_budget_write_sums(void);

/* In all sums that count it: reserved, or no longer. */
extern void eduai_gateway_budget_book_reservation(const BudgetReservation *r, bool less);

/* Rows of reservations; the book knows them already. */
extern void eduai_gateway_budget_insert(const BudgetReservation *rows, int n);

/* So many rows were deleted. */
extern void eduai_gateway_budget_deleted(int n);

/* ---- budget_count.c: what a reading of the book finds to be done ---- */

/* What eduai.budget_counted says of budgets that are there, or were. */
typedef struct BudgetCounted
{
	char *tenant;
	int64 budget_id;
	Interval per;
} BudgetCounted;

/* It is counted from now on in this revision; anew: its sums of the present period are made of the ledger. */
extern void eduai_gateway_budget_count(const Budget *budget, bool anew);
/* It is gone: so are its sums. */
extern void eduai_gateway_budget_uncount(const BudgetCounted *counted);
/* Sums of periods before the last one. */
extern void eduai_gateway_budget_forget_old(const Budget *budgets, int n);
/* Tasks that wait for the end of such a period need not, perhaps; a batch: true when there may be more. */
extern bool eduai_gateway_budget_wake(TimestampTz ends_at);
/* Calls in flight without a reservation to which a budget applies get one. */
extern void eduai_gateway_budget_reserve_running(const Fleet *fleet);

/* ---- arithmetic ---- */

static inline Numeric
budget_plus(Numeric a, Numeric b)
{
	return numeric_add_opt_error(a, b, NULL);
}

static inline Numeric
budget_minus(Numeric a, Numeric b)
{
	return numeric_sub_opt_error(a, b, NULL);
}

/* a > b */
extern bool eduai_gateway_budget_more(Numeric a, Numeric b);

/* ---- words ---- */

extern char *eduai_gateway_budget_words(Numeric usd);

#endif
