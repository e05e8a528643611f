SELECT count(*) AS calls,
	count(*) FILTER (WHERE outcome = 'completed') AS completed,
	count(*) FILTER (WHERE outcome <> 'completed') AS failed,
	sum(tokens_in) || ' + ' || sum(tokens_out) AS tokens,
	round(sum(cost_usd), 6) AS "cost USD",
	round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)) || ' / ' ||
		round(percentile_cont(0.95) WITHIN GROUP (ORDER BY ms)) AS "ms p50 / p95"
FROM eduai.usage_ledger;

SELECT name AS instance, kind, requests, successes, failures,
	round(avg_ms) AS "avg ms", round(cost_usd, 6) AS "cost USD"
FROM eduai.instance_status
WHERE requests > 0
ORDER BY requests DESC;
