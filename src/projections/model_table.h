/*
 * model_table.h: the states of the learner model, by heap and index calls.  No
 * SPI, no switch of role: the caller has checked what may be done.
 *
 * An open set of rows belongs to one generation of a tenant.  Each row is read
 * at the first mention and then kept, so that a batch of answers reads and
 * writes each once.
 */
#ifndef EDUAI_PROJECTIONS_MODEL_TABLE_H
#define EDUAI_PROJECTIONS_MODEL_TABLE_H

#include "postgres.h"
#include "projections/model.h"
#include "projections/review.h"
#include "storage/itemptr.h"
#include "utils/snapshot.h"

/* The entities of model.h, with the names that a row has. */
typedef enum EduaiModelEntity
{
	EDUAI_MODEL_TENANT,  /* none */
	EDUAI_MODEL_LEARNER, /* user id */
	EDUAI_MODEL_SKILL,   /* skill */
	EDUAI_MODEL_ITEM,    /* skill, item */
	EDUAI_MODEL_PAIR,    /* user id, skill */
	EDUAI_MODEL_REPEAT,  /* user id, skill, item; item "" for answers that name none */
} EduaiModelEntity;

#define EDUAI_MODEL_ENTITIES 6
#define EDUAI_MODEL_NAMES    3

/* What is counted for the statistics beside the model's own. */
typedef struct EduaiModelTally
{
	int64 learners; /* of an item; a skill's are the model's own */
	int64 timed;    /* answers that say how long they took, */
	int64 time_us;  /* and the sum of that */
} EduaiModelTally;

typedef struct EduaiModelRow
{
	EduaiModelEntity entity;
	const char *names[EDUAI_MODEL_NAMES]; /* NULL beyond those of the entity */
	bool found;                           /* in the table */
	bool touched;                         /* set by the caller: to be written */
	ItemPointerData tid;                  /* when found */
	/* an EduaiModelTenant, EduaiModelLearner ..., as of a new entity when not found */
	void *state;
	EduaiModelTally tally; /* of skills and items */
	EduaiReview review;    /* of repeats */
} EduaiModelRow;

typedef struct EduaiModelRows EduaiModelRows;

/* For writing: reads with the latest snapshot.  Nobody else writes the generation meanwhile. */
extern EduaiModelRows *eduai_projections_model_open(const char *tenant, int generation);

/* For reading in a snapshot that the caller keeps registered. */
extern EduaiModelRows *
eduai_projections_model_view(const char *tenant, int generation, Snapshot snapshot);

/* The row of an entity; names beyond those of the entity are NULL, and all outlive the set. */
extern EduaiModelRow *
eduai_projections_model_row(EduaiModelRows *rows, EduaiModelEntity entity, const char *first,
							const char *second, const char *third);

/* Writes what was touched and ends the command; frees the rows. */
extern void eduai_projections_model_close(EduaiModelRows *rows);

#endif
