/*
 * model_reader.h: what the learner model says, to readers.
 *
 * A reader reads the generation that is live in the active snapshot, in that
 * snapshot, whatever a follower or a rebuild does meanwhile.  It is opened and
 * used inside SPI, as the owner.  Reading changes nothing.
 */
#ifndef EDUAI_PROJECTIONS_MODEL_READER_H
#define EDUAI_PROJECTIONS_MODEL_READER_H

#include "postgres.h"
#include "projections/model_table.h"
#include "projections/parameters.h"

/* A name of a skill, an item or a level is of so many bytes at most. */
#define EDUAI_MODEL_NAME_BYTES 512

typedef struct EduaiModelReader
{
	EduaiModelRows *rows;
	EduaiModelParameters *parameters;
	int generation;
	double now; /* eduai_core_now(), the model's time */
} EduaiModelReader;

extern void eduai_projections_reader_open(EduaiModelReader *reader, const char *tenant);
extern void eduai_projections_reader_close(EduaiModelReader *reader);

/*
 * The probability that the learner's next answer is right; item NULL: any of
 * the skill.  Whoever or whatever is not known yet counts as new.
 */
extern double eduai_projections_reader_predict(EduaiModelReader *reader, const char *user_id,
											   const char *skill, const char *item);

/* The probability that a learner of whom nothing is known is wrong, by Elo. */
extern double
eduai_projections_reader_difficulty(EduaiModelReader *reader, const char *skill, const char *item);

/* Raises 22004 for NULL, 22023 unless it is of 1 to EDUAI_MODEL_NAME_BYTES bytes. */
extern void eduai_projections_check_label(const char *kind, const char *label);

#endif
