/*
 * sensitive.c: payloads and results that metadata.sensitive marks; see
 * sensitive.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/errors.h"
#include "core/json.h"
#include "core/personal.h"
#include "core/plan.h"
#include "funcapi.h"
#include "queue/output.h"
#include "queue/queue.h"
#include "queue/sensitive.h"
#include "queue/store.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#define KEY            "sensitive"
#define RETRY_US       (60 * USECS_PER_SEC) /* until a task without a consent is looked at again */
#define STORE_RETRY_US (10 * USECS_PER_SEC) /* until the key store may be usable again */

/* attributes of eduai.task_status, from 1 */
#define SHOWN_TASK_ID   1
#define SHOWN_TASK_TYPE 2
#define SHOWN_STATE     4
#define SHOWN_ATTEMPT   5
#define SHOWN_RESULT    6
#define SHOWN_ERROR     7
#define SHOWN_PROGRESS  8
#define SHOWN_USER_ID   15
#define SHOWN_METADATA  16
#define SHOWN_COLUMNS   16

typedef enum Sensitive
{
	SENSITIVE_NOTHING,
	SENSITIVE_KEYS, /* of the payload */
	SENSITIVE_ALL
} Sensitive;

static Sensitive
sensitive_of(const Jsonb *metadata)
{
	JsonbValue value;

	if (metadata == NULL || !eduai_core_json_get(metadata, KEY, &value))
		return SENSITIVE_NOTHING;
	if (value.type == jbvBool)
		return value.val.boolean ? SENSITIVE_ALL : SENSITIVE_NOTHING;
	return eduai_core_json_length(eduai_core_json_child(metadata, KEY)) > 0 ? SENSITIVE_KEYS
																			: SENSITIVE_NOTHING;
}

void
eduai_queue_check_sensitive(const Jsonb *metadata)
{
	Jsonb *keys = eduai_core_json_child(metadata, KEY);
	JsonbValue value;
	bool legal;

	if (!eduai_core_json_get(metadata, KEY, &value))
		return;
	legal = value.type == jbvBool || (keys != NULL && !eduai_core_json_is_object(keys));
	for (int i = 0; legal && i < eduai_core_json_length(keys); i++)
		legal = eduai_core_json_element_text(keys, i) != NULL;
	if (!legal)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid metadata.sensitive"),
				 errhint("Use true, or an array of keys of the payload.")));
}

static bool
names_key(const Jsonb *metadata, const char *key)
{
	Jsonb *keys = eduai_core_json_child(metadata, KEY);

	for (int i = 0; i < eduai_core_json_length(keys); i++)
		if (strcmp(eduai_core_json_element_text(keys, i), key) == 0)
			return true;
	return false;
}

static char *
subject_of(const char *task_type)
{
	return psprintf("task:%s", task_type);
}

/* ---- the payload ---- */

typedef enum KeyChange
{
	CHANGE_SEAL,
	CHANGE_LEAVE_OUT,
	CHANGE_COUNT
} KeyChange;

/* The payload with the keys that metadata names changed; *n of them are there and not null. */
static Jsonb *
change_keys(const char *tenant, const char *user_id, const char *subject, const Jsonb *payload,
			const Jsonb *metadata, KeyChange change, int *n)
{
	JsonbIterator *it = JsonbIteratorInit((JsonbContainer *) &payload->root);
	JsonbValue key;
	JsonbValue value;
	EduaiJson j;

	*n = 0;
	eduai_core_json_begin(&j);
	(void) JsonbIteratorNext(&it, &key, true);
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		char *name = pnstrdup(key.val.string.val, key.val.string.len);
		bool named = names_key(metadata, name);

		(void) JsonbIteratorNext(&it, &value, true);
		*n += named && value.type != jbvNull;
		if (!named || value.type == jbvNull || change == CHANGE_COUNT)
			eduai_core_json_put_value(&j, name, &value);
		else if (change == CHANGE_SEAL)
			eduai_core_json_put_json(&j, name,
									 eduai_core_personal_seal(tenant, user_id,
															  JsonbValueToJsonb(&value), subject,
															  name));
	}
	return eduai_core_json_end(&j);
}

/* Is there something sensitive in it? */
static bool
has_sensitive(const Jsonb *payload, const Jsonb *metadata)
{
	int n = 0;

	if (sensitive_of(metadata) == SENSITIVE_KEYS && eduai_core_json_is_object(payload))
		(void) change_keys(NULL, NULL, NULL, payload, metadata, CHANGE_COUNT, &n);
	return sensitive_of(metadata) == SENSITIVE_ALL || n > 0;
}

/* Whoever runs it has to know that it waits where others are refused. */
static Jsonb *
with_patience(const Jsonb *metadata)
{
	return eduai_core_json_with_text(metadata, "on_refusal", "defer");
}

static void
ask_for_consent(TaskRequest *task, const char *subject)
{
	EduaiConsent given =
		eduai_core_personal_consent(task->tenant, task->user_id, subject, &task->purpose);
	int n;

	if (given == EDUAI_CONSENT_REDACT && sensitive_of(task->metadata) == SENSITIVE_KEYS)
	{
		task->payload = change_keys(task->tenant, task->user_id, subject, task->payload,
									task->metadata, CHANGE_LEAVE_OUT, &n);
		task->model = eduai_core_json_text(task->payload, "model");
		return;
	}
	if (given == EDUAI_CONSENT_REDACT && !has_sensitive(task->payload, task->metadata))
		return;
	task->unconsented = given != EDUAI_CONSENT_GIVEN;
	if (task->unconsented && task->on_refusal == REFUSAL_DEFER)
		task->metadata = with_patience(task->metadata);
}

void
eduai_queue_guard_payload(TaskRequest *task)
{
	char *subject = subject_of(task->type.name);
	int n;

	task->unconsented = false;
	if (task->user_id != NULL)
		ask_for_consent(task, subject);
	task->kept = task->payload;
	if (!eduai_core_personal_guarding() || !has_sensitive(task->payload, task->metadata))
		return;
	eduai_core_personal_require_sealing(task->user_id);
	if (task->user_id == NULL || !eduai_core_personal_sealing())
		return;
	if (sensitive_of(task->metadata) == SENSITIVE_ALL)
		task->kept = eduai_core_personal_seal(task->tenant, task->user_id, task->payload, subject,
											  "payload");
	else
		task->kept = change_keys(task->tenant, task->user_id, subject, task->payload,
								 task->metadata, CHANGE_SEAL, &n);
}

/* ---- what comes of it ---- */

static bool
is_sealed_task(const TaskSubject *of)
{
	return of->user_id != NULL && sensitive_of(of->metadata) != SENSITIVE_NOTHING &&
		   eduai_core_personal_sealing();
}

const Jsonb *
eduai_queue_guard_json(const TaskSubject *of, const Jsonb *json, const char *field)
{
	if (json == NULL || !is_sealed_task(of))
		return json;
	return eduai_core_personal_seal(of->tenant, of->user_id, json, subject_of(of->task_type),
									field);
}

/* An end must not wait for the key store only to say why it came. */
void
eduai_queue_put_words(EduaiJson *j, const char *key, const TaskSubject *of, const char *words)
{
	JsonbValue value = {.type = jbvString};

	if (words == NULL || !is_sealed_task(of))
		eduai_core_json_put_text(j, key, words);
	else if (eduai_core_personal_fault(of->tenant, of->user_id) != NULL)
		eduai_core_json_put_text(j, key, "not kept: the key store could not be used");
	else
	{
		value.val.string.val = (char *) words;
		value.val.string.len = (int) strlen(words);
		eduai_core_json_put_json(j, key,
								 eduai_core_personal_seal(of->tenant, of->user_id,
														  JsonbValueToJsonb(&value),
														  subject_of(of->task_type), "message"));
	}
}

bool
eduai_queue_may_read(const TaskSubject *of, Oid role)
{
	return !is_sealed_task(of) ||
		   eduai_core_personal_shown(of->tenant, of->user_id, subject_of(of->task_type), role);
}

/* ---- opening ---- */

Jsonb *
eduai_queue_open_json(const char *tenant, const char *user_id, const char *task_type, Jsonb *json,
					  Oid role)
{
	if (user_id == NULL || !eduai_core_personal_sealed(json))
		return json;
	return (Jsonb *) eduai_core_personal_reveal(tenant, user_id, json, subject_of(task_type), role);
}

static Jsonb *
open_parent(const char *tenant, Jsonb *parent, Oid role)
{
	static EduaiPlan whose = {
		"SELECT user_id, task_type FROM eduai.task_request WHERE tenant_id = $1 AND task_id = $2",
		2,
		{TEXTOID, INT8OID}};
	Datum args[2] = {CStringGetTextDatum(tenant)};
	int64 task_id;

	if (!eduai_core_personal_sealed(parent) || !eduai_core_json_int64(parent, "task_id", &task_id))
		return parent;
	args[1] = Int64GetDatum(task_id);
	if (eduai_core_run_latest(&whose, args, NULL) != 1 || eduai_core_text(0, 1) == NULL)
		return parent;
	return eduai_queue_open_json(tenant, eduai_core_text(0, 1), eduai_core_text(0, 2), parent,
								 role);
}

Jsonb *
eduai_queue_open_parents(const char *tenant, Jsonb *parents, Oid role)
{
	EduaiJson j;
	Jsonb *all;

	if (!eduai_core_personal_sealed(parents))
		return parents;
	eduai_core_json_begin(&j);
	eduai_core_json_open_array(&j, "parents");
	for (int i = 0; i < eduai_core_json_length(parents); i++)
		eduai_core_json_put_json(&j, NULL,
								 open_parent(tenant, eduai_core_json_element(parents, i), role));
	eduai_core_json_close_array(&j);
	all = eduai_core_json_end(&j);
	return eduai_core_json_child(all, "parents");
}

static TaskSubject
subject_of_status(const char *tenant, const Datum *values, const bool *nulls)
{
	return (TaskSubject){
		.tenant = tenant,
		.user_id = nulls[SHOWN_USER_ID - 1] ? NULL : TextDatumGetCString(values[SHOWN_USER_ID - 1]),
		.task_type = TextDatumGetCString(values[SHOWN_TASK_TYPE - 1]),
		.metadata = nulls[SHOWN_METADATA - 1] ? NULL : DatumGetJsonbP(values[SHOWN_METADATA - 1])};
}

/* A column with JSON in it, opened; true when it is another then. */
static bool
open_column(const TaskSubject *of, Datum *value, bool null, Oid role)
{
	Jsonb *json;
	Jsonb *opened;

	if (null)
		return false;
	json = DatumGetJsonbP(*value);
	opened = eduai_queue_open_json(of->tenant, of->user_id, of->task_type, json, role);
	*value = JsonbPGetDatum(opened);
	return opened != json;
}

/* The text that it has given so far joins its progress. */
static bool
add_text(const TaskSubject *of, Datum *values, bool *nulls, Oid role)
{
	Jsonb *progress = nulls[SHOWN_PROGRESS - 1] ? NULL : DatumGetJsonbP(values[SHOWN_PROGRESS - 1]);
	Jsonb *with;

	if (strcmp(TextDatumGetCString(values[SHOWN_STATE - 1]), "running") != 0 ||
		!eduai_queue_may_read(of, role))
		return false;
	with = eduai_queue_progress_with_text(of->tenant, DatumGetInt64(values[SHOWN_TASK_ID - 1]),
										  DatumGetInt32(values[SHOWN_ATTEMPT - 1]), progress);
	if (with == progress)
		return false;
	values[SHOWN_PROGRESS - 1] = JsonbPGetDatum(with);
	nulls[SHOWN_PROGRESS - 1] = false;
	return true;
}

Datum
eduai_queue_open_status(const char *tenant, Datum status, Oid role)
{
	static const int columns[] = {SHOWN_RESULT, SHOWN_ERROR, SHOWN_PROGRESS};
	HeapTupleHeader row = DatumGetHeapTupleHeader(status);
	TupleDesc desc =
		lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(row), HeapTupleHeaderGetTypMod(row));
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row), .t_data = row};
	Datum values[SHOWN_COLUMNS];
	bool nulls[SHOWN_COLUMNS];
	bool changed = false;
	TaskSubject of;

	if (desc->natts != SHOWN_COLUMNS)
		elog(ERROR, "eduai.task_status has %d columns", desc->natts);
	heap_deform_tuple(&tuple, desc, values, nulls);
	of = subject_of_status(tenant, values, nulls);
	for (int i = 0; i < lengthof(columns); i++)
		changed |= open_column(&of, &values[columns[i] - 1], nulls[columns[i] - 1], role);
	changed |= add_text(&of, values, nulls, role);
	if (changed)
		status = HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
	ReleaseTupleDesc(desc);
	return status;
}

/* ---- starting ---- */

static RouteVerdict
refuse(Routing *routing, const char *code, const char *message)
{
	routing->code = code;
	routing->message = message;
	return ROUTE_REFUSE;
}

static bool
is_patient(const Candidate *candidate)
{
	char *policy = eduai_core_json_text(candidate->metadata, "on_refusal");

	return policy != NULL && strcmp(policy, "defer") == 0;
}

static RouteVerdict
without_consent(const Candidate *candidate, Routing *routing)
{
	RouteVerdict verdict =
		refuse(routing, "consent_missing", "the learner has not consented to what it needs");

	if (!is_patient(candidate))
		return verdict;
	routing->wait_us = RETRY_US;
	return ROUTE_DEFER;
}

RouteVerdict
eduai_queue_may_start(const Candidate *candidate, Routing *routing, TimestampTz now)
{
	EduaiConsent given;
	char *fault;

	if (candidate->user_id == NULL)
		return ROUTE_TO;
	if (eduai_core_personal_erased(candidate->tenant, candidate->user_id))
		return refuse(routing, "subject_erased", "the learner was erased");
	given = eduai_core_personal_consent(candidate->tenant, candidate->user_id,
										subject_of(candidate->task_type), NULL);
	if (given == EDUAI_CONSENT_REFUSE ||
		(given == EDUAI_CONSENT_REDACT && has_sensitive(candidate->payload, candidate->metadata)))
		return without_consent(candidate, routing);
	if (sensitive_of(candidate->metadata) == SENSITIVE_NOTHING ||
		(fault = eduai_core_personal_fault(candidate->tenant, candidate->user_id)) == NULL)
		return ROUTE_TO;
	routing->code = "key_store_unusable";
	routing->message = "what is sensitive in it cannot be opened or stored now";
	routing->wait_us = STORE_RETRY_US;
	return ROUTE_DEFER;
}

/* ---- stopping ---- */

static int64
halt(const char *tenant, const char *user_id, char *const *task_types, const bool *sensitive_only,
	 int n)
{
	static EduaiPlan living = {
		"SELECT l.task_id, l.task_type, r.payload, r.metadata FROM"
		" (SELECT tenant_id, task_id, task_type FROM eduai.task_live WHERE tenant_id = $1 UNION ALL"
		" SELECT tenant_id, task_id, task_type FROM eduai.fresh_task WHERE tenant_id = $1) l"
		" JOIN eduai.task_request r ON r.tenant_id = l.tenant_id AND r.task_id = l.task_id"
		" WHERE r.user_id = $2 AND l.task_type = ANY ($3) ORDER BY l.task_id",
		3,
		{TEXTOID, TEXTOID, TEXTARRAYOID}};
	Datum args[3] = {CStringGetTextDatum(tenant), CStringGetTextDatum(user_id),
					 eduai_core_text_array(task_types, n)};
	uint64 found = eduai_core_run_latest(&living, args, NULL);
	int64 *ids = palloc(sizeof(int64) * (found + 1));
	int wanted = 0;
	int64 halted = 0;

	for (uint64 i = 0; i < found; i++)
	{
		char *type = eduai_core_text(i, 2);
		bool isnull;
		bool all = false;

		for (int t = 0; t < n; t++)
			all |= !sensitive_only[t] && strcmp(task_types[t], type) == 0;
		if (all || has_sensitive(DatumGetJsonbP(eduai_core_value(i, 3, &isnull)),
								 DatumGetJsonbP(eduai_core_value(i, 4, &isnull))))
			ids[wanted++] = eduai_core_int64(i, 1, 0);
	}
	for (int i = 0; i < wanted; i++)
		halted += eduai_queue_cancel(tenant, ids[i]) ? 1 : 0;
	return halted;
}

void
eduai_queue_sensitive_init(void)
{
	eduai_core_personal_register_halt(halt);
}
