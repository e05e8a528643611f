/*-------------------------------------------------------------------------
 * behaviour.h
 *		How the simulator answers: "key=value;key=value".
 *
 * A parsed Behaviour's strings point into the text it was parsed from.
 * README.md describes the keys; the table in behaviour.c lists them.
 *-------------------------------------------------------------------------
 */
#ifndef SIM_BEHAVIOUR_H
#define SIM_BEHAVIOUR_H

#include "buf.h"

typedef struct Behaviour
{
	/* times */
	double latency_ms;
	double latency_p95_ms;    /* 0: not lognormal */
	int64_t error_latency_ms; /* -1 when absent, likewise below */
	int64_t first_byte_ms;
	int64_t chunk_ms;

	/* failures */
	double error_rate; /* -1 when absent */
	int64_t status;    /* 0 when absent */
	int64_t fail_first;
	int64_t first;
	int64_t flap_on_ms; /* 0 when absent */
	int64_t flap_off_ms;
	char *code;
	char *retry_after;
	int64_t retry_after_ms;
	int64_t retry_date; /* seconds from now */
	char *should_retry;
	char *redirect;
	bool error200;

	/* the connection */
	bool silent;
	bool reset;
	bool hangup;
	bool close;
	int64_t stall_after;
	int64_t cut_after;

	/* the answer's form */
	bool garbage;
	char *body; /* verbatim, instead of any other */
	char *type;
	char *headers; /* verbatim lines */
	char *encoding;
	int64_t length; /* what Content-Length says */
	bool until_close;
	bool trailers;
	int64_t chunk_bytes;
	int64_t interim;
	bool malformed_chunk;
	bool wrong_type;
	bool nul;
	bool raw_nul;
	bool latin1;
	bool surrogate;
	int64_t giant;
	int64_t giant_headers;
	int64_t gzip_bomb;
	bool no_done;
	bool no_finish;
	bool no_usage;

	/* streams */
	bool no_stream;
	bool stream_error;
	bool bad_event;
	bool comments;
	bool crlf;
	int64_t heartbeat_ms;

	/* the answer's content */
	char *text;
	bool echo;
	int64_t tokens_in;
	int64_t tokens_out;
	int64_t cached;
	int64_t reasoning;
	char *cost;
	char *limit_requests; /* LIMIT:REMAINING:RESET */
	char *limit_tokens;
} Behaviour;

/* Parses in place; false with a message when spec is not a behaviour. */
extern bool behaviour_parse(char *spec, Behaviour *behaviour, Buf *error);

/* Defaults set by the control endpoint; model NULL is the global one. */
extern bool behaviour_set_default(const char *model, const char *spec, Buf *error);
extern const Behaviour *behaviour_default(const char *model);
extern const Behaviour *behaviour_plain(void);
extern void behaviour_reset(void);

/* Counts this request; true while it is among the first limit ones. */
extern bool behaviour_among_first(const char *model, const char *user, int64_t limit);

/* Deterministic after behaviour_seed(). */
extern void behaviour_seed(uint64_t seed);
extern double behaviour_random(void);
extern int64_t behaviour_latency_us(const Behaviour *behaviour, bool failed);

#endif /* SIM_BEHAVIOUR_H */
