/*
 * consent.c: holding events and tasks against the consents that they need; see
 * consent.h.
 *
 * eduai.consent is a history: each grant and each withdrawal is a row, and the
 * last one of a learner and a purpose counts.  It is read by one probe of the
 * primary key, backwards, with the latest snapshot: a withdrawal counts from
 * its commit, in transactions that began before it, too.
 *
 * A transaction that was checked before a withdrawal and commits after it has
 * recorded its event; its tasks are found by the next claim, which asks again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/errors.h"
#include "core/heap.h"
#include "core/hooks.h"
#include "events/sensitive.h"
#include "privacy/consent.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#define RANK_CONSENT 5 /* before projections fold */

/* Columns of eduai.consent: tenant_id, user_id, purpose, consent_id, granted. */
#define CONSENT_GRANTED 4
#define CONSENT_KEYS    3

bool
eduai_privacy_has_consent(const char *tenant, const char *user_id, const char *purpose)
{
	static EduaiTable table = {.name = "consent", .index_name = "consent_pkey"};
	const char *names[CONSENT_KEYS] = {tenant, user_id, purpose};
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData keys[CONSENT_KEYS];
	EduaiScan scan = {0};
	bool granted = false;

	for (int i = 0; i < CONSENT_KEYS; i++)
		eduai_core_key_text(&keys[i], i + 1, CStringGetTextDatum(names[i]));
	eduai_core_table_open(&scan, &table, snapshot, CONSENT_KEYS);
	eduai_core_scan_seek(&scan, keys);
	if (eduai_core_scan_next(&scan, BackwardScanDirection))
		granted = DatumGetBool(scan.slot->tts_values[CONSENT_GRANTED]);
	eduai_core_scan_close(&scan);
	UnregisterSnapshot(snapshot);
	return granted;
}

static EduaiConsent
consent(const char *tenant, const char *user_id, const char *subject, const char **purpose)
{
	EduaiConsent worst = EDUAI_CONSENT_GIVEN;

	for (const ConsentRequirement *r = eduai_privacy_requirements(tenant, subject); r; r = r->next)
	{
		EduaiConsent without = r->redact ? EDUAI_CONSENT_REDACT : EDUAI_CONSENT_REFUSE;

		if (without <= worst || eduai_privacy_has_consent(tenant, user_id, r->purpose))
			continue;
		worst = without;
		if (purpose)
			*purpose = r->purpose;
	}
	return worst;
}

/* ---- events ---- */

static char *
subject_of(const char *kind, const char *type)
{
	return psprintf("%s%s", kind, type);
}

static EduaiAppendInterest
wants(const EduaiAppendBatch *batch)
{
	if (!eduai_privacy_requires_consent())
		return EDUAI_APPEND_NONE;
	for (int i = 0; i < batch->nevents; i++)
		if (batch->events[i].user_id &&
			eduai_privacy_requirements(batch->tenant,
									   subject_of(CONSENT_EVENT, batch->events[i].event_type)))
			return EDUAI_APPEND_DIRECT;
	return EDUAI_APPEND_NONE;
}

static void
check_event(const EduaiAppendBatch *batch, EduaiEvent *event)
{
	const char *purpose = NULL;
	EduaiConsent given = eduai_core_personal_consent(
		batch->tenant, event->user_id, subject_of(CONSENT_EVENT, event->event_type), &purpose);

	if (given == EDUAI_CONSENT_REFUSE && !batch->own)
		ereport(ERROR, (errcode(EDUAI_CONSENT_MISSING),
						errmsg("the learner has not consented to \"%s\"", purpose),
						errdetail("Events of type \"%s\" require it.", event->event_type),
						errhint("Call eduai.grant_consent() when the learner has consented.")));
	if (given != EDUAI_CONSENT_GIVEN)
		event->data = eduai_events_without_sensitive(event->event_type, event->data);
}

static void
before(EduaiAppendBatch *batch)
{
	if (!eduai_privacy_requires_consent())
		return;
	for (int i = 0; i < batch->nevents; i++)
		check_event(batch, &batch->events[i]);
}

/* ---- tasks ---- */

/* What is redacted was redacted by the queue: refusing is left. */
static bool
admit(const EduaiEnqueue *task, EduaiRefusal *why)
{
	const char *purpose = NULL;

	if (eduai_core_personal_consent(task->tenant, task->user_id,
									subject_of(CONSENT_TASK, task->task_type),
									&purpose) != EDUAI_CONSENT_REFUSE)
		return true;
	why->sqlstate = EDUAI_CONSENT_MISSING;
	why->message = psprintf("the learner has not consented to \"%s\"", purpose);
	why->detail = psprintf("Tasks of type \"%s\" require it.", task->task_type);
	why->hint = "Call eduai.grant_consent() when the learner has consented.";
	return false;
}

void
eduai_privacy_consent_init(void)
{
	static const EduaiAppendHooks hooks = {
		.name = "consent", .rank = RANK_CONSENT, .wants = wants, .before = before};
	static const EduaiPersonalPolicy policy = {.consent = consent};

	eduai_privacy_requirements_init();
	eduai_privacy_consent_store_init();
	eduai_core_append_hooks_register(&hooks);
	eduai_core_enqueue_hook_register(admit);
	eduai_core_personal_register_policy(&policy);
}
