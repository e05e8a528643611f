/*
 * consent_sql.c: require_consent(), grant_consent(), withdraw_consent() and
 * has_consent().
 *
 * A learner's grants and withdrawals of a purpose take turns by a lock held to
 * commit, so that the order of their numbers is that of their commits.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/lock.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "events/validate.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "privacy/consent.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(eduai_require_consent);
PG_FUNCTION_INFO_V1(eduai_drop_consent_requirement);
PG_FUNCTION_INFO_V1(eduai_grant_consent);
PG_FUNCTION_INFO_V1(eduai_withdraw_consent);
PG_FUNCTION_INFO_V1(eduai_has_consent);

/* ---- arguments ---- */

static char *
name_argument(FunctionCallInfo fcinfo, int n, const char *what)
{
	char *name = PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));

	eduai_events_check_name(what, name, true);
	return name;
}

static char *
subject_argument(FunctionCallInfo fcinfo)
{
	char *subject = name_argument(fcinfo, 0, "subject");
	bool legal = false;

	for (const char *const *kind = (const char *const[]){CONSENT_EVENT, CONSENT_TASK, NULL}; *kind;
		 kind++)
		legal |= strncmp(subject, *kind, strlen(*kind)) == 0 && subject[strlen(*kind)] != '\0';
	if (!legal)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid subject \"%s\"", subject),
						errhint("Use event:TYPE or task:TYPE.")));
	return subject;
}

static char *
missing_argument(FunctionCallInfo fcinfo, int n)
{
	char *word = PG_ARGISNULL(n) ? pstrdup("refuse") : text_to_cstring(PG_GETARG_TEXT_PP(n));

	if (strcmp(word, "refuse") != 0 && strcmp(word, "redact") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid on_missing \"%s\"", word), errhint("Use refuse or redact.")));
	return word;
}

/* ---- requirements ---- */

Datum
eduai_require_consent(PG_FUNCTION_ARGS)
{
	static EduaiPlan put = {
		"INSERT INTO eduai.consent_requirement (tenant_id, subject, purpose, on_missing)"
		" VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id, subject, purpose)"
		" DO UPDATE SET on_missing = excluded.on_missing",
		4,
		{TEXTOID, TEXTOID, TEXTOID, TEXTOID}};
	char *subject = subject_argument(fcinfo);
	char *purpose = name_argument(fcinfo, 1, "purpose");
	char *missing = missing_argument(fcinfo, 2);
	Datum args[4] = {CStringGetTextDatum(eduai_core_tenant()), CStringGetTextDatum(subject),
					 CStringGetTextDatum(purpose), CStringGetTextDatum(missing)};
	EduaiPrivilege saved;

	eduai_core_enter(&saved);
	SPI_connect();
	eduai_core_run(&put, args, NULL);
	SPI_finish();
	eduai_privacy_requirements_forget();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

Datum
eduai_drop_consent_requirement(PG_FUNCTION_ARGS)
{
	static EduaiPlan drop = {"DELETE FROM eduai.consent_requirement"
							 " WHERE tenant_id = $1 AND subject = $2 AND purpose = $3",
							 3,
							 {TEXTOID, TEXTOID, TEXTOID}};
	char *subject = subject_argument(fcinfo);
	char *purpose = name_argument(fcinfo, 1, "purpose");
	Datum args[3] = {CStringGetTextDatum(eduai_core_tenant()), CStringGetTextDatum(subject),
					 CStringGetTextDatum(purpose)};
	EduaiPrivilege saved;
	uint64 n;

	eduai_core_enter(&saved);
	SPI_connect();
	n = eduai_core_run(&drop, args, NULL);
	SPI_finish();
	eduai_privacy_requirements_forget();
	eduai_core_leave(&saved);
	PG_RETURN_BOOL(n > 0);
}

/* ---- consents ---- */

typedef struct Word
{
	char *tenant;
	char *user_id;
	char *purpose;
	Datum by_role;
} Word;

static Word
read_word(FunctionCallInfo fcinfo)
{
	return (Word){
		.user_id = name_argument(fcinfo, 0, "user id"),
		.purpose = name_argument(fcinfo, 1, "purpose"),
		.tenant = eduai_core_tenant(),
		.by_role =
			DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetUserId(), false))),
	};
}

/* Takes the turn, then writes; SPI connected, as the owner. */
static void
write_word(const Word *word, bool granted, const Jsonb *proof)
{
	static EduaiPlan put = {
		"INSERT INTO eduai.consent (tenant_id, user_id, purpose, granted, by_role, proof)"
		" VALUES ($1, $2, $3, $4, $5, $6)",
		6,
		{TEXTOID, TEXTOID, TEXTOID, BOOLOID, NAMEOID, JSONBOID}};
	Datum args[6] = {CStringGetTextDatum(word->tenant),
					 CStringGetTextDatum(word->user_id),
					 CStringGetTextDatum(word->purpose),
					 BoolGetDatum(granted),
					 word->by_role,
					 PointerGetDatum(proof)};

	eduai_core_run(&put, args, proof ? NULL : "     n");
}

static void
take_turn(const Word *word)
{
	char *name = psprintf("%s\x01%s", word->user_id, word->purpose);

	(void) eduai_core_lock(EDUAI_LOCK_CONSENT, eduai_core_lock_key(word->tenant, name), false);
}

Datum
eduai_grant_consent(PG_FUNCTION_ARGS)
{
	Word word = read_word(fcinfo);
	Jsonb *proof = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	EduaiPrivilege saved;

	eduai_events_check_object("proof", proof);
	eduai_core_enter(&saved);
	SPI_connect();
	eduai_core_personal_check(word.tenant, word.user_id);
	take_turn(&word);
	write_word(&word, true, proof);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

/* The tasks of the types that need it. */
static void
halt_tasks(const Word *word)
{
	static EduaiPlan list = {
		"SELECT pg_catalog.substr(subject, 6), on_missing = 'redact'"
		" FROM eduai.consent_requirement"
		" WHERE tenant_id = $1 AND purpose = $2 AND subject LIKE 'task:%' ORDER BY subject",
		2,
		{TEXTOID, TEXTOID}};
	Datum args[2] = {CStringGetTextDatum(word->tenant), CStringGetTextDatum(word->purpose)};
	uint64 n = eduai_core_run_latest(&list, args, NULL);
	char **types = palloc(sizeof(char *) * (n + 1));
	bool *sensitive_only = palloc(sizeof(bool) * (n + 1));
	bool isnull;

	for (uint64 i = 0; i < n; i++)
	{
		types[i] = eduai_core_text(i, 1);
		sensitive_only[i] = DatumGetBool(eduai_core_value(i, 2, &isnull));
	}
	(void) eduai_core_personal_halt(word->tenant, word->user_id, types, sensitive_only, (int) n);
}

Datum
eduai_withdraw_consent(PG_FUNCTION_ARGS)
{
	Word word = read_word(fcinfo);
	EduaiPrivilege saved;

	eduai_core_enter(&saved);
	SPI_connect();
	take_turn(&word);
	/* nothing is kept of who was erased, not even that they withdrew */
	if (!eduai_core_personal_erased(word.tenant, word.user_id))
		write_word(&word, false, NULL);
	halt_tasks(&word);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

Datum
eduai_has_consent(PG_FUNCTION_ARGS)
{
	char *user_id = name_argument(fcinfo, 0, "user id");
	char *purpose = name_argument(fcinfo, 1, "purpose");
	char *tenant = eduai_core_tenant();

	PG_RETURN_BOOL(eduai_privacy_has_consent(tenant, user_id, purpose));
}
