# Fifty claimers on a pool of seven, whose limit changes, with rollbacks, forgotten
# tasks, sessions that are terminated and a server that is killed: never more run
# than the limit, and at the end no slot is lost.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use constant CLAIMERS => 50;
use constant ROUNDS => $ENV{EDUAI_ROUNDS} // 40;

my $seed = test_seed();
my $node = new_node(
	fsync => 1,
	conf => { 'eduai.test_mode' => 'on', 'eduai.queue_max_size' => 0, max_connections => CLAIMERS + 20, synchronous_commit => 'off' });
my $dir = PostgreSQL::Test::Utils::tempdir();

sub value { return $node->safe_psql('postgres', $_[0]) }

value(q{
	SELECT eduai.configure_pool('seven', '{}', 7, reserved_critical => 0);
	SELECT eduai.define_task_type('seven', 'application', 'seven', max_attempts => 100);});

# ---- the claimers ----

# What a claimer does with a task that it has: mostly finish it.
my @deeds = (
	(sub { "SELECT eduai.complete_task($_[0], $_[1], '{\"by\": \"$_[2]\"}');" }) x 5,
	sub { "SELECT eduai.fail_task($_[0], $_[1], 'no luck');" },
	sub { "BEGIN; SELECT eduai.complete_task($_[0], $_[1]); ROLLBACK; SELECT eduai.complete_task($_[0], $_[1]);" },
	sub { "SELECT eduai.extend_lease($_[0], $_[1], '300 ms'); SELECT eduai.complete_task($_[0], $_[1]);" },
	sub { "SELECT eduai.cancel_task($_[0]);" },
	sub { '' });    # forgotten: its lease will be over

sub claimer
{
	my ($n) = @_;
	my $parent = getppid();
	my $session;
	srand($seed + $n);
	while (!-e "$dir/stop" && getppid() == $parent)
	{
		my $wait = rand() < 0.5 ? '300 ms' : '0';
		my $claim = "SELECT task_id, attempt FROM eduai.claim_tasks('c$n', '{seven}', " . (1 + int rand 3) . ", lease => '400 ms', wait => '$wait');";
		my $kind = rand();
		$session //= EduaiSession->new($node);
		$claim = "BEGIN; $claim ROLLBACK;" if $kind < 0.1;
		$claim = "BEGIN; SAVEPOINT s; $claim ROLLBACK TO s; $claim COMMIT;" if $kind >= 0.1 && $kind < 0.2;
		my $answer = $session->ask($claim, 60);
		my @tasks = defined $answer ? map { [ split /\|/ ] } grep { /^\d+\|\d+$/ } split /\n/, $answer : ();
		for my $task (@tasks)
		{
			last unless defined $answer;
			$answer = $session->ask($deeds[ int rand @deeds ]->(@$task, "c$n"), 60);
		}
		next if defined $answer && $answer !~ /FATAL|server closed|connection/;
		# Terminated, or the server is gone.
		$session->kill;
		$session = undef;
		select undef, undef, undef, 0.1;
	}
	$session->quit if $session;
	POSIX::_exit(0);
}

my @claimers;
for my $n (1 .. CLAIMERS)
{
	my $pid = fork() // die "fork: $!";
	claimer($n) if $pid == 0;
	push @claimers, $pid;
}
END { local ($?, $!); kill 'KILL', grep { defined } @claimers if @claimers }

# ---- the killing and the watching ----

sub alive
{
	open my $in, '<', "/proc/$_[0]/stat" or return 0;
	return (<$in> // '') !~ /\) Z /;
}

sub kill_server
{
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my @backends = split /\n/, value('SELECT pid FROM pg_stat_activity');
	$node->kill9;
	wait_until(sub { !grep { alive($_) } $postmaster, @backends }, 30, 'all processes of the server are gone');
	eval { wait_until(sub { !-e "/proc/$postmaster" }, 5, 'the postmaster is reaped') }
	  or unlink $node->data_dir . '/postmaster.pid', $node->host . '/.s.PGSQL.' . $node->port . '.lock';
	$node->start;
}

# One statement: the limit, how many run, and which of them began when.
my ($limit, $since) = (7, '-infinity');
my ($samples, $full, $over, $most) = (0, 0, 0, 0);

sub look
{
	my $row = try_query($node, qq{SELECT (SELECT max_concurrent FROM eduai.pool WHERE name = 'seven'), count(*),
		count(*) FILTER (WHERE started_at > '$since') FROM eduai.task_live WHERE state = 'running'});
	return unless defined $row && $row =~ /^(\d+)\|(\d+)\|(\d+)$/;
	my ($now, $running, $new) = ($1, $2, $3);
	die "the limit is $now, not $limit" unless $now == $limit;
	$samples++;
	$full++ if $running == $limit;
	$most = $running if $running > $most;
	# Those that ran when the limit was lowered may end; none may join them.
	$over++ if $running > $limit && $new > 0;
	diag("$running run, $new of them new, where $limit may") if $running > $limit && $new > 0;
}

sub change_limit
{
	$limit = (3, 5, 7, 9, 12)[ int rand 5 ];
	value("SELECT eduai.configure_pool('seven', '{seven}', $limit, reserved_critical => 0)");
	$since = value('SELECT clock_timestamp()');
}

sub terminate_some
{
	my $n = 1 + int rand 4;
	value(qq{SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity
		WHERE query LIKE '%eduai.%' AND backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT $n) s});
}

my $enqueued = 0;
for my $round (1 .. ROUNDS)
{
	$enqueued += value(q{SELECT cardinality(eduai.enqueue_batch('seven', array_fill('{}'::jsonb, ARRAY[200])))})
	  if value(q{SELECT count(*) FROM eduai.task WHERE finished_at IS NULL}) < 300;
	look() for 1 .. 10;
	if ($round == int(ROUNDS / 2))
	{
		cmp_ok(value(q{SELECT count(*) FROM eduai.task_live WHERE state = 'running'}), '>', 0, 'tasks run when the server is killed');
		kill_server();
	}
	elsif ($round % 4 == 0) { change_limit() }
	elsif ($round % 3 == 0) { terminate_some() }
}

is($over, 0, "never more ran than the limit ($samples looks, $full at the limit, at most $most)");
cmp_ok($samples, '>', ROUNDS * 5, 'there were enough looks');
cmp_ok($full, '>', $samples / 20, 'and the pool was full in many');
cmp_ok(value(q{SELECT count(*) FROM eduai.task_end WHERE state = 'completed'}), '>', 50, 'tasks were completed');

# ---- the end: no slot is lost ----

append_to_file("$dir/stop", '');
waitpid $_, 0 for @claimers;
@claimers = ();
$limit = 7;
value(q{SELECT eduai.configure_pool('seven', '{seven}', 7, reserved_critical => 0)});
wait_until(sub { value(q{SELECT count(*) FROM eduai.task_live WHERE state = 'running'}) == 0 }, 30, 'all leases are over');
is(value(q{SELECT running, max_concurrent FROM eduai.pool_status WHERE name = 'seven'}), '0|7', 'all slots are free');
is(value(q{SELECT sum(leases) FROM eduai.worker_status}), '0', 'and no worker has a task');
value(q{SELECT eduai.enqueue_batch('seven', array_fill('{}'::jsonb, ARRAY[30]))});
for my $again (1, 2)
{
	my @tasks = split /\n/, value(q{SELECT task_id || ', ' || attempt FROM eduai.claim_tasks('last', '{seven}', 100, lease => '1 min')});
	is(@tasks, 7, 'exactly seven can be claimed');
	is(value(q{SELECT count(*) FROM eduai.claim_tasks('last', '{seven}', 100)}), '0', 'not one more');
	value("SELECT eduai.complete_task($_)") for @tasks;
}
is(value(q{SELECT count(*) FROM (SELECT task_id FROM eduai.task_live INTERSECT SELECT task_id FROM eduai.task_end) s}), '0', 'no task is both alive and final');
is(value(q{SELECT (SELECT count(*) FROM eduai.task_request) - (SELECT count(*) FROM eduai.task_live) - (SELECT count(*) FROM eduai.fresh_task) - (SELECT count(*) FROM eduai.task_end)}), '0', 'none is neither');

$node->stop('fast');
done_testing();
