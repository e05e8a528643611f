# A transaction may lock 50,000 streams, learners and event ids with the lock
# table as small as PostgreSQL's defaults make it, alone and beside others.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(
	conf => { max_connections => 100, max_locks_per_transaction => 64, max_prepared_transactions => 4, shared_buffers => '256MB',
		max_wal_size => '4GB', 'eduai.queue_max_size' => 100_000 });
my $sim = start_simulator();
add_fleet($node, $sim);
my $many = 50_000;

sub value { return $node->safe_psql('postgres', $_[0]) }

# The call that appends one event to each of the streams PREFIX1 .. PREFIXn,
# about a learner of the same name unless more arguments say otherwise.
sub bulk
{
	my ($prefix, $n, %option) = @_;
	my $order = $option{order} // 'n';
	my $users = $option{users} // "array_agg('$prefix' || n ORDER BY $order)";
	my $ids = $option{ids} ? ', event_ids => array_agg(md5(n::text)::uuid)' : '';
	my $from = $option{from} // 1;
	return "SELECT eduai.append_batch(array_agg('$prefix' || n ORDER BY $order), array_agg('note'::text), "
	  . "array_agg('{}'::jsonb), $users$ids) FROM generate_series($from, $n) AS n;";
}

# A block that appends to the streams one after the other, in order or shuffled.
sub singles
{
	my ($prefix, $n, $stride) = @_;
	return "DO \$\$ DECLARE n bigint; BEGIN FOR n IN 0 .. $n - 1 LOOP"
	  . " PERFORM eduai.append_event('$prefix' || n * $stride % $n, 'note', '{}', user_id => '$prefix' || n * $stride % $n);"
	  . ' END LOOP; END $$;';
}

sub append { return "SELECT version FROM eduai.append_event('$_[0]', 'note', '{}');" }

sub events_of { return value("SELECT count(*), count(DISTINCT stream) FROM eduai.event WHERE stream LIKE '$_[0]%'") }

# True while the session waits for one of eduai's locks (classes in lock.h).
sub waits
{
	my ($pid, $class) = @_;
	return value("SELECT count(*) FROM pg_locks WHERE pid = $pid AND NOT granted AND locktype = 'advisory'"
		  . ($class ? " AND objsubid::int & 65535 = $class" : '')) > 0;
}

my ($turn, $door, $stream_class, $last_class) = (0xED01, 0xED02, 0xED12, 0xED15);

# ---- one transaction ----

is(value(bulk('bulk-', $many)), $many, 'one call appends to 50,000 streams about 50,000 learners');
is(events_of('bulk-'), "$many|$many", 'each has its event');
is(value(bulk('given-', $many, ids => 1)), $many, 'and with 50,000 given event ids');
is(value(bulk('given-', $many, ids => 1)), 0, 'which can be repeated');
value(singles('single-', $many, 1));
is(events_of('single-'), "$many|$many", '50,000 calls append to 50,000 streams in one transaction');
value(singles('mixed-', $many, 7919));
is(events_of('mixed-'), "$many|$many", 'and in mixed order');
is(value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid::int & 65535 BETWEEN $turn AND $last_class"), 0, 'no lock is left');

is(value("BEGIN; SELECT cardinality(eduai.enqueue_batch('chat', array_agg('{\"messages\": []}'::jsonb), "
		  . "unique_keys => array_agg('key-' || n))) FROM generate_series(1, $many) AS n; ROLLBACK;"),
	$many, '50,000 tasks with unique keys in one call');

# ---- several at once ----

my @session = map { EduaiSession->new($node) } 1 .. 7;
my $live = pop @session;
my ($first_pid, $second_pid) = map { $_->backend_pid } @session[ 0, 1 ];
$session[$_]->send(bulk("at-once-$_-", $many)) for 0 .. 3;
$session[$_]->send(singles("at-once-$_-", $many / 5, 7919)) for 4 .. 5;
my ($appended, $wrong) = (0, '');
until (grep({ $_->answered } @session) == @session)
{
	my $answer = $live->ask(append("at-once-" . $appended % 4 . '-' . (1 + $appended % $many)), 120);
	$answer =~ /^\d+$/ ? $appended++ : ($wrong .= $answer);
	last if $wrong;
}
is(join(' ', map { $_->answer(120) } @session[ 0 .. 3 ]), "$many $many $many $many", 'four calls over 50,000 streams at once');
is(join('', map { $_->answer(120) } @session[ 4, 5 ]), '', 'and two transactions of 10,000 calls beside them');
is($wrong, '', 'single appends to the same streams beside them succeed');
cmp_ok($appended, '>', 0, 'there were some');
is(value("SELECT count(*) FROM eduai.event WHERE stream LIKE 'at-once-%'"), $many * 4 + $many / 5 * 2 + $appended, 'every event is there');
is(value("SELECT count(*) FROM (SELECT count(*) AS n, max(version) AS last FROM eduai.event WHERE stream LIKE 'at-once-%' GROUP BY stream) AS s WHERE n <> last"),
	0, 'and numbered without a gap');

# ---- opposite orders ----

# Two calls at once: while a third session holds something, each waits, and then
# both go on. Says what they returned.
my $gate = EduaiSession->new($node);

sub two_calls
{
	my ($held, $first, $second) = @_;
	$gate->ask("BEGIN; $held");
	$session[0]->send($first);
	wait_until(sub { waits($first_pid) }, 30, 'the first call waits');
	$session[1]->send($second);
	wait_until(sub { waits($second_pid) }, 30, 'the second call waits');
	$gate->ask('COMMIT;');
	return $session[0]->answer . ' ' . $session[1]->answer;
}

is(two_calls(append('turn-4321'), bulk('turn-', 9000), bulk('turn-', 9000, from => 2000, order => 'n DESC')),
	'9000 7001', 'two large calls with the same streams in opposite orders');
is(value(q{SELECT string_agg(DISTINCT n::text, ' ') FROM (SELECT count(*) AS n FROM eduai.event WHERE stream LIKE 'turn-%' GROUP BY stream) AS s}),
	'1 2 3', 'took turns');

# The learners are given in opposite orders; the streams differ.
is(two_calls("SELECT version FROM eduai.append_event('gate', 'note', '{}', user_id => 'both-5');",
		bulk('left-', 10, users => "array_agg('both-' || n ORDER BY n)"),
		bulk('right-', 10, users => "array_agg('both-' || n ORDER BY n DESC)")),
	'10 10', 'two small calls with the same learners in opposite orders');

# The first has few streams and many learners: it must not want the bulk turn
# when it has its streams already.
is(two_calls(append('few-9'),
		"SELECT eduai.append_batch(array_agg('few-' || n % 20), array_agg('note'::text), array_agg('{}'::jsonb), "
		  . "array_agg('few-' || n)) FROM generate_series(1, 2000) AS n;",
		bulk('few-', 2000, users => 'NULL')),
	'2000 2000', 'a call with many learners and one with many streams');

# Two streams of one group, by the keys of lock.h: the small call has the first
# and waits for the second, when a bulk closes the group and wants the first.
my ($lower, $higher) = split /\n/, value(q{
	WITH stream AS (SELECT 'pair-' || n AS name, hashtextextended('pair-' || n, hashtextextended('default', 0)) AS key
		FROM generate_series(1, 2000) AS n),
	pair AS (SELECT a.name AS lower, b.name AS higher FROM stream AS a JOIN stream AS b
		ON a.key >> 50 = b.key >> 50 AND a.key < b.key ORDER BY 1 LIMIT 1)
	SELECT unnest(ARRAY[lower, higher]) FROM pair});
is(two_calls(append($higher),
		"SELECT eduai.append_batch('{$lower, $higher}', '{note, note}', '{\"{}\", \"{}\"}');",
		"SELECT eduai.append_batch(array_agg(s), array_agg('note'::text), array_agg('{}'::jsonb)) "
		  . "FROM (SELECT 'pair-' || n AS s FROM generate_series(1, 2000) AS n) AS p WHERE s <> '$higher';"),
	'2 1999', 'a small and a large call with the same stream');

# small ones, which keep fine locks, and a large one in their middle
my $deadlocks = value('SELECT sum(deadlocks) FROM pg_stat_database');
for my $round (1 .. 20)
{
	$session[0]->send(bulk('small-', 300));
	$session[1]->send(bulk('small-', 300, order => 'n DESC'));
	$session[2]->send(bulk('small-', 3000, order => 'n % 7, n'));
	$session[3]->send(bulk('small-', 200, order => 'n % 11, n', from => 50));
	$session[4]->send(bulk('small-', 2900, order => 'n % 13, n', from => 30));
	my $answers = join ' ', map { $session[$_]->answer(60) } 0 .. 4;
	is($answers, '300 300 3000 151 2871', "calls of all sizes at once, round $round") or last;
}
is(value('SELECT sum(deadlocks) FROM pg_stat_database'), $deadlocks, 'nobody was deadlocked');

# ---- a bulk that stays open ----

my ($holder, $waiter, $other) = @session;
is($holder->ask('BEGIN; ' . bulk('held-', 2000, users => 'NULL')), 2000, 'a transaction has 2,000 streams');
cmp_ok(value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = " . $holder->backend_pid), '<=', 2, 'with two locks');
my ($beside, $blocked, $n) = (0, '', 0);
until ($beside && $blocked)
{
	die 'no group is closed, or every one' if $n++ > 2000;
	my $answer = $other->ask("SET lock_timeout = '20ms'; " . append("free-$n"));
	if ($answer eq '1') { $beside++ }
	elsif ($answer =~ /55P03/) { $blocked = "free-$n" }
	else { die $answer }
}
pass('others append to streams of other groups');
my $waiter_pid = $waiter->backend_pid;
$waiter->send(append('held-7'));
wait_until(sub { waits($waiter_pid, $door) }, 10, 'an append to one of its streams waits');
my $group_pid = $other->backend_pid;
$other->send('SET lock_timeout = 0; ' . append($blocked));
wait_until(sub { waits($group_pid, $door) }, 10, 'and one to a stream of the same group');
my $bulk_pid = $session[3]->backend_pid;
$session[3]->send(bulk('another-', 2000));
wait_until(sub { waits($bulk_pid, $turn) }, 10, 'and another bulk, for its turn');
$holder->ask('COMMIT;');
is($waiter->answer(10), 2, 'the first goes on at the commit');
is($other->answer(10), 1, 'so does the second');
is($session[3]->answer(60), 2000, 'so does the bulk');

# A fine lock is not lost to a bulk that comes later, and the other way round.
is($holder->ask('BEGIN; ' . append('fine-70')), 1, 'a stream is held by a fine lock');
$waiter->send(bulk('fine-', 2000));
wait_until(sub { waits($waiter_pid, $stream_class) }, 10, 'a bulk waits for it');
is($holder->ask(append('fine-70') . ' COMMIT;'), 2, 'its owner goes on');
is($waiter->answer(10), 2000, 'and then the bulk');
is(value("SELECT max(version) FROM eduai.event WHERE stream = 'fine-70'"), 3, 'in this order');

# ---- savepoints ----

is($holder->ask('BEGIN; SAVEPOINT a; ' . bulk('sub-', 2000, users => 'NULL')), 2000, 'a bulk in a savepoint');
$holder->ask('ROLLBACK TO a;');
is($waiter->ask("SET lock_timeout = '5s'; " . append('sub-7')), 1, 'its streams are free when it is rolled back');
is($waiter->ask(bulk('sub-', 2000, users => 'NULL')), 2000, 'and its turn');
is($holder->ask('SAVEPOINT b; ' . bulk('sub-', 2000, users => 'NULL') . ' RELEASE b;'), 2000, 'a bulk in a savepoint that is released');
$waiter->send('SET lock_timeout = 0; ' . append('sub-7'));
wait_until(sub { waits($waiter_pid, $door) }, 10, 'keeps its streams');
$holder->ask('ROLLBACK;');
is($waiter->answer(10), 3, 'to the end');
$holder->ask('BEGIN; SAVEPOINT a; ' . append('sub-7') . ' ROLLBACK TO a;');
is($waiter->ask("SET lock_timeout = '5s'; " . append('sub-7')), 4, 'a fine lock is given back too');
$holder->ask('COMMIT;');

like($holder->ask('BEGIN; ' . bulk('prepared-', 2000) . " PREPARE TRANSACTION 'bulk';"), qr/0A000/, 'a bulk cannot be prepared');
is($waiter->ask(append('prepared-7')), 1, 'and leaves nothing locked');

# ---- the process that records results ----

$holder->ask('BEGIN; ' . bulk('learner-', $many, users => "array_agg('' || n ORDER BY n)"));
my $task = value(q{SELECT eduai.enqueue('chat', '{"messages": [{"role": "user", "content": "hello"}]}', user_id => '7')});
my $free = value(q{SELECT eduai.enqueue('chat', '{"messages": [{"role": "user", "content": "hello"}]}')});
wait_for_task($node, $free, 'completed', 20);
wait_until(sub { sim_stats($sim)->{completed} == 2 }, 20, 'both are answered');
my $again = value(q{SELECT eduai.enqueue('chat', '{"messages": [{"role": "user", "content": "hello"}]}')});
wait_for_task($node, $again, 'completed', 20);
is(value("SELECT state FROM eduai.get_task($task)"), 'running', 'a result about a locked learner waits, and holds up nobody');
is(value("SELECT count(*) FROM pg_locks WHERE NOT granted"), 0, 'the dispatcher waits for no lock');
$holder->ask('COMMIT;');
wait_for_task($node, $task, 'completed', 20);
is(value("SELECT max(version) FROM eduai.event WHERE stream = 'learner-7'"), 2, 'and is recorded after the commit');

$_->quit for @session, $live, $gate;
unlike(slurp_log(), qr/out of shared memory|deadlock detected/, 'the server never lacked memory for locks, and saw no deadlock');
done_testing();

sub slurp_log { return PostgreSQL::Test::Utils::slurp_file($node->logfile) }
