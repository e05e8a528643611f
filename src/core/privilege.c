/*
 * privilege.c: switching to the extension's owner and back.  See privilege.h.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "core/privilege.h"
#include "core/relcache.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/*
 * pg_temp is named, and last: unnamed it would be searched first, and a
 * caller's temporary type "text" would stand for ours.
 */
#define SAFE_PATH "pg_catalog, pg_temp"

static Oid schema_oid = InvalidOid; /* InvalidOid: to be looked up */

/*
 * pg_extension has no syscache, and DROP EXTENSION leaves the schema: the oid of
 * one of the extension's tables stands for it.  InvalidOid: to be looked up.
 */
#define MARK "tenant_binding"
static Oid mark_oid = InvalidOid;

static Oid known_installation = InvalidOid;
static Oid known_owner = InvalidOid;

static Oid
extension_owner(void)
{
	Relation rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid owner = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("eduai"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return owner;
}

static void
forget_schema(Datum arg, int cacheid, uint32 hashvalue)
{
	schema_oid = InvalidOid;
}

/* An append asks five times: the syscache's own look-up would be a fiftieth of it. */
Oid
eduai_core_schema(void)
{
	static bool registered = false;

	if (!registered)
		CacheRegisterSyscacheCallback(NAMESPACENAME, forget_schema, (Datum) 0);
	registered = true;
	if (!OidIsValid(schema_oid))
		schema_oid = get_namespace_oid("eduai", false);
	return schema_oid;
}

static void
forget_mark(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == mark_oid)
		mark_oid = InvalidOid;
}

Oid
eduai_core_installation(void)
{
	static bool registered = false;

	if (!registered)
		eduai_core_relcache_register(forget_mark);
	registered = true;
	if (!OidIsValid(mark_oid))
		mark_oid = get_relname_relid(MARK, eduai_core_schema());
	if (!OidIsValid(mark_oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("extension \"eduai\" does not exist"),
				 errhint("Run CREATE EXTENSION eduai in this database.")));
	return mark_oid;
}

Oid
eduai_core_owner(void)
{
	Oid installation = eduai_core_installation();

	if (installation != known_installation)
	{
		Oid owner = extension_owner();

		if (!OidIsValid(owner))
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
							errmsg("extension \"eduai\" does not exist"),
							errhint("Run CREATE EXTENSION eduai in this database.")));
		known_owner = owner;
		known_installation = installation;
	}
	return known_owner;
}

void
eduai_core_set_local(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
}

/* the innermost eduai_core_enter_direct() that may still have to connect */
static EduaiPrivilege *direct = NULL;

void
eduai_core_enter_direct(EduaiPrivilege *saved)
{
	GetUserIdAndSecContext(&saved->caller, &saved->sec_context);
	saved->guc_level = 0;
	saved->outer = direct;
	SetUserIdAndSecContext(eduai_core_owner(), saved->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	direct = saved;
}

void
eduai_core_enter_sql(void)
{
	EduaiPrivilege *saved = direct;

	if (likely(saved == NULL) || saved->guc_level != 0)
		return;
	saved->guc_level = NewGUCNestLevel();
	eduai_core_set_local("search_path", SAFE_PATH);
	SPI_connect();
}

void
eduai_core_leave_direct(EduaiPrivilege *saved, bool failed)
{
	direct = saved->outer;
	/* the end of the failed (sub)transaction restores all of it */
	if (failed)
		return;
	if (saved->guc_level != 0)
	{
		SPI_finish();
		AtEOXact_GUC(false, saved->guc_level);
	}
	SetUserIdAndSecContext(saved->caller, saved->sec_context);
}

static void
enter(Oid role, int context_flags, EduaiPrivilege *saved)
{
	/* what is nested in it may connect, too: in that order */
	eduai_core_enter_sql();
	GetUserIdAndSecContext(&saved->caller, &saved->sec_context);
	SetUserIdAndSecContext(role, saved->sec_context | context_flags);
	saved->guc_level = NewGUCNestLevel();
	eduai_core_set_local("search_path", SAFE_PATH);
}

void
eduai_core_enter(EduaiPrivilege *saved)
{
	enter(eduai_core_owner(), SECURITY_LOCAL_USERID_CHANGE, saved);
}

void
eduai_core_enter_role(Oid role, EduaiPrivilege *saved)
{
	enter(role, SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION, saved);
}

void
eduai_core_enter_table_owner(Oid owner, EduaiPrivilege *saved)
{
	enter(owner,
		  SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS,
		  saved);
	eduai_core_set_local("row_security", "off");
}

void
eduai_core_leave(const EduaiPrivilege *saved)
{
	AtEOXact_GUC(false, saved->guc_level);
	SetUserIdAndSecContext(saved->caller, saved->sec_context);
}
