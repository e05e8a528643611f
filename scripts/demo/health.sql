SELECT health ->> 'status' AS status, health ->> 'version' AS version,
	(SELECT string_agg(w ->> 'name', ', ') FROM jsonb_array_elements(health -> 'workers') w) AS workers,
	health -> 'queue' AS queue
FROM eduai.health();
