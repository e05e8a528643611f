# The fault wall: a table of faults and what becomes of tasks that meet them,
# alone and beside an instance that is well. See EduaiWall.pm for the columns.
#
# Lower bounds of pauses and times are exact: a wish or a limit is never undercut.
# Upper bounds only tell one wait from another: a machine may be busy.

use strict;
use warnings;

use EduaiTest;
use EduaiWall;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on', 'eduai.max_response_size' => '256kB', 'eduai.http_connections' => 500, max_connections => 100 });
my $sim = start_simulator();
wall_providers($node, $sim);

# A text as the simulator's behaviours want it.
sub text { return $_[0] =~ s/([^A-Za-z0-9_.,:{}\[\]"\/-])/sprintf '%%%02X', ord $1/ger }

sub body { return 'body=' . text($_[0]) }

# A whole answer of OpenAI's with that text, before and after it what is given.
sub chat
{
	my (%with) = (finish_reason => '"stop"', content => '"hi"', usage => '{"prompt_tokens": 1, "completion_tokens": 1}', before => '', after => '', @_);
	return body($with{before} . '{"model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": '
		  . $with{content} . '}, "finish_reason": ' . $with{finish_reason} . '}], "usage": ' . $with{usage} . '}' . $with{after});
}

my $html = '<html><head><title>Bad gateway</title></head><body><h1>502</h1></body></html>';
my $soon = [ 500, 9000 ];    # the first backoff: 0.5 to 1 s

# A hour's wish is not waited for here: the task waits for it.
sub waits_an_hour
{
	my ($task, $setting) = @_;
	return () if $setting ne 'alone';
	my @bad;
	push @bad, "it waits $task->{wait_s} s" unless $task->{wait_s} > 3500 && $task->{wait_s} < 3600 * 1.1 + 1;
	push @bad, "the message is \"$task->{error}{message}\"" unless $task->{error}{message} =~ /longer than an hour/;
	return @bad;
}
my %for_an_hour = (ends => 'retry', code => 'rate_limited', alone => { state => 'scheduled', codes => ['rate_limited'], requests => 1 }, also => \&waits_an_hour);

my @limits = (
	[ '429, Retry-After in seconds', fault => 'first=1;status=429;retry_after=2', ends => 'once', code => 'rate_limited', pause_ms => [ 2000, 12000 ] ],
	[ '429, Retry-After with a fraction', fault => 'first=1;status=429;retry_after=1.3', ends => 'once', code => 'rate_limited', pause_ms => [ 1300, 11000 ] ],
	[ '429, Retry-After in milliseconds', fault => 'first=1;status=429;retry_after_ms=1500', ends => 'once', code => 'rate_limited', pause_ms => [ 1500, 11000 ] ],
	[ '429, milliseconds win', fault => 'first=1;status=429;retry_after=3000;retry_after_ms=1400', ends => 'once', code => 'rate_limited', pause_ms => [ 1400, 11000 ] ],
	# a date has no fractions: three seconds after 12:00:00.9 is 2.1 seconds away
	[ '429, Retry-After as an HTTP date', fault => 'first=1;status=429;retry_date=3', ends => 'once', code => 'rate_limited', pause_ms => [ 2000, 13000 ] ],
	[ '429, Retry-After as a date that is over', fault => 'first=1;status=429;retry_after=' . text('Fri, 31 Dec 1999 23:59:59 GMT'), ends => 'once', code => 'rate_limited', pause_ms => $soon ],
	[ '429, Retry-After 0', fault => 'first=1;status=429;retry_after=0', ends => 'once', code => 'rate_limited', pause_ms => $soon ],
	[ '429, Retry-After beside Retry-After-Ms 0', fault => 'first=1;status=429;retry_after=2;retry_after_ms=0', ends => 'once', code => 'rate_limited', pause_ms => [ 2000, 12000 ] ],
	[ '429, an absurd Retry-After', fault => 'status=429;retry_after=999999999', %for_an_hour ],
	[ '429, an absurd Retry-After-Ms', fault => 'status=429;retry_after_ms=999999999999', %for_an_hour ],
	[ '429, an absurd date', fault => 'status=429;retry_date=999999999', %for_an_hour ],
	[ '429, Retry-After that means nothing', fault => 'first=1;status=429;retry_after=' . text('in a moment'), ends => 'once', code => 'rate_limited', pause_ms => $soon ],
	[ '429, a negative Retry-After', fault => 'first=1;status=429;retry_after=-5', ends => 'once', code => 'rate_limited', pause_ms => $soon ],
	[ '429, Retry-After twice: the longer', fault => 'first=1;status=429;headers=' . text("Retry-After: 2\r\nRetry-After: 1"), ends => 'once', code => 'rate_limited', pause_ms => [ 2000, 12000 ] ],
	[ '429, Retry-After on a folded line', fault => 'first=1;status=429;headers=' . text("Retry-After:\r\n 2"), ends => 'once', code => 'rate_limited', pause_ms => [ 2000, 12000 ] ],
	[ '429, Retry-After in a trailer', fault => 'first=1;status=429;trailers', ends => 'once', code => 'rate_limited', pause_ms => $soon ],
	[ '429, Retry-After of an informational answer', fault => 'first=1;status=429;interim=2', ends => 'once', code => 'rate_limited', pause_ms => $soon ],
	[ '429 without Retry-After', fault => 'first=1;status=429', ends => 'once', code => 'rate_limited', pause_ms => $soon ],
	[ '429 for ever', fault => 'status=429', ends => 'retry', code => 'rate_limited', attempts => 3, pause_ms => [ 500, 9000 ], doubles => 1 ],
	[ '429 for ever, a long wish: it goes elsewhere at once', fault => 'status=429;retry_after=60', ends => 'retry', code => 'rate_limited', only => 'beside' ],
	[ '429 whose body is cut', fault => 'first=1;status=429;retry_after=1;cut_after=10', ends => 'once', code => 'rate_limited', pause_ms => [ 1000, 10000 ] ],
	[ '429 of Anthropic', kind => 'anthropic', fault => 'first=1;status=429;retry_after=1', ends => 'once', code => 'rate_limited', pause_ms => [ 1000, 10000 ] ],
	[ '200 with Retry-After 55', fault => 'retry_after=55', ends => 'ok' ],
	[ 'x-should-retry: true under 400', fault => 'status=400;should_retry=true', ends => 'retry', code => 'bad_request', pause_ms => $soon ],
	[ 'x-should-retry: false under 503', fault => 'status=503;should_retry=false', ends => 'elsewhere', code => 'http_503' ],
	[ 'a quota is exhausted', fault => 'code=insufficient_quota', ends => 'elsewhere', code => 'quota', message => qr/quota/ ],
	[ 'a quota is exhausted, x-should-retry: true', fault => 'code=insufficient_quota;should_retry=true;retry_after=1', ends => 'elsewhere', code => 'quota' ],
	[ '402', kind => 'openrouter', fault => 'status=402', ends => 'elsewhere', code => 'quota' ],
	[ '402 inside a 200', kind => 'openrouter', fault => body('{"error": {"code": 402, "message": "Insufficient credits"}}'), ends => 'elsewhere', code => 'quota', message => qr/Insufficient credits/ ]);

my @statuses = (
	[ '500 once', fault => 'first=1;status=500', ends => 'once', code => 'http_500', pause_ms => $soon ],
	[ '500 twice', fault => 'first=2;status=500', ends => 'retry', code => 'http_500', attempts => 3, alone => { state => 'completed', codes => [ 'http_500', 'http_500' ] }, pause_ms => [ 500, 9000 ], doubles => 1 ],
	[ '502, an HTML page', fault => 'status=502;type=text/html;' . body($html), ends => 'retry', code => 'http_502', message => qr/HTTP status 502$/ ],
	[ '503 for ever', fault => 'status=503', ends => 'retry', code => 'http_503', attempts => 3, pause_ms => [ 500, 9000 ], doubles => 1 ],
	[ '503, a model that is loading', kind => 'huggingface', fault => 'first=1;status=503;' . body('{"error": "Model x is currently loading", "estimated_time": 1.7}'), ends => 'once', code => 'http_503', pause_ms => [ 1700, 11000 ] ],
	[ '504, an empty body', fault => 'status=504;body=', ends => 'retry', code => 'http_504' ],
	[ '520 of a proxy', fault => 'status=520;type=text/plain;' . body('upstream said nothing'), ends => 'retry', code => 'http_520', message => qr/^upstream said nothing$/ ],
	[ '529', fault => 'status=529', ends => 'retry', code => 'overloaded' ],
	[ '529 that says nothing', fault => 'status=529;body=', ends => 'retry', code => 'overloaded' ],
	[ '529 of Anthropic', kind => 'anthropic', fault => 'first=1;status=529', ends => 'once', code => 'overloaded', pause_ms => $soon ],
	[ '500 of Anthropic that says overloaded', kind => 'anthropic', fault => 'status=500;' . body('{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}'), ends => 'retry', code => 'overloaded' ],
	[ '408', fault => 'first=1;status=408', ends => 'once', code => 'http_408' ],
	[ '409', fault => 'first=1;status=409', ends => 'once', code => 'http_409' ],
	[ '425', fault => 'first=1;status=425', ends => 'once', code => 'http_425' ],
	[ '400', fault => 'status=400', ends => 'fatal', code => 'bad_request' ],
	[ '422', fault => 'status=422;' . body('{"detail": [{"msg": "field required"}]}'), ends => 'fatal', code => 'bad_request', message => qr/^field required$/ ],
	[ '413', fault => 'status=413', ends => 'fatal', code => 'request_too_large' ],
	[ '418', fault => 'status=418', ends => 'fatal', code => 'http_418' ],
	[ '401', fault => 'status=401', ends => 'elsewhere', code => 'auth' ],
	[ '401 that repeats the key', fault => 'status=401;' . body('{"error": {"message": "no such key: sk-wall-0123456789"}}'), ends => 'elsewhere', code => 'auth', message => qr/^no such key: \[key\]$/ ],
	[ '403', fault => 'status=403', ends => 'elsewhere', code => 'auth' ],
	[ '404', fault => 'status=404', ends => 'elsewhere', code => 'model_not_found' ],
	[ '404, an error that is a string', fault => 'status=404;' . body('{"error": "model \"x\" not found, try pulling it first"}'), ends => 'elsewhere', code => 'model_not_found', message => qr/^model "x" not found/ ],
	[ '410', fault => 'status=410', ends => 'elsewhere', code => 'model_not_found' ],
	[ 'a redirect', fault => 'redirect=http%3A//169.254.169.254/', ends => 'fatal', code => 'redirect_refused' ],
	[ 'a context too long', fault => 'code=context_length_exceeded', ends => 'elsewhere', code => 'context_length_exceeded' ],
	[ 'a context too long, of Anthropic', kind => 'anthropic', fault => 'status=400;' . body('{"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000 maximum"}}'),
		ends => 'elsewhere', code => 'context_length_exceeded', message => qr/210000/ ],
	[ 'content refused', fault => 'code=content_policy_violation', ends => 'fatal', code => 'content_policy', message => qr/safety system/ ],
	[ 'content refused by moderation', kind => 'openrouter', fault => 'status=403;' . body('{"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["violence"]}}}'), ends => 'fatal', code => 'content_policy' ],
	[ 'content withheld', fault => chat(finish_reason => '"content_filter"', content => 'null'), ends => 'fatal', code => 'content_policy' ],
	[ 'a refusal of Anthropic', kind => 'anthropic', fault => body('{"type": "message", "model": "m", "content": [], "stop_reason": "refusal", "usage": {"input_tokens": 1, "output_tokens": 1}}'),
		ends => 'fatal', code => 'content_policy' ]);

my %hasty = (options => { first_byte_ms => 700 }, took_ms => [ 700, 9000 ]);
my @network = (
	[ 'reset before the head', fault => 'reset', ends => 'retry', code => 'connection_closed', pause_ms => $soon ],
	[ 'reset once', fault => 'first=1;reset', ends => 'once', code => 'connection_closed' ],
	[ 'closed after the request', fault => 'first=1;hangup', ends => 'once', code => 'connection_closed' ],
	[ 'silence', fault => 'silent', ends => 'retry', code => 'timeout_first_byte', %hasty ],
	[ 'silence once', fault => 'first=1;silent', ends => 'once', code => 'timeout_first_byte', %hasty ],
	[ 'a first byte too late', fault => 'latency=60000', ends => 'retry', code => 'timeout_first_byte', %hasty ],
	[ 'a head without a body', fault => 'stall_after=0', ends => 'retry', code => 'timeout_first_byte', %hasty ],
	[ 'a slow first byte', fault => 'latency=1500', ends => 'ok', took_ms => [ 1500, 15000 ] ],
	[ 'a slow body', fault => 'first_byte=10;latency=1500', ends => 'ok', took_ms => [ 1500, 15000 ] ],
	[ 'a stall in the middle', fault => 'stall_after=60', ends => 'retry', code => 'timeout_stall', options => { stall_ms => 600 }, took_ms => [ 600, 9000 ] ],
	[ 'a body that drips', fault => 'heartbeat=50;latency=100000', ends => 'retry', code => 'timeout_total', options => { timeout_ms => 1200 }, took_ms => [ 1200, 9000 ] ],
	[ 'blank lines, then an answer', fault => 'heartbeat=50;latency=800', ends => 'ok', took_ms => [ 800, 9000 ], options => { stall_ms => 15000 } ],
	[ 'the task\'s own time', fault => 'silent', ends => 'retry', code => 'timeout_total', timeout => '700 ms', took_ms => [ 700, 9000 ], only => 'alone' ],
	[ 'a body that is cut', fault => 'cut_after=60', ends => 'retry', code => 'body_cut' ],
	[ 'a body that is cut before its last byte', fault => 'cut_after=100000', ends => 'retry', code => 'body_cut' ],
	[ 'a body that is cut where nothing tells its length', fault => 'until_close;cut_after=60', ends => 'retry', code => 'invalid_json' ],
	[ 'a body that ends with the connection', fault => 'until_close', ends => 'ok' ],
	[ 'a malformed chunk', fault => 'malformed_chunk', ends => 'retry', code => 'body_cut' ],
	[ 'chunks of one byte', fault => 'chunk_bytes=1', ends => 'ok' ],
	[ 'Content-Length too large, closed', fault => 'first=1;length=100000;close', ends => 'once', code => 'body_cut' ],
	[ 'Content-Length too large, kept open', fault => 'length=100000', ends => 'retry', code => 'timeout_stall', options => { stall_ms => 600 } ],
	[ 'Content-Length too small', fault => 'first=1;length=30', ends => 'once', code => 'invalid_json' ],
	[ 'two Content-Lengths', fault => 'first=1;headers=' . text('Content-Length: 20'), ends => 'once', code => 'protocol_error' ],
	[ 'informational answers first', fault => 'interim=20', ends => 'ok' ],
	[ 'a flood of informational answers', fault => 'interim=2000000', ends => 'elsewhere', code => 'headers_too_large' ],
	[ 'trailers', fault => 'trailers', ends => 'ok' ],
	[ 'headers of 10 MB', fault => 'giant_headers=10000000', ends => 'elsewhere', code => 'headers_too_large' ],
	[ 'one header of 100 kB', fault => 'headers=' . text('X-Long: ' . 'x' x 102400), ends => 'elsewhere', code => 'headers_too_large' ],
	[ 'headers of 40 kB', fault => 'giant_headers=40000', ends => 'ok' ],
	[ 'an unknown encoding', fault => 'encoding=simulated', ends => 'retry', code => 'protocol_error' ],
	[ 'brotli, which nobody asked for', fault => 'encoding=br', ends => 'retry', code => 'protocol_error' ],
	[ 'gzip that is none', fault => 'encoding=gzip', ends => 'retry', code => 'protocol_error' ],
	[ 'gzip that is cut', fault => 'gzip_bomb=100000;cut_after=60', ends => 'retry', code => qr/^(?:body_cut|protocol_error)$/ ],
	[ 'gzip ten times over', fault => 'encoding=' . text(join ', ', ('gzip') x 10), ends => 'retry', code => 'protocol_error' ],
	[ 'gzip', fault => 'gzip_bomb=0', ends => 'ok' ],
	[ 'a gzip bomb', fault => 'gzip_bomb=1000000000', ends => 'elsewhere', code => 'body_too_large' ],
	[ 'a body of 1 GB in chunks', fault => 'giant=1000000000', ends => 'elsewhere', code => 'body_too_large' ],
	[ 'a body of nearly the limit', fault => 'giant=262144', ends => 'ok' ],
	[ 'a body of just over the limit', fault => 'giant=262145', ends => 'elsewhere', code => 'body_too_large' ],
	[ 'an error of 1 GB', fault => 'status=500;giant=1000000000', ends => 'retry', code => 'http_500' ]);

my @answers = (
	[ 'a plain answer', fault => '', ends => 'ok', result => qr/^simulated answer to hello$/ ],
	[ '200 with an error inside', fault => 'error200', ends => 'retry', code => 'http_502' ],
	[ '200 with a named error inside', fault => 'error200;code=rate_limit_exceeded', ends => 'retry', code => 'rate_limited' ],
	[ '200 with an error that is a string', fault => body('{"error": "something broke"}'), ends => 'retry', code => 'error_in_answer', message => qr/^something broke$/ ],
	[ '200 with an error beside the choices', fault => body('{"choices": [{"message": {"content": "ha"}, "finish_reason": "error", "error": {"code": 502, "message": "upstream died"}}]}'),
		kind => 'openrouter', ends => 'retry', code => 'http_502', message => qr/upstream died/ ],
	[ '200 with an HTML page', fault => 'type=text/html;' . body($html), ends => 'retry', code => 'invalid_json' ],
	[ '200 with nothing', fault => 'body=', ends => 'retry', code => 'empty_answer' ],
	[ '200 with blanks', fault => body("\n \n"), ends => 'retry', code => 'empty_answer' ],
	[ '204', fault => 'status=204', ends => 'retry', code => 'empty_answer' ],
	[ '200 with null', fault => body('null'), ends => 'retry', code => 'invalid_answer' ],
	[ '200 with a list', fault => body('[1]'), ends => 'retry', code => 'invalid_answer' ],
	[ '200 without choices', fault => body('{"choices": []}'), ends => 'retry', code => 'empty_answer' ],
	[ 'half a JSON', fault => body('{"choices": [{"message": {"content": "ha'), ends => 'retry', code => 'invalid_json' ],
	[ 'two JSONs', fault => chat(after => '{}'), ends => 'retry', code => 'invalid_json' ],
	[ 'JSON of 50,000 levels', fault => body('[' x 50000), ends => 'retry', code => 'invalid_json' ],
	[ 'no finish reason', fault => 'no_finish', ends => 'retry', code => 'missing_finish_reason' ],
	[ 'a finish reason of null', fault => chat(finish_reason => 'null'), ends => 'retry', code => 'missing_finish_reason' ],
	[ 'a finish reason that is no text', fault => chat(finish_reason => '7'), ends => 'retry', code => 'missing_finish_reason' ],
	[ 'no stop reason', kind => 'anthropic', fault => 'no_finish', ends => 'retry', code => 'missing_finish_reason' ],
	[ 'the finish reason "error"', fault => chat(finish_reason => '"error"'), ends => 'retry', code => 'error_in_answer' ],
	[ 'no content', fault => chat(content => 'null'), ends => 'retry', code => 'empty_answer' ],
	[ 'no usage', fault => 'no_usage', ends => 'ok' ],
	[ 'a usage that is not to be believed', fault => chat(usage => '{"prompt_tokens": -5, "completion_tokens": 1e999, "prompt_tokens_details": "none"}'), ends => 'ok' ],
	[ 'a zero byte', fault => 'raw_nul', ends => 'retry', code => 'invalid_json' ],
	[ 'an escaped zero byte', fault => 'nul', ends => 'ok', result => qr/ nul \x{fffd} here/ ],
	[ 'Latin-1', fault => 'latin1', ends => 'retry', code => 'invalid_json' ],
	[ 'half a surrogate pair', fault => 'surrogate', ends => 'ok', result => qr/ surrogate \x{fffd} here/ ],
	[ 'a byte order mark', fault => chat(before => "\xEF\xBB\xBF"), ends => 'ok', result => qr/^hi$/ ],
	[ 'another content type', fault => 'wrong_type', ends => 'ok' ],
	[ 'no content type', fault => 'type=', ends => 'ok' ],
	[ 'garbage', fault => 'garbage', ends => 'retry', code => 'invalid_json' ],
	[ 'garbage of Anthropic', kind => 'anthropic', fault => 'garbage', ends => 'retry', code => 'invalid_json' ]);

# A stream's data, and its end.
sub events { return 'type=text/event-stream;' . body(join '', map { "data: $_\n\n" } @_) }

my $greeting = qr/^simulated answer to hello$/;
my $piece = '{"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": null}]}';
my @streams = map { [ "stream: $_->[0]", stream => 1, @$_[ 1 .. $#$_ ] ] } (
	[ 'a plain one', fault => '', ends => 'ok', result => $greeting ],
	[ 'a plain one of Anthropic', kind => 'anthropic', fault => '', ends => 'ok', result => $greeting ],
	[ 'slow', fault => 'chunk_ms=150', ends => 'ok', took_ms => [ 900, 12000 ], result => $greeting ],
	[ 'without [DONE]', fault => 'no_done', ends => 'ok', result => $greeting ],
	[ 'without message_stop', kind => 'anthropic', fault => 'no_done', ends => 'ok', result => $greeting ],
	[ 'without a finish reason', fault => 'no_finish', ends => 'retry', code => 'missing_finish_reason' ],
	[ 'without a finish reason or [DONE]', fault => 'no_finish;no_done', ends => 'retry', code => 'missing_finish_reason' ],
	[ 'without a stop reason', kind => 'anthropic', fault => 'no_finish', ends => 'retry', code => 'missing_finish_reason' ],
	[ 'without usage', fault => 'no_usage', ends => 'ok', result => $greeting ],
	[ 'cut in the middle', fault => 'cut_after=700', ends => 'retry', code => 'body_cut' ],
	[ 'cut in the middle, of Anthropic', kind => 'anthropic', fault => 'cut_after=700', ends => 'retry', code => 'body_cut' ],
	[ 'cut after its end', fault => 'cut_after=1000000', ends => 'ok', result => $greeting ],
	[ 'closed in the middle, where nothing tells its length', fault => events($piece) . ';until_close', ends => 'retry', code => 'missing_finish_reason' ],
	[ 'a stall in the middle', fault => 'stall_after=700', ends => 'retry', code => 'timeout_stall', options => { stall_ms => 600 }, took_ms => [ 600, 9000 ] ],
	[ 'a stall in the middle, of Anthropic', kind => 'anthropic', fault => 'stall_after=900', ends => 'retry', code => 'timeout_stall', options => { stall_ms => 600 }, took_ms => [ 600, 9000 ] ],
	[ 'a stall after its end', fault => 'stall_after=1000000', ends => 'ok', options => { stall_ms => 600 }, took_ms => [ 0, 9000 ], result => $greeting ],
	[ 'a head and nothing more', fault => 'stall_after=0', ends => 'retry', code => 'timeout_first_byte', %hasty ],
	[ 'silence', fault => 'silent', ends => 'retry', code => 'timeout_first_byte', %hasty ],
	[ 'signs of life and nothing more', fault => 'heartbeat=50;latency=100000', ends => 'retry', code => 'timeout_first_byte', %hasty ],
	[ 'signs of life, then an answer', fault => 'heartbeat=50;latency=800', ends => 'ok', took_ms => [ 800, 12000 ], result => $greeting ],
	[ 'a drip', fault => 'chunk_ms=400;tokens_out=500', ends => 'retry', code => 'timeout_total', options => { timeout_ms => 1500 }, took_ms => [ 1500, 9000 ] ],
	[ 'a malformed chunk', fault => 'malformed_chunk', ends => 'retry', code => 'body_cut' ],
	[ 'an event that is no JSON', fault => 'bad_event', ends => 'retry', code => 'invalid_answer' ],
	[ 'an event that is no JSON, of Anthropic', kind => 'anthropic', fault => 'bad_event', ends => 'retry', code => 'invalid_answer' ],
	[ 'an error event', kind => 'openrouter', fault => 'stream_error', ends => 'retry', code => 'overloaded' ],
	[ 'an error event of Anthropic', kind => 'anthropic', fault => 'stream_error', ends => 'retry', code => 'overloaded' ],
	[ 'a rate limit in it', kind => 'openrouter', fault => 'stream_error;code=rate_limit_exceeded', ends => 'retry', code => 'rate_limited' ],
	[ 'a context too long in it', fault => 'stream_error;code=context_length_exceeded', ends => 'elsewhere', code => 'context_length_exceeded' ],
	[ 'content withheld', fault => events($piece, '{"choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]}', '[DONE]'), ends => 'fatal', code => 'content_policy' ],
	[ 'an answer that is none', fault => 'no_stream', ends => 'ok', result => $greeting ],
	[ 'an error that is none', fault => 'first=1;status=429;retry_after=1', ends => 'once', code => 'rate_limited', pause_ms => [ 1000, 10000 ] ],
	[ 'JSON whose type says that it is one', fault => 'no_stream;type=text/event-stream', ends => 'ok', result => $greeting ],
	[ 'an error in plain words', fault => 'status=500;type=text/plain;' . body('database gone'), ends => 'retry', code => 'http_500', message => qr/^database gone$/ ],
	[ 'an error whose type says that it is one', fault => 'status=500;type=text/event-stream', ends => 'retry', code => 'http_500' ],
	[ 'nothing at all', fault => 'type=text/event-stream;body=', ends => 'retry', code => 'empty_answer' ],
	[ 'an HTML page', fault => 'type=text/html;' . body($html), ends => 'retry', code => 'invalid_json' ],
	[ 'comments', fault => 'comments', ends => 'ok', result => $greeting ],
	[ 'CRLF', fault => 'crlf', ends => 'ok', result => $greeting ],
	[ 'chunks of one byte', fault => 'chunk_bytes=1;crlf;text=' . text("\xC3\xA9l\xC3\xA8ve"), ends => 'ok', result => qr/^\x{e9}l\x{e8}ve$/ ],
	[ 'another content type', fault => 'wrong_type', ends => 'ok', result => $greeting ],
	[ 'no content type', fault => 'type=', ends => 'ok', result => $greeting ],
	[ 'gzip', fault => 'gzip_bomb=0', ends => 'ok', result => $greeting ],
	[ 'a gzip bomb', fault => 'gzip_bomb=1000000000', ends => 'elsewhere', code => 'body_too_large' ],
	[ 'an event of 1 GB', fault => 'giant=1000000000', ends => 'elsewhere', code => 'body_too_large' ],
	[ 'an escaped zero byte', fault => 'nul', ends => 'ok', result => qr/ nul \x{fffd} here/ ],
	[ 'half a surrogate pair', fault => 'surrogate', ends => 'ok', result => qr/ surrogate \x{fffd} here/ ],
	[ 'a zero byte', fault => 'raw_nul', ends => 'retry', code => 'invalid_answer' ],
	[ 'Latin-1', fault => 'latin1', ends => 'retry', code => 'invalid_json' ]);

my @rows = (@limits, @statuses, @network, @answers, @streams);
my @pauses = sort { $a <=> $b } run_wall($node, $sim, 60, @rows);

# A busy machine makes pauses long; a backoff would make none shorter than 500 ms.
my ($short, $usual) = @pauses[ @pauses / 10, @pauses / 2 ];
cmp_ok(scalar @pauses, '>', 80, 'so many went elsewhere');
cmp_ok($short, '<', 400, 'without the backoff of those that have nowhere to go') or diag "usually after $usual ms";
note "elsewhere after $short ms and less for one in ten, $usual ms and less for half";

is($node->safe_psql('postgres', q{SELECT count(*) FROM eduai.usage_ledger WHERE outcome = 'failed' AND cost_usd <> 0}), '0', 'instances without a price cost nothing');
is(sim_stats($sim)->{connections_open} < 500, 1, 'connections are bounded');
$node->stop;
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike($log, qr/PANIC|terminated by signal|could not take a turn/, 'the dispatcher went on');
unlike($log, qr/sk-wall/, 'no key in the log');

done_testing();
