/*
 * group.c: the events of a fold by their keys.  See group.h.
 */
#include "postgres.h"

#include "projections/group.h"

typedef struct Placed
{
	const char *key;
	int place; /* in the fold */
} Placed;

static int
compare(const void *a, const void *b)
{
	const Placed *x = a;
	const Placed *y = b;
	int order = strcmp(x->key, y->key);

	return order != 0 ? order : x->place - y->place;
}

/* Sorts what does not already stand in order: a batch of one learner does. */
static Placed *
place(const EduaiFold *fold)
{
	Placed *placed = palloc_array(Placed, Max(fold->nevents, 1));
	bool sorted = true;

	for (int i = 0; i < fold->nevents; i++)
	{
		placed[i] = (Placed){eduai_projections_key(fold->projection, fold->events[i]), i};
		sorted = sorted && (i == 0 || strcmp(placed[i - 1].key, placed[i].key) <= 0);
	}
	if (!sorted)
		qsort(placed, fold->nevents, sizeof(Placed), compare);
	return placed;
}

EduaiKeyRun *
eduai_projections_group(const EduaiFold *fold, int *n)
{
	Placed *placed = place(fold);
	EduaiEvent **events = palloc_array(EduaiEvent *, Max(fold->nevents, 1));
	int64 *positions = fold->positions ? palloc_array(int64, Max(fold->nevents, 1)) : NULL;
	EduaiKeyRun *runs = palloc_array(EduaiKeyRun, Max(fold->nevents, 1));

	*n = 0;
	for (int i = 0; i < fold->nevents; i++)
	{
		events[i] = fold->events[placed[i].place];
		if (positions)
			positions[i] = fold->positions[placed[i].place];
		if (i == 0 || strcmp(placed[i].key, placed[i - 1].key) != 0)
			runs[(*n)++] =
				(EduaiKeyRun){placed[i].key, &events[i], positions ? &positions[i] : NULL, 0};
		runs[*n - 1].nevents++;
	}
	return runs;
}
