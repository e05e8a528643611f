
# Lanes: each ready task is claimed once, whatever its transaction and those of
# the claimers do, and a claim reads as little of the index with dead entries and
# a held snapshot as without.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = test_seed();
my $node = new_node(
	conf => {
		'eduai.test_mode' => 'on',
		'eduai.sweep_interval' => '200ms',
		'eduai.queue_max_size' => 0,
		# all have their rows at once, and their places in the index
		'eduai.queue_fresh' => 0,
		max_connections => 120,
		autovacuum => 'off' });
$node->safe_psql('postgres', q{
	SELECT eduai.configure_pool('custom', '{custom}', 100000, reserved_critical => 0);
	CREATE TABLE made (task_id bigint);
	CREATE TABLE claimed (task_id bigint);
});

my $claim = q{SELECT coalesce(array_length(eduai.test_claim('default', '{custom}', %d), 1), 0)};
my $lane = q{SELECT eduai.test_lane('default', 'custom', NULL, 'normal')};

sub claim { return $node->safe_psql('postgres', sprintf($claim, shift)) }

# Ids of what there is, waited for.
sub await_claim
{
	my ($most) = @_;
	return $node->safe_psql('postgres',
		qq{SET statement_timeout = '30s'; SELECT array_to_string(eduai.test_await_claim('default', '{custom}', $most), ' ')});
}

sub enqueue { return $node->safe_psql('postgres', q{SELECT eduai.enqueue('custom', '{}')}) }

# Ends all tasks; their entries stay in the index.
sub end_all
{
	$node->safe_psql('postgres', 'SELECT count(eduai.cancel_task(task_id)) FROM eduai.task_live');
}

# ---- late committers ----

{
	my $late = EduaiSession->new($node);
	my $x = $late->ask(q{BEGIN; SELECT eduai.enqueue('custom', '{}');});
	my $y = enqueue();
	is(await_claim(5), $y, 'what committed is claimed, what did not is not');
	is(claim(5), 0, 'not later either');
	$late->ask('COMMIT;');
	is($node->safe_psql('postgres', $lane), '{"pins": 0, "scans": 0, "marked": false, "strays": 1}', 'a stray at the late commit');
	is(await_claim(5), $x, 'and it is claimed');
	$late->quit;
}

# ---- the cost ----

# Entries of the index that the claim of one task reads.
sub cost
{
	my ($session) = @_;
	my $read = q{SELECT pg_stat_get_xact_tuples_returned('eduai.task_live_lane'::regclass)};
	my ($before, $claimed, $after) = split /\n/, $session->ask(sprintf("BEGIN; $read; $claim; $read; COMMIT;", 1));
	die "claimed $claimed" unless $claimed == 1;
	return $after - $before;
}

{
	my $holder = EduaiSession->new($node);
	my $claimer = EduaiSession->new($node);

	end_all();
	$node->safe_psql('postgres', 'VACUUM eduai.task_live');
	$node->safe_psql('postgres', q{SELECT eduai.enqueue_batch('custom', array_fill('{}'::jsonb, '{10}'))});
	claim(1);
	my $before = cost($claimer);
	is($before, 2, 'a claim reads the entry of its task and the next one');
	$holder->ask('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM made;');
	$node->safe_psql('postgres', q{SELECT eduai.enqueue_batch('custom', array_fill('{}'::jsonb, '{3000}'))});
	is(claim(3000), 3000, 'many are claimed');
	end_all();
	$node->safe_psql('postgres', q{SELECT eduai.enqueue_batch('custom', array_fill('{}'::jsonb, '{1000}'))});
	claim(1);
	is(cost($claimer), $before, 'the same after thousands were done, with a snapshot held that needs their rows');
	$node->safe_psql('postgres', q{SELECT eduai.enqueue_batch('custom', array_fill('{}'::jsonb, '{5000}'))});
	is(cost($claimer), $before, 'and with thousands waiting');

	# A late one is read by itself, not with all that lies behind it.
	my $late = EduaiSession->new($node);
	$late->ask(q{BEGIN; SELECT eduai.enqueue('custom', '{}');});
	$node->safe_psql('postgres', q{SELECT eduai.enqueue_batch('custom', array_fill('{}'::jsonb, '{1000}'))});
	claim(100000);
	$late->ask('COMMIT;');
	is(cost($claimer), 1, 'a task that committed late costs no more');
	$holder->ask('COMMIT;');
	$_->quit for $holder, $claimer, $late;
	end_all();
}

# ---- sessions that end ----

{
	$node->safe_psql('postgres', q{SELECT eduai.enqueue_batch('custom', array_fill('{}'::jsonb, '{3}'))});
	my $claimer = EduaiSession->new($node);
	is($claimer->ask('BEGIN; ' . sprintf($claim, 3) . ';'), 3, 'claimed');
	is(claim(3), 0, 'so nobody else has them');
	$node->safe_psql('postgres', q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE state = 'idle in transaction'});
	wait_until(sub { claim(3) == 3 }, 20, 'a terminated claimer gives back');
	end_all();

	# in the middle of a claim: what it has of the lane is given back; without the sweep,
	# which would take a task that is held that long for a forgotten one
	$node->safe_psql('postgres', q{ALTER SYSTEM SET eduai.sweep_interval = '1h'});
	$node->restart;
	$node->safe_psql('postgres', q{SELECT eduai.enqueue_batch('custom', array_fill('{}'::jsonb, '{3}'))});
	for my $how (qw(cancel terminate))
	{
		$claimer = EduaiSession->new($node);
		my $pid = $claimer->backend_pid;
		my $before = $node->safe_psql('postgres', $lane);
		$node->safe_psql('postgres', q{SELECT eduai.test_pause('claim-started', true)});
		$claimer->send(sprintf($claim, 3) . ';');
		wait_until(sub { $node->safe_psql('postgres', q{SELECT eduai.test_paused('claim-started')}) == 1 }, 20, 'it claims');
		is($node->safe_psql('postgres', $lane), '{"pins": 0, "scans": 1, "marked": false, "strays": 0}', 'it has the lane');
		$node->safe_psql('postgres', "SELECT pg_${how}_backend($pid)");
		$node->safe_psql('postgres', q{SELECT eduai.test_pause('claim-started', false)});
		like($claimer->answer(20) // $claimer->drain, qr/57014|57P01/, "$how");
		$claimer->quit;
		wait_until(sub { $node->safe_psql('postgres', $lane) !~ /"scans": 1/ }, 20, 'it has left');
		is($node->safe_psql('postgres', $lane), $before, 'the lane is as before');
		$node->safe_psql('postgres', sprintf("BEGIN; $claim; ROLLBACK", 3));
	}
	is(claim(5), 3, 'all are there');
	end_all();

	$node->safe_psql('postgres', q{ALTER SYSTEM RESET eduai.sweep_interval});
	$node->restart;

	# a task whose request somebody has deleted does not stop the others
	my $x = enqueue();
	$node->safe_psql('postgres', "DELETE FROM eduai.task_request WHERE task_id = $x");
	my $y = enqueue();
	is(await_claim(2), $y, 'a task without its request is passed over');
	end_all();
}

# ---- many at once ----

{
	my $dir = PostgreSQL::Test::Utils::tempdir();

	append_to_file("$dir/enqueue.sql", q{
\set n random(1, 5)
\set r random(1, 6)
BEGIN;
INSERT INTO made SELECT eduai.enqueue('custom', '{}') FROM generate_series(1, :n);
\if :r = 1
ROLLBACK;
\elif :r = 2
SAVEPOINT s;
INSERT INTO made SELECT eduai.enqueue('custom', '{}') FROM generate_series(1, :n);
ROLLBACK TO s;
COMMIT;
\elif :r = 3
INSERT INTO made SELECT unnest(eduai.enqueue_batch('custom', array_fill('{}'::jsonb, ARRAY[:n])));
COMMIT;
\else
COMMIT;
\endif
});
	append_to_file("$dir/claim.sql", q{
\set n random(1, 20)
\set r random(1, 5)
BEGIN;
INSERT INTO claimed SELECT unnest(eduai.test_claim('default', '{custom}', :n));
\if :r = 1
ROLLBACK;
\elif :r = 2
SAVEPOINT s;
INSERT INTO claimed SELECT unnest(eduai.test_claim('default', '{custom}', :n));
ROLLBACK TO s;
COMMIT;
\else
COMMIT;
\endif
});
	$node->command_ok(
		[ 'pgbench', '-n', '-c', 64, '-j', 2, '-t', 60, "--random-seed=$seed", '-f', "$dir/enqueue.sql\@3", '-f', "$dir/claim.sql\@1", 'postgres' ],
		'64 clients enqueue and claim');
	wait_until(
		sub {
			$node->safe_psql('postgres', q{INSERT INTO claimed SELECT unnest(eduai.test_claim('default', '{custom}', 1000)) RETURNING 1}) eq '';
		},
		60, 'the rest is claimed');
	is($node->safe_psql('postgres', 'SELECT count(*) - count(DISTINCT task_id) FROM claimed'), 0, 'no task is claimed twice');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM ((TABLE made EXCEPT TABLE claimed) UNION ALL (TABLE claimed EXCEPT TABLE made)) d'), 0, 'and each once');
	cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM claimed'), '>', 1000, 'there were many');
	is($node->safe_psql('postgres', $lane), '{"pins": 0, "scans": 0, "marked": false, "strays": 0}', 'nothing is left in the lane');
	end_all();
}

# ---- prepared transactions ----

{
	my $session = EduaiSession->new($node);
	my $x = $session->ask(q{BEGIN; SELECT eduai.enqueue('custom', '{}'); PREPARE TRANSACTION 'x';});
	my $y = enqueue();
	is(await_claim(5), $y, 'others go on');
	$node->safe_psql('postgres', q{COMMIT PREPARED 'x'});
	is(await_claim(5), $x, 'found once it is committed');

	$session->ask(q{BEGIN; SELECT eduai.enqueue('custom', '{}'); PREPARE TRANSACTION 'gone';});
	$x = $session->ask(q{BEGIN; SELECT eduai.enqueue('custom', '{}'); PREPARE TRANSACTION 'stays';});
	$session->quit;
	$node->restart;
	$y = enqueue();
	is(await_claim(5), $y, 'after a restart others go on');
	# until the sweep has seen what is prepared
	$node->safe_psql('postgres', 'SELECT eduai.test_lane_sweep()');
	$node->safe_psql('postgres', q{ROLLBACK PREPARED 'gone'});
	$node->safe_psql('postgres', q{COMMIT PREPARED 'stays'});
	is(await_claim(5), $x, 'found, committed by another session after the restart');
	is(claim(5), 0, 'what was rolled back is not there');

	$session = EduaiSession->new($node);
	enqueue();
	like($session->ask(sprintf($claim, 1) =~ s/^/BEGIN; /r . q{; PREPARE TRANSACTION 'no';}), qr/ERROR:  0A000/, 'a claim cannot be prepared');
	$session->ask('ROLLBACK;');
	is(claim(5), 1, 'and is rolled back then');
	$session->quit;
	end_all();
}

# ---- what comes without an announcement ----

{
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $ids = $node->safe_psql('postgres', q{SELECT array_to_string(eduai.enqueue_batch('custom', array_fill('{}'::jsonb, '{3}')), ' ')});

	$node->safe_psql('postgres', qq{
		\\copy eduai.task_request TO '$dir/request'
		\\copy eduai.task_live TO '$dir/live'
		DELETE FROM eduai.task_live;
		DELETE FROM eduai.task_request;
	});
	my $y = enqueue();
	is(await_claim(5), $y, 'the lane goes on past deleted rows');
	$node->safe_psql('postgres', qq{
		\\copy eduai.task_request FROM '$dir/request'
		\\copy eduai.task_live FROM '$dir/live'
	});
	my %found;
	$found{$_} = 1 for map { split / /, await_claim(5) } 1 .. 1;
	wait_until(sub { $found{$_} = 1 for split / /, $node->safe_psql('postgres', q{SELECT array_to_string(eduai.test_claim('default', '{custom}', 5), ' ')}); keys %found == 3 }, 30, 'rows that were copied in are found');
	is(join(' ', sort { $a <=> $b } keys %found), $ids, 'all of them, and no other');
	end_all();

	# A row locked by hand is passed over, and not forgotten.
	$ids = $node->safe_psql('postgres', q{SELECT array_to_string(eduai.enqueue_batch('custom', array_fill('{}'::jsonb, '{2}')), ' ')});
	my $locker = EduaiSession->new($node);
	my ($first, $second) = split / /, $ids;
	$locker->ask("BEGIN; SELECT 1 FROM eduai.task_live WHERE task_id = $first FOR UPDATE;");
	is(await_claim(5), $second, 'a locked row is passed over');
	$locker->ask('COMMIT;');
	is(await_claim(5), $first, 'and claimed when it is free');
	$locker->quit;
	end_all();
}

# ---- restart ----

{
	my $ids = $node->safe_psql('postgres', q{SELECT array_to_string(eduai.enqueue_batch('custom', array_fill('{}'::jsonb, '{5}')), ' ')});
	is(await_claim(2), join(' ', (split / /, $ids)[0 .. 1]), 'two of five');
	# as if the wall clock had been a year ahead before
	$node->safe_psql('postgres', 'UPDATE eduai.task_live SET ready_key = ready_key + 1024 * 31536000000000');
	$node->restart;
	my $newest = enqueue();
	is(await_claim(10), join(' ', (split / /, $ids)[2 .. 4], $newest), 'what waited is found after a restart, before what is newer');
	end_all();
	$node->restart;
}

# ---- waiting ----

{
	my @waiting = map { EduaiSession->new($node) } 1 .. 3;
	my $wait = q{SELECT array_to_string(eduai.test_await_claim('default', '{custom}', 5), ' ');};
	my $asleep = q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%await_claim%' AND wait_event = 'Extension' AND pid <> pg_backend_pid()};

	$_->send($wait) for @waiting;
	wait_until(sub { $node->safe_psql('postgres', $asleep) == 3 }, 20, 'three sessions wait');
	for my $left (2, 1)
	{
		my $x = enqueue();
		wait_until(sub { $node->safe_psql('postgres', $asleep) == $left }, 20, "one is woken for one task, $left wait");
		my ($done) = grep { $_->answered } @waiting;
		is($done->answer(10), $x, 'and has it');
		$done->quit;
		@waiting = grep { $_ != $done } @waiting;
	}
	# who is terminated passes on what it was woken for: the task is not in an open lane unseen
	$node->safe_psql('postgres', q{SELECT eduai.pause_queue('custom')});
	my $x = enqueue();
	is($node->safe_psql('postgres', $asleep), 1, 'a paused type wakes nobody for good');
	$node->safe_psql('postgres', q{SELECT eduai.resume_queue('custom')});
	is($waiting[0]->answer(20), $x, 'resumed, the task goes to who waits');
	$_->quit for @waiting;

	# a batch: who claims as many as he may wakes the next
	@waiting = map { EduaiSession->new($node) } 1 .. 3;
	$_->send(q{SELECT array_length(eduai.test_await_claim('default', '{custom}', 2), 1);}) for @waiting;
	wait_until(sub { $node->safe_psql('postgres', $asleep) == 3 }, 20, 'three sessions wait');
	$node->safe_psql('postgres', q{SELECT eduai.enqueue_batch('custom', array_fill('{}'::jsonb, '{5}'))});
	is(join(' ', sort map { $_->answer(20) } @waiting), '1 2 2', 'a batch for all of them');
	$_->quit for @waiting;
	end_all();
}

# ---- when shared memory is full ----

$node->append_conf('postgresql.conf', "eduai.queue_lanes = 16\neduai.queue_strays = 16\n");
$node->restart;
{
	my $session = EduaiSession->new($node);

	$node->safe_psql('postgres', q{SELECT eduai.enqueue_batch('custom', array_fill('{}'::jsonb, '{60}'))});
	is($session->ask('BEGIN; SELECT count(*) FROM generate_series(1, 40) i, unnest(eduai.test_claim(\'default\', \'{custom}\', 1 + i - i));'), 40, 'claimed one by one');
	$session->ask('ROLLBACK;');
	is($node->safe_psql('postgres', $lane), '{"pins": 0, "scans": 0, "marked": true, "strays": 16}', 'more strays than there is room for');
	is($node->safe_psql('postgres', q{SELECT count(DISTINCT i) || ' ' || count(*) FROM unnest(eduai.test_claim('default', '{custom}', 100)) i}), '60 60', 'each is claimed again, once');
	is(claim(1), 0, 'and no more');
	$session->quit;
	end_all();

	$node->safe_psql('postgres', q{INSERT INTO made SELECT eduai.enqueue('custom', jsonb_build_object('model', 'model ' || i)) FROM generate_series(1, 40) i});
	is($node->safe_psql('postgres', 'SELECT count(DISTINCT lane) FROM eduai.task_live'), 40, 'more lanes than there is room for');
	my $health = q{SELECT detail FROM eduai.health_problems() WHERE code = 'lanes_full'};
	is($node->safe_psql('postgres', $health), '16 lanes have tasks; there is room for 16.', 'health() says so');
	my $got = 0;
	wait_until(sub { $got += claim(3); $got >= 40 }, 60, 'tasks of lanes without a place are claimed when others are empty');
	is($got, 40, 'each once');
	ok(wait_until(sub { $node->safe_psql('postgres', $health) eq '' }, 20, 'the lanes are empty'), 'and health() has nothing to say any more');
	end_all();
}

$node->stop;
done_testing();
