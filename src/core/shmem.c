/*
 * shmem.c: the shared memory registry.  See shmem.h.
 */
#include "postgres.h"

#include "core/errors.h"
#include "core/shmem.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#define MAX_PARTS 64

static const EduaiShmemPart *parts[MAX_PARTS];
static int nparts = 0;
static bool preloading = false;
static bool attached = false;

static shmem_request_hook_type prev_request_hook = NULL;
static shmem_startup_hook_type prev_startup_hook = NULL;

static void
request(void)
{
	if (prev_request_hook)
		prev_request_hook();
	for (int i = 0; i < nparts; i++)
	{
		RequestAddinShmemSpace(MAXALIGN(parts[i]->size()));
		if (parts[i]->nlocks > 0)
			RequestNamedLWLockTranche(parts[i]->name, parts[i]->nlocks);
	}
}

static void
startup(void)
{
	if (prev_startup_hook)
		prev_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < nparts; i++)
	{
		const EduaiShmemPart *part = parts[i];
		bool found;

		*part->address = ShmemInitStruct(part->name, part->size(), &found);
		if (!found)
			part->init(*part->address);
		if (part->nlocks > 0 && part->locks != NULL)
			*part->locks = GetNamedLWLockTranche(part->name);
	}
	LWLockRelease(AddinShmemInitLock);
	attached = true;
}

void
eduai_core_shmem_init(void)
{
	preloading = process_shared_preload_libraries_in_progress;
	if (!preloading)
		return;
	prev_request_hook = shmem_request_hook;
	shmem_request_hook = request;
	prev_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}

void
eduai_core_shmem_register(const EduaiShmemPart *part)
{
	if (!preloading)
		return;
	if (nparts >= MAX_PARTS)
		elog(FATAL, "too many parts of eduai's shared memory");
	parts[nparts++] = part;
}

bool
eduai_core_preloaded(void)
{
	return attached;
}

void
eduai_core_require_preload(const char *what)
{
	if (attached)
		return;
	ereport(ERROR, (errcode(EDUAI_NOT_PRELOADED),
					errmsg("%s needs eduai to be loaded at server start", what),
					errhint("Add eduai to shared_preload_libraries and restart the server.")));
}
