/*
 * budget.h: budgets of tenants, users and providers: reserved before a call
 * leaves, settled when it is recorded.
 *
 * A reservation is a row, written in the transaction that records the attempt
 * and removed in the one that records its outcome, which adds the cost to the
 * sum of its period: so nothing is leaked by a crash and nothing is spent
 * twice.  The dispatcher is the only one who reserves and settles, one after
 * the other: so no concurrency can exceed a budget.  Sessions read rows.
 *
 * What holds: at any time, spent + reserved <= usd, as long as no call costs
 * more than its bound.  One that does is counted as it was, and less is
 * admitted after it.
 *
 * The dispatcher's memory of sums is only a cache: it is dropped when a
 * transaction that touched it aborts.
 */
#ifndef EDUAI_GATEWAY_BUDGET_H
#define EDUAI_GATEWAY_BUDGET_H

#include "datatype/timestamp.h"
#include "gateway/call.h"
#include "gateway/fleet.h"

typedef struct BudgetAsk
{
	const char *tenant;
	const char *user_id; /* NULL: none */
	const char *task_type;
	const Instance *instance;
	int64 task_id;
	int attempt;
	bool hedge;                /* the second call of the attempt */
	Numeric bound_usd;         /* the most it can cost; NULL: unbounded */
	const char *why_unbounded; /* as cost_bound() said it */
	bool patient;              /* it waits where others are refused */
} BudgetAsk;

typedef enum BudgetVerdict
{
	BUDGET_OK,     /* reserved, or no budget applies */
	BUDGET_WAIT,   /* not now: calls in flight hold what is left, and may give some back */
	BUDGET_DEFER,  /* not before answer.until */
	BUDGET_REFUSE, /* the task ends with answer.code and answer.message */
} BudgetVerdict;

/* In the current context; of a verdict other than BUDGET_OK. */
typedef struct BudgetAnswer
{
	TimestampTz until;
	bool
		elsewhere; /* another instance may do: the cheapest is tried before the verdict is followed */
	char *scope;   /* of the budget that is in the way */
	const char
		*code; /* budget_exceeded; budget_unbounded: a budget applies, and the cost has no bound */
	char *message;
} BudgetAnswer;

extern void eduai_gateway_budget_init(void);

/*
 * What follows is the dispatcher's, in a transaction, SPI connected, as the
 * owner.  Begin comes first in each transaction: what sessions changed is read
 * again; calls in flight that no budget applied to when they left are reserved
 * for new ones, with the prices of the fleet.  Cheap when nothing changed.
 */
extern void eduai_gateway_budget_begin(const Fleet *fleet);
/* Does any budget apply?  Cheap: without one no bound need be computed. */
extern bool eduai_gateway_budget_any(const char *tenant, const char *user_id, const char *provider,
									 const char *task_type);
extern BudgetVerdict eduai_gateway_budget_reserve(const BudgetAsk *ask, BudgetAnswer *answer);
/* The reservation of this transaction is taken back: the row was not to be had. */
extern void eduai_gateway_budget_unreserve(int64 task_id, int attempt);
/* After the last reserve: writes the rows.  A commit without it fails. */
extern void eduai_gateway_budget_write(void);

/* Was the task enqueued with on_refusal 'defer'? */
extern bool eduai_gateway_budget_is_patient(const Jsonb *metadata);

/* A call that is being recorded. */
typedef struct BudgetCall
{
	const char *tenant;
	int64 task_id;
	int attempt;
	bool hedge;
	Numeric cost_usd;  /* NULL: nobody knows, the bound counts as spent */
	Numeric bound_usd; /* set by settle(): what was reserved; NULL: no budget applied */
} BudgetCall;

/* What these really cost, in the transaction that records them. */
extern void eduai_gateway_budget_settle(BudgetCall *calls, int n);

/*
 * Reservations of dispatchers that died whose attempts run no more, as of
 * tasks cancelled before: settled at their bounds, with a row each in the
 * ledger.  For the sweep.
 */
extern void eduai_gateway_budget_settle_forgotten(void);

/*
 * 0: spending is on pace; 1: a budget that applies is spent.  1 - (share of
 * the money left / share of the period left), at least 0; the worst of those
 * that apply.  Paces the balancer's price of money.
 */
extern double eduai_gateway_budget_pressure(const char *tenant, const char *user_id,
											const char *provider, const char *task_type);

/* The same of a budget of which these shares are spent, and over.  Pure. */
extern double eduai_gateway_budget_pressure_of(double spent_share, double elapsed_share);

/* An audio file: its length, and how it begins. */
typedef struct BudgetAudio
{
	int64 bytes;
	unsigned char head[4];
} BudgetAudio;

/*
 * The attachment that the payload's audio is in; false when it is in none.  In
 * a transaction, SPI connected, as the owner.
 */
extern bool
eduai_gateway_budget_audio(const char *tenant, const Jsonb *payload, BudgetAudio *audio);

/*
 * The most that a call can cost at an instance: input bytes as tokens, the
 * payload's or the instance's bound of output, pictures, audio.  NULL: no
 * bound.  "payload" is what is sent: parents' results rendered into it.
 * audio: the file, where it is not in the payload; NULL: unknown.  *why
 * (unless NULL): why there is no bound, with what to do.  Pure.
 */
extern Numeric
eduai_gateway_cost_bound(const Instance *instance, const char *task_type, const Jsonb *payload,
						 const BudgetAudio *audio, const char **why);

/* Is the outcome's cost what the provider charges?  Not where an answer may have been lost.  Pure. */
extern bool eduai_gateway_cost_is_known(const CallOutcome *outcome);

#endif
