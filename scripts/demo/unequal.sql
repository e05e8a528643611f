-- The learners whose progress counts other than their rows.
SELECT count(*)
FROM (
		SELECT array_agg(user_id) AS ids
		FROM (SELECT user_id, row_number() OVER (ORDER BY user_id) / 5000 AS part FROM oulad.learner) AS learner
		GROUP BY part
	) AS part,
	eduai.progress_of(ids) AS seen
	JOIN oulad.learner USING (user_id)
WHERE (seen.progress ->> 'exercises_completed')::bigint <> learner.rows;
