# Slots, keys and leases are exact whatever becomes of the transactions that hold them.
#
# Attempts are started and ended through the tests' hand on the shared table, in
# sessions that commit, roll back to savepoints, fail, are cancelled and killed;
# no dispatcher runs. Rows of tasks are there only where a restart reads them.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(
	conf => { 'eduai.test_mode' => 'on', 'eduai.database' => '', 'eduai.max_running' => 32 });
my $one = EduaiSession->new($node);
my $two = EduaiSession->new($node);

# attempt(SESSION, ACTION, TASK, OPTIONS, ATTEMPT)
sub attempt
{
	my ($s, $action, $task, $options, $attempt) = @_;
	return $s->ask(sprintf q{SELECT eduai.test_attempt('%s', %d, %d, '%s');},
		$action, $task // 0, $attempt // 1, $options // '{"pool": "p"}');
}

# running of size in a pool, as another session sees it
sub stand
{
	my ($pool) = @_;
	$pool //= 'p';
	return $node->safe_psql('postgres', qq{SELECT running || ' of ' || size FROM eduai.pool_stands() WHERE name = '$pool'});
}

# leaves nothing running in p
sub clear
{
	$node->safe_psql('postgres', q{SELECT count(eduai.test_attempt('end', t, a)) FROM generate_series(1, 40) t, generate_series(1, 2) a});
	is(stand(), $_[0], 'all ended');
}

sub configure
{
	my ($s, $numbers, $pool) = @_;
	$pool //= 'p';
	return $s->ask("SELECT eduai.configure_pool('$pool', '{}', $numbers);");
}

configure($one, '2, NULL, 0');

# ---- transactions ----

$one->ask('BEGIN;');
is(attempt($one, 'start', 1), 'ok', 'a start');
is(stand(), '1 of 2', 'counts before its commit');
$one->ask('ROLLBACK;');
is(stand(), '0 of 2', 'and not after a rollback');

$one->ask('BEGIN;');
attempt($one, 'start', 1);
attempt($one, 'start', 2);
is(attempt($one, 'start', 3), 'no slot', 'no more than the size');
is(attempt($two, 'start', 3), 'no slot', 'nor in another session');
is(attempt($two, 'start', 1), 'taken', 'what another transaction is claiming is taken');
$one->ask('COMMIT;');
is(stand(), '2 of 2', 'starts count after the commit');
is(attempt($two, 'start', 1), 'taken', 'and are taken still');

$one->ask('BEGIN;');
attempt($one, 'end', 1);
is(attempt($two, 'start', 3), 'no slot', 'an end frees nothing before its commit');
$one->ask('ROLLBACK;');
is(stand(), '2 of 2', 'nor when it is rolled back');
$one->ask('BEGIN;');
attempt($one, 'end', 1);
attempt($one, 'end', 1, '{}', 7);
$one->ask('COMMIT;');
is(stand(), '1 of 2', 'at its commit the slot is free; of another attempt nothing is');
is(attempt($two, 'start', 3), 'ok', 'and is taken');
clear('0 of 2');

# a claim and its end in one transaction, and the next attempt of the same task
$one->ask('BEGIN;');
attempt($one, 'start', 1);
attempt($one, 'end', 1);
attempt($one, 'start', 1, undef, 2);
is(stand(), '2 of 2', 'an attempt that ends and the next one both count');
$one->ask('COMMIT;');
is(stand(), '1 of 2', 'until the commit');
clear('0 of 2');

# ---- savepoints ----

$one->ask('BEGIN;');
attempt($one, 'start', 1);
$one->ask('SAVEPOINT a;');
attempt($one, 'start', 2);
$one->ask('ROLLBACK TO a;');
is(stand(), '1 of 2', 'a savepoint rolled back gives its start back');
attempt($one, 'start', 3);
$one->ask('SAVEPOINT b;');
attempt($one, 'end', 1);
attempt($one, 'end', 3);
$one->ask('ROLLBACK TO b; RELEASE b; RELEASE a; COMMIT;');
is(stand(), '2 of 2', 'and its ends do nothing');
$one->ask('BEGIN; SAVEPOINT a; SAVEPOINT b;');
attempt($one, 'end', 1);
$one->ask('RELEASE b;');
attempt($one, 'end', 3);
$one->ask('ROLLBACK TO a; COMMIT;');
is(stand(), '2 of 2', 'nor those of a savepoint released within one rolled back');
$one->ask('BEGIN; SAVEPOINT a;');
attempt($one, 'end', 1);
$one->ask('RELEASE a; COMMIT;');
is(stand(), '1 of 2', 'those of a released one do');
$one->ask(q{DO $$ BEGIN PERFORM eduai.test_attempt('start', 5, 1, '{"pool": "p"}'); PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN END $$;});
is(stand(), '1 of 2', 'an EXCEPTION block gives its start back');
$one->ask('BEGIN;');
attempt($one, 'start', 5);
attempt($one, 'take back', 5);
is(stand(), '1 of 2', 'taken back at once');
is(attempt($two, 'start', 5), 'ok', 'and free for others');
$one->ask('COMMIT;');
is(stand(), '2 of 2', 'what was taken back is not given back again');
clear('0 of 2');

# ---- what ends without a commit ----

is($one->ask(q{BEGIN; SELECT eduai.test_attempt('start', 1, 1, '{"pool": "p"}'); SELECT 1/0; COMMIT;}) =~ /22012/ && stand(),
	'0 of 2', 'an error');
$two->ask('BEGIN;');
attempt($two, 'start', 1);
$two->send('SELECT pg_sleep(60);');
my $busy = q{FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid()};
wait_until(sub { $node->safe_psql('postgres', "SELECT count(*) $busy") eq '1' }, 20, 'the session sleeps');
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) $busy");
like($two->answer, qr/57014/, 'a cancelled statement');
is(stand(), '0 of 2', 'gives back what its transaction started');
$two->ask('ROLLBACK; BEGIN;');
attempt($two, 'start', 1);
my $pid = $two->ask('SELECT pg_backend_pid();');
is(stand(), '1 of 2', 'a session idle in its transaction');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 20000)");
is(stand(), '0 of 2', 'gives it back when it is terminated');
$two = EduaiSession->new($node);

$one->ask('BEGIN;');
attempt($one, 'start', 1);
like($one->ask(q{PREPARE TRANSACTION 'x';}), qr/0A000.*claimed or ended/s, 'a claim cannot be prepared');
is(stand(), '0 of 2', 'and is rolled back');
$one->ask('BEGIN;');
configure($one, '9');
like($one->ask(q{PREPARE TRANSACTION 'x';}), qr/0A000/, 'nor can a change of a pool');
$one->ask(q{BEGIN; CREATE TABLE prepared (); PREPARE TRANSACTION 'x'; COMMIT PREPARED 'x';});
is($node->safe_psql('postgres', q{SELECT to_regclass('prepared') IS NOT NULL}), 't', 'other transactions can');

# ---- reserved slots ----

configure($one, '4, NULL, 2');
$one->ask('BEGIN;');
is(join(',', map { attempt($one, 'start', $_) } 1 .. 3), 'ok,ok,no slot', 'two of four are kept for critical tasks');
is(attempt($one, 'start', 4, '{"pool": "p", "priority": "critical"}'), 'ok', 'which get them');
is(attempt($one, 'start', 5), 'no slot', 'one is kept still');
is(attempt($one, 'start', 6, '{"pool": "p", "priority": "critical"}'), 'ok', 'for the second');
$one->ask('ROLLBACK;');
is(join(',', map { attempt($one, 'start', $_, '{"pool": "p", "priority": "critical"}') } 1 .. 2), 'ok,ok', 'while two critical ones run');
is(join(',', map { attempt($one, 'start', $_) } 3 .. 5), 'ok,ok,no slot', 'nothing is kept');
clear('0 of 4');

# ---- a pool that changes ----

sub in_transaction
{
	my ($numbers, $end, $within, $after, $what) = @_;
	$one->ask('BEGIN;');
	configure($one, $numbers);
	is(stand(), "0 of $within", "$what: before $end");
	$one->ask("$end;");
	is(stand(), "0 of $after", "$what: after $end");
}
in_transaction('2, NULL, 0', 'ROLLBACK', 2, 4, 'lowered');
in_transaction('2, NULL, 0', 'COMMIT', 2, 2, 'lowered');
in_transaction('5, NULL, 0', 'ROLLBACK', 2, 2, 'raised');
in_transaction('5, NULL, 0', 'COMMIT', 2, 5, 'raised');
$one->ask('BEGIN; SAVEPOINT a;');
configure($one, '3, NULL, 0');
is(stand(), '0 of 3', 'lowered in a savepoint');
$one->ask('ROLLBACK TO a;');
is(stand(), '0 of 5', 'which is rolled back');
$one->ask('SAVEPOINT b;');
configure($one, '7, NULL, 0');
$one->ask('RELEASE b; SAVEPOINT c;');
configure($one, '1, NULL, 0');
is(stand(), '0 of 1', 'raised, then lowered');
$one->ask('ROLLBACK TO c;');
is(stand(), '0 of 5', 'the raise waits for the commit');
$one->ask('COMMIT;');
is(stand(), '0 of 7', 'and is done');

# what runs goes on
attempt($one, 'start', $_) for 1 .. 3;
configure($one, '2, NULL, 0');
is(stand(), '3 of 2', 'fewer slots end nothing');
attempt($one, 'end', 1);
is(attempt($one, 'start', 4), 'no slot', 'and start nothing until there is room');
attempt($one, 'end', 2);
is(attempt($one, 'start', 4), 'ok', 'there is');
clear('0 of 2');

# two sessions at once: one after the other
$one->ask('BEGIN;');
configure($one, '1, NULL, 0');
$two->send(q{SELECT eduai.configure_pool('p', '{}', 6, NULL, 0);});
wait_until(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks WHERE NOT granted}) eq '1' }, 20, 'the second waits');
is(stand(), '0 of 1', 'the first one holds');
$one->ask('COMMIT;');
$two->answer;
is(stand(), '0 of 6', 'then the second');

# a new pool is there at its commit
$one->ask('BEGIN;');
configure($one, '3', 'q');
is($one->ask(q{SELECT size FROM eduai.pool_stands() WHERE name = 'q';}), '0', 'a pool that is not committed has no slots');
$one->ask('ROLLBACK; BEGIN;');
configure($one, '3', 'q');
$one->ask('COMMIT;');
is(stand('q'), '0 of 3', 'one that is has');

# changed by hand
$node->safe_psql('postgres', q{UPDATE eduai.pool SET max_concurrent = 4 WHERE name = 'p'});
is(stand(), '0 of 6', 'a change by hand is not noticed');
attempt($one, 'check pools');
is(stand(), '0 of 4', 'until the sweep looks');
$one->ask('BEGIN;');
configure($one, '3, NULL, 0');
attempt($two, 'check pools');
is(stand(), '0 of 3', 'which leaves a pool alone that is being changed');
$one->ask('ROLLBACK; BEGIN;');
configure($one, '9, NULL, 0');
attempt($one, 'check pools');
is(stand(), '0 of 4', 'also where the change can be seen');
$one->ask('ROLLBACK;');
is(stand(), '0 of 4', 'and is rolled back');
configure($one, '4, NULL, 0');

# ---- concurrency keys ----

my $k = '{"pool": "p", "concurrency_key": "k"}';
$one->ask('BEGIN;');
is(attempt($one, 'start', 1, $k), 'ok', 'the first task of a key');
is(attempt($two, 'start', 2, $k), 'key busy', 'not the second');
is(attempt($two, 'start', 3, '{"pool": "p", "concurrency_key": "other"}'), 'ok', 'of another key');
is($two->ask(q{SET eduai.tenant = 'school'; SELECT eduai.allow_tenant(current_user, 'school'), eduai.allow_tenant(current_user, 'default');}), '|', 'a second tenant');
is(attempt($two, 'start', 4, $k), 'ok', 'whose keys are its own');
$two->ask('RESET eduai.tenant;');
$one->ask('COMMIT;');
is(attempt($two, 'key busy', 0, $k), 'yes', 'busy');
is(attempt($two, 'key freed', 0, $k), 'not freed', 'not free');
$one->ask('BEGIN;');
attempt($one, 'end', 1);
is(attempt($two, 'key busy', 0, $k), 'yes', 'busy while it ends');
$one->ask('COMMIT;');
is(attempt($two, 'key busy', 0, $k), 'no', 'free');
is(attempt($two, 'key freed', 0, $k), 'freed', 'and said to be');
is(attempt($two, 'key freed', 0, $k), 'not freed', 'once');
$one->ask('BEGIN;');
attempt($one, 'start', 1, $k);
$one->ask('ROLLBACK;');
is(attempt($two, 'key freed', 0, $k), 'freed', 'also by a rollback');

# a task is held back while the key becomes free
attempt($one, 'start', 1, $k);
$two->ask('BEGIN;');
is(attempt($two, 'start', 2, $k), 'key busy', 'a claim finds the key busy');
attempt($two, 'key held', 0, $k);
attempt($one, 'end', 1);
is(attempt($one, 'key freed', 0, $k), 'freed', 'it becomes free: nobody can see the held task yet');
$two->ask('COMMIT;');
is(attempt($one, 'key freed', 0, $k), 'freed', 'so it is said again when they can');
attempt($one, 'start', 1, $k);
$two->ask('BEGIN;');
attempt($two, 'key held', 0, $k);
$two->ask('COMMIT;');
is(attempt($one, 'key freed', 0, $k), 'not freed', 'not while the key is busy');
attempt($one, 'end', 1);
attempt($one, 'key freed', 0, $k);
$two->ask('BEGIN;');
attempt($two, 'key held', 0, $k);
$two->ask('ROLLBACK;');
is(attempt($one, 'key freed', 0, $k), 'not freed', 'nor after a rollback');
clear('0 of 4');
attempt($one, 'key freed', 0, $k);
$one->ask(q{DO $$ BEGIN FOR t IN 1 .. 1025 LOOP
	PERFORM eduai.test_attempt('start', 100 + t, 1, '{"pool": "p", "concurrency_key": "many"}');
	COMMIT;
	PERFORM eduai.test_attempt('end', 100 + t);
	COMMIT;
	END LOOP; END $$;});
is(attempt($one, 'key freed', 0, $k), 'overflow', 'more keys than the ring holds are said to be lost');
is(attempt($one, 'key freed', 0, $k), 'not freed', 'once');

# ---- leases ----

sub lapsed { return attempt($one, 'lapsed', 0, '{"most": 2}'); }

is(attempt($one, 'next lapse'), '-1', 'no lease');
attempt($one, 'start', 1, '{"pool": "p", "lease_ms": 600000}');
is(lapsed(), '', 'a lease that is not over');
cmp_ok(attempt($one, 'next lapse'), '>', 500000, 'is over in ten minutes');
is(attempt($one, 'extend', 1, '{"lease_ms": 1}'), 'yes', 'a lease can be extended, and cut');
is(wait_until(\&lapsed, 20, 'the lease lapses'), 'default 1/1', 'and lapses');
is(lapsed(), '', 'once');
is(attempt($one, 'extend', 1, '{"lease_ms": 60000}'), 'no', 'then it cannot be extended');
is(attempt($one, 'runs', 1), 'no', 'nor does it run');
attempt($one, 'unlapse', 1);
is(attempt($one, 'runs', 1), 'yes', 'who could not end it gives it back');
is(wait_until(\&lapsed, 20, 'the lease lapses again'), 'default 1/1', 'and it lapses again');
$one->ask('BEGIN;');
attempt($one, 'end', 1);
$one->ask('COMMIT;');
is(attempt($one, 'extend', 1, '{"lease_ms": 60000}'), 'no', 'an ended attempt has no lease');
attempt($one, 'start', 2);
is(attempt($one, 'extend', 2, '{"lease_ms": 60000}'), 'no', 'nor has one without');
is(attempt($one, 'extend', 2, '{"lease_ms": 60000}', 2), 'no', 'or another attempt');
is(attempt($two, 'runs', 2), 'yes', 'it runs');
is($two->ask(q{SET eduai.tenant = 'school'; SELECT eduai.test_attempt('runs', 2, 1); RESET eduai.tenant;}), 'no', 'but for another tenant');

$two->ask('BEGIN;');
attempt($two, 'start', 3, '{"pool": "p", "lease_ms": 1}');
attempt($one, 'start', 4, '{"pool": "p", "lease_ms": 1}');
is(wait_until(\&lapsed, 20, 'a committed lease lapses'), 'default 4/1', 'a claim in progress does not lapse');
$two->ask('COMMIT;');
is(wait_until(\&lapsed, 20, 'the other lapses'), 'default 3/1', 'before its commit');
my %again;
ok(wait_until(sub { $again{$_} = 1 for split /, /, lapsed(); $again{'default 3/1'} && $again{'default 4/1'} }, 20, 'both lapse again'),
	'what nobody ended lapses again');
attempt($one, 'end', $_) for 3, 4;
attempt($one, 'start', 5, '{"pool": "p", "lease_ms": 60000}');
$two->ask('BEGIN;');
attempt($two, 'end', 5);
attempt($one, 'extend', 5, '{"lease_ms": 1}');
attempt($one, 'start', 6, '{"pool": "p", "lease_ms": 20}');
is(wait_until(\&lapsed, 20, 'the younger lapses'), 'default 6/1', 'an end in progress does not lapse');
$two->ask('ROLLBACK;');
is(wait_until(\&lapsed, 20, 'the older lapses'), 'default 5/1', 'before it is rolled back');
clear('0 of 4');

# ---- workers ----

attempt($one, 'start', 1, '{"pool": "p", "lease_ms": 60000, "worker": "ana", "task_types": "custom,essay"}');
attempt($one, 'start', 2, '{"pool": "p", "lease_ms": 60000, "worker": "ana"}');
attempt($one, 'start', 3, '{"pool": "p", "lease_ms": 60000, "worker": "ben"}');
my $workers = q{SELECT worker, task_types, leases, last_seen > now() - interval '5 min' FROM eduai.worker_status ORDER BY 1};
is($node->safe_psql('postgres', $workers), "ana|{custom,essay}|2|t\nben||1|t", 'workers and what they have');
is($node->safe_psql('postgres', "SET eduai.tenant = 'school'; $workers"), '', 'are of their tenant');
attempt($one, 'end', 1);
$one->ask(q{SELECT count(eduai.test_attempt('start', 30, 1, jsonb_build_object('pool', 'p', 'worker', 'w' || i))), count(eduai.test_attempt('take back', 30)) FROM generate_series(1, 1200) i;});
is($node->safe_psql('postgres', "SELECT count(*) FROM eduai.worker_status"), '1024', 'a registry that is full');
is($node->safe_psql('postgres', $workers . ' LIMIT 2'), "ana|{custom,essay}|1|t\nben||1|t", 'keeps those that have something');
clear('0 of 4');

# ---- a full table ----

configure($one, '100, NULL, 0', 'q');
is($one->ask(q{SELECT string_agg(v, ' ' ORDER BY t) FROM (SELECT t, eduai.test_attempt('start', t, 1, '{"pool": "q"}') v FROM generate_series(1, 33) t) x;}),
	join(' ', ('ok') x 32, 'full'), 'eduai.max_running');
my $health = q{SELECT detail FROM eduai.health_problems() WHERE code = 'running_full'};
is($node->safe_psql('postgres', $health), '32 tasks run; the server has room for 32.', 'health() says so');
attempt($one, 'end', $_) for 1 .. 4;
is($node->safe_psql('postgres', $health), '', 'but not of a tenth that is free');
attempt($one, 'start', $_, '{"pool": "q"}') for 1 .. 3;
is(attempt($one, 'start', 40, '{"pool": "q"}'), 'ok', 'an end makes room');

# ---- a restart ----

my $row = q{INSERT INTO eduai.task_live (tenant_id, task_id, task_type, priority, state, attempt, attempt_base, run_at, backoff, held, concurrency_key, lease_ms, worker_name)
	SELECT 'default', t, 'kind', 2, CASE WHEN t % 2 = 0 THEN 'running' ELSE 'ready' END, 3, 0, now(), false, false, 'key' || t, CASE WHEN t = 4 THEN 1 WHEN t = 6 THEN 600000 END, CASE WHEN t IN (4, 6) THEN 'worker' END
	FROM generate_series(1, 10) t};
$node->safe_psql('postgres', "SELECT eduai.define_task_type('kind', 'application', 'p'); $row");
$_->quit for $one, $two;
$node->restart;
$one = EduaiSession->new($node);
is(stand('q'), '0 of 100', 'after a restart nothing runs that is not in a row');
is(stand(), '5 of 4', 'what is counts, without a claim');
is(attempt($one, 'key busy', 0, '{"concurrency_key": "key8"}'), 'yes', 'with its key');
is(attempt($one, 'key busy', 0, '{"concurrency_key": "key7"}'), 'no', 'which a ready one has not');
is(wait_until(\&lapsed, 20, 'a lease lapses'), 'default 4/3', 'leases begin anew');
is($node->safe_psql('postgres', 'SELECT worker, leases FROM eduai.worker_status'), 'worker|2', 'workers are known by what they have');
$one->ask('BEGIN;');
attempt($one, 'end', 8, '{}', 3);
$one->ask(q{DELETE FROM eduai.task_live WHERE task_id = 8; COMMIT;});
is(stand(), '4 of 4', 'they end as others');

# who ends one first makes the entries before he does
$one->quit;
$node->restart;
$one = EduaiSession->new($node);
$one->ask('BEGIN;');
attempt($one, 'end', 2, '{}', 3);
$one->ask(q{DELETE FROM eduai.task_live WHERE task_id = 2;});
attempt($one, 'start', 50, '{"pool": "custom"}');
$one->ask('ROLLBACK;');
is(stand(), '4 of 4', 'an end before the first claim, rolled back');
$one->ask('BEGIN;');
attempt($one, 'end', 2, '{}', 3);
$one->ask(q{DELETE FROM eduai.task_live WHERE task_id = 2; COMMIT;});
is(stand(), '3 of 4', 'and committed');

# more than fit
$node->safe_psql('postgres', q{INSERT INTO eduai.task_live (tenant_id, task_id, task_type, priority, state, attempt, attempt_base, run_at, backoff, held)
	SELECT 'default', t, 'kind', 2, 'running', 1, 0, now(), false, false FROM generate_series(100, 140) t});
$one->quit;
$node->restart;
$one = EduaiSession->new($node);
like(attempt($one, 'start', 200), qr/53400.*max_running/s, 'more running tasks than the table holds');
$node->safe_psql('postgres', 'DELETE FROM eduai.task_live WHERE task_id > 100');
is(attempt($one, 'start', 200), 'no slot', 'fewer are loaded');

# ---- the extension created anew ----

is(stand(), '4 of 4', 'before');
$one->ask('DROP EXTENSION eduai; CREATE EXTENSION eduai;');
configure($one, '4, NULL, 0');
is(stand(), '0 of 4', 'an extension created anew runs nothing');
is(attempt($one, 'start', 100), 'ok', 'and starts');
$one->ask('BEGIN; DROP EXTENSION eduai; CREATE EXTENSION eduai;');
configure($one, '9, NULL, 0');
is(attempt($one, 'start', 1, '{"pool": "custom"}'), 'ok', 'also in a transaction');
$one->ask('ROLLBACK;');
is(stand('custom'), '0 of 1000', 'that is rolled back');
$one->quit;

done_testing();
