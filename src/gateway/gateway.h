/*
 * gateway.h: what the gateway's files tell each other and src/eduai.c.
 */
#ifndef EDUAI_GATEWAY_GATEWAY_H
#define EDUAI_GATEWAY_GATEWAY_H

#include "postgres.h"

/* Settings, the dispatcher and everything below it; called from _PG_init(). */
extern void eduai_gateway_init(void);

/* The settings of providers and transfers; called from eduai_gateway_init(). */
extern void eduai_gateway_fleet_init(void);

/* Makes this database's dispatcher load the fleet again when the transaction commits. */
extern void eduai_gateway_reload_at_commit(void);

/* Raises 22023 for embeddings of no model: vectors of different models cannot be compared. */
extern void eduai_gateway_check_model_is_named(const char *task_type, const char *model);

/* eduai.allow_mock: may providers of kind mock be added? */
extern bool eduai_gateway_allow_mock;

/* eduai.max_response_size, in kilobytes: the longest body, decompressed. */
extern int eduai_gateway_max_response_kb;

/* eduai.http_connections: how many transfers run at once; more wait in line. */
extern int eduai_gateway_http_connections;

/* eduai.http_ca_file: trusted certificates; empty for the system's. */
extern char *eduai_gateway_http_ca_file;

#endif
