/*
 * anonymise_data.h: what stays of an event's data when its learner is made
 * unknown.  Pure but for the memory it takes.
 *
 * Terms
 *
 *   listed key   one of eduai.anonymise_keys: its values are of a few kinds
 *                (skills, exercises, levels) or measure something.
 *   common       a key or a value that at least eduai.anonymise_k learners have.
 *
 * What stays: true, false and null; numbers of listed keys; strings of listed
 * keys, if they are common, else null; numbers of other keys, if they are
 * common, else null.  All other strings are dropped, and sealed values, the
 * type's sensitive fields, and keys that are neither listed nor common.
 * Objects and arrays are gone through; what is in an array counts for its key.
 */
#ifndef EDUAI_PRIVACY_ANONYMISE_DATA_H
#define EDUAI_PRIVACY_ANONYMISE_DATA_H

#include "postgres.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"

/* The keys and values that learners have, and how many of them have each. */
typedef struct EduaiCommon EduaiCommon;

/* With what is known to be common already; "least" learners make a value common. */
extern EduaiCommon *eduai_privacy_common_make(int least, const int64 *known, int nknown);
/* Those that became common, as hashes; palloc'd. */
extern int64 *eduai_privacy_common_new(const EduaiCommon *common, int *n);

typedef struct EduaiAnonymiser
{
	EduaiCommon *common;
	HTAB *listed;     /* of NAMEDATALEN-sized strings; longer keys are never listed */
	char **sensitive; /* top-level keys of the event's type */
	int nsensitive;
} EduaiAnonymiser;

/* The set of listed keys of a comma-separated list. */
extern HTAB *eduai_privacy_listed_keys(const char *list);

/* Counts what the data of a learner (or, without one, of a stream) has. */
extern void
eduai_privacy_anonymise_count(const EduaiAnonymiser *a, const Jsonb *data, uint64 learner);
/* The same for a category of streams. */
extern void eduai_privacy_anonymise_count_category(const EduaiAnonymiser *a, const char *bytes,
												   int length, uint64 learner);
extern bool
eduai_privacy_category_is_common(const EduaiAnonymiser *a, const char *bytes, int length);

/* What stays of the data. */
extern Jsonb *eduai_privacy_anonymise_data(const EduaiAnonymiser *a, const Jsonb *data);

/* The listed keys of metadata, as they are. */
extern Jsonb *eduai_privacy_anonymise_metadata(HTAB *listed, const Jsonb *metadata);

#endif
