/*
 * tenants.c: the tenants that have events.  See tenants.h.
 */
#include "postgres.h"

#include "core/plan.h"
#include "core/privilege.h"
#include "projections/tenants.h"
#include "utils/memutils.h"

/* Loose scans of the indexes: a row for each tenant, not for each of its events. */
static EduaiPlan all_tenants = {
	"WITH RECURSIVE hot (tenant_id) AS ("
	"(SELECT o.tenant_id FROM eduai.event_order o ORDER BY o.tenant_id LIMIT 1)"
	" UNION ALL SELECT (SELECT o.tenant_id FROM eduai.event_order o"
	"  WHERE o.tenant_id > h.tenant_id ORDER BY o.tenant_id LIMIT 1)"
	" FROM hot h WHERE h.tenant_id IS NOT NULL),"
	" compacted (tenant_id) AS ("
	"(SELECT b.tenant_id FROM eduai.event_block b ORDER BY b.tenant_id LIMIT 1)"
	" UNION ALL SELECT (SELECT b.tenant_id FROM eduai.event_block b"
	"  WHERE b.tenant_id > c.tenant_id ORDER BY b.tenant_id LIMIT 1)"
	" FROM compacted c WHERE c.tenant_id IS NOT NULL)"
	" SELECT tenant_id FROM hot WHERE tenant_id IS NOT NULL"
	" UNION SELECT tenant_id FROM compacted WHERE tenant_id IS NOT NULL",
	0};

char **
eduai_projections_tenants(int *n)
{
	MemoryContext caller = CurrentMemoryContext;
	EduaiPrivilege saved;
	char **tenants;

	eduai_core_enter(&saved);
	SPI_connect();
	*n = (int) eduai_core_run_latest(&all_tenants, NULL, NULL);
	tenants = MemoryContextAlloc(caller, sizeof(char *) * (*n + 1));
	for (int i = 0; i < *n; i++)
		tenants[i] = MemoryContextStrdup(caller, eduai_core_text(i, 1));
	SPI_finish();
	eduai_core_leave(&saved);
	MemoryContextSwitchTo(caller);
	return tenants;
}
