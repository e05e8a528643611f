/*
 * state.h: a learner's state, jsonb of which only what an event touches is unpacked.
 *
 * A state has the fields below.  Lists and maps stay packed until the first
 * access and are written back packed when nobody touched them, so that a fold
 * costs what the event changes and a copy of the rest.
 *
 * A state points into the jsonb that it was read from and into the values
 * that were put into it: they must outlive it.
 */
#ifndef EDUAI_PROJECTIONS_STATE_H
#define EDUAI_PROJECTIONS_STATE_H

#include "postgres.h"
#include "projections/pack.h"
#include "utils/jsonb.h"

/* In the order of their names as keys of a jsonb object. */
typedef enum StateField
{
	FIELD_SKILLS,
	FIELD_ACHIEVEMENTS,
	FIELD_CURRENT_LEVEL,
	FIELD_SKILLS_MASTERED,
	FIELD_EMOTION_PATTERNS,
	FIELD_TOTAL_TIME_SPENT,
	FIELD_DIFFICULTY_HISTORY,
	FIELD_EXERCISES_COMPLETED,
	FIELD_LEARNING_PREFERENCES,
	FIELDS,
} StateField;

typedef struct StateItem
{
	JsonbValue packed; /* what was read, or a scalar; jbvNull: nothing yet */
	bool unpacked;     /* entries hold the value now; a map's are in the order of their keys */
	PackEntry *entries;
	int nentries;
	int capacity;
} StateItem;

typedef struct State
{
	StateItem items[FIELDS];
} State;

/* json NULL is the initial state. */
extern void eduai_projections_state_read(State *state, const Jsonb *json);

/* Unpacks a list or map and returns it. */
extern StateItem *eduai_projections_state_open(State *state, StateField field);

/* The value of a key of an opened map, or NULL. */
extern JsonbValue *eduai_projections_state_get(const StateItem *map, const JsonbValue *key);
extern void
eduai_projections_state_put(StateItem *map, const JsonbValue *key, const JsonbValue *value);

/* Whether an opened list has the string; adds a value at its end. */
extern bool eduai_projections_state_has(const StateItem *list, const JsonbValue *string);
extern void eduai_projections_state_add(StateItem *list, const JsonbValue *value);

/* Drops entries from the start of an opened list until at most n are left. */
extern void eduai_projections_state_keep_last(StateItem *list, int n);

/* Fills the FIELDS entries of the state as an object, in their order. */
extern void eduai_projections_state_entries(const State *state, PackEntry *entries);

/* Numbers; a value that is NULL or no number reads as 0, a huge one as infinite. */
extern JsonbValue eduai_projections_state_int(int64 value);
extern int64 eduai_projections_state_as_int(const JsonbValue *value);
extern double eduai_projections_state_as_double(const JsonbValue *value);

#endif
