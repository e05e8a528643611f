/*
 * tenant.h: which tenant this session acts for.
 *
 * eduai.tenant is only a wish; the bindings in eduai.tenant_binding decide.
 * A role without any binding, its own or of a role it is a member of, may use
 * only "default"; a role with bindings only those.  No role is exempt.
 */
#ifndef EDUAI_CORE_TENANT_H
#define EDUAI_CORE_TENANT_H

#include "postgres.h"

extern void eduai_core_tenant_init(void);

/*
 * The session's tenant, checked for the effective role (GetUserId()); call it
 * before eduai_core_enter().  Raises UE012.  The string is palloc'd in the
 * current context.
 */
extern char *eduai_core_tenant(void);

/* The same, not copied: good until the next call of either. */
extern const char *eduai_core_tenant_here(void);

/* Raises 22023 unless "tenant" is a legal tenant name (1..63 bytes). */
extern void eduai_core_check_tenant_name(const char *tenant);

#endif
