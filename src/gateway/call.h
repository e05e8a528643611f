/*
 * call.h: one provider call, from the claimed task to its outcome.
 *
 * Pure data: no clock, shared memory or SQL.  All strings and jsonb of a call
 * live in the call's own memory context, which its owner deletes.
 */
#ifndef EDUAI_GATEWAY_CALL_H
#define EDUAI_GATEWAY_CALL_H

#include "postgres.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/uuid.h"

/* An attachment that the payload refers to; see attachments.h. */
typedef struct CallFile
{
	char *id; /* as the payload writes it */
	char *content_type;
	bytea *data; /* NULL: "missing" says why */
	const char *missing;
} CallFile;

/* A picture that becomes an attachment of the task; see attachments.h. */
typedef struct CallPicture
{
	pg_uuid_t id;
	char *content_type;
	bytea *data;
} CallPicture;

typedef struct GatewayCall
{
	MemoryContext context;
	int64 task_id;
	int attempt;
	char *tenant;
	char *task_type;
	char *user_id;         /* NULL when absent */
	char *idempotency_key; /* sent where the provider has such a header */
	Jsonb *payload;
	Jsonb *metadata;
	Jsonb *parents;  /* results that go into the payload; NULL: depends on none */
	CallFile *files; /* what the payload refers to */
	int nfiles;
	int64 timeout_ms;          /* of this attempt, all in */
	int64 tokens;              /* reserved of its instance's limits (stand.h) */
	bool probe;                /* of its instance's breaker (stand.h) */
	bool muted;                /* another call of its attempt may speak first: show nothing yet */
	bool health_check;         /* no task: a GET of the adapter's health_path; payload NULL */
	struct Instance *instance; /* where it goes; see fleet.h */
} GatewayCall;

typedef enum CallVerdict
{
	CALL_COMPLETED,
	CALL_RETRY,           /* failed; another attempt may help, on another instance too */
	CALL_RETRY_ELSEWHERE, /* failed; only another instance may help */
	CALL_FATAL,           /* failed; no attempt can help */
	CALL_CANCELLED        /* aborted by us: the task was cancelled */
} CallVerdict;

/* What an answer's headers said of the provider's rate limits; -1: nothing. */
typedef struct CallLimits
{
	int64 requests_limit;
	int64 requests_left;
	int64 requests_reset_ms; /* from the answer on */
	int64 tokens_limit;
	int64 tokens_left;
	int64 tokens_reset_ms;
} CallLimits;

typedef struct CallOutcome
{
	CallVerdict verdict;
	const char *code;     /* short, stable: "timeout_first_byte", "http_500", "rate_limited" ... */
	char *message;        /* never a key, never a prompt; NULL on success */
	int http_status;      /* 0 when no answer arrived */
	bool sent;            /* the request left: it may have to be paid for, whatever came back */
	int64 retry_after_ms; /* the provider's wish, -1 when it has none */
	Jsonb *result;        /* normalised answer; NULL unless completed */
	int64 tokens_in;      /* all input tokens, cached ones included */
	int64 tokens_cached;
	int64 tokens_cache_write;
	/* parts of tokens_in that may have prices of their own, apart from the above and from each other */
	int64 tokens_cache_write_1h; /* of tokens_cache_write: kept for an hour */
	int64 tokens_audio_in;
	int64 tokens_image_in;
	int64 tokens_out;       /* reasoning tokens included */
	int64 tokens_audio_out; /* the part of it that was sound */
	int64 tokens_reasoning; /* the part of tokens_out that was not shown */
	int64 images;           /* pictures in the answer */
	Numeric price_image;    /* USD for each of them, NULL: the instance's */
	CallPicture *pictures;  /* those of the result that are kept as attachments */
	int npictures;
	int64 audio_ms;      /* length of the audio, 0 when the provider does not say */
	Numeric cost_usd;    /* never NULL: 0 when nothing was spent */
	char *model;         /* as the provider names it; NULL when unknown */
	char *request_id;    /* the provider's, for its support; NULL when unknown */
	int64 duration_us;   /* from start to the last byte or the failure */
	int64 first_byte_us; /* -1 when none came */
	CallLimits limits;
} CallOutcome;

#endif
