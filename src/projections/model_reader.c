/*
 * model_reader.c: what the learner model says.  See model_reader.h.
 */
#include "postgres.h"

#include "core/clock.h"
#include "core/personal.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/tenant.h"
#include "events/validate.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "projections/catalog.h"
#include "projections/model_kind.h"
#include "projections/model_reader.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

/* as much of a bad name as an error message repeats */
#define SHOWN_BYTES 64

PG_FUNCTION_INFO_V1(eduai_learner_prediction);

static int
live_generation(void)
{
	static EduaiPlan read = {
		"SELECT live FROM eduai.projection_generation WHERE projection = " CppAsString2(
			EDUAI_PROJECTION_MODEL),
		0};

	return eduai_core_query(&read, NULL, NULL) > 0 ? (int) eduai_core_int64(0, 1, 1) : 1;
}

void
eduai_projections_reader_open(EduaiModelReader *reader, const char *tenant)
{
	reader->generation = live_generation();
	reader->parameters = eduai_projections_parameters_view(tenant, GetActiveSnapshot());
	reader->rows = eduai_projections_model_view(tenant, reader->generation, GetActiveSnapshot());
	reader->now = eduai_projections_model_time(eduai_core_now());
}

void
eduai_projections_reader_close(EduaiModelReader *reader)
{
	eduai_projections_model_close(reader->rows);
}

double
eduai_projections_reader_predict(EduaiModelReader *reader, const char *user_id, const char *skill,
								 const char *item)
{
	EduaiModelConcerned c = eduai_projections_model_concerned(reader->rows, user_id, skill, item);

	/* what holds now: no row is ahead of the events */
	c.entities.bkt = eduai_projections_parameters_at(reader->parameters, skill, PG_INT64_MAX);
	return eduai_projections_model_predict(&c.entities, reader->now).blend;
}

double
eduai_projections_reader_difficulty(EduaiModelReader *reader, const char *skill, const char *item)
{
	EduaiModelRows *rows = reader->rows;
	EduaiModelEntities entities = {
		.tenant = eduai_projections_model_row(rows, EDUAI_MODEL_TENANT, NULL, NULL, NULL)->state,
		.skill = eduai_projections_model_row(rows, EDUAI_MODEL_SKILL, skill, NULL, NULL)->state,
	};

	if (item != NULL)
		entities.item =
			eduai_projections_model_row(rows, EDUAI_MODEL_ITEM, skill, item, NULL)->state;
	return 1 - eduai_projections_model_predict(&entities, reader->now).elo;
}

void
eduai_projections_check_label(const char *kind, const char *label)
{
	if (label == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", kind)));
	if (label[0] != '\0' && strlen(label) <= EDUAI_MODEL_NAME_BYTES)
		return;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid %s \"%.*s\"", kind,
						   pg_mbcliplen(label, strlen(label), SHOWN_BYTES), label),
					errdetail("It is %zu bytes long.", strlen(label)),
					errhint("Give it a name of 1 to %d bytes.", EDUAI_MODEL_NAME_BYTES)));
}

/* learner_prediction(user_id, skill, item) returns double precision */
Datum
eduai_learner_prediction(PG_FUNCTION_ARGS)
{
	char *user_id = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	char *skill = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	char *item = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	char *tenant;
	EduaiModelReader reader;
	EduaiPrivilege saved;
	double p;

	eduai_events_check_name("user id", user_id, true);
	eduai_projections_check_label("skill", skill);
	if (item != NULL)
		eduai_projections_check_label("item", item);
	tenant = eduai_core_tenant();
	eduai_core_enter(&saved);
	SPI_connect();
	eduai_projections_reader_open(&reader, tenant);
	p = eduai_projections_reader_predict(&reader, user_id, skill, item);
	eduai_projections_reader_close(&reader);
	SPI_finish();
	eduai_core_leave(&saved);
	eduai_core_personal_note(tenant, user_id, "model", 1, GetUserId());
	PG_RETURN_FLOAT8(p);
}
