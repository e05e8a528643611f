/*
 * sealing.c: seals sensitive values and shows them to whoever may see them;
 * see core/personal.h.
 *
 * Who sees a sealed value of an event in clear: members of eduai_app, where the
 * learner has given the consent that the subject requires.  Of a task: members
 * of eduai_app or eduai_worker, the same; of an attachment likewise.  The superuser is a member of
 * all roles.  Everybody else sees null in its place, and everybody does when
 * the learner was erased or has no key.
 */
#include "postgres.h"

#include "core/json.h"
#include "core/personal.h"
#include "miscadmin.h"
#include "privacy/learner_key.h"
#include "privacy/sealed_value.h"
#include "privacy/sealing.h"
#include "utils/acl.h"
#include "utils/guc.h"

#define TASK       "task:"
#define ATTACHMENT "attachment:"

static bool require_encryption = false;

/* ---- sealing ---- */

/* What is configured is used: that it does not work raises, it never means "in clear". */
static bool
sealing(void)
{
	return eduai_privacy_keys_configured();
}

static char *
fault(const char *tenant, const char *user_id)
{
	return sealing() ? eduai_privacy_keys_fault(tenant, user_id) : NULL;
}

static bool
guarding(void)
{
	return require_encryption || sealing();
}

static void
require_sealing(const char *user_id)
{
	if (!require_encryption)
		return;
	if (!sealing())
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("sensitive fields cannot be stored without encryption"),
						errdetail("eduai.require_encryption is on and eduai.key_store is not set."),
						errhint("Set eduai.key_store and eduai.master_key_file, and call "
								"eduai.create_key_store().")));
	if (user_id == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("sensitive fields cannot be stored without a user_id"),
						errdetail("eduai.require_encryption is on; a field is sealed under the "
								  "key of the learner it is about."),
						errhint("Give the user_id, or leave the fields out.")));
}

static Jsonb *
seal(const char *tenant, const char *user_id, const Jsonb *value, const char *subject,
	 const char *field)
{
	return eduai_privacy_value_seal(eduai_privacy_key_make(tenant, user_id), value, subject, field);
}

/* ---- showing ---- */

typedef struct Showing
{
	const char *tenant;
	const char *user_id;
	const char *subject;
	bool masked;
	bool asked; /* for the key */
	const LearnerKey *key;
} Showing;

static bool
is_member(Oid role, const char *of)
{
	Oid group = get_role_oid(of, true);

	return OidIsValid(group) && is_member_of_role(role, group);
}

/* What workers work on. */
static bool
is_for_workers(const char *subject)
{
	return strncmp(subject, TASK, strlen(TASK)) == 0 ||
		   strncmp(subject, ATTACHMENT, strlen(ATTACHMENT)) == 0;
}

static bool
may_see(const char *tenant, const char *user_id, const char *subject, Oid caller)
{
	if (!OidIsValid(caller))
		return true;
	return (is_member(caller, "eduai_app") ||
			(is_for_workers(subject) && is_member(caller, "eduai_worker"))) &&
		   eduai_core_personal_consent(tenant, user_id, subject, NULL) == EDUAI_CONSENT_GIVEN;
}

static bool
shown(const char *tenant, const char *user_id, const char *subject, Oid caller)
{
	return user_id == NULL || (may_see(tenant, user_id, subject, caller) &&
							   !eduai_core_personal_erased(tenant, user_id));
}

/* ---- bytes ---- */

static bytea *
seal_bytes(const char *tenant, const char *user_id, const bytea *bytes, const char *subject)
{
	return eduai_privacy_bytes_seal(eduai_privacy_key_make(tenant, user_id), bytes, subject);
}

static bytea *
reveal_bytes(const char *tenant, const char *user_id, const bytea *sealed, const char *subject,
			 Oid caller)
{
	const LearnerKey *key = NULL;

	if (user_id != NULL && sealing() && shown(tenant, user_id, subject, caller))
		key = eduai_privacy_key_find(tenant, user_id);
	return key ? eduai_privacy_bytes_open(key, sealed, subject) : NULL;
}

/* ---- JSON ---- */

/* A sealed value in clear; NULL for null, *own when it is somebody's own data. */
static Jsonb *
show_value(Showing *s, const char *text, int length, bool *own)
{
	Jsonb *value;

	*own = false;
	if (s->masked)
		return NULL;
	if (!s->asked)
		s->key = eduai_privacy_key_find(s->tenant, s->user_id);
	s->asked = true;
	if (s->key == NULL)
		return NULL;
	value = eduai_privacy_value_open(s->key, text, length, s->subject);
	*own = value == NULL;
	return value;
}

static void show_children(Showing *s, EduaiJson *j, JsonbContainer *container);

static void
show_container(Showing *s, EduaiJson *j, const char *key, JsonbValue *nested)
{
	JsonbContainer *container = nested->val.binary.data;
	const char *text;
	int length;

	if (eduai_privacy_value_looks_sealed(container, &text, &length))
	{
		bool own;
		Jsonb *value = show_value(s, text, length, &own);

		if (own)
			eduai_core_json_put_value(j, key, nested);
		else
			eduai_core_json_put_json(j, key, value);
		return;
	}
	if (JsonContainerIsObject(container))
		eduai_core_json_open_object(j, key);
	else
		eduai_core_json_open_array(j, key);
	show_children(s, j, container);
	if (JsonContainerIsObject(container))
		eduai_core_json_close_object(j);
	else
		eduai_core_json_close_array(j);
}

static void
show_children(Showing *s, EduaiJson *j, JsonbContainer *container)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	char *key = NULL;
	JsonbValue v;

	check_stack_depth();
	(void) JsonbIteratorNext(&it, &v, true); /* its own beginning */
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			key = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token != WJB_VALUE && token != WJB_ELEM)
			break;
		else if (v.type == jbvBinary)
			show_container(s, j, token == WJB_ELEM ? NULL : key, &v);
		else
			eduai_core_json_put_value(j, token == WJB_ELEM ? NULL : key, &v);
	}
}

static Jsonb *
json_null(void)
{
	JsonbValue null = {.type = jbvNull};

	return JsonbValueToJsonb(&null);
}

static const Jsonb *
show(Showing *s, const Jsonb *data)
{
	JsonbContainer *root = (JsonbContainer *) &data->root;
	const char *text;
	int length;
	EduaiJson j;

	if (eduai_privacy_value_looks_sealed(root, &text, &length))
	{
		bool own;
		Jsonb *value = show_value(s, text, length, &own);

		return own ? data : value ? value : json_null();
	}
	eduai_core_json_begin(&j);
	show_children(s, &j, root);
	return eduai_core_json_end(&j);
}

static const Jsonb *
reveal(const char *tenant, const char *user_id, const Jsonb *data, const char *subject, Oid caller)
{
	Showing s = {.tenant = tenant, .user_id = user_id, .subject = subject};

	if (user_id == NULL || !eduai_core_personal_sealed(data) || !eduai_core_json_is_object(data))
		return data;
	s.masked =
		!may_see(tenant, user_id, subject, caller) || eduai_core_personal_erased(tenant, user_id);
	/* what sealed it is configured no more: nothing can tell it from somebody's own */
	if (!s.masked && !sealing())
		return data;
	return show(&s, data);
}

void
eduai_privacy_sealing_init(void)
{
	static const EduaiPersonalPolicy policy = {.guarding = guarding,
											   .sealing = sealing,
											   .fault = fault,
											   .require_sealing = require_sealing,
											   .seal = seal,
											   .reveal = reveal,
											   .shown = shown,
											   .seal_bytes = seal_bytes,
											   .reveal_bytes = reveal_bytes};

	DefineCustomBoolVariable("eduai.require_encryption",
							 "Refuse to store sensitive fields in clear.",
							 "They are sealed when eduai.key_store is set; without it, or without "
							 "a user_id, they are stored as they are, or refused when this is on.",
							 &require_encryption, false, PGC_SIGHUP, 0, NULL, NULL, NULL);
	eduai_core_personal_register_policy(&policy);
}
