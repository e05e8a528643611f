# The projector: it starts, sleeps, does its chores, puts off the one that fails,
# leaves when told to; and what it does for the log as weeks go by.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node(conf => {
	'eduai.test_mode' => 'on', 'eduai.sweep_interval' => '1s', 'eduai.database' => 'postgres, school',
	autovacuum => 'off' });

# Returns once the workers are gone; a time limit for when they are not.
sub stop_workers
{
	my $session = EduaiSession->new($node);
	my $start = time();
	$session->ask('SELECT eduai.stop_workers();', 20);
	$session->quit;
	return time() - $start;
}

sub value { return $node->safe_psql($_[1] // 'postgres', $_[0]) }

sub worker { return value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'eduai projector' AND datname = current_database()}, $_[0]) }

# The projector of a database, once it runs and has done every chore.
sub started
{
	my ($what, $database) = @_;
	wait_until(
		sub { value(q{SELECT coalesce(bool_and(c ? 'last_run_at'), false) FROM jsonb_path_query(eduai.health(), '$.events.chores[*]') c}, $database) eq 't' },
		15, "$what: the projector has done its chores");
	return worker($database);
}

sub wakes
{
	my ($kind) = @_;
	my %wakes;
	@wakes{qw(latch io timeout)} = split /\|/, value(qq{
		SELECT w->>'wakes_by_latch', w->>'wakes_by_io', w->>'wakes_by_timeout'
		FROM jsonb_path_query(eduai.health(), '\$.workers[*] ? (\@.worker == "$kind")') w});
	return \%wakes;
}

# The dispatcher's sweeps are the clock.
sub sweeps
{
	my ($n) = @_;
	my $start = wakes('dispatcher')->{timeout};
	wait_until(sub { wakes('dispatcher')->{timeout} >= $start + $n }, 10 + 5 * $n, "$n sweeps");
}

sub chore
{
	my ($name, $key) = @_;
	return value(qq{SELECT coalesce(c->>'$key', '') FROM jsonb_path_query(eduai.health(), '\$.events.chores[*]') c WHERE c->>'chore' = '$name'});
}

sub problems { return value(q{SELECT coalesce(string_agg(code, ',' ORDER BY code), '') FROM eduai.health_problems()}) }

# ---- it starts, and sleeps ----

my $pid = started('fresh');
like($pid, qr/^\d+$/, 'one projector runs');
is(problems(), '', 'and nothing is wrong');
sweeps(1);
my $before = wakes('projector');
sweeps(6);
is_deeply(wakes('projector'), $before, 'in six seconds nothing wakes it');
is(value(qq{SELECT count(*) FROM pg_locks WHERE pid = $pid AND locktype IN ('relation', 'transactionid')}), '0', 'asleep it locks no table');
is(value(qq{SELECT backend_xid IS NULL AND backend_xmin IS NULL AND state = 'idle' FROM pg_stat_activity WHERE pid = $pid}), 't', 'and has no transaction');

# ---- a chore that fails ----

sub failures { my @lines = slurp_file($node->logfile) =~ /could not do its chore "standby mark"/g; return scalar @lines }

stop_workers();
is(worker(), '', 'stop_workers() returns when it is gone');
value('ALTER TABLE eduai.event_mark RENAME TO event_mark_away; SELECT eduai.start_workers()');
wait_until(sub { failures() >= 2 }, 15, 'the chore fails twice');
is(problems(), 'projector_chore_failing', 'health() says that a chore fails');
is(value(q{SELECT severity || ' ' || (since IS NOT NULL) || ' ' || detail FROM eduai.health_problems()}),
	'warning true The projector\'s chore "standby mark" fails: relation "eduai.event_mark" does not exist (SQLSTATE 42P01).', 'which, and why');
like(value('SELECT hint FROM eduai.health_problems()'), qr/at least once a minute/, 'and what happens next');
isnt(chore('partitions', 'last_run_at'), '', 'the others go on');
is(chore('standby mark', 'runs'), '0', 'it never succeeded');

# However often the projector is woken, the chore has its pauses: after the
# third failure 4 s, so at most one more in the next 3 s.
wait_until(sub { failures() >= 3 }, 15, 'a third failure');
my ($failed, $runs, $start) = (failures(), chore('partitions', 'runs'), time());
for my $n (1 .. 20)
{
	my $done = chore('partitions', 'runs');
	$node->reload;
	wait_until(sub { chore('partitions', 'runs') > $done }, 10, 'a reload wakes the projector');
	last if time() > $start + 2.5;
}
cmp_ok(chore('partitions', 'runs'), '>=', $runs + 5, 'woken again and again');
cmp_ok(failures(), '<=', $failed + 1, 'it is not tried before its time');
my $since = value('SELECT since FROM eduai.health_problems()');
wait_until(sub { failures() >= 4 }, 15, 'a fourth failure');
is(value('SELECT since FROM eduai.health_problems()'), $since, 'since tells the first failure');

my @times = slurp_file($node->logfile) =~ /^\S+ (\d+:\d+:\d+\.\d+) .*could not do its chore "standby mark"/mg;
my @seconds = map { my ($h, $m, $s) = split /:/; $h * 3600 + $m * 60 + $s } @times;
my @pauses = map { my $gap = $seconds[$_] - $seconds[$_ - 1]; $gap < 0 ? $gap + 86400 : $gap } 1 .. $#seconds;
for my $n (0 .. 2)
{
	my $least = 2**$n;
	cmp_ok($pauses[$n], '>=', $least - 0.01, "failure @{[$n + 2]} comes $least s or more after the one before");
	cmp_ok($pauses[$n], '<', $least * 2, 'and before the double');
}
value('ALTER TABLE eduai.event_mark_away RENAME TO event_mark');
wait_until(sub { problems() eq '' }, 20, 'the chore is healed');
pass('once its cause is gone, so is the problem');

# ---- it leaves ----

my $holder = EduaiSession->new($node);
$holder->ask('BEGIN; LOCK TABLE eduai.event_mark IN ACCESS EXCLUSIVE MODE;');
stop_workers();
value('SELECT eduai.start_workers()');
wait_until(sub { value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'eduai projector' AND wait_event_type = 'Lock'}) eq '1' },
	10, 'it waits for a lock');
cmp_ok(stop_workers(), '<', 1.5, 'it stops at once while somebody holds a lock it wants');
$holder->ask('ROLLBACK;');
$holder->quit;
value('SELECT eduai.start_workers()');

$pid = started('after that');
value("SELECT pg_terminate_backend($pid)");
wait_until(sub { my $now = worker(); $now ne '' && $now ne $pid }, 10, 'another projector runs');
pass('a terminated one comes back');

value('CREATE DATABASE school');
$node->safe_psql('school', 'CREATE EXTENSION eduai');
like(started('in another database', 'school'), qr/^\d+$/, 'another database has its own');
my $stopping = time();
$node->safe_psql('school', 'DROP EXTENSION eduai');
wait_until(sub { worker('school') eq '' }, 5, 'it leaves');
cmp_ok(time() - $stopping, '<', 1.5, 'DROP EXTENSION sends it home');
$node->safe_psql('school', 'CREATE EXTENSION eduai');
started('in a new extension', 'school');
$node->safe_psql('school', 'DROP EXTENSION eduai; CREATE EXTENSION eduai');
started('in a new extension, made at once', 'school');
$stopping = time();
value('DROP DATABASE school WITH (FORCE)');
cmp_ok(time() - $stopping, '<', 2, 'it does not hold up DROP DATABASE');

# ---- weeks go by ----

# Periods begin on Mondays, UTC; the clock is set to the Wednesday of a week,
# counted from a week that is far enough ahead of today.
sub week
{
	my ($n) = @_;
	value(qq{SELECT eduai.test_clock(make_interval(secs => extract(epoch FROM date_trunc('week', now()) + '1 week'::interval * (2 + $n) + '2 days 1 hour' - now())))});
	return;
}

sub monday { return value("SELECT to_char(date_trunc('week', now()) + '1 week'::interval * (2 + $_[0]), 'YYYYMMDD')") }

sub partitions { return value(q{SELECT coalesce(string_agg(substr(inhrelid::regclass::text, 13), ' ' ORDER BY inhrelid::regclass::text), '') FROM pg_inherits WHERE inhparent = 'eduai.event'::regclass}) }

sub upkeep
{
	my $done = chore('partitions', 'runs');
	$node->reload;
	wait_until(sub { chore('partitions', 'runs') > $done }, 10, 'the projector has looked at the partitions');
}

my $appends = 0;

# One event each to streams a and b, three to c.
sub append
{
	$appends++;
	return value(q{SELECT eduai.append_batch('{w-a,w-b,w-c,w-c,w-c}', '{t,t,t,t,t}', '{"{}","{}","{}","{}","{}"}')});
}

# Versions are dense, the feed and the streams agree, and times never go back in a stream.
sub check_log
{
	my ($what) = @_;
	is(value(q{SELECT string_agg(stream || ' ' || n || ' ' || dense, ', ' ORDER BY stream) FROM
		(SELECT stream, count(*) AS n, array_agg(version ORDER BY "position") = array_agg(g) AS dense
			FROM (SELECT *, row_number() OVER (PARTITION BY stream ORDER BY "position") AS g FROM eduai.read_all(0, 10000)) r
			GROUP BY stream) s}),
		join(', ', map { "$_->[0] " . $appends * $_->[1] . ' true' } ([ 'w-a', 1 ], [ 'w-b', 1 ], [ 'w-c', 3 ])), "$what: the feed has each version once, in order");
	is(value(q{SELECT count(*) || ' ' || count(DISTINCT "position") || ' ' || count(DISTINCT event_id) FROM eduai.read_all(0, 10000)}),
		join(' ', (5 * $appends) x 3), "$what: each with a position and an id of its own");
	for my $stream (qw(w-a w-b w-c))
	{
		is(value(qq{SELECT (SELECT array_agg(version || ' ' || event_id ORDER BY "position") FROM eduai.read_all(0, 10000) WHERE stream = '$stream')
			= (SELECT array_agg(version || ' ' || event_id ORDER BY o) FROM eduai.read_stream('$stream') WITH ORDINALITY r(p, event_id, s, version, e, u, i, d, m, oc, re, o))
			AND (SELECT array_agg(version ORDER BY o DESC) FROM eduai.read_stream('$stream', backward => true) WITH ORDINALITY r(p, event_id, s, version, e, u, i, d, m, oc, re, o))
			= (SELECT array_agg(version ORDER BY version) FROM eduai.read_stream('$stream'))
			AND (SELECT bool_and(re >= before) FROM (SELECT recorded_at AS re, lag(recorded_at, 1, '-infinity') OVER (ORDER BY version) AS before FROM eduai.read_stream('$stream')) x)}),
			't', "$what: $stream reads the same, forward and backward");
	}
}

is(partitions(), '', 'before the first append there is no partition');
upkeep();
is(partitions(), '', 'and the projector makes none');
week(0);
append();
my @made = ('p' . monday(0), 'p' . monday(1));
wait_until(sub { partitions() eq "@made" }, 10, 'the first append makes one and wakes the projector, which makes the next');
upkeep();
is(partitions(), "@made", 'and no more');

# In even weeks the projector comes first, in odd ones the append.
for my $n (1 .. 11)
{
	week($n);
	upkeep() if $n % 2 == 0;
	append();
	append();
	push @made, 'p' . monday($n) unless $made[-1] eq 'p' . monday($n);
	upkeep();
	push @made, 'p' . monday($n + 1);
	is(partitions(), "@made", "week $n: all partitions to the next week");
}
check_log('after 12 weeks');

# ---- the clock goes back ----

my $newest = value('SELECT max(recorded_at) FROM eduai.read_all(0, 10000)');
for my $n (10, 3, 0)
{
	week($n);
	append();
}
is(value("SELECT min(recorded_at) >= date_trunc('week', '$newest'::timestamptz) FROM eduai.read_stream('w-a', from_version => 24)"), 't',
	'what is appended while the clock is behind goes to the newest partition in use');
# A stream that begins meanwhile, and one that goes on with an expected version.
is(value(q{SELECT version FROM eduai.append_event('x-late', 't', expected_version => 0)}), '1', 'a new stream begins at 1');
is(value(q{SELECT version FROM eduai.append_event('x-late', 't', expected_version => 1)}), '2', 'and goes on at 2');
week(11);
is(value(q{SELECT version FROM eduai.append_event('x-late', 't', expected_version => 2)}), '3', 'and at 3 when the clock is right again');
value(q{SELECT eduai.append_event('x-late', 't') FROM generate_series(1, 3)});
is(partitions(), "@made", 'no partition was made for it');
is(value(q{SELECT string_agg(version::text, ' ' ORDER BY version) FROM eduai.read_stream('x-late')}), '1 2 3 4 5 6', 'it reads in order');
is(value(q{SELECT string_agg(version::text, ' ' ORDER BY "position") FROM eduai.read_all(0, 10000) WHERE stream = 'x-late'}), '1 2 3 4 5 6', 'in the feed too');

# After a restart the shift is forgotten: the clock is weeks behind the log.
value('CHECKPOINT');
$node->restart;
append();
is(value(q{SELECT stream_version FROM eduai.stream_version('x-late')}), '6', 'after a restart the versions are known');
is(value(q{SELECT version FROM eduai.append_event('x-late', 't')}), '7', 'and go on');
like(partitions(), qr/^\Q@made\E$/, 'in the partitions that were there');
$node->stop('immediate');
$node->start;
append();
is(value(q{SELECT version FROM eduai.append_event('x-late', 't')}), '8', 'and after a crash');
value(q{SELECT eduai.append_event('x-late', 't') FROM generate_series(1, 2)});
is(value(q{SELECT string_agg(version::text, ' ' ORDER BY "position") FROM eduai.read_all(0, 10000) WHERE stream = 'x-late'}), '1 2 3 4 5 6 7 8 9 10', 'in order');
# check_log() counts the other streams only.
my $late = value(q{SELECT count(*) FROM eduai.read_all(0, 10000, category => 'x')});
is($late, '10', 'nothing was lost');
is(value(q{SELECT count(*) FROM eduai.read_all(0, 10000, category => 'w')}), 5 * $appends, 'nothing at all');
unlike(slurp_file($node->logfile), qr/could not do its chore "(?!standby mark)/, 'no other chore ever failed');
$node->stop;

# ---- the process that makes a partition ----

# It waits behind whoever changes the table, and whoever waits for it can go.
my $other = new_node(name => 'other', conf => { 'eduai.test_mode' => 'on', autovacuum => 'off' });
sub other { return $other->safe_psql('postgres', $_[0]) }
$holder = EduaiSession->new($other);
$holder->ask('BEGIN; LOCK TABLE eduai.event IN SHARE UPDATE EXCLUSIVE MODE;');
my $appender = EduaiSession->new($other);
my $backend = $appender->backend_pid;
$appender->send(q{SELECT version FROM eduai.append_event('s', 't');});
wait_until(sub { other(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'eduai helper' AND wait_event_type = 'Lock'}) eq '1' }, 10, 'the helper waits for a lock');
ok(!$appender->answered, 'so does the append');
$start = time();
other("SELECT pg_cancel_backend($backend)");
like($appender->answer(10), qr/ERROR:  57014/, 'which can be cancelled');
cmp_ok(time() - $start, '<', 2, 'at once');
is(other(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'eduai helper'}), '1', 'the helper goes on');
$holder->ask('COMMIT;');
wait_until(sub { other(q{SELECT count(*) FROM pg_inherits WHERE inhparent = 'eduai.event'::regclass}) eq '1' }, 10, 'it makes the partition');
pass('and makes the partition');
is($appender->ask(q{SELECT version FROM eduai.append_event('s', 't');}), '1', 'that the next append finds');

# Where no worker can be had, the append makes the partition by itself.
$_->quit for $holder, $appender;
other('ALTER SYSTEM SET max_worker_processes = 5');
other('DROP EXTENSION eduai; CREATE EXTENSION eduai');
$other->restart;
wait_until(sub { other(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('eduai launcher', 'eduai dispatcher', 'eduai projector', 'eduai keeper', 'logical replication launcher')}) eq '5' },
	20, 'all places are taken');
is(other(q{SELECT version FROM eduai.append_event('s', 't')}), '1', 'an append works without a free worker');
is(other(q{SELECT count(*) FROM eduai.read_all()}), '1', 'and is read');
$other->stop;
done_testing();
