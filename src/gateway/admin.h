/*
 * admin.h: what admin.c and admin_instance.c share.
 */
#ifndef EDUAI_GATEWAY_ADMIN_H
#define EDUAI_GATEWAY_ADMIN_H

#include "postgres.h"

/* Raises 22023 unless "name" is 1..63 bytes without control characters. */
extern void eduai_gateway_check_name(const char *what, const char *name);

/* Serialises changes to the fleet to the end of the transaction; call as the owner. */
extern void eduai_gateway_lock_fleet(void);

#endif
