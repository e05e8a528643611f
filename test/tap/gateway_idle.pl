# An idle dispatcher sleeps: it wakes for its sweep and the health checks of
# active instances and for nothing else, and a commit that enqueues wakes it at once.

use strict;
use warnings;

use EduaiTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node(conf => { 'eduai.sweep_interval' => '1s', autovacuum => 'off' });
my $sim = start_simulator();
sim_default($sim, 'sim-chat', 'latency=50');
add_fleet($node, $sim);

sub wakes
{
	my %wakes;
	@wakes{qw(latch io timeout)} = split /\|/, $node->safe_psql('postgres', q{
		SELECT w->>'wakes_by_latch', w->>'wakes_by_io', w->>'wakes_by_timeout'
		FROM jsonb_path_query(eduai.health(), '$.workers[*] ? (@.worker == "dispatcher")') w});
	return \%wakes;
}

sub sweeps
{
	my ($n) = @_;
	my $start = wakes()->{timeout};
	wait_until(sub { wakes()->{timeout} >= $start + $n }, 10 + 5 * $n, "$n sweeps");
}

sub idle_through
{
	my ($what) = @_;
	# The last echoes of what was done before.
	sweeps(2);
	my ($before, $start) = (wakes(), time());
	sweeps(5);
	my ($after, $elapsed) = (wakes(), time() - $start);
	my $swept = $after->{timeout} - $before->{timeout};
	is($after->{latch} - $before->{latch}, 0, "$what: no wake by the latch");
	is($after->{io} - $before->{io}, 0, "$what: none by a descriptor");
	cmp_ok(abs($swept - $elapsed), '<=', 2, sprintf '%s: %d sweeps of 1 s in %.1f s', $what, $swept, $elapsed);
}

sub enqueue
{
	return $node->safe_psql('postgres', q{SELECT eduai.enqueue('chat', '{"messages": [{"role": "user", "content": "hello"}]}')});
}

idle_through('fresh');
wait_for_task($node, enqueue(), 'completed', 20);
idle_through('with an idle connection to the provider');

# Health checks wake it only while there is somebody to ask after.
sub health_interval
{
	$node->safe_psql('postgres', "ALTER SYSTEM SET eduai.health_interval = '$_[0]'");
	$node->reload;
}
$node->safe_psql('postgres', q{SELECT eduai.set_instance_state('sim-1', 'disabled')});
health_interval('500ms');
idle_through('no active instance');
$node->safe_psql('postgres', q{SELECT eduai.set_instance_state('sim-1', 'active')});
my $io = wakes()->{io};
wait_until(sub { wakes()->{io} >= $io + 3 }, 20, 'an active instance is asked after');
health_interval(0);

# Only a wake by the latch can find a task when the sweep is an hour away.
$node->safe_psql('postgres', q{ALTER SYSTEM SET eduai.sweep_interval = '1h'});
$node->reload;
# One that was due within the old second may still come.
my ($last, $since) = (-1, time());
wait_until(sub {
	my $now = wakes()->{timeout};
	($last, $since) = ($now, time()) if $now != $last;
	return time() - $since > 1.5;
}, 20, 'no sweep comes');
for my $n (1 .. 3)
{
	my ($before, $start) = (wakes(), time());
	my $id = enqueue();
	wait_for_task($node, $id, 'completed', 10);
	my $after = wakes();
	is($node->safe_psql('postgres', "SELECT started_at - enqueued_at < '0.5 s' FROM eduai.get_task($id)"), 't', "task $n starts at once");
	cmp_ok($after->{latch}, '>', $before->{latch}, 'woken by the latch');
	cmp_ok($after->{latch} - $before->{latch}, '<=', 3, 'once or little more');
	cmp_ok($after->{io}, '>', $before->{io}, 'its answer by a descriptor');
}

$node->stop;
done_testing();
