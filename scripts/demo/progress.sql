-- A learner's progress as it was (before) and is (after), a few fields of it.
SELECT field AS "ana's progress",
	max(value) FILTER (WHERE moment = 1) AS before,
	max(value) FILTER (WHERE moment = 2) AS after
FROM (VALUES (1, :'before'::jsonb), (2, :'after'::jsonb)) AS state (moment, p),
	LATERAL (VALUES
		(1, 'events', p ->> 'version'),
		(2, 'exercises completed', p ->> 'exercises_completed'),
		(3, 'mastery', (SELECT string_agg(key || ' ' || round((value ->> 'mastery')::numeric, 2), ', ' ORDER BY key)
			FROM jsonb_each(p -> 'skills'))),
		(4, 'skills mastered', (SELECT string_agg(value, ', ') FROM jsonb_array_elements_text(p -> 'skills_mastered'))),
		(5, 'time spent', p ->> 'total_time_spent' || ' s'),
		(6, 'emotions', (SELECT string_agg(key || ' ' || value, ', ') FROM jsonb_each_text(p -> 'emotion_patterns')))
	) AS line (n, field, value)
GROUP BY n, field
ORDER BY n;
