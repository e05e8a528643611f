# The wall clock steps by an hour, in either direction, while tasks run, are
# leased, back off, are scheduled and wait: leases and backoff do not notice,
# run_at and expires_at are times of the wall clock.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node(conf => { 'eduai.test_mode' => 'on', 'eduai.sweep_interval' => '200ms' });
my $sim = start_simulator();
sim_default($sim, 'sim-held', 'latency=6000');
sim_default($sim, 'sim-again', 'fail_first=1;status=500;retry_after_ms=5000');
add_fleet($node, $sim);
add_fleet($node, $sim, provider => 'held', model => 'sim-held');
add_fleet($node, $sim, provider => 'again', model => 'sim-again');
$node->safe_psql('postgres', q{
	SELECT eduai.configure_pool('chat', '{chat}', 50);
	SELECT eduai.define_task_type('left', 'application', 'custom');
	SELECT eduai.define_task_type('ending', 'application', 'custom')});

sub value { return $node->safe_psql('postgres', $_[0]) }
sub state_of { return value("SELECT state FROM eduai.get_task($_[0])") }

sub enqueue
{
	my ($model, $nonce, $more) = @_;
	return value(qq{SELECT eduai.enqueue('chat', '{"model": "$model", "user": "$nonce", "prompt": "x"}'} . ($more ? ", $more" : '') . ')');
}

# The clock as eduai sees it, for run_at and expires_at.
sub at { my ($offset) = @_; return "clock_timestamp() + interval '$offset'" }

sub sweeps
{
	my $count = q{SELECT coalesce((jsonb_path_query_first(eduai.health(), '$.workers[*] ? (@.worker == "dispatcher")')->>'wakes_by_timeout')::int, 0)};
	my $start = value($count);
	wait_until(sub { value($count) >= $start + 3 }, 30, 'three sweeps');
}

for my $step ('1 hour', '-1 hour')
{
	my $back = $step =~ /^-/;
	my $name = $back ? 'an hour back' : 'an hour ahead';

	value(q{SELECT eduai.test_clock('0')});
	my $again = enqueue('sim-again', "again$step");
	wait_until(sub { value("SELECT state || attempt FROM eduai.get_task($again)") eq 'scheduled1' }, 10, 'one backs off for 5 s');
	my $failed = time();
	my $runs = enqueue('sim-held', "runs$step");
	wait_until(sub { state_of($runs) eq 'running' }, 10, 'one runs');
	my $leased = value(q{SELECT eduai.enqueue('custom', '{}')});
	is(value(q{SELECT task_id FROM eduai.claim_tasks('w', '{custom}', lease => '60 s')}), $leased, 'one is leased for long');
	my $lapses = value(q{SELECT eduai.enqueue('ending', '{}')});
	is(value(q{SELECT task_id FROM eduai.claim_tasks('w', '{ending}', lease => '4 s')}), $lapses, 'and one for 4 s');
	my $claimed = time();
	# nobody claims this type: what waits stays
	my $waits = value(q{SELECT eduai.enqueue('left', '{}')});
	my $soon = enqueue('sim-chat', "soon$step", 'run_at => ' . at('30 minutes'));
	my $far = enqueue('sim-chat', "far$step", 'run_at => ' . at('2 hours'));
	my $mortal = value(q{SELECT eduai.enqueue('left', '{}', expires_at => } . at('30 minutes') . ')');
	my $immortal = value(q{SELECT eduai.enqueue('left', '{}', expires_at => } . at('2 hours') . ')');

	value("SELECT eduai.test_clock('$step')");
	sweeps();
	is(state_of($leased), 'running', "$name: a lease does not lapse");
	is(state_of($runs), 'running', 'a call goes on');
	is(state_of($waits), 'ready', 'what waits waits');
	is(state_of($far), 'scheduled', 'what is due in two hours stays scheduled');
	is(state_of($immortal), 'ready', 'what expires in two hours does not');
	if ($back)
	{
		is(state_of($soon), 'scheduled', 'run_at: not early');
		is(state_of($mortal), 'ready', 'expires_at: not early');
	}
	else
	{
		wait_until(sub { state_of($soon) eq 'completed' }, 10, 'run_at: due by the clock');
		wait_until(sub { state_of($mortal) eq 'expired' }, 10, 'expires_at: over by the clock');
		pass('run_at and expires_at go by the wall clock');
	}

	# new work is not behind what came under the other clock
	my $fresh = enqueue('sim-chat', "fresh$step");
	wait_for_task($node, $fresh, 'completed', 5);
	is(value(q{SELECT eduai.enqueue('left', '{}') > 0}), 't', 'one more of the type that waits');
	is(value(q{SELECT task_id FROM eduai.claim_tasks('w', '{left}')}), $waits, 'the order of a lane is that of readiness');
	value(qq{SELECT eduai.complete_task($waits, 1)});

	# backoff and the short lease end when they would have
	wait_until(sub { state_of($lapses) eq 'ready' }, 8, 'the lease of 4 s lapses');
	cmp_ok(time() - $claimed, '>=', 3.9, sprintf 'not early: after %.1f s', time() - $claimed);
	wait_until(sub { state_of($again) eq 'completed' }, 12, 'the failed one is tried again');
	my ($second) = map { $_->{arrival_us} / 1e6 } grep { $_->{user} eq "again$step" } reverse @{ sim_journal($sim) };
	cmp_ok($second - $failed, '>=', 4.5, sprintf 'not early: after %.1f s', $second - $failed);
	cmp_ok($second - $failed, '<', 9, 'and not late');
	wait_until(sub { state_of($runs) eq 'completed' }, 12, 'the call completes');
	is(value("SELECT eduai.extend_lease($leased, 1, '60 s') IS NOT NULL"), 't', 'the lease can be extended');
	value("SELECT eduai.complete_task($leased, 1)");
	is(state_of($leased), 'completed', 'and the task completed');

	# back in time, nothing is stuck
	value(q{SELECT eduai.test_clock('0')});
	is(value(q{SELECT count(eduai.cancel_task(task_id)) FROM eduai.task WHERE finished_at IS NULL AND state <> 'running'}) > 0, 1, 'the rest is cleared away');
	wait_for_task($node, enqueue('sim-chat', "after$step"), 'completed', 5);
	is(value(q{SELECT coalesce(sum(running), 0) FROM eduai.pool_status}), 0, 'no slot is lost');
}

$node->stop;
done_testing();
