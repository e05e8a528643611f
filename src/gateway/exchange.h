/*
 * exchange.h: one transfer of transfer.c, as its parts see it.
 *
 * transfer.c owns every Transfer and the lines they stand in; exchange.c turns
 * one into an easy handle and an ended handle into an outcome; mock.c answers
 * without HTTP.  A Transfer is allocated in its call's context; what
 * libcurl's callbacks write into it is malloc'ed or in place.
 */
#ifndef EDUAI_GATEWAY_EXCHANGE_H
#define EDUAI_GATEWAY_EXCHANGE_H

#include "postgres.h"

#include <curl/curl.h>

#include "gateway/adapter.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"

typedef enum TransferState
{
	TRANSFER_WAITING, /* for a place among the running */
	TRANSFER_RUNNING, /* in libcurl's hands */
	TRANSFER_MOCK,    /* its timer answers */
	TRANSFER_FINISHED /* waits to be handed back */
} TransferState;

/* Why we ended it; libcurl's own reasons are CURLcodes. */
typedef enum TransferAbort
{
	ABORT_NONE,
	ABORT_CONNECT,
	ABORT_FIRST_BYTE,
	ABORT_STALL,
	ABORT_TOTAL,
	ABORT_BODY_TOO_LARGE,
	ABORT_MALFORMED,
	ABORT_HEADERS_TOO_LARGE,
	ABORT_TWO_LENGTHS,
	ABORT_ADDRESS,
	ABORT_CLEAR_TEXT,
	ABORT_RESENT,
	ABORT_OUT_OF_MEMORY,
	ABORT_CANCELLED
} TransferAbort;

/* Limit headers: names in lower case and values, one after the other. */
#define MAX_LIMIT_HEADERS 16
#define MAX_LIMIT_VALUE   64 /* bytes */

typedef struct LimitHeaders
{
	int n; /* strings: two of each header */
	int used;
	int at[2 * MAX_LIMIT_HEADERS];
	const char *list[2 * MAX_LIMIT_HEADERS]; /* set by head_tell() */
	char text[1024];
} LimitHeaders;

typedef struct Transfer
{
	dlist_node node;   /* in its host's or the finished line */
	struct Host *host; /* see line.c */
	bool resolving;    /* counted by it: its address is not known yet */
	pairingheap_node timer;
	bool has_timer;
	int64 timer_us;
	TransferState state;
	struct Transfer *older; /* of the same task */
	GatewayCall *call;
	CallOutcome *outcome;

	CURL *easy;
	struct curl_slist *headers;
	curl_mime *mime;
	bool own_authorities; /* the handle was told of eduai.http_ca_file */
	WireRequest request;
	size_t max_body;

	bool renewed; /* was sent again with a newer key */

	/* written by callbacks: from here to started_us, zeroed when it is sent again */
	TransferAbort abort;
	int sends; /* how often the request went out */
	size_t header_bytes;
	char *body; /* malloc'ed */
	size_t body_length;
	size_t body_room;
	bool head_over; /* what comes now are trailers */
	char *header;   /* the value that a folded line continues; NULL: none that is kept */
	size_t header_room;
	Stream *stream;  /* instead of body, when the answer is one */
	bool body_began; /* whether it is one is decided */
	bool noted;      /* it has text to show; see show.c */
	dlist_node show_node;
	size_t shown; /* bytes of its text */
	int64 shown_us;
	char retry_after[128]; /* empty: absent; a line for each such header */
	char retry_after_ms[64];
	char should_retry[16];
	char content_type[128];
	char content_length[32];
	char request_id[128];
	LimitHeaders limits;
	char error[CURL_ERROR_SIZE];

	/* monotonic; 0: not yet */
	int64 started_us;    /* by the dispatcher */
	int64 launched_us;   /* handed to libcurl */
	int64 connected_us;  /* connection there, request about to leave */
	int64 first_byte_us; /* of the head; of a stream, its first event */
	int64 last_byte_us;  /* of the body; of a stream, since its first event */
	int64 total_ms;      /* of the whole, from started_us */
	curl_off_t uploaded; /* when last looked at */
} Transfer;

/* ---- exchange.c ---- */

/* Sets up t->easy for t->request; false, and the outcome says why, if it cannot. */
extern bool eduai_gateway_exchange_prepare(Transfer *t);

/* Releases what prepare() took, and the body; the handle's connection stays. */
extern void eduai_gateway_exchange_release(Transfer *t);

/* Fills the outcome of an ended exchange; call before release(). */
extern void eduai_gateway_exchange_judge(Transfer *t, CURLcode result);

/* Reads a body into the outcome. */
extern void
eduai_gateway_exchange_read(Transfer *t, int http_status, const char *body, size_t length);

/* ---- head.c ---- */

/* A line of the head, or of the trailers; false, and t->abort says why, to end the exchange. */
extern bool eduai_gateway_head_line(Transfer *t, const char *line, size_t length);

/* Fills in what the head said; the strings are the transfer's. */
extern void eduai_gateway_head_tell(Transfer *t, int64 now_unix, WireResponse *response);

/* ---- exchange_stream.c ---- */

/* Is the body that begins with these bytes, or goes on, a stream? */
extern bool eduai_gateway_exchange_streams(Transfer *t, const char *bytes, size_t n);

/* Its next bytes; false, and t->abort says why, when no more are wanted. */
extern bool eduai_gateway_exchange_feed(Transfer *t, const char *bytes, size_t n);

/* Fills the outcome of an exchange whose answer was a stream. */
extern void eduai_gateway_exchange_judge_stream(Transfer *t, CURLcode result, int http_status);

/* ---- failure.c ---- */

/* Fills the outcome by t->abort. */
extern void eduai_gateway_exchange_aborted(Transfer *t);

/* Fills the outcome by libcurl's reason. */
extern void eduai_gateway_exchange_failed(Transfer *t, CURLcode result);

/* ---- mock.c ---- */

/* How long a call to a mock provider takes, in milliseconds. */
extern int64 eduai_gateway_mock_latency_ms(const GatewayCall *call);

/* Answers from the provider's options; "chance" is in [0, 1).  Does not raise. */
extern void
eduai_gateway_mock_answer(GatewayCall *call, double chance, int64 now_unix, CallOutcome *outcome);

#endif
