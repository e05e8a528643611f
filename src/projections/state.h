/*
 * state.h: a learner's state, jsonb of which only what an event touches is unpacked.
 *
 * A state has the fields below.  Lists and maps stay packed until the first
 * access and are written back packed when nobody touched them, so that a fold
 * costs what the event changes and one serialisation.
 */
#ifndef EDUAI_PROJECTIONS_STATE_H
#define EDUAI_PROJECTIONS_STATE_H

#include "postgres.h"
#include "utils/jsonb.h"

typedef enum StateField
{
	FIELD_SKILLS_MASTERED,
	FIELD_SKILLS,
	FIELD_CURRENT_LEVEL,
	FIELD_TOTAL_TIME_SPENT,
	FIELD_EXERCISES_COMPLETED,
	FIELD_ACHIEVEMENTS,
	FIELD_EMOTION_PATTERNS,
	FIELD_LEARNING_PREFERENCES,
	FIELD_DIFFICULTY_HISTORY,
	FIELDS,
} StateField;

/* An element of a list (key unused) or of a map. */
typedef struct StateEntry
{
	JsonbValue key;
	JsonbValue value;
} StateEntry;

typedef struct StateItem
{
	JsonbValue packed; /* what was read, or a scalar; jbvNull: nothing yet */
	bool unpacked;     /* entries hold the value now */
	StateEntry *entries;
	int nentries;
	int capacity;
} StateItem;

typedef struct State
{
	StateItem items[FIELDS];
} State;

/* The state must outlive the jsonb's readers; json NULL is the initial state. */
extern void eduai_projections_state_read(State *state, const Jsonb *json);

/* Unpacks a list or map and returns it. */
extern StateItem *eduai_projections_state_open(State *state, StateField field);

/* The value of a key of an opened map, or NULL. */
extern JsonbValue *eduai_projections_state_get(StateItem *map, const JsonbValue *key);
extern void
eduai_projections_state_put(StateItem *map, const JsonbValue *key, const JsonbValue *value);

/* Whether an opened list has the string; adds a value at its end. */
extern bool eduai_projections_state_has(const StateItem *list, const JsonbValue *string);
extern void eduai_projections_state_add(StateItem *list, const JsonbValue *value);

/* Drops entries from the start of an opened list until at most n are left. */
extern void eduai_projections_state_keep_last(StateItem *list, int n);

/* Pushes "name": value of every field into the object being built. */
extern void eduai_projections_state_push(const State *state, JsonbParseState **into);

/* Numbers; a value that is NULL or no number reads as 0, a huge one as infinite. */
extern JsonbValue eduai_projections_state_int(int64 value);
extern int64 eduai_projections_state_as_int(const JsonbValue *value);
extern double eduai_projections_state_as_double(const JsonbValue *value);

#endif
