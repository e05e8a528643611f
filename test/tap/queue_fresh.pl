# Fresh tasks, whose request is all that is written of them until they start: they
# are there exactly as their transactions say, start once and in their order, whatever
# is killed, prepared, restored, rewritten or full.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.sweep_interval' => '200ms', 'eduai.test_mode' => 'on', 'eduai.queue_fresh' => 64,
		'eduai.queue_max_size' => 0 });

sub q1 { return $node->safe_psql('postgres', $_[0]) }

sub enqueue
{
	my ($n, $more) = @_;
	return split /\n/, q1("SELECT eduai.enqueue('custom', jsonb_build_object('n', i)" . ($more // '') . ") FROM generate_series(1, $n) i");
}

sub fresh { return q1('SELECT coalesce(string_agg(task_id::text, \' \' ORDER BY task_id), \'\') FROM eduai.fresh_task') }

sub claim
{
	my ($most) = @_;
	return join ' ', split /\n/, q1("SELECT task_id FROM eduai.claim_tasks('w', '{custom}', $most, '1 hour')");
}

# completes what runs
sub finish { return q1(q{SELECT count(eduai.complete_task(task_id, attempt, '{}')) FROM eduai.task WHERE state = 'running'}) }

sub left { return q1('SELECT count(*) FROM eduai.task WHERE finished_at IS NULL') }

# ---- as the transaction says ----

my @ids = enqueue(5);
is(fresh(), "@ids", 'tasks are enqueued without a row of task_live');
is(claim(2), "@ids[0, 1]", 'they start in their order');
is(q1('SELECT count(*) FROM eduai.task_live'), 2, 'and have their rows then');
$node->safe_psql('postgres', q{BEGIN; SELECT count(*) FROM eduai.claim_tasks('w', '{custom}', 2, '1 hour'); ROLLBACK});
is(claim(9), "@ids[2 .. 4]", 'what a claim gave back is first again');
finish();

$node->safe_psql('postgres', <<'SQL');
BEGIN;
SELECT eduai.enqueue('custom', '{"kept": 1}');
SAVEPOINT a;
SELECT eduai.enqueue('custom', '{"undone": 1}');
ROLLBACK TO a;
SAVEPOINT b;
SELECT eduai.enqueue('custom', '{"kept": 2}');
RELEASE b;
DO $$ BEGIN PERFORM eduai.enqueue('custom', '{"undone": 2}'); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END $$;
COMMIT;
BEGIN;
SELECT eduai.enqueue('custom', '{"undone": 3}');
ROLLBACK;
SQL
is(q1(q{SELECT string_agg(payload::text, ' ' ORDER BY task_id) FROM eduai.claim_tasks('w', '{custom}', 9)}),
	'{"kept": 1} {"kept": 2}', 'savepoints and rollbacks');
finish();

# with others that have their rows at once
my @mixed = (enqueue(1), enqueue(1, q{, expires_at => now() + interval '1 day'}), enqueue(2), enqueue(1, q{, expires_at => now() + interval '1 day'}), enqueue(1));
is(claim(2), "@mixed[0, 1]", 'in the order in which they became ready, whatever they are');
is(claim(3), "@mixed[2 .. 4]", 'and on');
is(claim(9), $mixed[5], 'to the last');
finish();

# ---- PREPARE ----

for my $restart (0, 1)
{
	my $when = $restart ? ' after a restart' : '';
	my @before = enqueue(1);
	q1(q{BEGIN; SELECT eduai.enqueue('custom', '{"p": 1}'); SAVEPOINT s; SELECT eduai.enqueue('custom', '{"p": 2}'); ROLLBACK TO s; PREPARE TRANSACTION 'yes'});
	# what was known of the types is not any more
	q1(q{BEGIN; SELECT eduai.enqueue('custom', '{"p": 3}'); SELECT eduai.define_task_type('other', 'application', 'custom'); PREPARE TRANSACTION 'no'});
	q1(qq{BEGIN; SELECT eduai.add_dependency($before[0], ARRAY[]::bigint[]); PREPARE TRANSACTION 'touched'});
	is(claim(9), '', "what is prepared, or was touched by it, is not there");
	$node->restart if $restart;
	is(claim(9), '', "nor$when") if $restart;
	q1(q{COMMIT PREPARED 'yes'});
	q1(q{ROLLBACK PREPARED 'no'});
	q1(q{ROLLBACK PREPARED 'touched'});
	my @got;
	wait_until(sub { push @got, split /\n/, q1(q{SELECT payload FROM eduai.claim_tasks('w', '{custom}', 9)}); @got == 2 }, 20, 'both can be claimed');
	is("@{[sort @got]}", '{"n": 1} {"p": 1}', "each is there once it has ended$when");
	finish();
	is(left(), 0, "and no other$when");
}

# ---- crashes ----

@ids = enqueue(6);
my $open = EduaiSession->new($node);
$open->ask(q{BEGIN; SELECT eduai.enqueue('custom', '{"lost": 1}'); SELECT task_id FROM eduai.claim_tasks('w', '{custom}', 2, '1 hour');});
kill_server($node);
$node->start;
is(fresh(), "@ids", 'after a crash all that was committed is there, what was being claimed too');
is(claim(4), "@ids[0 .. 3]", 'and starts in its order');
kill_server($node);
$node->start;
is(claim(9), "@ids[4, 5]", 'what had started does not start again');
q1("SELECT eduai.complete_task($_, 1, '{}')") for @ids;
$node->restart;
is(claim(9), '', 'nor what has ended');
is(left(), 0, 'nothing is left');

# ---- what others see ----

# An old snapshot goes on seeing it as it was, and a claim reads nothing of the lane's index.
@ids = enqueue(3);
my $old = EduaiSession->new($node);
my $seen = "SELECT (SELECT ready FROM eduai.queue_status), state, attempt FROM eduai.get_task($ids[0]);";
$old->ask("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM eduai.queue_status;");
my $read = q{SELECT coalesce(sum(idx_scan), 0) FROM pg_stat_user_indexes WHERE indexrelname = 'task_live_lane'};
my $before = q1("SELECT pg_stat_force_next_flush(); $read");
is(claim(9), "@ids", 'they start beside an old snapshot');
is(q1("SELECT pg_stat_force_next_flush(); $read"), $before, "without a look into the lane's index");
finish();
wait_until(sub { q1('SELECT task_id FROM eduai.fresh_from') > $ids[-1] }, 20, 'fresh_from is past them');
is($old->ask($seen), '3|ready|0', 'the old snapshot has them as they were');
$old->ask('COMMIT;');
is($old->ask("SELECT count(*) FROM eduai.queue_status WHERE ready > 0; SELECT state FROM eduai.get_task($ids[0]);"), "0\ncompleted", 'a new one as they are');
$old->quit;

# ---- many at once ----

my $many = q{SELECT unnest(eduai.enqueue_batch('custom', array_fill('{}'::jsonb, ARRAY[%d])))};
@ids = split /\n/, q1(sprintf $many, 101);
is(fresh(), '', 'a large batch has its rows at once');
is(claim(200), "@ids", 'and starts in its order');
finish();
@ids = split /\n/, q1(sprintf $many, 20);
is(fresh(), "@ids", 'a small one has not');
is(claim(200), "@ids", 'and starts in its order, too');
finish();

# ---- full ----

@ids = enqueue(200);
cmp_ok(q1('SELECT count(*) FROM eduai.fresh_task'), '<=', 64, 'there are as many as there is room for');
is(q1('SELECT ready FROM eduai.queue_status'), 200, 'the others have their rows: all are counted');
my @got = map { split / /, claim(7) } 1 .. 30;
is("@got", "@ids", 'all start in their order');
finish();

# old ones make room
@ids = enqueue(64);
my @more = map { my @t = enqueue(40, q{, expires_at => now() + interval '1 day'}); @t } 1 .. 3;
wait_until(sub { q1('SELECT count(*) FROM eduai.fresh_task') <= 48 }, 20, 'old ones get their rows');
push @more, enqueue(3);
my $newest = "@more[-3 .. -1]";
like(fresh(), qr/\b$newest$/, 'new ones have room again');
wait_until(sub { q1('SELECT task_id = (SELECT min(task_id) FROM eduai.fresh_task) FROM eduai.fresh_from') eq 't' }, 20, 'fresh_from is the oldest');
pass('fresh_from is the oldest that is fresh');
@got = map { split / /, claim(50) } 1 .. 5;
is("@got", "@ids @more", 'and all start in their order');
finish();
wait_until(sub { q1('SELECT task_id FROM eduai.fresh_from') > $more[-1] }, 20, 'fresh_from moves on');

# more than there is room for, after a restart
@ids = enqueue(60);
$node->append_conf('postgresql.conf', 'eduai.queue_fresh = 16');
$node->restart;
is(q1('SELECT ready FROM eduai.queue_status'), 60, 'with less room after a restart all are counted');
is(q1("SELECT eduai.cancel_task($ids[50])"), 't', 'one that found no room is cancelled');
@got = ();
wait_until(sub { push @got, split / /, claim(5); @got >= 59 }, 30, 'they start as there is room');
is(scalar(@got), 59, 'each once');
is("@{[sort { $a <=> $b } @got]}", join(' ', grep { $_ != $ids[50] } @ids), 'but the cancelled one');
finish();
is(left(), 0, 'nothing is left');

# ---- rows that move, come and go ----

@ids = enqueue(6);
q1('VACUUM FULL eduai.task_request');
@got = ();
wait_until(sub { push @got, split / /, claim(3); @got >= 6 }, 20, 'they start');
is("@got", "@ids", 'requests that were rewritten are found');
finish();

@ids = enqueue(4);
q1("DELETE FROM eduai.task_request WHERE task_id = $ids[0]");
@got = ();
wait_until(sub { push @got, split / /, claim(2); @got >= 3 }, 20, 'they start');
is("@got", "@ids[1 .. 3]", 'a request that somebody has deleted holds nobody up');
finish();

# as a restore would: rows, then the sequence
q1(<<'SQL');
INSERT INTO eduai.task_request (tenant_id, task_id, task_type, priority, max_attempts, timeout_ms, owner, enqueued_at, payload, metadata)
SELECT 'default', (SELECT last_value FROM eduai.task_id_seq) + i, 'custom', 2, 3, 60000, current_user, now(), '{"restored": 1}', '{}' FROM generate_series(1, 5) i;
SELECT setval('eduai.task_id_seq', (SELECT last_value FROM eduai.task_id_seq) + 5);
SQL
@ids = enqueue(1);
my $n = 0;
wait_until(sub { $n += split / /, claim(9); $n >= 6 }, 20, 'what was restored starts');
is($n, 6, 'each once');
finish();

# ---- old ones ----

@ids = enqueue(1);
is(q1('SELECT count(*) FROM eduai.task_live'), 0, 'it waits without a row');
wait_until(sub { q1('SELECT count(*) FROM eduai.task_live') == 1 }, 30, 'one that waits for ten seconds gets its row');
is(claim(9), "@ids", 'and starts all the same');
finish();

# ---- another installation ----

@ids = enqueue(5);
q1('DROP EXTENSION eduai CASCADE; CREATE EXTENSION eduai');
@ids = enqueue(2);
is(claim(9), "@ids", 'of a dropped installation nothing is left');
is(left(), 2, 'in no list');

done_testing();
