-- The pure cores against exact logs at random: no rolling period over its limit,
-- nothing refused earlier than a 60th of the period justifies, waits as told.
\pset format unaligned
\pset tuples_only on
SELECT r->>'over', r->>'early', r->>'wrong_waits', r->>'wrong_idle', (r->>'refused')::int > 100000
FROM eduai.test_rate_random('window', 7, 800) r;
-- evenly paced: burst at once, then what time earns
SELECT r->>'over', r->>'wrong_waits', r->>'wrong_idle', (r->>'refused')::int > 100000
FROM eduai.test_rate_random('gcra', 7, 800) r;
-- refunds within the period, new limits and shorter periods: never over
SELECT r->>'over', r->>'wrong_idle', (r->>'refused')::int > 50000 FROM eduai.test_rate_random('refund', 7, 400) r;
SELECT r->>'over', r->>'wrong_idle', (r->>'refused')::int > 50000 FROM eduai.test_rate_random('redefine', 7, 400) r;
-- the bytes of the file: all come back, nothing is read from what is cut short
SELECT eduai.test_rate_codec(7, 20000);
-- adaptive: errors cut, slow calls cut, good periods give back, never over 1 nor
-- under the floor; silence gives back slowly
SELECT eduai.test_rate_adaptive('0% 10,50% 10,50% 10,10% 10,11% 10,0% 2000,0% 10,0% 10');
SELECT eduai.test_rate_adaptive('90% 1,90% 1,90% 1,90% 1,90% 1,90% 1,90% 1,90% 1,0% 1');
SELECT eduai.test_rate_adaptive('50% 1,-,-,-,-,-,-,-,-,-,-,-,-,-');
