# Health checks: a free GET per provider now and then, which costs nothing,
# counts nowhere and stops when there is nobody to ask after.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node(conf => { 'eduai.health_interval' => '100ms', 'eduai.breaker_open' => '4s', 'eduai.breaker_ramp' => 0 });
my $sim = start_simulator();
my $session = EduaiSession->new($node);

sub status
{
	my ($columns, $name) = @_;
	return $session->ask("SELECT $columns FROM eduai.instance_status WHERE name = '${\($name // 'sim-1')}';");
}

sub wait_health
{
	my ($health, $what) = @_;
	wait_until(sub { status('health') eq $health }, 20, $what);
}

# Requests of models since that entry of the journal.
sub checks { return scalar grep { $_->{endpoint} =~ /models/ } @{ sim_journal($sim, shift) } }
sub latest { my $journal = sim_journal($sim); return @$journal ? $journal->[-1]{seq} : 0 }

# Waits for so many more of them; returns how long that took.
sub wait_checks
{
	my ($n, $what) = @_;
	my ($after, $start) = (latest(), time());
	wait_until(sub { checks($after) >= $n }, 20, $what);
	return time() - $start;
}

# The last one that was on its way has come.
sub wait_quiet
{
	wait_until(
		sub {
			my ($after, $start) = (latest(), time());
			wait_until(sub { time() - $start > 0.4 }, 5, 'a moment');
			checks($after) == 0;
		},
		20,
		'the last check is over');
}

# None for a while in which several would have come.
sub no_checks
{
	my ($what) = @_;
	my ($after, $start) = (latest(), time());
	wait_until(sub { time() - $start > 0.6 }, 10, 'a while');
	is(checks($after), 0, $what);
}

add_fleet($node, $sim, count => 4, options => { first_byte_ms => 300 });
wait_health('good', 'an answer is good health');
is(status('health', "sim-$_"), 'good', "sim-$_ too") for 2 .. 4;
is(status("last_checked_at BETWEEN now() - interval '20 s' AND now() + interval '1 s'"), 't', 'it is known when');
my $took = wait_checks(8, 'eight checks');
cmp_ok($took, '>', 0.5, sprintf 'eight took %.1f s: one a provider, not one an instance', $took);

# They are no calls.
is(status('requests, successes, failures, in_flight, avg_ms IS NULL, cost_usd'), '0|0|0|0|t|0', 'nothing is counted');
is($node->safe_psql('postgres', 'SELECT count(*) FROM eduai.provider_call'), 0, 'nor in the ledger');
is(scalar(grep { $_->{endpoint} !~ /models/ } @{ sim_journal($sim) }), 0, 'nothing else was sent');

# What is bad.
sim_post($sim, '/_sim/key', { key => 'secret' });
wait_health('bad', 'a refused key is bad health');
is(status('last_error, breaker'), 'auth|closed', 'which opens nothing');
is($node->safe_psql('postgres', q{SELECT severity FROM eduai.health_problems() WHERE code = 'bad_health'}), 'warning', 'health() says it');
sim_post($sim, '/_sim/key', { key => undef });
wait_health('good', 'good again');
sim_default($sim, undef, 'status=503');
wait_health('bad', 'an error of the server is bad health');
sim_default($sim, undef, '');
wait_health('good', 'good again');
sim_default($sim, undef, 'silent');
wait_health('bad', 'silence is bad health');
is(status('last_error'), 'timeout_first_byte', 'and named');
sim_default($sim, undef, '');
wait_health('good', 'good again');
# What says nothing.
sim_default($sim, undef, 'status=404');
wait_checks(3, 'three checks');
is(status('health'), 'good', 'a path that is not there says nothing');
sim_default($sim, undef, 'status=429');
wait_checks(3, 'three checks');
is(status('health'), 'good', 'nor does too much of it');
sim_default($sim, undef, '');

# A second witness: while health is bad the first failure opens the breaker.
sub enqueue { return $node->safe_psql('postgres', q{SELECT eduai.enqueue('chat', '{"prompt": "hello"}', max_attempts => 1)}) }
$node->safe_psql('postgres', q{SELECT eduai.set_instance_state('sim-' || n, 'disabled') FROM generate_series(2, 4) n});
sim_default($sim, 'sim-chat', 'status=503');
wait_for_task($node, enqueue(), 'dead', 20);
is(status('breaker, health'), 'closed|good', 'one failure opens nothing while health is good');
sim_default($sim, undef, 'status=503');
wait_health('bad', 'health is bad');
wait_for_task($node, enqueue(), 'dead', 20);
is(status('breaker'), 'open', 'the next failure opens it while health is bad');
my $opened = time();
# And good health halves the wait of 4 s, also of a task that waits already.
my $waiting = enqueue();
sim_default($sim, undef, '');
sim_default($sim, 'sim-chat', '');
wait_for_task($node, $waiting, 'completed', 20);
my $waited = time() - $opened;
cmp_ok($waited, '>', 1.5, sprintf 'after %.1f s: not at once', $waited);
cmp_ok($waited, '<', 3.9, 'and sooner than without');
is(status('breaker'), 'closed', 'the probe closes it');

# Nobody to ask after.
$node->safe_psql('postgres', q{SELECT eduai.set_instance_state('sim-1', 'draining')});
wait_until(sub { $node->safe_psql('postgres', q{SELECT eduai.health()->'instances'->>'active'}) == 0 }, 10, 'none is active');
wait_quiet();
no_checks('none without an active instance');
# A webhook gets what it was made for, and nothing else.
$node->safe_psql('postgres', qq{SELECT eduai.define_task_type('grading', 'gateway', 'analysis');
	SELECT eduai.add_provider('hook', 'openai', '$sim->{base_url}/v1', 'whsec_c2lnbmluZyBzZWNyZXQ=', '{"webhook": true, "allow_loopback": true}');
	SELECT eduai.add_instance('hook', 'hook', 'grader-1', '{grading}')});
wait_until(sub { $node->safe_psql('postgres', q{SELECT eduai.health()->'instances'->>'active'}) == 1 }, 10, 'a webhook is active');
no_checks('none of a webhook');
is(status('health, breaker', 'hook'), 'unknown|closed', '... of which nothing is known, and which is used all the same');
$node->safe_psql('postgres', q{SELECT eduai.set_instance_state('sim-1', 'active')});
wait_checks(2, 'checks again');
$node->safe_psql('postgres', q{INSERT INTO eduai.adoption (home) VALUES ('elsewhere'); SELECT eduai.set_instance_state('sim-1', 'active')});
wait_quiet();
no_checks('none where the database does not belong');
$node->safe_psql('postgres', 'SELECT eduai.adopt_database()');
wait_checks(2, 'checks where it was adopted');
$node->append_conf('postgresql.conf', "eduai.health_interval = 0\n");
$node->reload;
wait_quiet();
no_checks('none with the interval 0');

$session->quit;
$node->stop;
done_testing();
