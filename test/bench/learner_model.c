/*
 * learner_model.c: how well the learner model predicts, and what an answer costs.
 *
 * The model's pure core, linked without PostgreSQL, on real answers read from
 * the directory EDUAI_DATA (../shared/data): each is predicted before it is
 * learnt from, the whole set once through, nothing held back for training.
 * Algebra I 2005-06 in two orders, all learners by time and one learner after
 * the other; the assessments of the Open University (40 of 100 is right, the
 * module is the skill) by day.  With FIT=n Bayesian knowledge tracing is
 * fitted after every n answers to those so far (20,000; a run without comes
 * first), and one run has the outcomes shuffled.
 *
 * Time is that of update(), the median of ROUNDS runs with its spread; "floor"
 * is the same loop without the model: finding the states of an answer.
 */
#include "bench.h"

#include "projections/model.h"
#include "projections/model_fit.h"
#include "projections/score.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_ANSWERS 200000
#define LEAST_USERS  20 /* as fit_learner_model() */
#define LEAST_FIT    100
#define FIT_ROUNDS   100

typedef struct Answer
{
	uint32_t user;
	uint32_t item;
	uint32_t skill;
	uint32_t pair;
	uint32_t repeat;
	bool correct;
	double at;
	int line;
} Answer;

static Answer answers[MOST_ANSWERS];
static int n;

/* ---- names by numbers ---- */

typedef struct Map
{
	uint64_t *keys; /* plus one; 0: free */
	uint32_t *numbers;
	uint32_t count;
} Map;

#define MAP_SIZE (1 << 20)

static uint32_t
number_of(Map *map, uint64_t key)
{
	uint32_t place = (uint32_t) ((key + 1) * UINT64_C(0x9E3779B97F4A7C15) >> 44);

	if (map->keys == NULL)
	{
		map->keys = calloc(MAP_SIZE, sizeof(uint64_t));
		map->numbers = calloc(MAP_SIZE, sizeof(uint32_t));
	}
	while (map->keys[place] != 0 && map->keys[place] != key + 1)
		place = (place + 1) % MAP_SIZE;
	if (map->keys[place] == 0)
	{
		map->keys[place] = key + 1;
		map->numbers[place] = map->count++;
	}
	return map->numbers[place];
}

static void
forget(Map *map)
{
	free(map->keys);
	free(map->numbers);
	*map = (Map){0};
}

static Map users, items, skills, pairs, repeats;

/* ---- reading ---- */

static void
start_reading(void)
{
	n = 0;
	forget(&users);
	forget(&items);
	forget(&skills);
	forget(&pairs);
	forget(&repeats);
}

static void
add(uint64_t user, uint64_t item, uint64_t skill, double at, bool correct)
{
	Answer *a = &answers[n];

	if (n == MOST_ANSWERS)
		fail("more than %d answers", MOST_ANSWERS);
	*a = (Answer){.correct = correct, .at = at, .line = n};
	a->user = number_of(&users, user);
	a->skill = number_of(&skills, skill);
	a->item = number_of(&items, item * 1000 + skill);
	a->pair = number_of(&pairs, (uint64_t) a->user << 32 | a->skill);
	a->repeat = number_of(&repeats, (uint64_t) a->user << 32 | a->item);
	n++;
}

static FILE *
open_gz(const char *name)
{
	const char *directory = getenv("EDUAI_DATA") ? getenv("EDUAI_DATA") : "../shared/data";
	char command[1024];
	char line[256];
	FILE *in;

	snprintf(command, sizeof(command), "gzip -dc '%s/%s'", directory, name);
	in = popen(command, "r");
	if (in == NULL || fgets(line, sizeof(line), in) == NULL)
		fail("cannot read %s/%s (EDUAI_DATA says where)", directory, name);
	return in;
}

static void
read_algebra(void)
{
	FILE *in = open_gz("algebra05/attempts.tsv.gz");
	unsigned user, item, skill;
	double at;
	int correct;

	start_reading();
	while (fscanf(in, "%u %u %lf %d %u", &user, &item, &at, &correct, &skill) == 5)
		add(user, item, skill, at, correct);
	pclose(in);
}

/* An assessment's module, from assessments.csv: AAA is 0, and so on. */
static int modules[100000];

static void
read_modules(void)
{
	const char *directory = getenv("EDUAI_DATA") ? getenv("EDUAI_DATA") : "../shared/data";
	char name[1024];
	char line[256];
	FILE *in;

	snprintf(name, sizeof(name), "%s/oulad/assessments.csv", directory);
	in = fopen(name, "r");
	if (in == NULL)
		fail("cannot read %s", name);
	while (fgets(line, sizeof(line), in) != NULL)
	{
		char module;
		int id;

		if (sscanf(line, "\"%c%*[^\"]\",\"%*[^\"]\",\"%d\"", &module, &id) == 2 && id < 100000)
			modules[id] = module - 'A';
	}
	fclose(in);
}

static void
read_oulad(void)
{
	FILE *in = open_gz("oulad/studentAssessment.csv.gz");
	char line[256];

	start_reading();
	read_modules();
	while (fgets(line, sizeof(line), in) != NULL)
	{
		int item, user, day, banked, score;

		/* a score may be absent */
		if (sscanf(line, "%d,%d,%d,%d,%d", &item, &user, &day, &banked, &score) == 5)
			add(user, item, modules[item], day * 86400.0, score >= 40);
	}
	pclose(in);
}

static int
compare_times(const void *a, const void *b)
{
	const Answer *x = a;
	const Answer *y = b;

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return x->line - y->line;
}

static void
sort_by_time(void)
{
	qsort(answers, n, sizeof(Answer), compare_times);
}

static void
shuffle(void)
{
	uint64_t x = 20250101;

	for (int i = n - 1; i > 0; i--)
	{
		bool kept = answers[i].correct;
		int other;

		x = x * 48271 % 2147483647;
		other = (int) (x % (uint64_t) (i + 1));
		answers[i].correct = answers[other].correct;
		answers[other].correct = kept;
	}
}

/* ---- fitting ---- */

static EduaiModelBkt *fitted; /* by skill */
static bool *has_fitted;

static int
compare_sequences(const void *a, const void *b)
{
	const Answer *x = *(Answer *const *) a;
	const Answer *y = *(Answer *const *) b;

	if (x->skill != y->skill)
		return x->skill < y->skill ? -1 : 1;
	if (x->user != y->user)
		return x->user < y->user ? -1 : 1;
	return x < y ? -1 : 1;
}

static void
fit_skill(Answer *const *from, int count)
{
	EduaiFitAnswer *sequence = malloc(sizeof(EduaiFitAnswer) * count);
	EduaiFitScratch *scratch = malloc(sizeof(EduaiFitScratch) * count);
	EduaiModelBkt start, p;
	double last_at = 0, last = 0;
	int learners = 0;

	for (int i = 0; i < count; i++)
	{
		bool first = i == 0 || from[i]->user != from[i - 1]->user;
		double days = first ? 0 : eduai_projections_model_days(last_at, from[i]->at);

		sequence[i] = (EduaiFitAnswer){(unsigned short) days, from[i]->correct, first};
		last_at = first ? from[i]->at : fmax(last_at, from[i]->at);
		learners += first;
	}
	start = p = eduai_projections_fit_start(sequence, count);
	for (int round = 0; round < FIT_ROUNDS && learners >= LEAST_USERS; round++)
	{
		double objective = eduai_projections_fit_round(sequence, count, &start, &p, scratch);

		if (round > 0 && objective - last < count * 1e-6)
			break;
		last = objective;
	}
	if (learners >= LEAST_USERS)
	{
		fitted[from[0]->skill] = p;
		has_fitted[from[0]->skill] = true;
	}
	free(sequence);
	free(scratch);
}

static void
fit(int seen)
{
	Answer **order = malloc(sizeof(Answer *) * seen);

	for (int i = 0; i < seen; i++)
		order[i] = &answers[i];
	qsort(order, seen, sizeof(Answer *), compare_sequences);
	for (int start = 0; start < seen;)
	{
		int end = start + 1;

		while (end < seen && order[end]->skill == order[start]->skill)
			end++;
		if (end - start >= LEAST_FIT)
			fit_skill(order + start, end - start);
		start = end;
	}
	free(order);
}

/* ---- running ---- */

enum
{
	LAST_OUTCOME,
	SKILL_MEAN,
	BKT,
	ELO,
	LOGISTIC,
	BLEND,
	PREDICTORS,
};

static const char *const names[PREDICTORS] = {"last outcome", "skill mean", "BKT",
											  "Elo",          "logistic",   "blend"};
static double *said[PREDICTORS];

typedef struct States
{
	EduaiModelTenant tenant;
	EduaiModelLearner *learners;
	EduaiModelSkill *skills;
	EduaiModelItem *items;
	EduaiModelPair *pairs;
	EduaiModelRepeat *repeats;
	bool *last_correct; /* of a pair */
} States;

static States
new_states(void)
{
	States s = {.learners = calloc(users.count, sizeof(EduaiModelLearner)),
				.skills = calloc(skills.count, sizeof(EduaiModelSkill)),
				.items = calloc(items.count, sizeof(EduaiModelItem)),
				.pairs = calloc(pairs.count, sizeof(EduaiModelPair)),
				.repeats = calloc(repeats.count, sizeof(EduaiModelRepeat)),
				.last_correct = calloc(pairs.count, sizeof(bool))};

	eduai_projections_model_start(&s.tenant);
	return s;
}

static void
free_states(States *s)
{
	free(s->learners);
	free(s->skills);
	free(s->items);
	free(s->pairs);
	free(s->repeats);
	free(s->last_correct);
}

static EduaiModelEntities
entities_of(States *s, const Answer *a)
{
	return (EduaiModelEntities){.tenant = &s->tenant,
								.learner = &s->learners[a->user],
								.skill = &s->skills[a->skill],
								.item = &s->items[a->item],
								.pair = &s->pairs[a->pair],
								.repeat = &s->repeats[a->repeat],
								.bkt = has_fitted[a->skill] ? &fitted[a->skill] : NULL};
}

static double
share_of(double correct, double attempts, double otherwise)
{
	return attempts > 0 ? correct / attempts : otherwise;
}

static void
say_baselines(const States *s, const Answer *a, int i)
{
	double share = share_of(s->tenant.correct, s->tenant.attempts, 0.5);

	said[LAST_OUTCOME][i] = s->pairs[a->pair].attempts > 0 ? s->last_correct[a->pair] : share;
	said[SKILL_MEAN][i] =
		share_of(s->skills[a->skill].correct, s->skills[a->skill].attempts, share);
}

static void
predict_all(int fit_every)
{
	States s = new_states();

	memset(has_fitted, 0, sizeof(bool) * skills.count);
	for (int i = 0; i < n; i++)
	{
		const Answer *a = &answers[i];
		EduaiModelEntities entities;
		EduaiModelPrediction p;

		if (fit_every > 0 && i > 0 && i % fit_every == 0)
			fit(i);
		entities = entities_of(&s, a);
		say_baselines(&s, a, i);
		p = eduai_projections_model_update(&entities, a->correct, a->at);
		said[BKT][i] = p.bkt;
		said[ELO][i] = p.elo;
		said[LOGISTIC][i] = p.logistic;
		said[BLEND][i] = p.blend;
		s.last_correct[a->pair] = a->correct;
	}
	free_states(&s);
}

static void
report(const char *title)
{
	EduaiScoreEntry *scratch = malloc(sizeof(EduaiScoreEntry) * n);
	bool *correct = malloc(sizeof(bool) * n);
	int right = 0;

	for (int i = 0; i < n; i++)
		right += correct[i] = answers[i].correct;
	printf("\n%s: %d answers, %.1f %% right, %u learners, %u skills, %u items\n", title, n,
		   100.0 * right / n, users.count, skills.count, items.count);
	printf("%-14s %7s %7s %8s %7s\n", "", "AUC", "RMSE", "log loss", "ECE");
	for (int i = 0; i < PREDICTORS; i++)
	{
		EduaiScore score = eduai_projections_score(said[i], correct, n, scratch);

		printf("%-14s %7.4f %7.4f %8.4f %7.4f\n", names[i], score.auc, score.rmse, score.log_loss,
			   score.calibration_error);
	}
	free(scratch);
	free(correct);
}

/* Nanoseconds for each answer; with the model, or only finding the states. */
static double
time_all(bool model)
{
	States s = new_states();
	volatile double sum = 0;
	int64_t start = wall_us();
	double ns;

	for (int i = 0; i < n; i++)
	{
		EduaiModelEntities entities = entities_of(&s, &answers[i]);

		if (model)
			sum +=
				eduai_projections_model_update(&entities, answers[i].correct, answers[i].at).blend;
		else
			sum += entities.pair->attempts + entities.repeat->attempts + entities.item->attempts;
	}
	ns = (wall_us() - start) * 1000.0 / n;
	free_states(&s);
	return ns;
}

static void
report_time(int rounds)
{
	double with[100];
	double without[100];

	memset(has_fitted, 0, sizeof(bool) * skills.count);
	for (int i = 0; i < rounds; i++)
	{
		without[i] = time_all(false);
		with[i] = time_all(true);
	}
	printf("\nan answer: ");
	printf("median %.0f ns", median(with, rounds));
	printf(" (%.0f to %.0f, %d rounds), floor %.0f ns\n", with[0], with[rounds - 1], rounds,
		   median(without, rounds));
}

static void
prepare(void)
{
	free(fitted);
	free(has_fitted);
	fitted = calloc(skills.count, sizeof(EduaiModelBkt));
	has_fitted = calloc(skills.count, sizeof(bool));
}

static void
evaluate(const char *title, int fit_every)
{
	prepare();
	predict_all(0);
	report(title);
	if (fit_every == 0)
		return;
	predict_all(fit_every);
	printf("fitted after every %d answers:", fit_every);
	report(title);
}

int
main(void)
{
	int fit_every = env_int("FIT", 20000);
	int rounds = env_int("ROUNDS", 5);

	for (int i = 0; i < PREDICTORS; i++)
		said[i] = malloc(sizeof(double) * MOST_ANSWERS);
	read_algebra();
	evaluate("Algebra I, a learner after the other", 0);
	sort_by_time();
	evaluate("Algebra I, by time", fit_every);
	report_time(rounds < 1 ? 1 : rounds > 100 ? 100 : rounds);
	shuffle();
	evaluate("Algebra I, outcomes shuffled", 0);
	read_oulad();
	sort_by_time();
	evaluate("Open University, by day", fit_every);
	return 0;
}
