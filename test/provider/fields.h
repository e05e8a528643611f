/*-------------------------------------------------------------------------
 * fields.h
 *		What the simulator reads of a request's body.
 *
 * Raw slices are JSON string insides, still escaped, and point into the
 * request's body.  spec points into memory that the next call reuses.
 *-------------------------------------------------------------------------
 */
#ifndef SIM_FIELDS_H
#define SIM_FIELDS_H

#include "json.h"

#define NONCE_SIZE 64
#define MODEL_SIZE 256

typedef struct Fields
{
	char model[MODEL_SIZE]; /* without its @behaviour */
	char user[NONCE_SIZE];  /* user, or metadata.user_id */
	char *spec;             /* the behaviour after '@', or NULL */
	bool has_model;
	bool has_messages;
	bool stream;
	bool include_usage;
	Slice last_user; /* raw text of the last user message */
	size_t prompt_chars;
	int64_t max_tokens; /* -1 when absent, likewise below */
	int64_t n;
	int64_t dimensions;
	Slice encoding_format;
	Slice response_format;
	JsonValue input;
	JsonValue prompt;
	bool has_file;
	size_t file_bytes;
} Fields;

extern bool fields_from_json(Fields *fields, Slice body);
extern bool fields_from_multipart(Fields *fields, Slice body, Slice content_type);

#endif /* SIM_FIELDS_H */
