# A pool grows under a backlog, by its own pace and to scale_to, halves when the
# provider says that it is too much, and shrinks when idle.

use strict;
use warnings;

use EduaiTest;
use Test::More;
use Time::HiRes qw(time);

# The breaker would keep the provider's words from the pool for a minute.
my $node = new_node(
	conf => { 'eduai.test_mode' => 'on', 'eduai.sweep_interval' => '1h', 'eduai.queue_max_size' => 0, 'eduai.breaker_open' => '1ms', 'eduai.breaker_ramp' => 0 });
my $sim = start_simulator();
sim_default($sim, 'sim-slow', 'latency=400');
$node->safe_psql('postgres', q{SELECT eduai.define_task_type('ask', 'gateway', 'chat');
	SELECT eduai.configure_pool('asking', '{ask}', 2, scale_to => 6, reserved_critical => 0)});
add_fleet($node, $sim, model => 'sim-slow', task_types => '{ask}');

sub value { return $node->safe_psql('postgres', $_[0]) }
sub size { return value(q{SELECT scaled_to FROM eduai.pool_status WHERE name = 'asking'}) }

sub enqueue
{
	my ($n, $priority) = @_;
	value(qq{SELECT count(eduai.enqueue('ask', '{"model": "sim-slow", "prompt": "x"}', '$priority')) FROM generate_series(1, $n)});
}

# Pools go by a clock that a test can put forward.
my $ahead_s = 0;

sub skip_s
{
	$ahead_s += $_[0];
	value("SELECT eduai.test_clock('$ahead_s s')");
}

is(size(), 2, 'a pool begins with max_concurrent');

# ---- tasks that have waited too long: up ----

my %seen;
my $start = time();
enqueue(2, 'high');
wait_until(sub { value(q{SELECT running FROM eduai.pool_status WHERE name = 'asking'}) == 0 }, 10, 'two fit');
is(size(), 2, 'without a backlog it stays');
enqueue(400, 'high');
my $before = time();
wait_until(sub { my $now = size(); $seen{$now} //= time(); $now == 6 }, 20, 'it grows to scale_to');
is(join(',', sort keys %seen), '2,3,4,5,6', 'one by one');
cmp_ok($seen{3} - $before, '>=', 0.4, 'once tasks are late: a high one after half a second');
cmp_ok($seen{6} - $seen{3}, '>=', 2.5, 'at most once a second');
wait_until(sub { sim_stats($sim)->{open} == 6 }, 5, 'as many calls are in flight');
is(size(), 6, 'no further');
is(sim_stats($sim)->{peak_open}, 6, 'and never were more');

# ---- the provider pushes back: half ----

for my $status (429, 503, 529)
{
	wait_until(sub { skip_s(1); size() == 6 }, 30, "it is large before $status");
	skip_s(5);
	sim_default($sim, 'sim-slow', "latency=50;status=$status;retry_after_ms=300");
	wait_until(sub { size() <= 3 }, 10, "$status halves it");
	sim_default($sim, 'sim-slow', 'latency=400');
	cmp_ok(size(), '>=', 2, "$status: never below max_concurrent");
}
sim_default($sim, 'sim-slow', 'latency=50;status=500');
my $failed = sim_stats($sim)->{by_status}{500} // 0;
my $size = size();
wait_until(sub { (sim_stats($sim)->{by_status}{500} // 0) > $failed + 3 }, 10, 'other failures');
cmp_ok(size(), '>=', $size, 'do not make it smaller');

# ---- idle: down, without anybody's asking ----

value(q{SELECT count(eduai.cancel_task(task_id)) FROM eduai.task WHERE finished_at IS NULL});
wait_until(sub { value(q{SELECT running FROM eduai.pool_status WHERE name = 'asking'}) == 0 }, 10, 'nothing runs any more');
$size = size();
cmp_ok($size, '>', 2, "it is idle at $size");
my $idle = time();
wait_until(sub { time() - $idle > 1.5 }, 10, 'a while in which it would look');
is(size(), $size, 'not at once');
skip_s(30);
wait_until(sub { size() < $size }, 20, 'it shrinks when it was idle for half a minute');
is(size(), $size - 1, 'one by one');

$node->stop;
done_testing();
