# Circuit breakers that all sessions share: one probe for fifty of them; a
# provider that goes down and comes back; what is in flight when a dispatcher
# goes; a table without room.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node(conf => {
	'eduai.test_mode' => 'on',
	'eduai.breaker_open' => '200ms',
	'eduai.breaker_ramp' => '500ms',
	'eduai.health_interval' => '100ms',
	# an instance that failed goes on getting its turn
	'eduai.balancer' => 'round_robin',
});
my $session = EduaiSession->new($node);

sub status
{
	my ($name, $columns) = @_;
	return $session->ask("SELECT $columns FROM eduai.instance_status WHERE name = '$name';");
}

sub act
{
	my ($name, $act, $outcome, $probe) = @_;
	$outcome //= '{}';
	return $session->ask("SELECT eduai.test_stand('$name', '$act', 0, '$outcome', ${\($probe ? 'true' : 'false')});");
}

my $failure = '{"verdict": "retry", "code": "http_503", "http_status": 503}';

# ---- one probe ----

# Nobody but these sessions calls it, and nothing answers its health checks.
$node->safe_psql('postgres', q{
	SELECT eduai.stop_workers();
	SELECT eduai.add_provider('none', 'openai', 'http://127.0.0.1:9/v1', options => '{"allow_loopback": true}');
	SELECT eduai.add_instance('lone', 'none', 'm', max_concurrent => 1000);});
my @sessions = map { EduaiSession->new($node) } 1 .. 50;
$_->ask('SELECT 1;') for @sessions;
for (1 .. 3) { act('lone', 'enter'); act('lone', 'leave', $failure); }
for my $round (1 .. 10)
{
	is(status('lone', 'breaker'), 'open', "round $round: open") if $round == 1;
	wait_until(sub { status('lone', 'breaker') eq 'half_open' }, 20, "round $round: half open");
	$_->send(q{SELECT (r->>'entered') || (r->>'probe') FROM eduai.test_stand('lone', 'enter') r;}) for @sessions;
	my %said;
	$said{ $_->answer(60) }++ for @sessions;
	is_deeply(\%said, { 'truetrue' => 1, 'falsefalse' => 49 }, "round $round: one of fifty is the probe");
	is(status('lone', 'breaker || in_flight'), 'half_open1', "round $round: half open while it is out");
	act('lone', 'leave', $failure, 1);
	is(status('lone', 'in_flight'), 0, "round $round: it is back");
}
wait_until(sub { status('lone', 'breaker') eq 'half_open' }, 20, 'half open again');
like(act('lone', 'enter'), qr/"probe": true/, 'a probe');
act('lone', 'leave', '{}', 1);
is(status('lone', 'breaker'), 'closed', 'its success closes');
$_->quit for @sessions;
$node->safe_psql('postgres', q{SELECT eduai.remove_instance('lone'); SELECT eduai.remove_provider('none'); SELECT eduai.start_workers()});

# ---- a provider that goes and comes ----

my @sims = (start_simulator(), start_simulator());
add_fleet($node, $sims[0], provider => 'a');
add_fleet($node, $sims[1], provider => 'b');
# room for all that it enqueues: pools do not grow in a moment
$node->safe_psql('postgres', q{SELECT eduai.configure_pool('chat', '{chat}', 50)});
my $enqueued = 0;

sub enqueue
{
	my ($n) = @_;
	$enqueued += $n;
	$session->ask(qq{SELECT count(eduai.enqueue('chat', '{"prompt": "hello"}')) FROM generate_series(1, $n);});
}

sub completed { return $session->ask(q{SELECT count(*) FROM eduai.task WHERE state = 'completed';}) }
sub wait_completed { wait_until(sub { completed() == $enqueued }, 60, shift) }
sub answers { return sim_stats(shift)->{by_status}{200} // 0 }

for (1 .. 50)
{
	enqueue(4);
	wait_completed('at first');
	last if status('a-1', 'successes') > 0 && status('b-1', 'successes') > 0;
}
cmp_ok(status('a-1', 'successes'), '>', 0, 'one serves');
cmp_ok(status('b-1', 'successes'), '>', 0, 'and so does the other');
for my $round (1 .. 3)
{
	my $port = $sims[0]{port};
	stop_simulator($sims[0], 'KILL');
	wait_until(sub { status('a-1', 'health') eq 'bad' }, 20, "round $round: its health is bad");
	wait_until(sub { enqueue(4); status('a-1', 'breaker') ne 'closed' }, 60, "round $round: its breaker opens");
	wait_completed("round $round: the other serves");
	my $problems = $node->safe_psql('postgres', q{SELECT string_agg(code || ' ' || severity, ',' ORDER BY code) FROM eduai.health_problems() WHERE code IN ('breaker_open', 'bad_health', 'no_usable_instance')});
	is($problems, 'bad_health warning,breaker_open warning', "round $round: health() says so");
	$sims[0] = start_simulator(port => $port);
	my $back = time();
	wait_until(sub { enqueue(2); status('a-1', 'breaker') eq 'closed' }, 30, "round $round: it is back");
	cmp_ok(time() - $back, '<', 10, sprintf 'round %d: %.1f s after its recovery', $round, time() - $back);
	wait_completed("round $round: all are done");
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM eduai.task WHERE state NOT IN ('completed')}), 0, 'no task failed');

# ---- what is in flight when its dispatcher goes ----

sim_default($_, 'sim-chat', 'latency=60000') for @sims;
enqueue(10);
my $running = q{SELECT count(*) FROM eduai.task WHERE state = 'running'};
my $flying = q{SELECT sum(in_flight) FROM eduai.instance_status};
wait_until(sub { $session->ask("$flying;") == 10 }, 20, 'ten in flight');
my $dispatcher = q{SELECT pid FROM pg_stat_activity WHERE backend_type LIKE '%dispatcher%'};
my $former = $node->safe_psql('postgres', $dispatcher);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($former)");
wait_until(sub { my $pid = $node->safe_psql('postgres', $dispatcher); $pid ne '' && $pid ne $former }, 30, 'another dispatcher');
wait_until(sub { sim_stats($sims[0])->{open} + sim_stats($sims[1])->{open} == $node->safe_psql('postgres', $flying) }, 30, 'its count is that of the calls');
cmp_ok($node->safe_psql('postgres', $flying), '<=', 10, 'and none of the former one\'s');
$session->quit;

# ---- no room ----

# The same server with another database, where slots are few.
$node->safe_psql('postgres', 'CREATE DATABASE small');
$node->safe_psql('small', 'CREATE EXTENSION eduai');
$node->stop('immediate');
$node->append_conf('postgresql.conf', "eduai.database = 'small'\neduai.instance_slots = 3\neduai.health_interval = 0\n");
$node->start;
my $sim = start_simulator();
sim_default($sim, 'sim-chat', 'latency=100');
add_fleet($node, $sim, database => 'small', count => 6, max_concurrent => 1);
$node->safe_psql('small', q{SELECT eduai.enqueue('chat', '{"prompt": "hello"}') FROM generate_series(1, 30)});
wait_until(sub { $node->safe_psql('small', q{SELECT count(*) FROM eduai.task WHERE state = 'completed'}) == 30 }, 60, 'all are served');
cmp_ok(sim_stats($sim)->{peak_open}, '<=', 6, 'no instance had more than it may, seen or not');
is($node->safe_psql('small', 'SELECT count(DISTINCT instance) FROM eduai.usage_ledger'), 6, 'and those that are not seen served, too');
my $slots = q{SELECT (eduai.health()->'instances'->>'slots_used')};
is($node->safe_psql('small', $slots), 3, 'no more slots than there are');
is($node->safe_psql('small', q{SELECT severity FROM eduai.health_problems() WHERE code = 'instance_slots_full'}), 'warning', 'health() says it');
is($node->safe_psql('small', q{SELECT count(*) FROM eduai.instance_status WHERE requests > 0}), 3, 'the others have no figures');
$node->safe_psql('small', q{SELECT eduai.remove_instance('sim-' || n) FROM generate_series(1, 4) n});
wait_until(sub { $node->safe_psql('small', $slots) == 2 }, 20, 'those that are gone made room, and the others took it');
is($node->safe_psql('small', q{SELECT count(*) FROM eduai.instance_status WHERE requests > 0}), 2, 'with what was known of them');
is($node->safe_psql('small', q{SELECT count(*) FROM eduai.health_problems() WHERE code = 'instance_slots_full'}), 0, 'and health() is content');

# Another database's are freed once it is dropped.
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', q{
	CREATE EXTENSION eduai;
	SELECT eduai.add_provider('p', 'openai', 'http://127.0.0.1:9/v1', options => '{"allow_loopback": true}');
	SELECT eduai.add_instance('sim-5', 'p', 'm');
	SELECT eduai.test_stand('sim-5', 'enter');});
is($node->safe_psql('small', $slots), 3, 'the same name in another database is another instance');
$node->safe_psql('postgres', 'DROP DATABASE other');
$node->safe_psql('small', q{SELECT eduai.set_instance_state('sim-5', 'active')});
wait_until(sub { $node->safe_psql('small', $slots) == 2 }, 20, 'a dropped database makes room');

# ---- without shared memory ----

$node->safe_psql('small', q{SELECT eduai.remove_instance('sim-6')});
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
is($node->safe_psql('small', 'SELECT name, health, breaker, in_flight, requests, headroom FROM eduai.instance_status'), 'sim-5|unknown|closed|0|0|1', 'nothing is known');
$node->stop;

done_testing();
