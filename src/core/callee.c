/*
 * callee.c: functions that users give eduai to call later.  See callee.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "core/callee.h"
#include "core/compat.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

static bool
is_shaped(Form_pg_proc form, const Oid *arguments, int n, Oid result)
{
	if (form->prokind != PROKIND_FUNCTION || form->proretset || form->prorettype != result ||
		form->pronargs != n)
		return false;
	for (int i = 0; i < n; i++)
		if (form->proargtypes.values[i] != arguments[i])
			return false;
	return true;
}

char *
eduai_core_callee_name(Oid function, const Oid *arguments, int n, Oid result, const char *what,
					   const char *shape)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	char *name;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
						errmsg("function with OID %u does not exist", function)));
	form = (Form_pg_proc) GETSTRUCT(tuple);
	name =
		quote_qualified_identifier(get_namespace_name(form->pronamespace), NameStr(form->proname));
	if (!is_shaped(form, arguments, n, result))
		ereport(ERROR, (errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
						errmsg("function %s cannot be %s", name, what),
						errhint("Give a function %s.", shape)));
	if (isAnyTempNamespace(form->pronamespace))
		ereport(ERROR, (errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
						errmsg("function %s cannot be %s", name, what),
						errdetail("It is in a temporary schema.")));
	ReleaseSysCache(tuple);
	if (eduai_proc_aclcheck(function, GetUserId()) != ACLCHECK_OK)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for function %s", name)));
	return name;
}
