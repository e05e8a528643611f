/*
 * personal.c: hands what rooms ask about learners to the privacy room.
 */
#include "postgres.h"

#include "core/errors.h"
#include "core/personal.h"

static EduaiPersonalPolicy policy;
static const EduaiPersonalStore *stores[EDUAI_PERSONAL_STORES];
static int nstores = 0;
static EduaiPersonalHalt halt = NULL;

void
eduai_core_personal_register_policy(const EduaiPersonalPolicy *more)
{
	if (more->erased)
		policy.erased = more->erased;
	if (more->stream_erased)
		policy.stream_erased = more->stream_erased;
	if (more->erase_stream)
		policy.erase_stream = more->erase_stream;
	if (more->guarding)
		policy.guarding = more->guarding;
	if (more->sealing)
		policy.sealing = more->sealing;
	if (more->fault)
		policy.fault = more->fault;
	if (more->require_sealing)
		policy.require_sealing = more->require_sealing;
	if (more->seal)
		policy.seal = more->seal;
	if (more->reveal)
		policy.reveal = more->reveal;
	if (more->shown)
		policy.shown = more->shown;
	if (more->seal_bytes)
		policy.seal_bytes = more->seal_bytes;
	if (more->reveal_bytes)
		policy.reveal_bytes = more->reveal_bytes;
	if (more->consent)
		policy.consent = more->consent;
	if (more->note)
		policy.note = more->note;
}

bool
eduai_core_personal_erased(const char *tenant, const char *user_id)
{
	return user_id && policy.erased && policy.erased(tenant, user_id);
}

void
eduai_core_personal_check(const char *tenant, const char *user_id)
{
	if (eduai_core_personal_erased(tenant, user_id))
		ereport(ERROR, (errcode(EDUAI_SUBJECT_ERASED), errmsg("the learner was erased"),
						errdetail("Nothing more is kept about them."),
						errhint("A new learner needs another user_id.")));
}

void
eduai_core_personal_check_stream(const char *tenant, const char *stream)
{
	if (policy.stream_erased && policy.stream_erased(tenant, stream))
		ereport(ERROR,
				(errcode(EDUAI_SUBJECT_ERASED), errmsg("the stream was that of an erased learner"),
				 errdetail("Its name and its versions are not used again."),
				 errhint("Append to another stream.")));
}

void
eduai_core_personal_erase_stream(const char *tenant, const char *stream)
{
	if (policy.erase_stream)
		policy.erase_stream(tenant, stream);
}

bool
eduai_core_personal_guarding(void)
{
	return policy.guarding && policy.guarding();
}

bool
eduai_core_personal_sealing(void)
{
	return policy.sealing && policy.seal && policy.sealing();
}

char *
eduai_core_personal_fault(const char *tenant, const char *user_id)
{
	return policy.fault ? policy.fault(tenant, user_id) : NULL;
}

void
eduai_core_personal_require_sealing(const char *user_id)
{
	if (policy.require_sealing)
		policy.require_sealing(user_id);
}

Jsonb *
eduai_core_personal_seal(const char *tenant, const char *user_id, const Jsonb *value,
						 const char *subject, const char *field)
{
	Assert(policy.seal);
	return policy.seal(tenant, user_id, value, subject, field);
}

bool
eduai_core_personal_sealed(const Jsonb *data)
{
	return data && memmem(data, VARSIZE(data), EDUAI_SEALED_KEY, strlen(EDUAI_SEALED_KEY)) != NULL;
}

const Jsonb *
eduai_core_personal_reveal(const char *tenant, const char *user_id, const Jsonb *data,
						   const char *subject, Oid caller)
{
	return policy.reveal ? policy.reveal(tenant, user_id, data, subject, caller) : data;
}

bool
eduai_core_personal_shown(const char *tenant, const char *user_id, const char *subject, Oid caller)
{
	return !policy.shown || policy.shown(tenant, user_id, subject, caller);
}

bytea *
eduai_core_personal_seal_bytes(const char *tenant, const char *user_id, const bytea *bytes,
							   const char *subject)
{
	Assert(policy.seal_bytes);
	return policy.seal_bytes(tenant, user_id, bytes, subject);
}

bytea *
eduai_core_personal_reveal_bytes(const char *tenant, const char *user_id, const bytea *sealed,
								 const char *subject, Oid caller)
{
	return policy.reveal_bytes ? policy.reveal_bytes(tenant, user_id, sealed, subject, caller)
							   : NULL;
}

EduaiConsent
eduai_core_personal_consent(const char *tenant, const char *user_id, const char *subject,
							const char **purpose)
{
	if (user_id == NULL || policy.consent == NULL)
		return EDUAI_CONSENT_GIVEN;
	return policy.consent(tenant, user_id, subject, purpose);
}

int64
eduai_core_personal_halt(const char *tenant, const char *user_id, char *const *task_types,
						 const bool *sensitive_only, int n)
{
	return halt && n > 0 ? halt(tenant, user_id, task_types, sensitive_only, n) : 0;
}

void
eduai_core_personal_register_halt(EduaiPersonalHalt by)
{
	halt = by;
}

void
eduai_core_personal_note(const char *tenant, const char *user_id, const char *source, int64 count,
						 Oid caller)
{
	if (policy.note && count > 0)
		policy.note(tenant, user_id, source, count, caller);
}

void
eduai_core_personal_register_store(const EduaiPersonalStore *store)
{
	int i = nstores;

	if (nstores == EDUAI_PERSONAL_STORES)
		elog(ERROR, "too many stores of personal data");
	nstores++;
	for (; i > 0 && stores[i - 1]->rank > store->rank; i--)
		stores[i] = stores[i - 1];
	stores[i] = store;
}

const EduaiPersonalStore *
eduai_core_personal_store(int i)
{
	return i < nstores ? stores[i] : NULL;
}
