/*
 * dictionary.h: making the dictionary that blocks of a tenant share.
 */
#ifndef EDUAI_EVENTS_DICTIONARY_H
#define EDUAI_EVENTS_DICTIONARY_H

#include "postgres.h"
#include "events/block_codec.h"

/* A field whose values are never put into a dictionary. */
typedef struct EduaiSensitive
{
	const char *event_type;
	const char *key; /* of the top level of data */
} EduaiSensitive;

/*
 * The bytes of a dictionary for events like these, sorted by stream; NULL
 * where they have too little in common.  It is made of shapes (names of types
 * and keys) and of strings, each of which occurs in at least eight streams and
 * outside sensitive fields: so it tells nothing about one learner, and
 * outlives an erasure.
 */
extern bytea *eduai_events_dictionary_make(const char *tenant, const EduaiRecord *records, int n,
										   const EduaiSensitive *sensitive, int nsensitive);

/* The number of a dictionary: a hash of its bytes, greater than 0. */
extern int eduai_events_dictionary_number(const bytea *dictionary);

#endif
