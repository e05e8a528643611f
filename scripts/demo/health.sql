SELECT health ->> 'status' AS status, health ->> 'version' AS version,
	(SELECT string_agg(concat_ws(' ', w ->> 'worker', w ->> 'state'), ', ')
	 FROM jsonb_array_elements(health -> 'workers') AS w) AS workers,
	coalesce((SELECT string_agg(concat_ws(' ', value, key), ', ') FROM jsonb_each_text(health -> 'queue')
		WHERE value <> '0'), 'none') AS "open tasks"
FROM eduai.health();
