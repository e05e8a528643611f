/*
 * tenant.c: the session's tenant, held against the role's bindings.
 *
 * The last verdict is kept per backend for one (role, tenant).  allow_tenant()
 * and disallow_tenant() invalidate the binding table's relcache entry, which
 * clears it everywhere at their commit; so do changes to role memberships.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/errors.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/relcache.h"
#include "core/tenant.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

static char *tenant_setting = NULL;
static bool require_tenant = false;

static Oid verdict_role = InvalidOid; /* InvalidOid: no verdict kept */
static char verdict_tenant[NAMEDATALEN];

PG_FUNCTION_INFO_V1(eduai_current_tenant);
PG_FUNCTION_INFO_V1(eduai_allow_tenant);
PG_FUNCTION_INFO_V1(eduai_disallow_tenant);

static void
forget_verdict_rel(Datum arg, Oid relid)
{
	verdict_role = InvalidOid;
}

static void
forget_verdict_sys(Datum arg, int cacheid, uint32 hashvalue)
{
	verdict_role = InvalidOid;
}

void
eduai_core_tenant_init(void)
{
	DefineCustomStringVariable(
		"eduai.tenant", "The tenant this session acts for.",
		"A role may act only for the tenants bound to it by eduai.allow_tenant().", &tenant_setting,
		"default", PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("eduai.require_tenant",
							 "Refuse calls of sessions that did not set eduai.tenant.", NULL,
							 &require_tenant, false, PGC_SUSET, 0, NULL, NULL, NULL);
	eduai_core_relcache_register(forget_verdict_rel);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, forget_verdict_sys, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, forget_verdict_sys, (Datum) 0);
}

void
eduai_core_check_tenant_name(const char *tenant)
{
	size_t length = strlen(tenant);
	bool legal = length >= 1 && length < NAMEDATALEN;

	for (size_t i = 0; legal && i < length; i++)
		legal = (unsigned char) tenant[i] >= 0x20 && tenant[i] != 0x7f;
	if (!legal)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid tenant name \"%s\"", tenant),
						errhint("A tenant's name has 1 to %d bytes and no control characters.",
								NAMEDATALEN - 1)));
}

static bool
role_may_act_for(Oid role, const char *tenant)
{
	static EduaiPlan bindings = {"SELECT role::text, tenant FROM eduai.tenant_binding", 0};
	EduaiPrivilege saved;
	bool bound = false;
	bool allowed = false;
	uint64 n;

	eduai_core_enter(&saved);
	SPI_connect();
	n = eduai_core_run_latest(&bindings, NULL, NULL);
	for (uint64 i = 0; i < n && !allowed; i++)
	{
		Oid holder = get_role_oid(eduai_core_text(i, 1), true);

		if (OidIsValid(holder) && is_member_of_role_nosuper(role, holder))
		{
			bound = true;
			allowed = strcmp(eduai_core_text(i, 2), tenant) == 0;
		}
	}
	SPI_finish();
	eduai_core_leave(&saved);
	return allowed || (!bound && strcmp(tenant, "default") == 0);
}

const char *
eduai_core_tenant_here(void)
{
	Oid role = GetUserId();
	const char *tenant = tenant_setting ? tenant_setting : "";

	if (require_tenant && strcmp(tenant, "default") == 0)
		ereport(ERROR, (errcode(EDUAI_TENANT_REFUSED), errmsg("no tenant is set"),
						errhint("Set eduai.tenant; eduai.require_tenant is on.")));
	if (role == verdict_role && strcmp(tenant, verdict_tenant) == 0)
		return verdict_tenant;

	if (tenant[0] == '\0' || strlen(tenant) >= NAMEDATALEN || !role_may_act_for(role, tenant))
		ereport(ERROR, (errcode(EDUAI_TENANT_REFUSED),
						errmsg("role \"%s\" may not act for tenant \"%s\"",
							   GetUserNameFromId(role, false), tenant),
						errhint("An administrator can bind them with eduai.allow_tenant().")));
	strlcpy(verdict_tenant, tenant, NAMEDATALEN);
	verdict_role = role;
	return verdict_tenant;
}

char *
eduai_core_tenant(void)
{
	return pstrdup(eduai_core_tenant_here());
}

Datum
eduai_current_tenant(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(eduai_core_tenant()));
}

static void
forget_everywhere(void)
{
	Oid relid = get_relname_relid("tenant_binding", eduai_core_schema());

	CacheInvalidateRelcacheByRelid(relid);
	verdict_role = InvalidOid;
}

Datum
eduai_allow_tenant(PG_FUNCTION_ARGS)
{
	static EduaiPlan bind = {
		"INSERT INTO eduai.tenant_binding (role, tenant) VALUES ($1, $2) ON CONFLICT DO NOTHING",
		2,
		{NAMEOID, TEXTOID}};
	Name role = PG_GETARG_NAME(0);
	char *tenant = text_to_cstring(PG_GETARG_TEXT_PP(1));
	EduaiPrivilege saved;
	Datum args[2] = {NameGetDatum(role), PG_GETARG_DATUM(1)};

	eduai_core_check_tenant_name(tenant);
	(void) get_role_oid(NameStr(*role), false);
	eduai_core_enter(&saved);
	SPI_connect();
	eduai_core_run(&bind, args, NULL);
	SPI_finish();
	forget_everywhere();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

Datum
eduai_disallow_tenant(PG_FUNCTION_ARGS)
{
	static EduaiPlan unbind = {
		"DELETE FROM eduai.tenant_binding WHERE role = $1 AND tenant = $2", 2, {NAMEOID, TEXTOID}};
	Datum args[2] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	EduaiPrivilege saved;
	uint64 n;

	eduai_core_enter(&saved);
	SPI_connect();
	n = eduai_core_run(&unbind, args, NULL);
	SPI_finish();
	forget_everywhere();
	eduai_core_leave(&saved);
	PG_RETURN_BOOL(n > 0);
}
