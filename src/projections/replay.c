/*
 * replay.c: a tenant's answers, and the model's states in memory.  See
 * replay.h.
 *
 * The states are those that the follower of the learner model keeps in its
 * tables, of the same entities (an item belongs to a skill), changed by the
 * same function: so what is said here of an answer is what the live model said.
 */
#include "postgres.h"

#include "events/feed.h"
#include "miscadmin.h"
#include "projections/batch.h"
#include "projections/catalog.h"
#include "projections/intern.h"
#include "projections/model_kind.h"
#include "projections/parameters.h"
#include "projections/replay.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

/* ---- the answers of the log ---- */

static void
feed_batch(const EduaiBatch *batch, EduaiLoggedAnswerSink sink, void *arg)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "eduai answer", ALLOCSET_DEFAULT_SIZES);

	for (int i = 0; i < batch->n; i++)
	{
		const EduaiEvent *event = batch->events[i];
		EduaiLoggedAnswer logged = {.user_id = event->user_id,
									.at = Min(event->occurred_at, event->recorded_at),
									.position = batch->positions[i]};
		MemoryContext old = MemoryContextSwitchTo(context);
		bool is_answer = eduai_projections_answer_read(event->data, &logged.answer);

		MemoryContextSwitchTo(old);
		if (is_answer)
			sink(&logged, arg);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
}

void
eduai_projections_answers_read(const char *tenant, EduaiLoggedAnswerSink sink, void *arg)
{
	const EduaiProjection *model = eduai_projections_by_id(EDUAI_PROJECTION_MODEL);
	EduaiFollower follower = {
		.projection = model->id, .generation = model->live, .lanes = 1, .tenant = tenant};
	EduaiFeedView view = eduai_events_feed_open(tenant);
	int64 after = 0;

	while (after < view.through)
	{
		EduaiBatch *batch = eduai_projections_batch_read(model, &follower, &view, after);

		CHECK_FOR_INTERRUPTS();
		after = batch->scanned;
		feed_batch(batch, sink, arg);
		eduai_projections_batch_free(batch);
	}
	eduai_events_feed_close(&view);
}

/* ---- states in memory ---- */

/* Of two numbers: a learner's and a skill's, or an item's. */
typedef struct PairKey
{
	uint32 first;
	uint32 second;
} PairKey;

typedef struct PairEntry
{
	PairKey key;
	EduaiModelPair state;
	bool last_correct;
} PairEntry;

typedef struct RepeatEntry
{
	PairKey key;
	EduaiModelRepeat state;
} RepeatEntry;

/* States by a dense number. */
typedef struct States
{
	char *states;
	Size size; /* of one */
	uint32 n;
} States;

typedef struct Replay
{
	EduaiReplayedAnswerSink sink;
	void *arg;
	MemoryContext context;
	EduaiModelParameters *parameters;
	EduaiIntern *users;
	EduaiIntern *skill_names;
	EduaiIntern *items; /* skill and item */
	States learners;    /* by the number of the name */
	States skills;
	States item_states;
	HTAB *pairs;
	HTAB *repeats;
	StringInfoData item_name;
	EduaiModelTenant tenant;
} Replay;

static void *
state_at(MemoryContext context, States *states, uint32 number)
{
	if (number >= states->n)
	{
		uint32 n = Max(Max(64, states->n * 2), number + 1);
		char *grown = MemoryContextAllocHuge(context, states->size * n);

		memset(grown, 0, states->size * n);
		if (states->n > 0)
		{
			memcpy(grown, states->states, states->size * states->n);
			pfree(states->states);
		}
		states->states = grown;
		states->n = n;
	}
	return states->states + states->size * number;
}

/* The entry of a key, all zeros behind it when it is new. */
static void *
entry_of(HTAB *table, uint32 first, uint32 second, Size size)
{
	PairKey key = {first, second};
	bool found;
	char *entry = hash_search(table, &key, HASH_ENTER, &found);

	if (!found)
		memset(entry + sizeof(PairKey), 0, size - sizeof(PairKey));
	return entry;
}

static HTAB *
create_table(MemoryContext context, const char *name, Size size)
{
	HASHCTL control = {.keysize = sizeof(PairKey), .entrysize = size, .hcxt = context};

	return hash_create(name, 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* A length before the skill tells where it ends. */
static uint32
number_of_item(Replay *r, const EduaiAnswer *answer)
{
	resetStringInfo(&r->item_name);
	appendStringInfo(&r->item_name, "%zu %s%s", strlen(answer->skill), answer->skill, answer->item);
	return eduai_projections_intern(r->items, r->item_name.data);
}

/* ---- replaying ---- */

static double
share_of(double correct, double attempts, double otherwise)
{
	return attempts > 0 ? correct / attempts : otherwise;
}

static void
replay_answer(const EduaiLoggedAnswer *logged, void *arg)
{
	Replay *r = arg;
	const EduaiAnswer *answer = &logged->answer;
	EduaiReplayedAnswer replayed = {.at = logged->at, .correct = answer->correct};
	uint32 user = eduai_projections_intern(r->users, logged->user_id);
	uint32 skill = eduai_projections_intern(r->skill_names, answer->skill);
	PairEntry *pair = entry_of(r->pairs, user, skill, sizeof(PairEntry));
	EduaiModelEntities entities = {
		.tenant = &r->tenant,
		.learner = state_at(r->context, &r->learners, user),
		.skill = state_at(r->context, &r->skills, skill),
		.pair = &pair->state,
		.bkt = eduai_projections_parameters_at(r->parameters, answer->skill, logged->position),
	};
	double share = share_of(r->tenant.correct, r->tenant.attempts, 0.5);

	if (answer->item != NULL)
	{
		uint32 item = number_of_item(r, answer);

		entities.item = state_at(r->context, &r->item_states, item);
		entities.repeat =
			&((RepeatEntry *) entry_of(r->repeats, user, item, sizeof(RepeatEntry)))->state;
	}
	replayed.last_outcome = pair->state.attempts > 0 ? pair->last_correct : share;
	replayed.skill_mean = share_of(entities.skill->correct, entities.skill->attempts, share);
	replayed.model = eduai_projections_model_update(&entities, answer->correct,
													eduai_projections_model_time(logged->at));
	pair->last_correct = answer->correct;
	r->sink(&replayed, r->arg);
}

const EduaiModelTenant *
eduai_projections_replay(const char *tenant, EduaiReplayedAnswerSink sink, void *arg)
{
	Replay *r = palloc0_object(Replay);

	r->sink = sink;
	r->arg = arg;
	r->context = CurrentMemoryContext;
	r->parameters = eduai_projections_parameters_load(tenant);
	r->users = eduai_projections_intern_create();
	r->skill_names = eduai_projections_intern_create();
	r->items = eduai_projections_intern_create();
	r->learners.size = sizeof(EduaiModelLearner);
	r->skills.size = sizeof(EduaiModelSkill);
	r->item_states.size = sizeof(EduaiModelItem);
	r->pairs = create_table(r->context, "eduai pairs", sizeof(PairEntry));
	r->repeats = create_table(r->context, "eduai repeats", sizeof(RepeatEntry));
	initStringInfo(&r->item_name);
	eduai_projections_model_start(&r->tenant);
	eduai_projections_answers_read(tenant, replay_answer, r);
	return &r->tenant;
}
