/*
 * errors.h: the SQLSTATEs that callers branch on (class UE).
 *
 * Everything else uses PostgreSQL's standard codes.
 */
#ifndef EDUAI_CORE_ERRORS_H
#define EDUAI_CORE_ERRORS_H

#include "postgres.h"
#include "utils/elog.h"

#define EDUAI_VERSION_CONFLICT     MAKE_SQLSTATE('U', 'E', '0', '0', '1')
#define EDUAI_RATE_LIMITED         MAKE_SQLSTATE('U', 'E', '0', '0', '2')
#define EDUAI_QUEUE_FULL           MAKE_SQLSTATE('U', 'E', '0', '0', '3')
#define EDUAI_NO_INSTANCE          MAKE_SQLSTATE('U', 'E', '0', '0', '4')
#define EDUAI_BUDGET_EXCEEDED      MAKE_SQLSTATE('U', 'E', '0', '0', '5')
#define EDUAI_IDEMPOTENCY_CONFLICT MAKE_SQLSTATE('U', 'E', '0', '0', '6')
#define EDUAI_CONSENT_MISSING      MAKE_SQLSTATE('U', 'E', '0', '0', '7')
#define EDUAI_SUBJECT_ERASED       MAKE_SQLSTATE('U', 'E', '0', '0', '8')
#define EDUAI_STALE_ATTEMPT        MAKE_SQLSTATE('U', 'E', '0', '0', '9')
#define EDUAI_DEPENDENCY_CYCLE     MAKE_SQLSTATE('U', 'E', '0', '1', '0')
#define EDUAI_NOT_PRELOADED        MAKE_SQLSTATE('U', 'E', '0', '1', '1')
#define EDUAI_TENANT_REFUSED       MAKE_SQLSTATE('U', 'E', '0', '1', '2')

#endif
