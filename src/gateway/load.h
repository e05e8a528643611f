/*
 * load.h: how busy the dispatcher is, per pool and per instance.
 *
 * There is one dispatcher per database and only it calls providers, so these
 * counts in its own memory are exact.
 */
#ifndef EDUAI_GATEWAY_LOAD_H
#define EDUAI_GATEWAY_LOAD_H

#include "postgres.h"

typedef struct Load
{
	char name[NAMEDATALEN]; /* hash key */
	int running;
	int critical; /* of those, critical tasks (pools only) */
} Load;

/* The entry of a pool or an instance, made at need; valid for ever. */
extern Load *eduai_gateway_load_of_pool(const char *pool);
extern Load *eduai_gateway_load_of_instance(const char *instance);

#endif
