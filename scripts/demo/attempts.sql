SELECT attempt, instance,
	round(1000 * extract(epoch FROM started_at - min(started_at) OVER ())) || ' ms' AS "sent after",
	outcome, http_status AS status,
	tokens_in || ' + ' || tokens_out AS tokens, trim_scale(cost_usd) AS "cost USD"
FROM eduai.usage_ledger
WHERE task_id = :task
ORDER BY attempt;
