# What becomes of a task when its provider fails, in every way that one can.
#
# Each case is a model of its own, whose name tells the simulator how to behave;
# all run at once. Asserted are the state, the attempts, the code of each, the
# number of requests that were really sent, and the time between them.

use strict;
use warnings;

use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.max_response_size' => '256kB', 'eduai.sweep_interval' => '1s' });
my $sim = start_simulator();
my $elsewhere = start_simulator();

# A port that nobody listens to: taken, then freed.
my $taken = start_simulator();
my $dead_port = $taken->{port};
stop_simulator($taken);

$node->safe_psql('postgres', qq{
	SELECT eduai.configure_pool('chat', '{chat}', 100);
	SELECT eduai.add_provider('sim', 'openai', '$sim->{base_url}/v1', options => '{"allow_loopback": true}');
	SELECT eduai.add_provider('gone', 'openai', 'http://127.0.0.1:$dead_port/v1', options => '{"allow_loopback": true}');
});

my %quick = (first_byte_ms => 500, stall_ms => 400, connect_ms => 1000);

# name, then: model (the behaviour after its @), options of the instance, and of
# the task; what is expected: state, codes of the failed attempts (the number of
# attempts is theirs and one more when it completes), requests if not as many as
# attempts; gap_ms: the least and the most time between two requests.
my @cases = (
	[ 'plain', behaviour => '', state => 'completed', codes => [] ],
	[ '429 with Retry-After in seconds', behaviour => 'fail_first=1;status=429;retry_after=2',
		state => 'completed', codes => ['rate_limited'], gap_ms => [ 2000, 4000 ] ],
	[ '429 with Retry-After in ms', behaviour => 'fail_first=1;status=429;retry_after_ms=1500',
		state => 'completed', codes => ['rate_limited'], gap_ms => [ 1500, 3500 ] ],
	[ '429 for ever', behaviour => 'status=429;retry_after_ms=100', max_attempts => 2,
		state => 'dead', codes => [ 'rate_limited', 'rate_limited' ] ],
	[ '500 once', behaviour => 'fail_first=1', state => 'completed', codes => ['http_500'], gap_ms => [ 400, 3500 ] ],
	[ '500 twice', behaviour => 'fail_first=2', state => 'completed', codes => [ 'http_500', 'http_500' ], gap_ms => [ 400, 5000 ] ],
	[ '500 for ever', behaviour => 'status=500', state => 'dead', codes => [ 'http_500', 'http_500', 'http_500' ] ],
	[ '503 and do not retry', behaviour => 'status=503;should_retry=false', state => 'dead', codes => ['http_503'] ],
	[ 'silence', behaviour => 'silent', max_attempts => 2, state => 'dead', codes => [ 'timeout_first_byte', 'timeout_first_byte' ] ],
	[ 'an answer that stalls', behaviour => 'stall_after=700', max_attempts => 1, state => 'dead', codes => ['timeout_stall'] ],
	[ 'an answer that drips', behaviour => 'first_byte=10;latency=60000', max_attempts => 1, timeout => '700 ms',
		options => { first_byte_ms => 60000, stall_ms => 60000 }, state => 'dead', codes => ['timeout_total'] ],
	[ 'a total timeout before the first byte', behaviour => 'latency=60000', max_attempts => 1, timeout => '300 ms',
		options => { first_byte_ms => 60000 }, state => 'dead', codes => ['timeout_total'] ],
	[ 'a body that is cut', behaviour => 'cut_after=60', max_attempts => 2, state => 'dead', codes => [ 'body_cut', 'body_cut' ] ],
	[ 'a connection that is reset', behaviour => 'reset', max_attempts => 2, state => 'dead', codes => [ 'connection_closed', 'connection_closed' ] ],
	[ 'a malformed chunk', behaviour => 'malformed_chunk', max_attempts => 1, state => 'dead', codes => [qr/^(?:protocol_error|body_cut)$/] ],
	[ 'a giant body', behaviour => 'giant=50000000', state => 'dead', codes => ['body_too_large'] ],
	[ 'a gzip bomb', behaviour => 'gzip_bomb=50000000', state => 'dead', codes => ['body_too_large'] ],
	[ 'giant headers', behaviour => 'giant_headers=1000000', state => 'dead', codes => ['headers_too_large'] ],
	[ '200 with an error inside', behaviour => 'error200;code=server_error', max_attempts => 1, state => 'dead', codes => ['error_in_answer'] ],
	[ '200 with a rate limit inside', behaviour => 'error200', max_attempts => 1, state => 'dead', codes => [qr/^(?:http_5\d\d|rate_limited|error_in_answer)$/] ],
	[ 'garbage', behaviour => 'garbage', max_attempts => 1, state => 'dead', codes => [qr/./] ],
	[ 'a redirect', behaviour => "redirect=$elsewhere->{base_url}/v1/chat/completions", state => 'dead', codes => ['redirect_refused'] ],
	[ 'a context too long', behaviour => 'code=context_length_exceeded', state => 'dead', codes => ['context_length_exceeded'] ],
	[ 'a refused content', behaviour => 'code=content_policy_violation', state => 'dead', codes => ['content_policy'] ],
	[ 'an account without money', behaviour => 'code=insufficient_quota', state => 'dead', codes => ['quota'] ],
	[ 'an unknown model', behaviour => 'status=404', state => 'dead', codes => ['model_not_found'] ],
	[ 'a bad request', behaviour => 'status=400', state => 'dead', codes => ['bad_request'] ],
	[ 'a NUL in the answer', behaviour => 'nul', max_attempts => 1, state => 'completed', codes => [] ],
	[ 'a lone surrogate', behaviour => 'surrogate', max_attempts => 1, state => 'completed', codes => [] ],
	[ 'connection refused', provider => 'gone', max_attempts => 2, state => 'dead', codes => [ 'connect_failed', 'connect_failed' ], requests => 0 ],
	# A second instance serves the same alias: where another may help, it is asked at once.
	[ 'silence, then elsewhere', behaviour => 'silent', other => 1, state => 'completed', codes => ['timeout_first_byte'], gap_ms => [ 450, 1500 ] ],
	[ '500, then elsewhere', behaviour => 'status=500', other => 1, state => 'completed', codes => ['http_500'], gap_ms => [ 0, 900 ] ],
	[ 'a context too long, then elsewhere', behaviour => 'code=context_length_exceeded', other => 1, state => 'completed',
		codes => ['context_length_exceeded'], gap_ms => [ 0, 900 ] ],
	[ 'connection refused, then elsewhere', provider => 'gone', other => 1, state => 'completed', codes => ['connect_failed'], requests => 1 ],
	[ 'refused content is refused elsewhere', behaviour => 'code=content_policy_violation', other => 1, state => 'dead', codes => ['content_policy'] ]);

my $sql = '';
for my $n (0 .. $#cases)
{
	my ($name, %case) = @{ $cases[$n] };
	my $model = "case-$n" . ($case{behaviour} ? '@' . $case{behaviour} =~ s/ /+/gr : '');
	my $options = JSON::PP::encode_json({ %quick, aliases => ["alias-$n"], %{ $case{options} // {} } });
	$sql .= "SELECT eduai.add_instance('first-$n', '@{[$case{provider} // 'sim']}', '$model', options => '$options');\n";
	$sql .= "SELECT eduai.add_instance('second-$n', 'sim', 'other-$n', options => '{\"tier\": 2, \"aliases\": [\"alias-$n\"]}');\n" if $case{other};
}
$node->safe_psql('postgres', $sql);

my @tasks = split /\n/, $node->safe_psql('postgres', join '', map {
	my ($name, %case) = @{ $cases[$_] };
	my $more = ($case{max_attempts} ? ", max_attempts => $case{max_attempts}" : '') . ($case{timeout} ? ", timeout => '$case{timeout}'" : '');
	qq{SELECT eduai.enqueue('chat', '{"model": "alias-$_", "user": "case-$_", "messages": [{"role": "user", "content": "hello"}]}'$more);\n}
} 0 .. $#cases);
wait_until(
	sub {
		$node->safe_psql('postgres', q{SELECT count(*) FROM eduai.task WHERE state NOT IN ('completed', 'dead')}) == 0;
	},
	60,
	'all tasks have ended');

my %sent;
push @{ $sent{ $_->{user} } }, $_ for @{ sim_journal($sim) };
for my $n (0 .. $#cases)
{
	my ($name, %case) = @{ $cases[$n] };
	my $wanted = @{ $case{codes} } + ($case{state} eq 'completed' ? 1 : 0);
	my @sent = @{ $sent{"case-$n"} // [] };
	my ($state, $attempt, $codes, $at, $ledger, $instances) = split /\|/, $node->safe_psql('postgres', "
		SELECT state, attempt, (SELECT string_agg(coalesce(a->>'code', '?'), ',' ORDER BY (a->>'attempt')::int) FROM jsonb_array_elements(error->'attempts') a),
			error->>'code',
			(SELECT string_agg(coalesce(code, outcome), ',' ORDER BY attempt) FROM eduai.usage_ledger l WHERE l.task_id = t.task_id),
			(SELECT string_agg(instance, ',' ORDER BY attempt) FROM eduai.usage_ledger l WHERE l.task_id = t.task_id)
		FROM eduai.get_task($tasks[$n]) t"), -1;
	my @ledger = split /,/, $ledger;
	my $matches = @ledger == $wanted;
	for my $k (0 .. $#{ $case{codes} })
	{
		my $code = $case{codes}[$k];
		$matches &&= ref $code ? $ledger[$k] =~ $code : $ledger[$k] eq $code;
	}
	$matches &&= $ledger[-1] eq 'completed' if $case{state} eq 'completed';
	is("$state after $attempt", "$case{state} after $wanted", "$name: $case{state} after $wanted");
	ok($matches, "$name: $ledger");
	# A completed task keeps no error; a dead one has each attempt's.
	is($codes, $case{state} eq 'completed' ? '' : $ledger, "$name: the task's error tells the attempts");
	is(scalar @sent, $case{requests} // $wanted, "$name: so many requests");
	if ($case{gap_ms})
	{
		# A busy machine delays either request: what is told apart is a wait from none,
		# and the provider's wish from the backoff, not milliseconds.
		my ($least, $most) = ($case{gap_ms}[0] * 0.7, $case{gap_ms}[1] + 5000);
		my @gaps = map { ($sent[$_]{first_byte_us} - $sent[ $_ - 1 ]{first_byte_us}) / 1000 } 1 .. $#sent;
		is(scalar(grep { $_ < $least || $_ > $most } @gaps), 0,
			"$name: $least to $most ms between them") or diag "@gaps";
	}
	like($instances, qr/^first-$n,second-$n$/, "$name: by the second instance") if $case{other} && $case{state} eq 'completed';
	my %keys = map { $_->{idempotency_key} // '' => 1 } @sent;
	cmp_ok(scalar keys %keys, '<=', 1, "$name: one idempotency key");
}

is(sim_stats($elsewhere)->{connections}, 0, 'the redirect was not followed');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM eduai.dead_letter}), scalar(grep { my ($name, %case) = @$_; $case{state} eq 'dead' } @cases),
	'the dead ones are in eduai.dead_letter');
is($node->safe_psql('postgres', q{SELECT count(*) FROM eduai.usage_ledger WHERE outcome = 'failed' AND cost_usd <> 0}), '0', 'failures cost nothing');

$node->stop;
done_testing();
