/*
 * admin.c: add_provider() and the other functions that change the fleet.
 *
 * Everything is validated before anything is written, as the caller where the
 * caller's privileges matter, and written as the extension's owner.  The
 * changes of all sessions are serialised by a lock on eduai.provider that its
 * readers do not notice.  Triggers on the tables tell the dispatchers.
 *
 * A literal key is sealed before anything else happens to it, and goes into its
 * table as that.  What fails while a key is among the arguments loses its
 * context lines (log_parameter_max_length_on_error) and hides the statement
 * from the server's log.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "core/json.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/seal.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "gateway/adapter.h"
#include "gateway/admin.h"
#include "gateway/baseurl.h"
#include "gateway/gateway.h"
#include "gateway/keyref.h"
#include "gateway/options.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(eduai_add_provider);
PG_FUNCTION_INFO_V1(eduai_remove_provider);
PG_FUNCTION_INFO_V1(eduai_fleet_changed);

typedef struct NewProvider
{
	char *name;
	char *kind;
	char *base_url;
	const char *key_ref;
	bytea *sealed; /* the literal; NULL for a reference or none */
	Jsonb *options;
} NewProvider;

static EduaiPlan upsert_provider = {
	"INSERT INTO eduai.provider (name, kind, base_url, key_ref, options, home) "
	"VALUES ($1, $2, $3, $4, $5, eduai.home()) "
	"ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, base_url = excluded.base_url, "
	"key_ref = excluded.key_ref, options = excluded.options, home = excluded.home",
	5,
	{TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID}};

static EduaiPlan delete_secret = {
	"DELETE FROM eduai.provider_secret WHERE provider = $1", 1, {TEXTOID}};

static EduaiPlan insert_secret = {
	"INSERT INTO eduai.provider_secret (provider, sealed) VALUES ($1, $2)", 2, {TEXTOID, BYTEAOID}};

static EduaiPlan delete_provider = {"DELETE FROM eduai.provider WHERE name = $1", 1, {TEXTOID}};

static EduaiPlan types_of_provider = {
	"SELECT i.name, t FROM eduai.instance i, unnest(i.task_types) t "
	"WHERE i.provider = $1 ORDER BY 1, 2",
	1,
	{TEXTOID}};

static char *
text_arg(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" cannot be null", name)));
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static void
check_kind(const char *kind)
{
	if (strcmp(kind, "mock") == 0)
	{
		if (!eduai_gateway_allow_mock)
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("providers of kind \"mock\" are not allowed here"),
							errhint("They answer without a model, for tests: a superuser can set "
									"eduai.allow_mock to on.")));
		return;
	}
	if (eduai_gateway_adapter(kind) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown provider kind \"%s\"", kind),
				 errhint("The kinds are openai, openrouter, anthropic, huggingface and mock; "
						 "openai is for every compatible server.")));
}

/* What a webhook's tasks are signed with is its key. */
static void
check_webhook(const NewProvider *new)
{
	bool webhook = false;

	(void) eduai_core_json_bool(new->options, "webhook", &webhook);
	if (webhook && new->key_ref == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("provider \"%s\" has the option \"webhook\" and no key", new->name),
			 errhint("Give the argument api_key: it is the secret that tasks are signed with.")));
}

static char *
checked_base_url(FunctionCallInfo fcinfo, const NewProvider *new)
{
	BaseUrlRules rules = {.with_key = new->key_ref != NULL};

	if (strcmp(new->kind, "mock") == 0)
		return pstrdup("");
	(void) eduai_core_json_bool(new->options, "allow_loopback", &rules.allow_loopback);
	(void) eduai_core_json_bool(new->options, "allow_private", &rules.allow_private);
	return eduai_gateway_baseurl_check(text_arg(fcinfo, 2, "base_url"), &rules);
}

/* An existing provider may change its kind only if its instances can follow. */
static void
check_instances(const NewProvider *new)
{
	Datum args[1] = {CStringGetTextDatum(new->name)};
	uint64 n = eduai_core_run(&types_of_provider, args, NULL);

	for (uint64 i = 0; i < n; i++)
	{
		char *type = eduai_core_text(i, 2);

		if (!eduai_gateway_kind_serves(new->kind, type))
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							errmsg("provider kind \"%s\" does not serve task type \"%s\"",
								   new->kind, type),
							errdetail("Instance \"%s\" of provider \"%s\" has that type.",
									  eduai_core_text(i, 1), new->name),
							errhint("Remove or change the instance first.")));
	}
}

static void
write_provider(const NewProvider *new)
{
	Datum args[5];
	char nulls[5] = {' ', ' ', ' ', ' ', ' '};

	check_instances(new);
	args[0] = CStringGetTextDatum(new->name);
	args[1] = CStringGetTextDatum(new->kind);
	args[2] = CStringGetTextDatum(new->base_url);
	args[3] = new->key_ref ? CStringGetTextDatum(new->key_ref) : (Datum) 0;
	if (new->key_ref == NULL)
		nulls[3] = 'n';
	args[4] = JsonbPGetDatum(new->options);
	(void) eduai_core_run(&upsert_provider, args, nulls);
	(void) eduai_core_run(&delete_secret, args, NULL);
	if (new->sealed == NULL)
		return;
	args[1] = PointerGetDatum(new->sealed);
	(void) eduai_core_run(&insert_secret, args, NULL);
}

static void
add_provider(FunctionCallInfo fcinfo)
{
	NewProvider new = {0};
	char *api_key = NULL;
	EduaiPrivilege saved;

	new.name = text_arg(fcinfo, 0, "name");
	new.kind = text_arg(fcinfo, 1, "kind");
	eduai_gateway_check_name("provider", new.name);
	check_kind(new.kind);
	if (!PG_ARGISNULL(3))
	{
		api_key = text_to_cstring(PG_GETARG_TEXT_PP(3));
		new.key_ref = eduai_gateway_keyref_check(api_key);
	}
	new.options = PG_ARGISNULL(4) ? eduai_core_json_parse("{}") : PG_GETARG_JSONB_P(4);
	eduai_gateway_check_provider_options(new.kind, new.options);
	check_webhook(&new);
	new.base_url = checked_base_url(fcinfo, &new);
	if (new.key_ref != NULL && strcmp(new.key_ref, "literal") == 0)
	{
		new.sealed = eduai_gateway_keyref_seal(api_key, new.name, new.base_url);
		eduai_core_seal_wipe(api_key);
	}

	eduai_core_enter(&saved);
	SPI_connect();
	eduai_gateway_lock_fleet();
	write_provider(&new);
	SPI_finish();
	eduai_core_leave(&saved);
}

/* Takes the key out of sight of pg_stat_activity as soon as it can be. */
static bool
hide_key(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(3))
		return false;
	pgstat_report_activity(STATE_RUNNING, "eduai.add_provider() with a key (hidden)");
	return true;
}

Datum
eduai_add_provider(PG_FUNCTION_ARGS)
{
	bool hidden = hide_key(fcinfo);
	MemoryContext caller = CurrentMemoryContext;

	PG_TRY();
	{
		add_provider(fcinfo);
	}
	PG_CATCH();
	{
		ErrorData *error;

		if (!hidden)
			PG_RE_THROW();
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		error->context = NULL;
		error->hide_stmt = true;
		ReThrowError(error);
	}
	PG_END_TRY();
	PG_RETURN_VOID();
}

Datum
eduai_remove_provider(PG_FUNCTION_ARGS)
{
	char *name = text_arg(fcinfo, 0, "name");
	Datum args[1] = {CStringGetTextDatum(name)};
	EduaiPrivilege saved;

	eduai_core_enter(&saved);
	SPI_connect();
	eduai_gateway_lock_fleet();
	if (eduai_core_run(&types_of_provider, args, NULL) > 0)
		ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
						errmsg("provider \"%s\" still has instances", name),
						errdetail("One of them is \"%s\".", eduai_core_text(0, 1)),
						errhint("Remove them with eduai.remove_instance() first.")));
	if (eduai_core_run(&delete_provider, args, NULL) == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("provider \"%s\" does not exist", name)));
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

/*
 * The statement trigger of eduai.provider and eduai.instance.  A restore's
 * COPY and a superuser's UPDATE reach the dispatchers through it, too.
 */
Datum
eduai_fleet_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("this function is called by triggers only")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	eduai_gateway_reload_at_commit();
	return PointerGetDatum(NULL);
}
