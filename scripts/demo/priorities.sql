SELECT row_number() OVER (ORDER BY started_at) AS "started as",
	priority,
	task_id - min(task_id) OVER () + 1 AS "enqueued as",
	round(1000 * extract(epoch FROM started_at - min(started_at) OVER ())) || ' ms' AS "after the first",
	state
FROM eduai.get_tasks(:'tasks')
ORDER BY started_at;
