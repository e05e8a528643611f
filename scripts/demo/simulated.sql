-- The simulator as two providers, each with instances; prices are invented.
-- A higher tier serves only what no lower one does or can.
SELECT eduai.add_provider('sim-openai', 'openai', :'url' || '/v1', 'env:EDUAI_DEMO_API_KEY',
	'{"allow_loopback": true}');
SELECT eduai.add_provider('sim-anthropic', 'anthropic', :'url', 'env:EDUAI_DEMO_API_KEY',
	'{"allow_loopback": true}');
SELECT eduai.add_instance('tutor-1', 'sim-openai', 'sim-tutor', '{chat}', max_concurrent => 500,
	price_input => 0.15, price_output => 0.60, options => '{"aliases": ["tutor"]}');
SELECT eduai.add_instance('flaky-1', 'sim-openai', 'sim-flaky@fail_first=2;latency=40', '{chat}',
	price_input => 0.15, price_output => 0.60, options => '{"aliases": ["flaky"], "tier": 7}');
SELECT eduai.add_instance('outage-1', 'sim-openai', 'sim-outage@status=503;latency=40', '{chat}',
	price_input => 0.15, price_output => 0.60, options => '{"aliases": ["steady"], "tier": 8}');
SELECT eduai.add_instance('claude-1', 'sim-anthropic', 'sim-claude@latency=60', '{chat}',
	price_input => 1, price_output => 5, options => '{"aliases": ["steady"], "tier": 9, "max_output_tokens": 1000}');
