/*
 * key_testing.c: an SQL function by which tests destroy a learner's key.
 *
 * Superusers only, and only with eduai.test_mode.
 */
#include "postgres.h"

#include "core/pause.h"
#include "core/tenant.h"
#include "fmgr.h"
#include "privacy/learner_key.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(eduai_test_destroy_key);

Datum
eduai_test_destroy_key(PG_FUNCTION_ARGS)
{
	eduai_core_require_test_mode();
	PG_RETURN_BOOL(
		eduai_privacy_key_destroy(eduai_core_tenant(), text_to_cstring(PG_GETARG_TEXT_PP(0))));
}
