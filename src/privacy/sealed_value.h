/*
 * sealed_value.h: a JSON value under a learner's key: {"$sealed": "BASE64"}.
 *
 * The bytes: version (1 byte, 1), nonce (12), ciphertext, tag (16), by
 * AES-256-GCM.  The plaintext is the value's JSON text in UTF-8; the tag covers
 * the version and the subject ("event:TYPE", "task:TYPE") too, so that a value
 * opens where it belongs only.  The nonce is made by HMAC-SHA-256 from the
 * subject, the field and the plaintext, under a key of its own: the same value
 * sealed twice gives the same bytes, and two values never share a nonce but by
 * a collision of 96 bits.
 *
 * What that tells without the key: how long a value is, and that two values of
 * one learner in the same field of the same type are the same.
 */
#ifndef EDUAI_PRIVACY_SEALED_VALUE_H
#define EDUAI_PRIVACY_SEALED_VALUE_H

#include "postgres.h"
#include "privacy/learner_key.h"
#include "utils/jsonb.h"

extern Jsonb *eduai_privacy_value_seal(const LearnerKey *key, const Jsonb *value,
									   const char *subject, const char *field);

/*
 * Does the object look sealed: one key, a text that could be?  *text is it, not
 * terminated.
 */
extern bool
eduai_privacy_value_looks_sealed(const JsonbContainer *object, const char **text, int *length);

/* The value; NULL when the text does not open under this key for this subject. */
extern Jsonb *
eduai_privacy_value_open(const LearnerKey *key, const char *text, int length, const char *subject);

/* Bytes in the same format, in the room of a bytea; no field: "" is its. */
extern bytea *
eduai_privacy_bytes_seal(const LearnerKey *key, const bytea *bytes, const char *subject);
/* Those; NULL when they do not open. */
extern bytea *
eduai_privacy_bytes_open(const LearnerKey *key, const bytea *sealed, const char *subject);

#endif
