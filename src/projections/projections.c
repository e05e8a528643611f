/*
 * projections.c: the room's start.
 */
#include "postgres.h"

#include "projections/catalog.h"
#include "projections/failing.h"
#include "projections/followers.h"
#include "projections/generation.h"
#include "projections/helper.h"
#include "projections/class.h"
#include "projections/inline.h"
#include "projections/model_kind.h"
#include "projections/personal.h"
#include "projections/parked_chore.h"
#include "projections/progress_kind.h"
#include "projections/projections.h"
#include "projections/rebuild_state.h"
#include "projections/recommend.h"
#include "projections/reducer_kind.h"
#include "projections/signal.h"
#include "projections/status.h"

void
eduai_projections_init(void)
{
	eduai_projections_catalog_init();
	eduai_projections_inline_init();
	eduai_projections_signal_init();
	eduai_projections_failing_init();
	eduai_projections_helper_init();
	eduai_projections_rebuild_state_init();
	eduai_projections_followers_init();
	eduai_projections_generation_init();
	eduai_projections_status_init();
	eduai_projections_progress_init();
	eduai_projections_model_init();
	eduai_projections_recommend_init();
	eduai_projections_reducer_init();
	eduai_projections_parked_chore_init();
	eduai_projections_class_init();
	eduai_projections_personal_init();
}
