/*
 * privacy.c: starts the room's parts in their order.
 */
#include "postgres.h"

#include "privacy/access_log.h"
#include "privacy/anonymise.h"
#include "privacy/consent.h"
#include "privacy/erase.h"
#include "privacy/erased.h"
#include "privacy/job.h"
#include "privacy/keeper.h"
#include "privacy/key_sql.h"
#include "privacy/learner_key.h"
#include "privacy/ledger.h"
#include "privacy/privacy.h"
#include "privacy/retain.h"
#include "privacy/sealing.h"

void
eduai_privacy_init(void)
{
	eduai_privacy_learner_key_init();
	eduai_privacy_key_sql_init();
	eduai_privacy_sealing_init();
	eduai_privacy_consent_init();
	eduai_privacy_keeper_init();
	eduai_privacy_erased_init();
	eduai_privacy_ledger_init();
	eduai_privacy_erase_chore_init();
	eduai_privacy_access_log_init();
	eduai_privacy_job_init();
	eduai_privacy_anonymise_init();
	eduai_privacy_retain_init();
}
