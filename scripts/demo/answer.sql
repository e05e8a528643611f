SELECT t.state, l.instance,
	round(1000 * extract(epoch FROM t.started_at - t.enqueued_at)) || ' ms' AS "until sent",
	round(l.ms) || ' ms' AS provider,
	round(1000 * extract(epoch FROM t.finished_at - t.enqueued_at)) || ' ms' AS "in all",
	l.tokens_in || ' + ' || l.tokens_out AS tokens,
	trim_scale(t.cost_usd) AS "cost USD"
FROM eduai.get_task(:task) t JOIN eduai.usage_ledger l USING (task_id);
