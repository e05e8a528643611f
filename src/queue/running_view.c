/*
 * running_view.c: pool_stands() and worker_stands(), for the views.
 */
#include "postgres.h"

#include "core/clock.h"
#include "core/privilege.h"
#include "core/shmem.h"
#include "core/tenant.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "queue/running.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(eduai_pool_stands);
PG_FUNCTION_INFO_V1(eduai_worker_stands);

/* pool_stands() returns setof pool_stand */
Datum
eduai_pool_stands(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	EduaiPrivilege saved;
	const Pool *pools;
	int n;

	InitMaterializedSRF(fcinfo, 0);
	eduai_core_enter(&saved);
	SPI_connect();
	if (eduai_core_preloaded())
		eduai_queue_running_load();
	pools = eduai_queue_pools(&n);
	for (int i = 0; i < n; i++)
	{
		PoolStand stand;
		Datum values[3];
		bool nulls[3] = {0};

		eduai_queue_pool_stand(&pools[i], &stand);
		values[0] = CStringGetTextDatum(pools[i].name);
		values[1] = Int32GetDatum(stand.running);
		values[2] = Int32GetDatum(stand.size);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	SPI_finish();
	eduai_core_leave(&saved);
	return (Datum) 0;
}

/* worker_stands() returns setof worker_stand */
Datum
eduai_worker_stands(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *tenant = eduai_core_tenant();
	int64 mono_us = eduai_core_mono_us();
	TimestampTz now = eduai_core_now();
	WorkerStand *workers;
	int n;

	InitMaterializedSRF(fcinfo, 0);
	n = eduai_queue_workers(tenant, &workers);
	for (int i = 0; i < n; i++)
	{
		Datum values[4] = {CStringGetTextDatum(workers[i].name),
						   CStringGetTextDatum(workers[i].task_types),
						   Int32GetDatum(workers[i].leases),
						   TimestampTzGetDatum(now - (mono_us - workers[i].last_seen_us))};
		bool nulls[4] = {0};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
