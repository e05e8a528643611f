-- What the answer wrote, with the times at which it was committed: one and the same.
SELECT to_char(pg_xact_commit_timestamp(xmin), 'HH24:MI:SS.US') AS "committed at", place AS "where", what
FROM (
	SELECT 1 AS n, xmin, 'eduai.task_end' AS place, 'state ' || state AS what
	FROM eduai.task_end WHERE task_id = :task
	UNION ALL
	SELECT 2, xmin, 'the ledger', outcome || ', ' || tokens_in + tokens_out || ' tokens, USD ' || trim_scale(cost_usd)
	FROM eduai.provider_call WHERE task_id = :task
	UNION ALL
	SELECT 3, xmin, stream, 'version ' || version || ': ' || event_type
	FROM eduai.event WHERE event_type = 'ai_feedback_given' AND data @> jsonb_build_object('task_id', :task)
	UNION ALL
	SELECT 4, xmin, 'ana''s progress', version || ' events'
	FROM eduai.projection_state WHERE projection = 1 AND key = 'ana'
	UNION ALL
	SELECT 5, xmin, 'school.answer', 'hint set by the handler keep_hint'
	FROM school.answer WHERE task_id = :task
) AS written
ORDER BY n;
