/*
 * health.h: what each room says of its health.
 *
 * A room registers a reporter; eduai.health() and eduai.health_problems()
 * call them all, as the extension's owner, inside SPI.
 */
#ifndef EDUAI_CORE_HEALTH_H
#define EDUAI_CORE_HEALTH_H

#include "postgres.h"
#include "utils/jsonb.h"

typedef struct EduaiHealth EduaiHealth;

typedef void (*EduaiHealthReporter)(EduaiHealth *health);
extern void eduai_core_health_register(EduaiHealthReporter reporter);

/* Adds a top-level section such as "queue". */
extern void eduai_core_health_section(EduaiHealth *health, const char *name, const Jsonb *section);

/* severity: "warning" (status degraded) or "critical" (status down); since 0 when unknown. */
extern void eduai_core_health_problem(EduaiHealth *health, const char *code, const char *severity,
									  int64 since, const char *detail, const char *hint);

#endif
