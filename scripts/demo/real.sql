-- A real server. Ten calls at once are polite.
SELECT eduai.add_provider('real', 'openai', :'url', nullif(:'key', ''), :'options');
SELECT eduai.add_instance('tutor-1', 'real', :'model', '{chat}', max_concurrent => 10,
	price_input => :'price_input', price_output => :'price_output', options => '{"aliases": ["tutor"]}');
