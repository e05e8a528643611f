/*
 * anonymise_internal.h: what the files of anonymisation share.
 */
#ifndef EDUAI_PRIVACY_ANONYMISE_INTERNAL_H
#define EDUAI_PRIVACY_ANONYMISE_INTERNAL_H

#include "postgres.h"
#include "events/block_table.h"
#include "events/record.h"
#include "privacy/anonymise_data.h"

/* What a step has at hand. */
typedef struct EduaiAnonymiseStep
{
	const char *tenant;
	TimestampTz limit;
	Snapshot snapshot;
	EduaiAnonymiser rules;
	HTAB *listed_metadata;
	char **types; /* those with sensitive fields */
	char ***fields;
	int *nfields;
	int ntypes;
	EduaiBlockRow row; /* of the segment */
	TimestampTz through;
	EduaiRecord *records;
	int *due; /* of the records, in their order */
	int n;
	int ndue;
	TimestampTz next_due;
} EduaiAnonymiseStep;

/* Sets the rules' sensitive fields to those of the event's type. */
extern void eduai_privacy_sensitive_of(EduaiAnonymiseStep *s, const EduaiRecord *record);

/* Changes what is due of the segment that was loaded, and notes that it was. */
extern void eduai_privacy_anonymise_segment(EduaiAnonymiseStep *s);

static inline EduaiSlice
eduai_privacy_slice(const text *value)
{
	return (EduaiSlice){VARDATA_ANY(value), (int) VARSIZE_ANY_EXHDR(value)};
}

/* Of a stream's name: up to its first hyphen. */
static inline int
eduai_privacy_category_length(const EduaiSlice *stream)
{
	const char *dash = memchr(stream->bytes, '-', stream->length);

	return dash ? (int) (dash - stream->bytes) : stream->length;
}

#endif
