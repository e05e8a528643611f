/*
 * seal_testing.c: SQL functions by which tests reach seal.h.
 *
 * Superusers only, and only with eduai.test_mode.
 */
#include "postgres.h"

#include "core/compat.h"
#include "core/pause.h"
#include "core/seal.h"
#include "fmgr.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(eduai_test_seal);
PG_FUNCTION_INFO_V1(eduai_test_unseal);

Datum
eduai_test_seal(PG_FUNCTION_ARGS)
{
	bytea *secret = PG_GETARG_BYTEA_PP(0);

	eduai_core_require_test_mode();
	PG_RETURN_BYTEA_P(eduai_core_seal(VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret),
									  text_to_cstring(PG_GETARG_TEXT_PP(1))));
}

Datum
eduai_test_unseal(PG_FUNCTION_ARGS)
{
	bytea *sealed = PG_GETARG_BYTEA_PP(0);
	size_t length;
	char *error;
	char *secret;
	bytea *result;

	eduai_core_require_test_mode();
	secret = eduai_core_unseal(sealed, text_to_cstring(PG_GETARG_TEXT_PP(1)), &length, &error);
	if (secret == NULL)
		ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("cannot open it: %s", error)));
	result = palloc(VARHDRSZ + length);
	SET_VARSIZE(result, VARHDRSZ + length);
	memcpy(VARDATA(result), secret, length);
	PG_RETURN_BYTEA_P(result);
}
