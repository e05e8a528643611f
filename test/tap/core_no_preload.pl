# Servers that are not set up as eduai wants: each says what is missing, and does
# what can be done all the same.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $hello = q{'{"messages": [{"role": "user", "content": "hello"}]}'};

sub problems
{
	my ($node, $database) = @_;
	return $node->safe_psql($database // 'postgres', q{SELECT string_agg(code, ',' ORDER BY code) FROM eduai.health_problems()});
}

sub wait_for_log
{
	my ($node, $pattern, $what) = @_;
	wait_until(sub { PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ $pattern }, 20, $what);
	pass($what);
}

# ---- without shared_preload_libraries ----

my $bare = new_node(name => 'bare', conf => { shared_preload_libraries => '' });
is($bare->safe_psql('postgres', 'SELECT eduai.preloaded()'), 'f', 'the extension is created without preload');
my $session = EduaiSession->new($bare);
is($session->ask(q{SELECT count(*) FROM eduai.read_stream('learner-a');}), '0', 'streams can be read');
is($session->ask(q{SELECT count(*) FROM eduai.read_all();}), '0', 'the feed can be read');
is($session->ask(q{SELECT eduai.user_progress('a')->>'exercises_completed';}), '0', 'progress can be read');
is($session->ask(q{SELECT eduai.health()->>'status', jsonb_array_length(eduai.health()->'workers');}), 'down|0', 'health() works');
like(problems($bare), qr/\bnot_preloaded\b/, 'and says what is missing');
for my $call (
	q{eduai.append_event('learner-a', 'x')}, q{eduai.publish_event('x', 'a', NULL)},
	"eduai.enqueue('chat', $hello)", "eduai.enqueue_batch('chat', ARRAY[$hello]::jsonb[])", q{eduai.wait_task(1, '0 s')},
	q{eduai.wait_tasks('{1}', '0 s')}, 'eduai.task_output(1)', "eduai.append_output(1, 1, 'x')", 'eduai.cancel_task(1)', 'eduai.retry_task(1)', 'eduai.stop_workers()', 'eduai.start_workers()')
{
	my $answer = $session->ask("SELECT $call;");
	my ($name) = $call =~ /eduai\.(\w+)/;
	like($answer, qr/ERROR:  UE011: /, "$name raises UE011");
	like($answer, qr/HINT:  .*shared_preload_libraries/, "$name tells how to set it up");
}
like($session->ask(qq{CALL eduai.await_task(1, '0 s', NULL);}), qr/UE011/, 'await_task raises UE011');
is($session->ask(q{SELECT count(*) FROM eduai.queue_status;}), '0', 'views are there');
is($session->ask(q{SELECT eduai.add_provider('p', 'openai', 'https://provider.example/v1'); SELECT eduai.add_instance('i', 'p', 'm');}) =~ /ERROR/ ? 0 : 1,
	1, 'providers can be set up');
is($session->ask('DROP EXTENSION eduai CASCADE; SELECT 1;') =~ /(\d)$/ ? $1 : '', '1', 'the extension can be dropped');
$session->quit;

# Preloaded afterwards, it serves what was made before.
$bare->safe_psql('postgres', 'CREATE EXTENSION eduai');
$bare->append_conf('postgresql.conf', "shared_preload_libraries = 'eduai'");
$bare->restart;
wait_until(sub { $bare->safe_psql('postgres', q{SELECT string_agg(w->>'state', ',') FROM jsonb_array_elements(eduai.health()->'workers') w}) eq 'running,running,running' }, 20, 'the workers run');
pass('after a restart with preload the workers run');
is(problems($bare), '', 'and nothing is wrong');
$bare->stop;

# ---- another database than the one that is served ----

my $other = new_node(name => 'other', conf => { 'eduai.database' => 'school' });
my $sim = start_simulator();
like(problems($other), qr/\bdatabase_not_served\b/, 'a database that eduai.database does not name');
add_fleet($other, $sim);
my $task = $other->safe_psql('postgres', "SELECT eduai.enqueue('chat', $hello)");
is($other->safe_psql('postgres', "SELECT state FROM eduai.wait_task($task, '1 s')"), 'ready', 'its tasks wait');
is($other->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'eduai dispatcher%'}), '0', 'no dispatcher runs');
$other->safe_psql('postgres', q{ALTER SYSTEM SET eduai.database = 'school, postgres'});
$other->reload;
wait_for_task($other, $task, 'completed', 20);
pass('and run when it is named and the configuration reloaded');
is(problems($other), '', 'nothing is wrong then');
unlike(PostgreSQL::Test::Utils::slurp_file($other->logfile), qr/FATAL:.*"school"/, 'a database that does not exist is no error');
$other->stop;

# ---- no background worker to be had ----

# One for the launcher, none for a dispatcher. (logical replication's launcher
# takes a place too, unless it has nothing to launch.)
my $small = new_node(name => 'small', conf => { max_worker_processes => 1, max_logical_replication_workers => 0 });
wait_for_log($small, qr/no background worker is left.*\n.*HINT:.*max_worker_processes/, 'the log says that there is no background worker left, and what to do');
like(problems($small), qr/\bworker_not_running\b/, 'so does health()');
is($small->safe_psql('postgres', 'SELECT 1'), '1', 'the server is up');
my $lines = () = PostgreSQL::Test::Utils::slurp_file($small->logfile) =~ /no background worker is left/g;
cmp_ok($lines, '<=', 2, 'the log does not repeat itself');
$small->append_conf('postgresql.conf', 'max_worker_processes = 5');
$small->restart;
wait_until(sub { problems($small) eq '' }, 20, 'all is well');
pass('with more of them all is well');
$small->stop;

my $none = new_node(name => 'none', conf => { max_worker_processes => 0, max_logical_replication_workers => 0, max_parallel_workers => 0 });
is($none->safe_psql('postgres', 'SELECT 1'), '1', 'a server without any background worker starts');
like(problems($none), qr/\bworker_not_running\b/, 'and health() says what is missing');
$none->stop;

done_testing();
