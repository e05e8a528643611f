# The launcher keeps a dispatcher in each served database that has the extension,
# whatever comes and goes.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(conf => { 'eduai.sweep_interval' => '1s', 'eduai.queue_max_size' => 5, autovacuum => 'off', max_worker_processes => 40 });
my $sim = start_simulator();
sim_default($sim, 'sim-chat', 'latency=5');
sim_default($sim, 'sim-silent', 'silent');

sub prepare
{
	my ($database) = @_;
	add_fleet($node, $sim, database => $database);
	add_fleet($node, $sim, database => $database, provider => 'mute', model => 'sim-silent', options => { first_byte_ms => 3600000 });
}

sub value { return $node->safe_psql('postgres', $_[0]) }

sub worker
{
	my ($kind, $database) = @_;
	my $where = defined $database ? "AND datname = '$database'" : '';
	return value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'eduai $kind' $where");
}

sub enqueue_sql
{
	my ($model, $n) = @_;
	return qq{SELECT eduai.enqueue('chat', '{"model": "$model", "messages": [{"role": "user", "content": "hello"}]}') FROM generate_series(1, @{[$n // 1]});};
}

sub works
{
	my ($database, $what, $deadline_s) = @_;
	my $id = $node->safe_psql($database, enqueue_sql('sim-chat'));
	wait_until(sub { $node->safe_psql($database, "SELECT state FROM eduai.get_task($id)") eq 'completed' }, $deadline_s // 10, "$what: a task completes");
	pass("$what: a task completes");
}

prepare('postgres');
works('postgres', 'at first');

# ---- the launcher itself ----

my $launcher = worker('launcher');
value("SELECT pg_terminate_backend($launcher)");
wait_until(sub { my $pid = worker('launcher'); $pid ne '' && $pid ne $launcher }, 10, 'another launcher runs');
pass('a terminated launcher comes back');
works('postgres', 'with another launcher');
wait_until(sub { worker('dispatcher', 'postgres') =~ /^\d+$/ }, 10, 'one dispatcher runs');
pass('with one dispatcher');

# ---- databases that are no longer served ----

value('CREATE DATABASE school');
$node->safe_psql('school', 'CREATE EXTENSION eduai');
prepare('school');
is(worker('dispatcher', 'school'), '', 'a database that is not named has no dispatcher');
$node->append_conf('postgresql.conf', "eduai.database = 'postgres, school'");
$node->reload;
works('school', 'named');
$node->append_conf('postgresql.conf', "eduai.database = 'postgres'");
$node->reload;
wait_until(sub { worker('dispatcher', 'school') eq '' }, 10, 'its dispatcher leaves');
pass('its dispatcher leaves when it is named no more');
is($node->safe_psql('school', q{SELECT string_agg(code, ',') FROM eduai.health_problems()}), 'database_not_served', 'health() says so');
works('postgres', 'the other database');
$node->append_conf('postgresql.conf', "eduai.database = 'school, postgres'");
$node->reload;
works('school', 'named again');
value('DROP DATABASE school WITH (FORCE)');

# ---- DROP EXTENSION that is taken back ----

my $session = EduaiSession->new($node);
my $before = worker('dispatcher', 'postgres');
unlike($session->ask('BEGIN; DROP EXTENSION eduai; ROLLBACK;'), qr/ERROR/, 'DROP EXTENSION, rolled back');
works('postgres', 'after that');
unlike($session->ask('BEGIN; SAVEPOINT s; DROP EXTENSION eduai; ROLLBACK TO s; COMMIT;'), qr/ERROR/, 'in a savepoint');
works('postgres', 'after that');
is(worker('dispatcher', 'postgres'), $before, 'the dispatcher never left');

# ---- an extension that is made anew ----

value(enqueue_sql('sim-silent', 5));
like($session->ask(enqueue_sql('sim-chat')), qr/UE003/, 'the queue is full');
value('DROP EXTENSION eduai; CREATE EXTENSION eduai');
prepare('postgres');
works('postgres', 'a new extension has an empty queue');
value(enqueue_sql('sim-silent', 5));
like($session->ask(enqueue_sql('sim-chat')), qr/UE003/, 'which is counted');
$session->quit;

# ---- many databases, one after the other ----

# Shared memory has room for 64: those of dropped ones are used again.
my @names = map { "d$_" } 1 .. 17;
$node->append_conf('postgresql.conf', 'eduai.database = \'' . join(', ', @names, 'postgres', 'last') . '\'');
for my $round (1 .. 4)
{
	$node->psql('postgres', "CREATE DATABASE $_") for @names;
	$node->reload;
	# A worker has come, has found no extension and is gone; nobody else was there.
	wait_until(sub { value(q{SELECT count(*) FROM pg_stat_database WHERE datname ~ '^d\d' AND xact_commit > 0}) == @names }, 20, 'all had a worker');
	$node->psql('postgres', "DROP DATABASE $_ WITH (FORCE)") for @names;
}
value('CREATE DATABASE last');
$node->safe_psql('last', 'CREATE EXTENSION eduai');
prepare('last');
works('last', 'the 69th database');
unlike(slurp_file($node->logfile), qr/serves at most/, 'the launcher never ran out of places');

$node->stop;
done_testing();
