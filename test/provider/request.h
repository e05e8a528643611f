/*-------------------------------------------------------------------------
 * request.h
 *		HTTP/1.1 framing of the requests the simulator reads.
 *
 * The reader takes bytes from the connection's input buffer, decoding a
 * chunked body in place.  Slices of a Request point into that buffer: they
 * are valid from REQUEST_READY until request_consume().
 *-------------------------------------------------------------------------
 */
#ifndef SIM_REQUEST_H
#define SIM_REQUEST_H

#include "buf.h"

#define REQUEST_MAX_HEAD (256 * 1024)
#define REQUEST_MAX_BODY (256 * 1024 * 1024)

typedef enum RequestState
{
	REQUEST_MORE,     /* wait for more bytes */
	REQUEST_CONTINUE, /* the same, after sending 100 Continue */
	REQUEST_READY,
	REQUEST_BAD /* answer with error_status, then close */
} RequestState;

typedef struct Request
{
	Slice method;
	Slice path; /* without the query */
	Slice query;
	Slice sim; /* X-Sim */
	Slice authorization;
	Slice api_key;
	Slice anthropic_version;
	Slice content_type;
	Slice idempotency_key;
	Slice body;
	bool keep_alive;
	int64_t first_byte_us; /* wall clock, since 1970 */
	int64_t arrival_us;    /* when the last byte had been read */
} Request;

typedef struct RequestReader
{
	bool in_body;
	bool chunked;
	bool expect_continue;
	bool old_protocol; /* HTTP/1.0 */
	bool in_trailer;
	size_t head_len;
	size_t body_len;   /* promised, or decoded so far when chunked */
	size_t chunk_left; /* of the current chunk, its CRLF not counted */
	bool chunk_open;   /* a chunk's CRLF is still to come */
	int error_status;
	const char *error;
	Request request;
} RequestReader;

extern RequestState request_read(RequestReader *reader, Buf *in);
extern void request_consume(RequestReader *reader, Buf *in);

#endif /* SIM_REQUEST_H */
