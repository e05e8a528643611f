
# Many sessions that want the same at once compute it once; and all of them get
# it when the one that computes is ended, fails, is killed, or waits for a lock
# that one of the others has.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on', max_connections => 90 });
my $callers = 64;

sub value { return $node->safe_psql('postgres', $_[0]) }
sub computations { return value(q{SELECT coalesce(sum(computations), 0) FROM eduai.cache_stats}) }
sub pause { value("SELECT eduai.test_pause('cache_compute', $_[0])"); return }
sub paused { return value(q{SELECT eduai.test_paused('cache_compute')}) }
sub waiting { return value(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE '%cached_query%'}) }

value(q{CREATE TABLE t (id int, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 100) i;});
my @sessions = map { EduaiSession->new($node) } 1 .. $callers;
$_->ask('SET eduai.cache_wait = 60000; SELECT 1;') for @sessions;
my $query = q{SELECT eduai.cached_query('SELECT sum(v) AS s FROM t WHERE id <> $1', ARRAY['%d']);};

# run(NUMBER, [those who ask], what happens while the first computes): what the others got
sub run
{
	my ($key, $who, $meanwhile) = @_;
	my @who = @$who;
	pause('true');
	my $first = shift @who;
	$first->send(sprintf $query, $key);
	wait_until(sub { paused() == 1 }, 20, 'one computes');
	$_->send(sprintf $query, $key) for @who;
	wait_until(sub { waiting() == @who }, 20, 'the others wait');
	$meanwhile->($first);
	pause('false');
	return map { scalar $_->answer(30) } @who;
}

my $before = computations();
my @answers = run(-1, \@sessions, sub { });
is($sessions[0]->answer(30), '[{"s": 5050}]', 'the one that computed has it');
is(scalar(grep { $_ eq '[{"s": 5050}]' } @answers), $callers - 1, 'all others have it');
wait_until(sub { computations() - $before >= 1 }, 10, 'it is counted');
is(computations() - $before, 1, "one computation for $callers callers");

# ended
my @few = @sessions[0 .. 7];
my $pid = $few[0]->ask('SELECT pg_backend_pid();');
@answers = run(-2, \@few, sub { value("SELECT pg_terminate_backend($pid)"); pause('false') });
is(scalar(grep { $_ eq '[{"s": 5050}]' } @answers), 7, 'one that is ended leaves nobody without');

# cancelled
@few = @sessions[8 .. 15];
$pid = $few[0]->ask('SELECT pg_backend_pid();');
@answers = run(-3, \@few, sub { value("SELECT pg_cancel_backend($pid)") });
like($few[0]->answer(20), qr/57014/, 'one is cancelled');
is(scalar(grep { $_ eq '[{"s": 5050}]' } @answers), 7, 'the others have it');

# an error of the query
my $failing = q{SELECT eduai.cached_query('SELECT 1 / (id - $1) AS s FROM t', ARRAY['1']);};
pause('true');
$_->send($failing) for @sessions[16 .. 19];
wait_until(sub { paused() == 1 && waiting() == 3 }, 20, 'one computes, three wait');
pause('false');
is(scalar(grep { $_->answer(20) =~ /22012/ } @sessions[16 .. 19]), 4, 'each gets the error');

# the one that computes waits for a lock that a waiter has
my ($holder, $filler) = @sessions[20, 21];
pause('true');
$filler->send(sprintf $query, -4);
wait_until(sub { paused() == 1 }, 20, 'one computes');
$holder->ask('BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE;');
pause('false');
wait_until(sub { value(q{SELECT count(*) FROM pg_locks WHERE NOT granted}) == 1 }, 20, 'it waits for the lock');
is($holder->ask(sprintf $query, -4), '[{"s": 5050}]', 'who holds the lock does not wait for it');
$holder->ask('COMMIT;');
is($filler->answer(20), '[{"s": 5050}]', 'nor does the other wait for ever');

# a bounded wait
my ($slow, $quick) = @sessions[22, 23];
$quick->ask('SET eduai.cache_wait = 100;');
pause('true');
$slow->send(sprintf $query, -5);
wait_until(sub { paused() == 1 }, 20, 'one computes');
$quick->send(sprintf $query, -5);
wait_until(sub { paused() == 2 }, 20, 'the other computes too after its time');
pause('false');
is($_->answer(20), '[{"s": 5050}]', 'both have it') for $slow, $quick;

# killed: the server restarts, without the cache, and all is well
$pid = $sessions[24]->ask('SELECT pg_backend_pid();');
pause('true');
$sessions[24]->send(sprintf $query, -6);
wait_until(sub { paused() == 1 }, 20, 'one computes');
kill 'KILL', $pid;
wait_until(sub { (try_query($node, 'SELECT 1') // '') eq '1' && value(q{SELECT count(*) FROM eduai.cache_stats WHERE hits > 0}) eq '0' }, 30, 'the server is back');
is(value(sprintf $query, -6), '[{"s": 5050}]', 'right after a crash');

done_testing();
