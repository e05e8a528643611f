SELECT health ->> 'status' AS status, health ->> 'version' AS version,
	(SELECT string_agg(concat_ws(' ', w ->> 'worker', w ->> 'state'), ', ')
	 FROM jsonb_array_elements(health -> 'workers') AS w) AS workers,
	(SELECT string_agg(concat_ws(' ', value, key), ', ') FROM jsonb_each_text(health -> 'queue')) AS tasks
FROM eduai.health();
