/*
 * load.h: how busy the instances are.
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
	int pending; /* of those, routed in the transaction that has not ended */
} Load;

/* The entry of an instance, made at need; valid for ever. */
extern Load *eduai_gateway_load_of_instance(const char *instance);

/* The transaction ended: what was routed in it stays, or does not. */
extern void eduai_gateway_load_settle(bool committed);

#endif
