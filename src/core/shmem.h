/*
 * shmem.h: the one owner of PostgreSQL's shared memory hooks.
 *
 * A room describes its part of shared memory in a static EduaiShmemPart and
 * registers it from its <room>_init(), which runs in _PG_init().  Registering
 * is possible only while shared_preload_libraries is being processed; a later
 * load leaves *address NULL, and eduai_core_require_preload() then raises
 * UE011.
 */
#ifndef EDUAI_CORE_SHMEM_H
#define EDUAI_CORE_SHMEM_H

#include "postgres.h"
#include "storage/lwlock.h"

typedef struct EduaiShmemPart
{
	const char *name;        /* also the LWLock tranche: eduai_<room>... */
	Size (*size)(void);      /* called once the settings are final */
	void (*init)(void *ptr); /* called once, in the postmaster */
	int nlocks;              /* LWLocks to reserve, 0 for none */
	void **address;          /* where to put the part's address */
	LWLockPadded **locks;    /* where to put the locks' address; may be NULL */
} EduaiShmemPart;

/* Installs the hooks; the first call of _PG_init(). */
extern void eduai_core_shmem_init(void);

/* Adds a part; "part" must be static.  A no-op without preload. */
extern void eduai_core_shmem_register(const EduaiShmemPart *part);

/* True when this process has eduai's shared memory. */
extern bool eduai_core_preloaded(void);

/* Raises UE011 unless eduai was preloaded; "what" names the feature. */
extern void eduai_core_require_preload(const char *what);

#endif
