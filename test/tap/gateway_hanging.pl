# A thousand requests that the provider never answers: nothing else may notice.
#
# With all of them in flight no worker holds a transaction, one call can be
# cancelled, and the server, the database and the extension go when told to.

use strict;
use warnings;

use EduaiTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use constant REQUESTS => 1000;

my $files = (grep { /^Max open files/ } split /\n/, slurp_file('/proc/self/limits'))[0];
my $hard_limit = ($files =~ /(\d+|unlimited)\s+files/)[0];
BAIL_OUT("the hard limit on open files is $hard_limit: too low for the test; raise ulimit -Hn")
  unless $hard_limit eq 'unlimited' || $hard_limit >= REQUESTS + 1500;

my $node = new_node(
	conf => {
		'eduai.database' => 'postgres,school', 'eduai.queue_max_size' => 0,
		'eduai.http_connections' => REQUESTS * 2, 'eduai.sweep_interval' => '1s' });
my $sim = start_simulator();
sim_default($sim, 'sim-chat', 'silent');
sim_default($sim, 'sim-quick', 'latency=5');

# A fleet whose calls to sim-chat wait an hour, if nothing ends them.
sub prepare
{
	my ($database) = @_;
	add_fleet($node, $sim, database => $database, max_concurrent => 2 * REQUESTS, options => { first_byte_ms => 3600000 });
	add_fleet($node, $sim, database => $database, provider => 'quick', model => 'sim-quick');
	$node->safe_psql($database, "SELECT eduai.configure_pool('chat', '{chat}', 2 * @{[REQUESTS]})");
}

sub payload { return qq('{"model": "$_[0]", "messages": [{"role": "user", "content": "hello"}]}') }

# Enqueues tasks that will hang and returns when all are at the provider.
sub hang
{
	my ($database, $n) = @_;
	my $before = sim_stats($sim)->{open};
	$node->safe_psql($database,
		"SELECT eduai.enqueue_batch('chat', array_fill(" . payload('sim-chat') . "::jsonb, ARRAY[$n]), metadata => '{\"hangs\": true}') IS NULL");
	wait_until(sub { sim_stats($sim)->{open} >= $before + $n }, 60, "$n requests hang");
}

sub hanging_ends
{
	my ($what) = @_;
	wait_until(sub { sim_stats($sim)->{open} == 0 }, 10, "no request hangs after $what");
}

sub workers
{
	my ($database, $columns) = @_;
	return $node->safe_psql('postgres',
		"SELECT $columns FROM pg_stat_activity WHERE backend_type = 'eduai dispatcher' AND datname = '$database'");
}

sub quick_works
{
	my ($database, $what) = @_;
	is( $node->safe_psql($database, "SELECT eduai.enqueue('chat', " . payload('sim-quick') . ') > 0'), 't', "$what: a task is enqueued");
	wait_until(sub { $node->safe_psql($database, q{SELECT count(*) = 0 FROM eduai.task WHERE model = 'sim-quick' AND state <> 'completed'}) eq 't' },
		20, "$what: it completes");
	pass("$what: it completes");
}

# After a restart, what hung before is uncertain and would hang again.
sub cancel_all
{
	my ($database) = @_;
	$node->safe_psql($database, q{SELECT count(eduai.cancel_task(task_id)) FROM eduai.task WHERE metadata ? 'hangs' AND finished_at IS NULL});
	hanging_ends('cancelling all');
}

sub stop_time
{
	my ($server) = @_;
	my $start = time();
	$server->stop('fast');
	return time() - $start;
}

# ---- a thousand in flight ----

prepare('postgres');
hang('postgres', REQUESTS);
is(sim_stats($sim)->{open}, REQUESTS, REQUESTS . ' requests hang at the provider');
# A turn of the sweep may be under way when one looks, but never a long one.
my ($idle, $long) = (0, 0);
for my $look (1 .. 40)
{
	my ($state, $age_ms) = split /\|/, workers('postgres', q{backend_xid IS NULL AND backend_xmin IS NULL AND xact_start IS NULL,
		coalesce(1000 * extract(epoch FROM clock_timestamp() - xact_start), 0)});
	$idle++ if $state eq 't';
	$long++ if $age_ms > 500;
}
cmp_ok($idle, '>=', 30, "no transaction and no snapshot: in $idle of 40 looks");
is($long, 0, 'and never one that lasts');
my $locks = q{SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
	WHERE a.backend_type = 'eduai dispatcher' AND l.locktype = 'relation'};
my $free = grep { $node->safe_psql('postgres', $locks) eq '0' } 1 .. 40;
cmp_ok($free, '>=', 30, "and locks no table: in $free of 40 looks");
quick_works('postgres', 'beside them');

my $victim = $node->safe_psql('postgres', q{SELECT min(task_id) FROM eduai.task WHERE state = 'running'});
my $aborted = sim_stats($sim)->{aborted};
is($node->safe_psql('postgres', "SELECT eduai.cancel_task($victim)"), 't', 'one is cancelled');
wait_until(sub { sim_stats($sim)->{aborted} == $aborted + 1 }, 5, 'its request is aborted');
is(sim_stats($sim)->{open}, REQUESTS - 1, 'its request is aborted, the others go on');
is($node->safe_psql('postgres', "SELECT state FROM eduai.get_task($victim)"), 'cancelled', 'its state is cancelled');
wait_until(sub { $node->safe_psql('postgres', "SELECT outcome FROM eduai.usage_ledger WHERE task_id = $victim") eq 'cancelled' },
	5, 'the ledger says cancelled');
pass('so says the ledger');

# ---- fast shutdown ----

my $plain = PostgreSQL::Test::Cluster->new('plain');
$plain->init;
$plain->append_conf('postgresql.conf', "fsync = off\nshared_buffers = '64MB'\n");
$plain->start;
my $plain_s = stop_time($plain);
my $loaded_s = stop_time($node);
diag sprintf 'fast shutdown: %.2f s with %d transfers in flight, %.2f s without eduai', $loaded_s, REQUESTS - 1, $plain_s;
cmp_ok($loaded_s - $plain_s, '<', 3, 'fast shutdown does not wait for transfers');
hanging_ends('shutdown');

$node->start;
wait_until(sub { sim_stats($sim)->{open} == REQUESTS - 1 }, 30, 'the uncertain attempts are tried again');
pass('after the restart all are sent again');
is($node->safe_psql('postgres', q{SELECT count(*) FROM eduai.usage_ledger WHERE outcome = 'uncertain'}), REQUESTS - 1,
	'their first attempts are uncertain');

# ---- the dispatcher alone ----

my $old = workers('postgres', 'pid');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($old)");
wait_until(sub { my $pid = workers('postgres', 'pid'); $pid ne '' && $pid ne $old }, 10, 'another dispatcher runs');
pass('a terminated dispatcher comes back');
quick_works('postgres', 'after that');
cancel_all('postgres');

# ---- DROP DATABASE WITH (FORCE) ----

# The launcher looks for new databases named in eduai.database when an
# extension is created there.
my $log_start = -s $node->logfile;
for my $round (1, 2)
{
	$node->safe_psql('postgres', 'CREATE DATABASE school');
	$node->safe_psql('school', 'CREATE EXTENSION eduai');
	prepare('school');
	quick_works('school', "database, round $round");
	hang('school', 100);
	my $start = time();
	$node->safe_psql('postgres', 'DROP DATABASE school WITH (FORCE)');
	diag sprintf 'DROP DATABASE WITH (FORCE): %.2f s with 100 transfers in flight', time() - $start;
	cmp_ok(time() - $start, '<', 4, 'DROP DATABASE does not wait for transfers');
	hanging_ends('DROP DATABASE');
}
# The launcher must have gone round a few times: the sweep of the other
# database's dispatcher is a clock for that.
my $sweeps = q{SELECT (w->>'wakes_by_timeout')::int FROM jsonb_array_elements(eduai.health()->'workers') w WHERE w->>'worker' = 'dispatcher'};
my $now = $node->safe_psql('postgres', $sweeps);
wait_until(sub { $node->safe_psql('postgres', $sweeps) >= $now + 3 }, 20, 'three sweeps pass');
my $log = slurp_file($node->logfile, $log_start);
unlike($log, qr/(?:FATAL|ERROR):.*does not exist/, 'no worker looks for the dropped database');
my @fatal = $log =~ /(FATAL:.*)/g;
cmp_ok(scalar @fatal, '<=', 6, 'only the terminated workers, three of each database, say FATAL') or diag "@fatal";

# ---- DROP EXTENSION ----

hang('postgres', 100);
$node->safe_psql('postgres', 'DROP EXTENSION eduai');
wait_until(sub { workers('postgres', 'pid') eq '' }, 5, 'the dispatcher leaves after DROP EXTENSION');
pass('the dispatcher leaves after DROP EXTENSION');
hanging_ends('DROP EXTENSION');
$node->safe_psql('postgres', 'CREATE EXTENSION eduai');
wait_until(sub { workers('postgres', 'pid') ne '' }, 10, 'it is back after CREATE EXTENSION');
pass('it is back after CREATE EXTENSION');
prepare('postgres');
quick_works('postgres', 'a new extension');

# ---- stop_workers() ----

hang('postgres', 100);
$node->safe_psql('postgres', 'SELECT eduai.stop_workers()');
is(workers('postgres', 'pid'), '', 'no worker is left when stop_workers() returns');
hanging_ends('stop_workers()');
is($node->safe_psql('postgres', q{SELECT code FROM eduai.health_problems() WHERE code = 'workers_stopped'}),
	'workers_stopped', 'health() says so');
# From another database: nobody may be connected to the template.
$node->safe_psql('template1', 'CREATE DATABASE copy TEMPLATE postgres');
pass('then the database can be copied');
$node->safe_psql('postgres', 'SELECT eduai.start_workers()');
wait_until(sub { workers('postgres', 'pid') ne '' }, 10, 'start_workers() starts them');
pass('start_workers() starts them');
wait_until(sub { sim_stats($sim)->{open} == 100 }, 20, 'the uncertain attempts are tried again');
cancel_all('postgres');
quick_works('postgres', 'after start_workers()');

$node->stop;
done_testing();
