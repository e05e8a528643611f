/*
 * projections_inline.c: what folding an event into its learner's progress
 * costs the append.
 *
 * Many learners: 16 clients append events of a realistic mix to the streams of
 * 10,000 learners in random order, the same order on every side; each learner
 * has practised 10 to 20 skills before, so that a state has its usual size.
 *   nobody    append_event() with user_id NULL: the same row, nothing to fold;
 *   progress  append_event() with the learner's user_id;
 *   publish   publish_event(), which does the same in fewer words.
 *
 * One learner: 16 clients append to one stream, without and with one user_id.
 * They take turns from the stream's lock to the end of the commit's flush, so
 * the fold's share is small; afterwards every event must be counted: in the
 * stream, in the version of the progress and in the attempts at the skill.
 *
 * All cells of a round run one after the other, in the opposite order in
 * every second round; ratios are of the same round.
 */
#include "bench.h"
#include "floor.h"
#include "load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define LEARNERS 10000
#define CLIENTS  16
/* learners whose history one statement appends */
#define WARM_STEP 100
#define DATA_SIZE 256

static PGconn *db;
static int model; /* whether the projector follows the learner model meanwhile */
static int rounds;
static double seconds;

/* ---- events ---- */

typedef struct Event
{
	char learner[NAME_SIZE];
	char stream[NAME_SIZE + 8];
	const char *type;
	char data[DATA_SIZE];
} Event;

static void
exercise(Event *event, const char *type, int skill, uint64_t dice)
{
	int score = 20 + dice % 80;

	event->type = type;
	snprintf(event->data, DATA_SIZE,
			 "{\"skill\": \"fractions_%02d\", \"item\": \"f-%d\", \"score\": 0.%02d,"
			 " \"correct\": %s, \"time_spent\": %d}",
			 skill, (int) (dice >> 8) % 200, score, score >= 60 ? "true" : "false",
			 5 + (int) (dice >> 16) % 115);
}

/* An event of a learner, as often of each type as a course has them. */
static void
make_event(Event *event, int learner, uint64_t *random)
{
	static const char *const emotions[] = {"joy", "confusion", "frustration", "confidence"};
	uint64_t kind = next_random(random) % 100;
	uint64_t dice = next_random(random);
	int skill = (dice >> 24) % (10 + learner % 11);

	snprintf(event->learner, sizeof(event->learner), "pupil-%05d", learner);
	snprintf(event->stream, sizeof(event->stream), "learner-%s", event->learner);
	if (kind < 45)
		exercise(event, "exercise_attempted", skill, dice);
	else if (kind < 70)
		exercise(event, "exercise_completed", skill, dice);
	else if (kind < 75)
	{
		event->type = "skill_mastered";
		snprintf(event->data, DATA_SIZE, "{\"skill\": \"fractions_%02d\", \"score\": 0.9}", skill);
	}
	else if (kind < 87)
	{
		event->type = "emotion_detected";
		snprintf(event->data, DATA_SIZE, "{\"emotion\": \"%s\", \"confidence\": 0.8}",
				 emotions[dice % 4]);
	}
	else if (kind < 97)
	{
		event->type = "content_viewed";
		snprintf(event->data, DATA_SIZE, "{\"content\": \"lesson-%d\", \"seconds\": %d}",
				 (int) dice % 50, (int) (dice >> 8) % 300);
	}
	else if (kind < 99)
	{
		event->type = "difficulty_adjusted";
		snprintf(event->data, DATA_SIZE, "{\"new_level\": %d, \"reason\": \"quick answers\"}",
				 1 + (int) (dice % 5));
	}
	else
	{
		event->type = "achievement_unlocked";
		snprintf(event->data, DATA_SIZE, "{\"achievement\": \"badge_%d\"}", (int) (dice % 8));
	}
}

/* What the learners did before: three tries at each of their skills, and the rest. */
static void
make_histories(void)
{
	char sql[2048];

	for (int first = 0; first < LEARNERS; first += WARM_STEP)
	{
		snprintf(
			sql, sizeof(sql),
			"SELECT eduai.append_batch(array_agg('learner-' || who), array_agg(type),"
			" array_agg(data), array_agg(who)) FROM ("
			"SELECT format('pupil-%%s', lpad(u::text, 5, '0')) AS who, e.* FROM generate_series(%d, %d) u,"
			" LATERAL (SELECT (ARRAY['exercise_attempted', 'exercise_completed', 'exercise_completed'])[t] AS type,"
			"  jsonb_build_object('skill', format('fractions_%%s', lpad(s::text, 2, '0')), 'item', 'f-' || t,"
			"   'score', 0.5 + t * 0.13, 'correct', t > 1, 'time_spent', 20 + s) AS data"
			"  FROM generate_series(0, 9 + u %% 11) s, generate_series(1, 3) t"
			"  UNION ALL SELECT 'skill_mastered', jsonb_build_object('skill', format('fractions_%%s', lpad(s::text, 2, '0')))"
			"  FROM generate_series(0, 9 + u %% 11, 2) s"
			"  UNION ALL SELECT 'emotion_detected', jsonb_build_object('emotion', m)"
			"  FROM unnest('{joy,confusion,frustration,confidence}'::text[]) m"
			"  UNION ALL SELECT 'difficulty_adjusted', '{\"new_level\": 2, \"reason\": \"quick answers\"}'"
			"  UNION ALL SELECT 'interaction_recorded', '{\"preferences\": {\"mode\": \"dark\", \"pace\": \"slow\"}}'"
			"  UNION ALL SELECT 'achievement_unlocked', jsonb_build_object('achievement', 'badge_' || b)"
			"  FROM generate_series(1, 3) b) e) all_events",
			first, first + WARM_STEP - 1);
		run(db, sql);
	}
	run(db, "VACUUM ANALYZE eduai.projection_state");
	run(db, "CHECKPOINT");
}

/* ---- many learners ---- */

static void
open_append(LoadClient *client)
{
	prepare(client->db, "one", load_arg());
}

static int
append_one(LoadClient *client)
{
	Event event;

	make_event(&event, next_random(&client->random) % LEARNERS, &client->random);
	PQclear(execute(client->db, "one", 4,
					(const char *const[]){event.stream, event.type, event.data, event.learner}));
	return 1;
}

enum
{
	WAY_NOBODY,
	WAY_PROGRESS,
	WAY_PUBLISH,
	WAYS
};

/* All take the same parameters, so that they are told and send the same. */
static const Load ways[WAYS] = {
	[WAY_NOBODY] = {.open = open_append,
					.step = append_one,
					.warm_steps = 50,
					.arg = "SELECT * FROM eduai.append_event($1, $2, $3, NULL, 's-1')"
						   " WHERE $4::text IS NOT NULL"},
	[WAY_PROGRESS] = {.open = open_append,
					  .step = append_one,
					  .warm_steps = 50,
					  .arg = "SELECT * FROM eduai.append_event($1, $2, $3, $4, 's-1')"
							 " WHERE $4::text IS NOT NULL"},
	[WAY_PUBLISH] = {.open = open_append,
					 .step = append_one,
					 .warm_steps = 50,
					 .arg = "SELECT eduai.publish_event($2, $4, 's-1', $3)"
							" WHERE $1::text IS NOT NULL"},
};
static const char *const way_names[WAYS] = {
	"append_event about nobody", "append_event, progress folded", "publish_event, progress folded"};

static void
print_states(const char *when)
{
	char *text = ask(
		db,
		"SELECT format('%s states of %s bytes as stored, %s uncompressed; %s skills each',"
		" count(*), round(avg(pg_column_size(state))), round(avg(pg_column_size(state || '{}'))),"
		" round(avg((SELECT count(*) FROM jsonb_object_keys(state -> 'skills'))), 1))"
		" FROM eduai.projection_state");

	printf("%s: %s\n", when, text);
	free(text);
}

static void
print_updates(void)
{
	char *text;

	run(db, "SELECT pg_stat_force_next_flush()");
	text = ask(db, "SELECT format('%s updates of states, of which heap-only %s; table %s',"
				   " n_tup_upd, n_tup_hot_upd, pg_size_pretty(pg_total_relation_size(relid)))"
				   " FROM pg_stat_user_tables WHERE relname = 'projection_state'");
	printf("%s\n", text);
	free(text);
}

static void
report_many(Series *rate, Series *cpu)
{
	printf("\nan event a commit, %d clients, %d learners\n", CLIENTS, LEARNERS);
	for (int way = 0; way < WAYS; way++)
	{
		print_series(&rate[way]);
		print_series(&cpu[way]);
	}
	for (int way = WAY_PROGRESS; way < WAYS; way++)
	{
		char what[64];
		Series ratio;

		snprintf(what, sizeof(what), "%s / nobody", way_names[way]);
		ratio = quotient(what, &rate[way], &rate[WAY_NOBODY]);
		print_series(&ratio);
		ratio = quotient("  in processor time", &cpu[way], &cpu[WAY_NOBODY]);
		print_series(&ratio);
	}
}

static void
measure_many(void)
{
	Series rate[WAYS];
	Series cpu[WAYS];

	print_states("before");
	for (int way = 0; way < WAYS; way++)
	{
		rate[way] = new_series(way_names[way], "%.0f /s", rounds);
		cpu[way] = new_series("  its backends' processor time", "%.1f us", rounds);
		(void) run_load(&ways[way], 4, 0.5, 999);
	}
	for (int round = 0; round < rounds; round++)
	{
		printf("  round %d:", round + 1);
		for (int i = 0; i < WAYS; i++)
		{
			int way = round % 2 == 0 ? i : WAYS - 1 - i;
			LoadResult result = run_load(&ways[way], CLIENTS, seconds, round + 1);

			add_figure(&rate[way], result.per_second);
			add_figure(&cpu[way], result.cpu_us);
			printf("  %s %.0f /s", way_names[way], result.per_second);
		}
		printf("\n");
	}
	report_many(rate, cpu);
	print_states("after");
	print_updates();
}

/* ---- one learner ---- */

static int64_t *appended; /* by all clients, shared */

static int
append_same(LoadClient *client)
{
	PQclear(execute(client->db, "one", 0, NULL));
	__atomic_add_fetch(appended, 1, __ATOMIC_RELAXED);
	return 1;
}

#define SAME(stream, user)                                                            \
	"SELECT * FROM eduai.append_event('" stream "', 'exercise_attempted',"            \
	" '{\"skill\": \"sums\", \"score\": 0.7, \"correct\": true, \"time_spent\": 9}'," \
	" " user ", 's-1')"

static const Load same_nobody = {
	.open = open_append, .step = append_same, .warm_steps = 10, .arg = SAME("one-nobody", "NULL")};
static const Load same_learner = {.open = open_append,
								  .step = append_same,
								  .warm_steps = 10,
								  .arg = SAME("one-learner", "'one-learner'")};

/* What was appended, warming up included, is what the stream and the progress say. */
static void
check_counted(void)
{
	static const char *const asked[] = {
		"SELECT eduai.stream_version('one-learner')",
		"SELECT eduai.user_progress('one-learner') -> 'version'",
		"SELECT eduai.user_progress('one-learner') -> 'skills' -> 'sums' -> 'attempts'",
		"SELECT eduai.user_progress('one-learner') -> 'skills' -> 'sums' -> 'correct'"};

	for (int i = 0; i < 4; i++)
	{
		int64_t got = ask_int(db, asked[i]);

		if (got != *appended)
			fail("%" PRId64 " events were appended, but %s gives %" PRId64, *appended, asked[i],
				 got);
	}
	printf("  %" PRId64 " events of one learner: version, attempts and correct are exactly that\n",
		   *appended);
}

static void
measure_one(void)
{
	Series rate[2] = {new_series("one stream, nobody", "%.0f /s", rounds),
					  new_series("one stream, one learner", "%.0f /s", rounds)};
	Series cpu[2] = {new_series("  its backends' processor time", "%.1f us", rounds),
					 new_series("  its backends' processor time", "%.1f us", rounds)};
	int64_t of_learner = 0;
	Series ratio;

	appended = shared_memory(sizeof(int64_t));
	printf("\n");
	for (int round = 0; round < rounds; round++)
		for (int i = 0; i < 2; i++)
		{
			int learner = (round + i) % 2;
			LoadResult result;

			*appended = learner ? of_learner : 0;
			result = run_load(learner ? &same_learner : &same_nobody, CLIENTS, seconds, round + 1);
			if (learner)
				of_learner = *appended;
			add_figure(&rate[learner], result.per_second);
			add_figure(&cpu[learner], result.cpu_us);
		}
	*appended = of_learner;
	printf("%d clients, one stream\n", CLIENTS);
	for (int i = 0; i < 2; i++)
	{
		print_series(&rate[i]);
		print_series(&cpu[i]);
	}
	ratio = quotient("one learner / nobody", &rate[1], &rate[0]);
	print_series(&ratio);
	check_counted();
}

int
main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	rounds = env_int("ROUNDS", 7);
	seconds = env_int("SECONDS", 5);
	model = env_int("MODEL", 0);
	db = new_database("bench_inline");
	run(db, model ? "ALTER SYSTEM RESET eduai.learner_model"
				  : "ALTER SYSTEM SET eduai.learner_model = off");
	run(db, "SELECT pg_reload_conf()");
	printf("command: make bench BENCH=projections_inline ROUNDS=%d SECONDS=%.0f MODEL=%d\n", rounds,
		   seconds, model);
	printf("the learner model, which the projector follows beside the clients: %s\n",
		   model ? "on" : "off");
	make_histories();
	measure_many();
	measure_one();
	drop_database(db);
	return 0;
}
