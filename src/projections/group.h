/*
 * group.h: the events of a fold by their keys.
 */
#ifndef EDUAI_PROJECTIONS_GROUP_H
#define EDUAI_PROJECTIONS_GROUP_H

#include "postgres.h"
#include "projections/catalog.h"

/* The events of one key, in the fold's order. */
typedef struct EduaiKeyRun
{
	const char *key;
	EduaiEvent **events;
	const int64 *positions; /* NULL inline */
	int nevents;
} EduaiKeyRun;

/* The runs of a fold, sorted by key; n is their number.  In the current context. */
extern EduaiKeyRun *eduai_projections_group(const EduaiFold *fold, int *n);

#endif
