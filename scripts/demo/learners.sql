SELECT user_id AS learner, eduai.stream_version('learner-' || user_id) AS events,
	progress ->> 'exercises_completed' AS done,
	(SELECT string_agg(format('%s %s/%s', key, value ->> 'correct', value ->> 'attempts'), ', ' ORDER BY key)
	 FROM jsonb_each(progress -> 'skills')) AS "passed by module",
	round((SELECT avg((value ->> 'mastery')::numeric) FROM jsonb_each(progress -> 'skills')), 2) AS mastery,
	left(progress ->> 'last_activity', 10) AS "last seen"
FROM (
	SELECT array_agg(user_id) AS ids
	FROM (SELECT user_id FROM oulad.learner ORDER BY rows DESC, user_id LIMIT 10) AS most
) AS top, eduai.progress_of(ids);
