/*
 * output_testing.c: a SQL function by which tests give text as the dispatcher
 * does: bytes that may end within a character, of any attempt.
 *
 * Superusers only, and only with eduai.test_mode.
 */
#include "postgres.h"

#include "core/compat.h"
#include "core/pause.h"
#include "core/tenant.h"
#include "fmgr.h"
#include "queue/output.h"

PG_FUNCTION_INFO_V1(eduai_test_append_output);

Datum
eduai_test_append_output(PG_FUNCTION_ARGS)
{
	bytea *bytes = PG_GETARG_BYTEA_PP(2);

	eduai_core_require_test_mode();
	eduai_queue_output_append(eduai_core_tenant(), PG_GETARG_INT64(0), PG_GETARG_INT32(1),
							  VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	PG_RETURN_VOID();
}
