/*
 * attachment_testing.c: SQL functions by which tests reach what pruning does
 * with attachments.
 *
 * Superusers only, and only with eduai.test_mode.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/pause.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "queue/attachment.h"
#include "queue/task.h"
#include "utils/array.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(eduai_test_drop_attachments);
PG_FUNCTION_INFO_V1(eduai_test_drop_unlinked_attachments);

Datum
eduai_test_drop_attachments(PG_FUNCTION_ARGS)
{
	char *tenant = eduai_core_tenant();
	EduaiPrivilege saved;
	Datum *values;
	char **tenants;
	int64 *ids;
	int n;

	eduai_core_require_test_mode();
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &values, NULL, &n);
	tenants = palloc(sizeof(char *) * Max(n, 1));
	ids = palloc(sizeof(int64) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		tenants[i] = tenant;
		ids[i] = DatumGetInt64(values[i]);
	}
	eduai_core_enter(&saved);
	SPI_connect();
	eduai_queue_drop_attachments(tenants, ids, n);
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_VOID();
}

Datum
eduai_test_drop_unlinked_attachments(PG_FUNCTION_ARGS)
{
	int64 older_ms =
		eduai_queue_interval_ms(PG_GETARG_INTERVAL_P(0), "older_than", 0, 365 * EDUAI_DAY_MS);
	EduaiPrivilege saved;
	int64 n;

	eduai_core_require_test_mode();
	eduai_core_enter(&saved);
	SPI_connect();
	n = eduai_queue_drop_unlinked_attachments(NULL, older_ms * 1000, PG_GETARG_INT32(1));
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_INT64(n);
}
