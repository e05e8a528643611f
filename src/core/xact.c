/*
 * xact.c: the one transaction callback.  See xact.h.
 */
#include "postgres.h"

#include "core/xact.h"

#define MAX_HOOKS 32

static const EduaiXactHooks *hooks[MAX_HOOKS]; /* ordered by rank */
static int nhooks = 0;

#define RUN(member)                      \
	do                                   \
	{                                    \
		for (int i = 0; i < nhooks; i++) \
			if (hooks[i]->member)        \
				hooks[i]->member();      \
	} while (0)

static void
on_xact(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			RUN(pre_commit);
			break;
		case XACT_EVENT_COMMIT:
			RUN(commit);
			break;
		case XACT_EVENT_ABORT:
			RUN(abort);
			break;
		case XACT_EVENT_PRE_PREPARE:
			RUN(pre_prepare);
			break;
		case XACT_EVENT_PREPARE:
			RUN(prepare);
			break;
		default:
			/* parallel workers write nothing of eduai's */
			break;
	}
}

static void
on_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	for (int i = 0; i < nhooks; i++)
		if (hooks[i]->subxact)
			hooks[i]->subxact(event, mine, parent);
}

void
eduai_core_xact_init(void)
{
	RegisterXactCallback(on_xact, NULL);
	RegisterSubXactCallback(on_subxact, NULL);
}

void
eduai_core_xact_register(const EduaiXactHooks *new)
{
	int at = nhooks;

	if (nhooks >= MAX_HOOKS)
		elog(FATAL, "too many transaction hooks");
	while (at > 0 && hooks[at - 1]->rank > new->rank)
	{
		hooks[at] = hooks[at - 1];
		at--;
	}
	hooks[at] = new;
	nhooks++;
}
