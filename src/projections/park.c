/*
 * park.c: parking events that could not be folded.  See park.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/lock.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "events/projector.h"
#include "projections/park.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

static int tries_setting = 3;

bool
eduai_projections_parked_lock(const EduaiProjection *projection, const char *tenant, bool nowait)
{
	char name[16];

	snprintf(name, sizeof(name), "%d", projection->id);
	return eduai_core_lock(EDUAI_LOCK_PARKED, eduai_core_lock_key(tenant, name), nowait);
}

/* a second, then four times as long each time */
TimestampTz
eduai_projections_next_try(int tries)
{
	if (tries >= tries_setting)
		return 0;
	return TimestampTzPlusMilliseconds(eduai_core_now(), INT64CONST(1000) << 2 * Min(tries - 1, 6));
}

static Datum
uuid_array(EduaiEvent *const *events, int n)
{
	Datum *ids = palloc_array(Datum, n);

	for (int i = 0; i < n; i++)
		ids[i] = UUIDPGetDatum(&events[i]->event_id);
	return eduai_core_datum_array(ids, NULL, n, UUIDOID);
}

static Datum
version_array(EduaiEvent *const *events, int n)
{
	int64 *versions = palloc_array(int64, n);

	for (int i = 0; i < n; i++)
		versions[i] = events[i]->version;
	return eduai_core_int8_array(versions, NULL, n);
}

static Datum
name_array(EduaiEvent *const *events, int n, bool streams)
{
	char **names = palloc_array(char *, n);

	for (int i = 0; i < n; i++)
		names[i] = streams ? events[i]->stream : events[i]->event_type;
	return eduai_core_text_array(names, n);
}

/* In SPI, as the owner: adds events at the end of the key's parked ones. */
static void
insert_parked(const EduaiFold *fold, const EduaiKeyRun *run, int first)
{
	static EduaiPlan insert = {
		"INSERT INTO eduai.projection_parked (tenant_id, projection, generation, key, place,"
		" event_id, stream, version, event_type, position, parked_at, tries)"
		" SELECT $1, $2, $3, $4, n.base + e.ord, e.event_id, e.stream, e.version, e.event_type,"
		" e.position, $10, 0"
		" FROM (SELECT coalesce(max(place), 0) AS base FROM eduai.projection_parked"
		"  WHERE tenant_id = $1 AND projection = $2 AND generation = $3 AND key = $4) AS n,"
		" unnest($5, $6, $7, $8, $9) WITH ORDINALITY"
		" AS e (event_id, stream, version, event_type, position, ord)",
		10,
		{TEXTOID, INT4OID, INT4OID, TEXTOID, UUIDARRAYOID, TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID,
		 INT8ARRAYOID, TIMESTAMPTZOID}};
	EduaiEvent *const *events = run->events + first;
	int n = run->nevents - first;
	Datum args[10] = {
		CStringGetTextDatum(fold->tenant),
		Int32GetDatum(fold->projection->id),
		Int32GetDatum(fold->generation),
		CStringGetTextDatum(run->key),
		uuid_array(events, n),
		name_array(events, n, true),
		version_array(events, n),
		name_array(events, n, false),
		run->positions ? eduai_core_int8_array(run->positions + first, NULL, n) : (Datum) 0,
		TimestampTzGetDatum(eduai_core_now()),
	};

	eduai_core_run_latest(&insert, args, run->positions ? NULL : "        n ");
}

/* In SPI, as the owner: the key's first parked event is there for this error. */
static void
record_error(const EduaiFold *fold, const EduaiKeyRun *run, const ErrorData *error)
{
	static EduaiPlan record = {
		"UPDATE eduai.projection_parked SET error = $5, sqlstate = $6, tries = 1, next_try_at = $7"
		" WHERE tenant_id = $1 AND projection = $2 AND generation = $3 AND key = $4"
		" AND place = 1",
		7,
		{TEXTOID, INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}};
	TimestampTz next_try = eduai_projections_next_try(1);
	Datum args[7] = {CStringGetTextDatum(fold->tenant),
					 Int32GetDatum(fold->projection->id),
					 Int32GetDatum(fold->generation),
					 CStringGetTextDatum(run->key),
					 CStringGetTextDatum(error->message),
					 CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)),
					 TimestampTzGetDatum(next_try)};

	eduai_core_run_latest(&record, args, next_try == 0 ? "      n" : NULL);
}

static void
log_parked(const EduaiFold *fold, const EduaiEvent *event, const ErrorData *error)
{
	ereport(
		LOG,
		(errcode(error->sqlerrcode),
		 errmsg("projection \"%s\" parked an event that it could not fold", fold->projection->name),
		 errdetail("Version %lld of stream \"%s\" of tenant \"%s\": %s", (long long) event->version,
				   event->stream, fold->tenant, error->message)));
}

void
eduai_projections_park(const EduaiFold *fold, const EduaiKeyRun *run, int first,
					   const ErrorData *error)
{
	EduaiPrivilege saved;

	eduai_core_enter(&saved);
	SPI_connect();
	insert_parked(fold, run, first);
	if (error != NULL)
		record_error(fold, run, error);
	SPI_finish();
	eduai_core_leave(&saved);
	if (error == NULL)
		return;
	log_parked(fold, run->events[first], error);
	/* it tries again */
	eduai_events_projector_wake_at_commit();
}

/* ---- skipped events ---- */

/* In SPI, as the owner: how many of the events were skipped; their ids in the result. */
static uint64
find_skipped(const EduaiFold *fold)
{
	static EduaiPlan find = {"SELECT event_id FROM eduai.projection_skipped"
							 " WHERE (SELECT true FROM eduai.projection_skipped"
							 "  WHERE tenant_id = $1 AND projection = $2 LIMIT 1)"
							 " AND tenant_id = $1 AND projection = $2 AND event_id = ANY ($3)",
							 3,
							 {TEXTOID, INT4OID, UUIDARRAYOID}};
	Datum args[3] = {CStringGetTextDatum(fold->tenant), Int32GetDatum(fold->projection->id),
					 uuid_array(fold->events, fold->nevents)};

	return eduai_core_run_latest(&find, args, NULL);
}

static bool
is_among(const pg_uuid_t *id, uint64 n)
{
	bool isnull;

	for (uint64 row = 0; row < n; row++)
		if (memcmp(DatumGetUUIDP(eduai_core_value(row, 1, &isnull)), id, UUID_LEN) == 0)
			return true;
	return false;
}

void
eduai_projections_drop_skipped(const EduaiFold *fold, EduaiFold *rest)
{
	EduaiEvent **events = palloc_array(EduaiEvent *, Max(fold->nevents, 1));
	int64 *positions = palloc_array(int64, Max(fold->nevents, 1));
	EduaiPrivilege saved;
	int kept = 0;
	uint64 n;

	eduai_core_enter(&saved);
	SPI_connect();
	n = find_skipped(fold);
	for (int i = 0; i < fold->nevents; i++)
		if (!is_among(&fold->events[i]->event_id, n))
		{
			events[kept] = fold->events[i];
			if (fold->positions)
				positions[kept] = fold->positions[i];
			kept++;
		}
	SPI_finish();
	eduai_core_leave(&saved);
	*rest = *fold;
	rest->events = events;
	rest->positions = fold->positions ? positions : NULL;
	rest->nevents = kept;
}

void
eduai_projections_park_init(void)
{
	DefineCustomIntVariable("eduai.projection_tries",
							"How often a reducer is tried with an event before it waits for a "
							"person.",
							"It is tried again by itself after 1 s, 4 s, 16 s and so on.",
							&tries_setting, 3, 1, 20, PGC_SIGHUP, 0, NULL, NULL, NULL);
}
