-- Each algorithm's exact choices between instances that are described here.
CREATE FUNCTION pg_temp.taken(algorithm text, fleet jsonb, choices int DEFAULT 1, request jsonb DEFAULT '{}',
	random float8 DEFAULT 0.5) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(coalesce(t, '-'), ' ' ORDER BY n)
	FROM jsonb_array_elements_text(eduai.test_balance(algorithm, fleet, request, choices, random)->'taken')
		WITH ORDINALITY t(t, n)
$$;
CREATE FUNCTION pg_temp.ordered(algorithm text, fleet jsonb, request jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(t, ' ' ORDER BY n)
	FROM jsonb_array_elements_text(eduai.test_balance(algorithm, fleet, request)->'order') WITH ORDINALITY t(t, n)
$$;

-- round robin: each in turn; one that has no room loses its turns and no other's
SELECT pg_temp.taken('round_robin', '[{"name": "a"}, {"name": "b"}, {"name": "c"}]', 9);
SELECT pg_temp.taken('round_robin', '[{"name": "a"}, {"name": "b", "in_flight": 10}, {"name": "c"}]', 6);
-- weighted: 5 to 1 to 1, smoothly
SELECT pg_temp.taken('weighted_round_robin', '[{"name": "a", "weight": 5}, {"name": "b"}, {"name": "c"}]', 14);
-- least connections: the smallest share of what each may have; ties go round
SELECT pg_temp.taken('least_connections', '[{"name": "a", "in_flight": 3}, {"name": "b", "in_flight": 5, "max_concurrent": 20}]');
SELECT pg_temp.taken('least_connections', '[{"name": "a"}, {"name": "b"}, {"name": "c", "in_flight": 1}]', 4);
-- least response time: the average times the calls there would be; one never tried comes first, one that only failed last
SELECT pg_temp.ordered('least_response_time', '[{"name": "slow", "samples": [{"ms": 2000}]}, {"name": "fast", "samples": [{"ms": 500}]},
	{"name": "busy", "in_flight": 4, "samples": [{"ms": 500}]}, {"name": "new"},
	{"name": "failing", "in_flight": 1, "samples": [{"ms": 1, "ok": false}]}]');
-- cost: the cheapest for this request; ties go round
SELECT pg_temp.taken('cost_optimized', '[{"name": "a", "usd": 0.02}, {"name": "b", "usd": 0.01}, {"name": "c", "usd": 0.01}]', 4);

-- of all: room by max_concurrent, by the ramp of a recovered one (one call at least), by headroom
SELECT a, pg_temp.ordered(a, '[{"name": "full", "in_flight": 2, "max_concurrent": 2}, {"name": "ramping", "in_flight": 1, "ramp": 0.1},
	{"name": "limited", "headroom": 0}, {"name": "ramped", "in_flight": 1, "ramp": 0.2}]')
FROM unnest(ARRAY['adaptive', 'round_robin', 'weighted_round_robin', 'least_connections', 'least_response_time', 'cost_optimized']) a;
SELECT a, pg_temp.taken(a, '[{"name": "full", "in_flight": 2, "max_concurrent": 2}, {"name": "limited", "headroom": 0}]'), pg_temp.taken(a, '[]')
FROM unnest(ARRAY['adaptive', 'round_robin', 'weighted_round_robin', 'least_connections', 'least_response_time', 'cost_optimized']) a;
-- a lower tier first, however bad; where the task failed last of all, and then the lower tier
SELECT a, pg_temp.ordered(a, '[{"name": "failed 1", "failed_before": true}, {"name": "tier 3", "tier": 3}, {"name": "failed 2", "tier": 2, "failed_before": true},
	{"name": "tier 2", "tier": 2, "usd": 0.5, "in_flight": 9, "samples": [{"ms": 90000, "times": 9}]}]')
FROM unnest(ARRAY['adaptive', 'round_robin', 'weighted_round_robin', 'least_connections', 'least_response_time', 'cost_optimized']) a;

-- adaptive. Time by size: who is quick to begin serves short answers, who is quick to go on long ones
\set sizes '[{"name": "begins", "samples": [{"ms": 1200, "first_byte_ms": 200, "tokens": 100, "times": 20, "at_s": 80}]}, {"name": "goes on", "samples": [{"ms": 1100, "first_byte_ms": 900, "tokens": 100, "times": 20, "at_s": 80}]}]'
SELECT pg_temp.taken('adaptive', :'sizes', 1, '{"tokens_out": 20}') AS short, pg_temp.taken('adaptive', :'sizes', 1, '{"tokens_out": 2000}') AS long,
	pg_temp.taken('adaptive', :'sizes') AS unknown;
-- the same from answers in one piece, which do not tell their parts
CREATE FUNCTION pg_temp.whole(name text, first_ms int, token_ms int) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('name', name, 'samples', jsonb_agg(jsonb_build_object('at_s', i,
		'tokens', 20 + 38 * (i % 11), 'ms', first_ms + token_ms * (20 + 38 * (i % 11)))))
	FROM generate_series(1, 99) i
$$;
SELECT pg_temp.taken('adaptive', f, 1, '{"tokens_out": 10}') AS short, pg_temp.taken('adaptive', f, 1, '{"tokens_out": 800}') AS long
FROM jsonb_build_array(pg_temp.whole('begins', 200, 10), pg_temp.whole('goes on', 900, 4)) f;
-- money against time, at the price of time that the caller gives
\set prices '[{"name": "dear", "usd": 0.02, "samples": [{"ms": 1000, "times": 20, "at_s": 80}]}, {"name": "cheap", "usd": 0.001, "samples": [{"ms": 2000, "times": 20, "at_s": 80}]}]'
SELECT pg_temp.taken('adaptive', :'prices', 1, '{"usd_to_seconds": 10}') AS plenty, pg_temp.taken('adaptive', :'prices', 1, '{"usd_to_seconds": 1000}') AS scarce;
-- fast failures attract nobody: better slow than failing at once, and no failure shortens a time
\set failing '[{"name": "failing", "samples": [{"ms": 1000, "times": 20, "at_s": 70}, {"ms": 1, "ok": false, "times": 8, "at_s": 92}]}, {"name": "slow", "samples": [{"ms": 3000, "times": 20, "at_s": 80}]}]'
SELECT pg_temp.taken('adaptive', :'failing', 5);
SELECT (eduai.test_balance('least_response_time', :'failing')->'score'->>'failing')::float8 AS still_us;
-- a probe that succeeds ends what was before
SELECT pg_temp.taken('adaptive', jsonb_build_array(jsonb_build_object('name', 'was failing', 'samples', jsonb_build_array('{"ms": 1000, "times": 20}'::jsonb,
	'{"ms": 30000, "ok": false, "times": 8, "at_s": 90}'::jsonb, jsonb_build_object('ms', 1000, 'at_s', 99, 'probe', p))), '{"name": "other", "samples": [{"ms": 1200, "times": 20, "at_s": 80}]}'::jsonb)) AS probed
FROM unnest(ARRAY[false, true]) p;
-- failures that take long are worse than those that come at once
SELECT pg_temp.taken('adaptive', '[{"name": "times out", "samples": [{"ms": 1000, "times": 20, "at_s": 79}, {"ms": 30000, "ok": false, "at_s": 99}]}, {"name": "refuses", "samples": [{"ms": 1000, "times": 20, "at_s": 79}, {"ms": 10, "ok": false, "at_s": 99}]}]', 2);
-- one that never worked is not preferred to one that does
SELECT pg_temp.taken('adaptive', '[{"name": "new", "samples": [{"ms": 1, "ok": false, "times": 3, "at_s": 97}]}, {"name": "known", "samples": [{"ms": 1000, "times": 20, "at_s": 80}]}]');
-- a new one is as good as the best until it has calls in flight
SELECT pg_temp.ordered('adaptive', '[{"name": "known", "in_flight": 5, "samples": [{"ms": 1000, "times": 20, "at_s": 80}]}, {"name": "new"}, {"name": "new and asked", "in_flight": 1}]');
-- peaks: one slow call in five is worse than each a little slower
SELECT pg_temp.taken('adaptive', '[{"name": "peaks", "samples": [{"ms": 800, "times": 4, "at_s": 85}, {"ms": 8000, "at_s": 89}, {"ms": 800, "times": 4, "at_s": 90}, {"ms": 8000, "at_s": 94}, {"ms": 800, "times": 4, "at_s": 95}]}, {"name": "steady", "samples": [{"ms": 1200, "times": 14, "at_s": 85}]}]', 3);
-- nothing heard since a call left counts as slow; an answer ends it
SELECT pg_temp.taken('adaptive', '[{"name": "quiet", "sent_s": 95, "in_flight": 1, "samples": [{"ms": 1000, "times": 20, "at_s": 70}]}, {"name": "slower", "in_flight": 1, "samples": [{"ms": 1500, "times": 20, "at_s": 80}]}]') AS quiet,
	pg_temp.taken('adaptive', '[{"name": "quiet", "sent_s": 99.9, "in_flight": 1, "samples": [{"ms": 1000, "times": 20, "at_s": 70}]}, {"name": "slower", "in_flight": 1, "samples": [{"ms": 1500, "times": 20, "at_s": 80}]}]') AS not_yet;
-- calls in flight against what it may have
SELECT pg_temp.taken('adaptive', '[{"name": "busy", "in_flight": 9, "samples": [{"ms": 1000, "times": 20, "at_s": 80}]}, {"name": "idle", "samples": [{"ms": 1100, "times": 20, "at_s": 80}]}]');
-- a deadline that the cheap one would miss
SELECT pg_temp.taken('adaptive', '[{"name": "cheap", "samples": [{"ms": 3000, "times": 20, "at_s": 80}]}, {"name": "fast", "usd": 0.05, "samples": [{"ms": 500, "times": 20, "at_s": 80}]}]', 1, r::jsonb)
FROM unnest(ARRAY['{}', '{"deadline_s": 2}', '{"deadline_s": 20}']) r;
-- the last of a rate limit is for what cannot wait
SELECT p, pg_temp.taken('adaptive', '[{"name": "scarce", "headroom": 0.02, "samples": [{"ms": 1000, "times": 20, "at_s": 80}]}, {"name": "other", "samples": [{"ms": 1500, "times": 20, "at_s": 80}]}]', 1, jsonb_build_object('priority', p))
FROM generate_series(0, 3) p;

-- a half-open breaker is probed by a call that is neither critical nor failed before, however bad it looks
\set probing '[{"name": "good", "samples": [{"ms": 1000, "times": 20, "at_s": 80}]}, {"name": "half open", "probe": true, "ramp": 0, "samples": [{"ms": 900, "ok": false, "times": 3, "at_s": 30}]}]'
SELECT pg_temp.taken('adaptive', :'probing') AS normal, pg_temp.taken('adaptive', :'probing', 1, '{"priority": 0}') AS critical,
	pg_temp.taken('adaptive', :'probing'::jsonb || '[{"name": "failed", "failed_before": true}]') AS retried,
	pg_temp.taken('adaptive', '[{"name": "half open", "probe": true, "ramp": 0, "in_flight": 3}]', 1, '{"priority": 0}') AS nothing_else,
	pg_temp.taken('adaptive', '[{"name": "good"}, {"name": "half open", "probe": true, "tier": 2}]') AS not_needed;
-- exploring: one call in 66 goes where nothing was heard of for longest, never where the price alone is worse
\set exploring '[{"name": "best", "samples": [{"ms": 1000, "times": 20, "at_s": 80}]}, {"name": "heard", "samples": [{"ms": 2000, "times": 20, "at_s": 78}]}, {"name": "old", "samples": [{"ms": 9000, "times": 20}]}, {"name": "dear", "usd": 1, "samples": [{"ms": 9000}]}]'
SELECT pg_temp.taken('adaptive', :'exploring', 1, '{}', 0.0149) AS explores, pg_temp.taken('adaptive', :'exploring', 1, '{}', 0.0151) AS not,
	pg_temp.taken('adaptive', :'exploring', 1, '{"priority": 0}', 0.0) AS critical,
	pg_temp.taken('adaptive', :'exploring'::jsonb || '[{"name": "failed", "failed_before": true}]', 1, '{}', 0.0) AS retried;
-- equals take turns here, too
SELECT pg_temp.taken('adaptive', '[{"name": "a"}, {"name": "b"}, {"name": "c"}]', 6);

\set VERBOSITY sqlstate
SELECT eduai.test_balance('fastest', '[]');
