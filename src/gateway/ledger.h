/*
 * ledger.h: rows of eduai.provider_call.
 */
#ifndef EDUAI_GATEWAY_LEDGER_H
#define EDUAI_GATEWAY_LEDGER_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "utils/numeric.h"

/* One row.  Numbers below 0 are unknown. */
typedef struct LedgerRow
{
	const char *tenant;
	int64 task_id;
	int attempt;
	bool hedge; /* the second call of the attempt */
	const char *instance;
	const char *provider;  /* NULL: the instance's */
	const char *task_type; /* NULL: it and user_id are looked up in the task's request */
	const char *user_id;   /* NULL: nobody's */
	const char *model;
	int64 tokens_in;
	int64 tokens_cached;
	int64 tokens_cache_write;
	int64 tokens_out;
	int64 tokens_reasoning;
	int64 images;
	int64 audio_ms;
	Numeric cost_usd;
	Numeric bound_usd;   /* NULL: no budget applied */
	Numeric counted_usd; /* NULL: as cost_usd */
	const char *outcome;
	const char *code; /* NULL on success */
	int http_status;  /* 0: none */
	const char *request_id;
	TimestampTz started_at;
	int64 duration_us;
	int64 first_byte_us;
} LedgerRow;

/* In a transaction, SPI connected, as the owner. */
extern void eduai_gateway_ledger_insert(const LedgerRow *rows, int n);

#endif
