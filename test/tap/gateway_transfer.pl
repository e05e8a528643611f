# Provider calls over the wire, against the simulator: what each misbehaviour
# becomes, how soon time limits bite, and that many calls at once cost little.

use strict;
use warnings;

use EduaiTest;
use JSON::PP ();
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on', 'eduai.max_response_size' => '1MB', 'eduai.http_connections' => 200 });
my $sim = start_simulator();
add_fleet($node, $sim, max_concurrent => 2000);
$node->safe_psql('postgres', qq{SELECT eduai.add_provider('ant', 'anthropic', '$sim->{base_url}', 'sk-ant-0123456789', '{"allow_loopback": true}')});

# call(BEHAVIOUR, %options) -> {outcomes, first, first_us, elapsed_us}
sub call
{
	my ($behaviour, %option) = (@_);
	my $provider = $option{provider} // 'sim';
	my $limits = $option{limits} // '{"connect_ms": 2000, "first_byte_ms": 2000, "stall_ms": 2000}';
	my $calls = $option{calls} // 1;
	my $at_once = $option{at_once} // 1;
	my $timeout_ms = $option{timeout_ms} // 60000;
	my $cancel = $option{cancel_after_ms} // 'NULL';
	my $payload = $option{payload} // '{"messages": [{"role": "user", "content": "hello"}]}';
	my $json = $node->safe_psql('postgres', qq{
		SET client_min_messages = error;
		DO \$\$ BEGIN
			PERFORM eduai.add_instance('case', '$provider', 'sim-chat\@$behaviour', '{chat,embeddings,transcription}', options => '$limits');
		EXCEPTION WHEN feature_not_supported THEN
			PERFORM eduai.add_instance('case', '$provider', 'sim-chat\@$behaviour', options => '$limits');
		END \$\$;
		SELECT eduai.test_call('case', '${\($option{type} // 'chat')}', '$payload', $calls, $at_once, $timeout_ms, $cancel)});
	return JSON::PP::decode_json($json);
}

sub code_of { return $_[0]{first}{verdict} . ' ' . $_[0]{first}{code} }

# What comes back whole.
is(code_of(call('')), 'completed ok', 'an answer');
is(code_of(call('', provider => 'ant')), 'completed ok', 'an answer of the Messages API');
is(code_of(call('gzip_bomb=0')), 'completed ok', 'a compressed answer');
is(code_of(call('wrong_type')), 'completed ok', 'an answer under another content type');
is(code_of(call('nul')), 'completed ok', 'an answer with \u0000');
is(code_of(call('surrogate')), 'completed ok', 'an answer with half a surrogate pair');
is(code_of(call('', type => 'embeddings', payload => '{"input": ["a", "b"]}')), 'completed ok', 'embeddings');
is(code_of(call('', type => 'transcription', payload => '{"audio": {"base64": "T2dnUw=="}}')), 'completed ok', 'a transcript');

# What does not.
my @cases = (
	[ 'status=429;retry_after=3', 'retry rate_limited' ],
	[ 'status=500', 'retry http_500' ],
	[ 'status=503', 'retry http_503' ],
	[ 'status=529', 'retry overloaded' ],
	[ 'status=401', 'retry_elsewhere auth' ],
	[ 'code=insufficient_quota', 'retry_elsewhere quota' ],
	[ 'code=context_length_exceeded', 'retry_elsewhere context_length_exceeded' ],
	[ 'code=content_policy_violation', 'fatal content_policy' ],
	[ 'status=500;should_retry=false', 'retry_elsewhere http_500' ],
	[ 'redirect=http://169.254.169.254/', 'fatal redirect_refused' ],
	[ 'error200', 'retry http_502' ],
	[ 'no_finish', 'retry missing_finish_reason' ],
	[ 'garbage', 'retry invalid_json' ],
	[ 'raw_nul', 'retry invalid_answer' ],
	[ 'latin1', 'retry invalid_json' ],
	[ 'reset', 'retry connection_closed' ],
	[ 'cut_after=20', 'retry body_cut' ],
	[ 'malformed_chunk', 'retry body_cut' ],
	[ 'giant=3000000', 'retry_elsewhere body_too_large' ],
	[ 'gzip_bomb=30000000', 'retry_elsewhere body_too_large' ],
	[ 'giant_headers=200000', 'retry_elsewhere headers_too_large' ]);
for (@cases)
{
	my ($behaviour, $expected) = @$_;
	is(code_of(call($behaviour)), $expected, $behaviour);
}
is(call('status=429;retry_after=3')->{first}{retry_after_ms}, 3000, 'the wish of a 429');
is(code_of(call('status=529', provider => 'ant')), 'retry overloaded', 'overloaded, by the Messages API');
is(code_of(call('no_finish', provider => 'ant')), 'retry missing_finish_reason', 'no stop reason');

# Time limits, each alone; none bites before its time (the limit of the whole begins a moment before the call).
sub limited
{
	my ($behaviour, $limits, $timeout_ms, $expected, $at_ms, $name) = @_;
	my $r = call($behaviour, limits => $limits, timeout_ms => $timeout_ms);
	my $ms = $r->{first_us} / 1000;
	is(code_of($r), $expected, $name);
	cmp_ok($ms, '>=', $at_ms - 20, "$name: not before its time");
	cmp_ok($ms, '<', $at_ms + 1500, "$name: soon after");
}
limited('silent', '{"first_byte_ms": 300}', 60000, 'retry timeout_first_byte', 300, 'a silent provider');
limited('stall_after=0', '{"first_byte_ms": 300}', 60000, 'retry timeout_first_byte', 300, 'a head without a body');
limited('stall_after=700', '{"stall_ms": 300}', 60000, 'retry timeout_stall', 300, 'a stall in the middle');
limited('silent', '{}', 300, 'retry timeout_total', 300, 'the task\'s own limit');
limited('silent', '{"timeout_ms": 300}', 60000, 'retry timeout_total', 300, 'the instance\'s limit');
# a head may come long before its body: the pause between them is no stall
is(code_of(call('first_byte=50;latency=900', limits => '{"first_byte_ms": 5000, "stall_ms": 300}')),
	'completed ok', 'an early head');

# Cancelling: at once, and the provider sees us leave.
my $aborted = sim_stats($sim)->{aborted};
my $r = call('latency=30000', calls => 100, at_once => 100, cancel_after_ms => 200);
is_deeply($r->{outcomes}, { cancelled => 100 }, 'all cancelled');
cmp_ok($r->{elapsed_us}, '<', 5_000_000, 'without waiting for the provider');
wait_until(sub { sim_stats($sim)->{aborted} >= $aborted + 100 }, 10, 'the provider saw 100 calls end');
pass('the connections are closed');

# More calls than places: the rest wait their turn; none is lost.
sim_reset($sim);
$r = call('latency=100', calls => 1000, at_once => 1000);
is_deeply($r->{outcomes}, { ok => 1000 }, '1000 calls over 200 connections');
cmp_ok(sim_stats($sim)->{peak_open}, '<=', 200, 'never more than eduai.http_connections at once');
cmp_ok(sim_stats($sim)->{connections}, '<=', 200, 'connections are used again');

# A call waiting in line keeps its own time limit.
$r = call('latency=400', calls => 600, at_once => 600, timeout_ms => 1000);
is($r->{outcomes}{ok} + ($r->{outcomes}{timeout_total} // 0), 600, 'answered, or out of time');
cmp_ok($r->{outcomes}{timeout_total} // 0, '>', 0, 'those at the end of the line run out of time');

# Memory and descriptors do not grow with the calls made.
sim_reset($sim);
my $growth = $node->safe_psql('postgres', q{
	SELECT eduai.add_instance('case', 'sim', 'sim-chat');
	SELECT eduai.test_call('case', 'chat', '{"prompt": "hello"}', 20000, 100);
	CREATE TEMP TABLE rss AS SELECT split_part(pg_read_file('/proc/' || pg_backend_pid() || '/statm'), ' ', 2)::bigint AS pages;
	SELECT eduai.test_call('case', 'chat', '{"prompt": "hello"}', 60000, 100);
	SELECT (split_part(pg_read_file('/proc/' || pg_backend_pid() || '/statm'), ' ', 2)::bigint - pages) * 4 FROM rss});
($growth) = $growth =~ /(-?\d+)\s*\z/;
cmp_ok($growth, '<', 4096, 'less than 4 MB more after 60,000 further calls');
is(sim_stats($sim)->{requests}, 80000, 'each call sent once');
cmp_ok(sim_stats($sim)->{connections}, '<=', 200, 'over connections that stay');

$node->stop;
done_testing();
