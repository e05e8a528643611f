/*
 * admit.c: the checks before a task becomes a row.  See enqueue.h.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/compat.h"
#include "core/errors.h"
#include "core/hooks.h"
#include "core/json.h"
#include "core/privilege.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "queue/enqueue.h"
#include "queue/quota.h"
#include "queue/sensitive.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#define MAX_LABEL 512

int eduai_queue_max_size = 1000;
static int max_payload_kb = 16 * 1024;

void
eduai_queue_enqueue_init(void)
{
	DefineCustomIntVariable(
		"eduai.queue_max_size", "The most tasks of one tenant that are not final; 0 for no limit.",
		"Critical tasks are exempt. Uncommitted tasks count.", &eduai_queue_max_size, 1000, 0,
		INT_MAX, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("eduai.max_payload_size", "The largest payload of a task.",
							"Larger inputs (audio, images) belong in attachments.", &max_payload_kb,
							16 * 1024, 1, 256 * 1024, PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
}

size_t
eduai_queue_max_payload_bytes(void)
{
	return (size_t) max_payload_kb * 1024;
}

OnRefusal
eduai_queue_on_refusal(const char *name)
{
	if (strcmp(name, "error") == 0)
		return REFUSAL_ERROR;
	if (strcmp(name, "defer") == 0)
		return REFUSAL_DEFER;
	if (strcmp(name, "skip") == 0)
		return REFUSAL_SKIP;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid on_refusal \"%s\"", name),
			 errhint("Use error, defer or skip.")));
	return REFUSAL_ERROR; /* not reached */
}

void
eduai_queue_check_payload(const Jsonb *payload)
{
	Size size = VARSIZE(payload);

	if (!eduai_core_json_is_object(payload))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the payload must be a JSON object"),
				 errdetail("It is %s.", JB_ROOT_IS_SCALAR(payload) ? "a scalar" : "an array"),
				 errhint("Give the provider's request, such as {\"messages\": [...]}.")));
	if (size > eduai_queue_max_payload_bytes())
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the payload has %zu bytes, more than eduai.max_payload_size allows", size),
				 errdetail("The limit is %d kB.", max_payload_kb),
				 errhint("Shorten it, or raise eduai.max_payload_size.")));
}

void
eduai_queue_check_metadata(const Jsonb *metadata)
{
	char *policy;

	if (!eduai_core_json_is_object(metadata))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("metadata must be a JSON object"),
				 errhint("Give {} or leave it out.")));
	eduai_queue_check_sensitive(metadata);
	policy = eduai_core_json_text(metadata, "on_parent_failure");
	if (policy != NULL && strcmp(policy, "fail") != 0 && strcmp(policy, "run") != 0 &&
		strcmp(policy, "wait") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid on_parent_failure \"%s\"", policy),
						errhint("Use fail, run or wait.")));
}

void
eduai_queue_check_label(const char *what, const char *label)
{
	bool legal;

	if (label == NULL)
		return;
	legal = label[0] != '\0' && strlen(label) <= MAX_LABEL;
	for (const char *c = label; legal && *c; c++)
		legal = (unsigned char) *c >= 0x20 && *c != 0x7f;
	if (!legal)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s \"%.*s\"", what, pg_mbcliplen(label, strlen(label), 80), label),
				 errhint("It has 1 to %d bytes and no control characters.", MAX_LABEL)));
}

char *
eduai_queue_resolve_handler(const char *name)
{
	Oid status_type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("task_status"),
									  ObjectIdGetDatum(eduai_core_schema()));
	List *names = eduai_string_to_qualified_name_list(name);
	Oid function = LookupFuncName(names, 1, &status_type, true);

	if (!OidIsValid(function))
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_FUNCTION),
			 errmsg("function \"%s\" (eduai.task_status) does not exist", name),
			 errhint("on_result names a function with one argument of type eduai.task_status.")));
	if (eduai_proc_aclcheck(function, GetUserId()) != ACLCHECK_OK)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for function \"%s\"", name)));
	return quote_qualified_identifier(get_namespace_name(get_func_namespace(function)),
									  get_func_name(function));
}

static void
raise_refusal(const EduaiRefusal *why)
{
	ereport(ERROR, (errcode(why->sqlstate), errmsg("%s", why->message),
					why->detail ? errdetail("%s", why->detail) : 0,
					why->hint ? errhint("%s", why->hint) : 0));
}

/* the refusal of a full queue, or NULL with a place reserved */
static EduaiRefusal *
check_quota(const TaskRequest *task)
{
	bool exempt = task->priority == 0 || task->on_refusal == REFUSAL_DEFER;
	EduaiRefusal *why;

	if (eduai_queue_quota_reserve(task->tenant, 1, exempt ? 0 : eduai_queue_max_size))
		return NULL;
	why = palloc0(sizeof(EduaiRefusal));
	why->sqlstate = EDUAI_QUEUE_FULL;
	why->message = psprintf("the queue of tenant \"%s\" is full", task->tenant);
	why->detail = psprintf("Its limit is %d tasks that are not final (eduai.queue_max_size).",
						   eduai_queue_max_size);
	why->hint = "Try later, or enqueue with on_refusal => 'defer' or 'skip'.";
	return why;
}

/* what could be recorded would be nothing, or more than may be */
static EduaiRefusal *
without_consent(const TaskRequest *task)
{
	EduaiRefusal *why = palloc0(sizeof(EduaiRefusal));

	why->sqlstate = EDUAI_CONSENT_MISSING;
	why->message = psprintf("the learner has not consented to \"%s\"", task->purpose);
	why->detail = psprintf("Tasks of type \"%s\" require it for what is sensitive, which is the "
						   "whole payload.",
						   task->type.name);
	why->hint = "Call eduai.grant_consent() when the learner has consented, or name the sensitive "
				"keys in metadata.sensitive.";
	return why;
}

bool
eduai_queue_admit(const TaskRequest *task)
{
	EduaiEnqueue asked = {.tenant = task->tenant,
						  .task_type = task->type.name,
						  .by_gateway = task->type.by_gateway,
						  .model = task->model,
						  .user_id = task->user_id,
						  .priority = task->priority,
						  .payload = task->payload,
						  .metadata = task->metadata};
	EduaiRefusal refusal = {0};
	EduaiRefusal *why = NULL;

	if (!eduai_core_enqueue_check(&asked, &refusal) && task->on_refusal != REFUSAL_DEFER)
		why = &refusal;
	if (why == NULL && task->unconsented && task->on_refusal != REFUSAL_DEFER)
		why = without_consent(task);
	if (why == NULL)
		why = check_quota(task);
	if (why == NULL)
		return true;
	if (task->on_refusal == REFUSAL_ERROR)
		raise_refusal(why);
	return false;
}
