/*
 * factor.c: adaptive tiers' factors.  See factor.h.
 */
#include "postgres.h"

#include "core/shmem.h"
#include "miscadmin.h"
#include "ratelimit/factor.h"
#include "ratelimit/table.h"
#include "utils/guc.h"

#define PLACES    256
#define MILLIONTH 1000000.0

typedef struct FactorPlace
{
	Oid database; /* InvalidOid: free */
	char tenant[NAMEDATALEN];
	char tier[NAMEDATALEN];
	char type[NAMEDATALEN];
	RateAdaptive adaptive;
	pg_atomic_uint32 factor;   /* in millionths; read without the lock */
	pg_atomic_uint64 again_us; /* when the period may be over */
} FactorPlace;

typedef struct Factors
{
	int64 refused;
	FactorPlace places[PLACES];
} Factors;

static Factors *shared = NULL;
static LWLockPadded *lock = NULL;

static int adapt_period_ms = 10000;
static double adapt_errors = 0.1;
static int adapt_p95_ms = 5000;
static double adapt_floor = 0.1;

static Size
factors_size(void)
{
	return sizeof(Factors);
}

static void
factors_shmem_init(void *ptr)
{
	Factors *f = ptr;

	memset(f, 0, sizeof(*f));
	for (int i = 0; i < PLACES; i++)
	{
		pg_atomic_init_u32(&f->places[i].factor, (uint32) MILLIONTH);
		pg_atomic_init_u64(&f->places[i].again_us, 0);
	}
}

void
eduai_ratelimit_factor_init(void)
{
	static const EduaiShmemPart part = {.name = "eduai_ratelimit_factors",
										.size = factors_size,
										.init = factors_shmem_init,
										.nlocks = 1,
										.address = (void **) &shared,
										.locks = &lock};

	DefineCustomIntVariable("eduai.rate_adapt_period",
							"How long adaptive tiers gather outcomes before they follow them.",
							NULL, &adapt_period_ms, 10000, 100, 3600000, PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomRealVariable("eduai.rate_adapt_errors",
							 "The share of errors above which an adaptive tier has less.", NULL,
							 &adapt_errors, 0.1, 0.0, 1.0, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"eduai.rate_adapt_p95",
		"The 95th percentile of durations above which an adaptive tier has less.",
		"0: durations do not matter.", &adapt_p95_ms, 5000, 0, 3600000, PGC_SIGHUP, GUC_UNIT_MS,
		NULL, NULL, NULL);
	DefineCustomRealVariable("eduai.rate_adapt_floor",
							 "The least share of its limit that an adaptive tier keeps.", NULL,
							 &adapt_floor, 0.1, 0.0, 1.0, PGC_SIGHUP, 0, NULL, NULL, NULL);
	eduai_core_shmem_register(&part);
}

static int
find(const char *tenant, const char *tier, const char *type)
{
	/* they are taken in their order, and kept */
	for (int i = 0; i < PLACES && OidIsValid(shared->places[i].database); i++)
	{
		const FactorPlace *p = &shared->places[i];

		if (p->database == MyDatabaseId && strcmp(p->tier, tier) == 0 &&
			strcmp(p->type, type) == 0 && strcmp(p->tenant, tenant) == 0)
			return i;
	}
	return -1;
}

static int
take(const char *tenant, const char *tier, const char *type)
{
	for (int i = 0; i < PLACES; i++)
	{
		FactorPlace *p = &shared->places[i];

		if (OidIsValid(p->database))
			continue;
		strlcpy(p->tenant, tenant, NAMEDATALEN);
		strlcpy(p->tier, tier, NAMEDATALEN);
		strlcpy(p->type, type, NAMEDATALEN);
		eduai_ratelimit_adaptive_start(&p->adaptive, eduai_ratelimit_now_us());
		p->database = MyDatabaseId;
		return i;
	}
	shared->refused++;
	return -1;
}

int
eduai_ratelimit_factor_place(const char *tenant, const char *tier, const char *type)
{
	int place;

	if (shared == NULL)
		return -1;
	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	place = find(tenant, tier, type);
	if (place < 0)
		place = take(tenant, tier, type);
	LWLockRelease(&lock->lock);
	return place;
}

/* Ends the period if it is over.  The lock is held. */
static void
turn(FactorPlace *p, int64 now_us)
{
	RateAdaptiveRules rules = {.floor = adapt_floor,
							   .most_errors = adapt_errors,
							   .most_p95_us = (int64) adapt_p95_ms * 1000,
							   .period_us = (int64) adapt_period_ms * 1000};
	int64 again_us;
	double factor = eduai_ratelimit_adaptive_turn(&p->adaptive, &rules, now_us, &again_us);

	pg_atomic_write_u32(&p->factor, (uint32) (factor * MILLIONTH + 0.5));
	pg_atomic_write_u64(&p->again_us, (uint64) again_us);
}

double
eduai_ratelimit_factor(int place)
{
	FactorPlace *p;
	int64 now_us;

	if (place < 0 || shared == NULL)
		return 1.0;
	p = &shared->places[place];
	now_us = eduai_ratelimit_now_us();
	if (now_us >= (int64) pg_atomic_read_u64(&p->again_us))
	{
		LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
		turn(p, now_us);
		LWLockRelease(&lock->lock);
	}
	return pg_atomic_read_u32(&p->factor) / MILLIONTH;
}

void
eduai_ratelimit_factor_report(int place, bool ok, int64 latency_us)
{
	if (place < 0 || shared == NULL)
		return;
	LWLockAcquire(&lock->lock, LW_EXCLUSIVE);
	turn(&shared->places[place], eduai_ratelimit_now_us());
	eduai_ratelimit_adaptive_report(&shared->places[place].adaptive, ok, latency_us);
	LWLockRelease(&lock->lock);
}

void
eduai_ratelimit_factor_outcome(const char *tenant, const char *tier, const char *type, bool ok)
{
	int place;

	if (shared == NULL)
		return;
	LWLockAcquire(&lock->lock, LW_SHARED);
	place = find(tenant, tier, type);
	if (place < 0)
		place = find(tenant, tier, "*");
	if (place < 0)
		place = find("", tier, type);
	if (place < 0)
		place = find("", tier, "*");
	LWLockRelease(&lock->lock);
	eduai_ratelimit_factor_report(place, ok, -1);
}

int64
eduai_ratelimit_factor_refused(void)
{
	int64 refused;

	if (shared == NULL)
		return 0;
	LWLockAcquire(&lock->lock, LW_SHARED);
	refused = shared->refused;
	LWLockRelease(&lock->lock);
	return refused;
}
