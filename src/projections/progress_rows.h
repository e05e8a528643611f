/*
 * progress_rows.h: the learners' progress in statements.
 */
#ifndef EDUAI_PROJECTIONS_PROGRESS_ROWS_H
#define EDUAI_PROJECTIONS_PROGRESS_ROWS_H

/* The generation that is live in the reader's own snapshot, whatever has become of it since. */
#define EDUAI_PROGRESS_LIVE \
	"(SELECT coalesce((SELECT live FROM eduai.projection_generation WHERE projection = 1), 1))"

/*
 * The row of one learner of tenant $1, as a LATERAL subquery: OFFSET 0 keeps
 * the lookups apart, a row at a time by index, never a join of all.
 */
#define EDUAI_PROGRESS_ROW(user_id)                                                  \
	"(SELECT state, version, last_at FROM eduai.projection_state"                    \
	" WHERE tenant_id = $1 AND projection = 1 AND generation = " EDUAI_PROGRESS_LIVE \
	" AND key = " user_id " OFFSET 0)"

#endif
