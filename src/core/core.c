/*
 * core.c: starts the room's parts in their order.
 */
#include "postgres.h"

#include "core/answer.h"
#include "core/clock.h"
#include "core/core.h"
#include "core/guard.h"
#include "core/lock_room.h"
#include "core/pace.h"
#include "core/pause.h"
#include "core/seal.h"
#include "core/shmem.h"
#include "core/status.h"
#include "core/tenant.h"
#include "core/worker.h"
#include "core/xact.h"

void
eduai_core_init(void)
{
	eduai_core_shmem_init();
	eduai_core_xact_init();
	eduai_core_guard_init();
	eduai_core_lock_room_init();
	eduai_core_pause_init();
	eduai_core_pace_init();
	eduai_core_clock_init();
	eduai_core_tenant_init();
	eduai_core_status_init();
	eduai_core_seal_init();
	eduai_core_worker_init();
	eduai_core_answer_init();
}
