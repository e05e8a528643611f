# Nothing acknowledged is lost, and no attempt is made twice.
#
# Clients enqueue without a pause while the dispatcher, a session or the whole
# server is killed twenty times with requests in flight: at random moments, and
# at named points inside the dispatcher's and a client's commit. What clients
# were told is compared with what the database holds and what the provider saw.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use POSIX qw(:sys_wait_h);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use constant CLIENTS => 4;

my $seed = test_seed();
my $node = new_node(
	conf => { 'eduai.test_mode' => 'on', 'eduai.sweep_interval' => '1s', 'eduai.queue_max_size' => 0 });
my $sim = start_simulator(seed => $seed % 1000000);
my $dir = PostgreSQL::Test::Utils::tempdir();

# Each answer repeats its question: a result in the wrong task would show.
sim_default($sim, 'sim-chat', 'latency=lognormal:120:300;error=0.02;echo');
sim_default($sim, 'sim-slow', 'latency=2000;echo');
$node->safe_psql('postgres', q{
	SELECT eduai.define_task_type('careful', 'gateway', 'chat', 50, on_uncertain => 'hold');
	SELECT eduai.configure_pool('chat', '{chat,careful}', 200);
	CREATE TABLE handled (task_id bigint, state text);
	CREATE FUNCTION handle(t eduai.task_status) RETURNS void LANGUAGE sql
		AS $$ INSERT INTO public.handled VALUES (t.task_id, t.state) $$;
});
add_fleet($node, $sim, provider => 'sim', task_types => '{chat,careful}');
add_fleet($node, $sim, provider => 'slow', model => 'sim-slow', task_types => '{chat,careful}');

# ---- the clients ----

# The one statement that enqueues a task of this nonce.
sub enqueue_sql
{
	my ($nonce, $slow) = @_;
	my $type = $nonce =~ /careful/ ? 'careful' : 'chat';
	my $model = $slow || $type eq 'careful' ? 'sim-slow' : 'sim-chat';
	my $payload = qq({"model": "$model", "user": "$nonce", "messages": [{"role": "user", "content": "$nonce"}]});
	my $sql = "SELECT eduai.enqueue('$type', '$payload', max_attempts => 50";
	$sql .= ", user_id => 'u" . ($nonce =~ /(\d)$/)[0] . "'" if $nonce =~ /learner/;
	$sql .= ", on_result => 'public.handle'" if $nonce =~ /handled/;
	return "$sql);";
}

# A client's life: it writes a line for each nonce to its log before it asks
# ("try", or "back" for what it will roll back) and after it was told ("ack").
sub client
{
	my ($n) = @_;
	my $parent = getppid();
	my ($session, $count) = (undef, 0);
	srand($seed + $n);
	open my $log, '>', "$dir/client$n" or POSIX::_exit(1);
	$log->autoflush(1);
	while (!-e "$dir/stop" && getppid() == $parent)
	{
		my $kind = (qw(plain plain plain learner handled careful lazy back savepoint))[ int rand 9 ];
		my $nonce = "$kind-$n-" . ++$count;
		my $slow = rand() < 0.2;
		my $other = "back-$n-" . ++$count;
		my $sql = enqueue_sql($nonce, $slow);
		$session //= EduaiSession->new($node);

		print $log $kind eq 'back' ? "back $nonce\n" : "try $nonce\n";
		if ($kind eq 'back')
		{
			$sql = "BEGIN; $sql ROLLBACK;";
		}
		elsif ($kind eq 'lazy')
		{
			# May be lost when all dies, but then nothing may have been sent.
			$sql = "BEGIN; SET LOCAL synchronous_commit = off; $sql COMMIT;";
		}
		elsif ($kind eq 'savepoint')
		{
			print $log "back $other\n";
			$sql = "BEGIN; SAVEPOINT s; " . enqueue_sql($other) . " ROLLBACK TO s; $sql COMMIT;";
		}
		my $answer = $session->ask($sql, 60);
		if (!defined $answer || $answer !~ /(?:^|\n)(\d+)$/)
		{
			# Killed, or refused while the server starts: what became of it is unknown.
			$session->kill;
			$session = undef;
			select undef, undef, undef, 0.05;
			next;
		}
		print $log "ack $nonce $1\n" unless $kind eq 'back' || $kind eq 'lazy';
		# The pace: as fast as answers come, with an upper bound for the slow ones.
		$session->ask("SELECT (eduai.wait_task($1, '0.2 s')).state;", 60) unless $kind eq 'back';
	}
	$session->quit if $session;
	POSIX::_exit(0);
}

my @clients;
for my $n (1 .. CLIENTS)
{
	my $pid = fork() // die "fork: $!";
	client($n) if $pid == 0;
	push @clients, $pid;
}

# ---- the killing ----

sub postmaster_pid { return (slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/)[0] }

# The parent of a process, 0 when it is gone or only waits to be reaped.
sub parent_of
{
	open my $in, '<', "/proc/$_[0]/stat" or return 0;
	return (<$in> // '') =~ /\) [^Z] (\d+) / ? $1 : 0;
}

sub children_of
{
	my ($parent) = @_;
	return grep { parent_of($_) == $parent } map { m{(\d+)$} } glob '/proc/[0-9]*';
}

sub alive { return parent_of($_[0]) != 0 }

# Tasks of the test itself: told to the same log of acknowledgements; so many
# slow ones, or one.
my %acknowledged;
my $own = 0;

sub enqueue_own
{
	my ($prefix, $slow) = @_;
	my @nonces = map { "$prefix-0-" . ++$own } 1 .. ($slow || 1);
	my @ids = split /\n/, $node->safe_psql('postgres', join "\n", map { enqueue_sql($_, $slow) } @nonces);
	@acknowledged{@nonces} = @ids;
	return $ids[0];
}

# What a kill may not find empty: slow calls that left in an earlier turn.
sub need_flights
{
	enqueue_own('plain', 3);
	wait_until(sub { sim_stats($sim)->{open} >= 3 }, 20, 'requests are in flight');
}

sub pause_at
{
	my ($point) = @_;
	$node->safe_psql('postgres', "SELECT eduai.test_pause('$point', true)");
	wait_until(sub { $node->safe_psql('postgres', "SELECT eduai.test_paused('$point')") > 0 }, 20, "a process is at $point");
}

# By its title: asking the server would cost a session for each look.
sub dispatcher_pid
{
	my $postmaster = -e $node->data_dir . '/postmaster.pid' ? postmaster_pid() : 0;
	for my $pid (children_of($postmaster))
	{
		open my $in, '<', "/proc/$pid/cmdline" or next;
		return $pid if (<$in> // '') =~ /eduai dispatcher/;
	}
	return '';
}

# Kills the server: only the postmaster, whose children find out by themselves,
# or, as a power cut would, everybody at once. Starts again when all are gone.
sub kill_server
{
	my ($everybody) = @_;
	my $postmaster = postmaster_pid();
	kill 'STOP', $postmaster if $everybody;
	my @children = children_of($postmaster);
	kill 'KILL', @children if $everybody;
	$node->kill9;
	wait_until(sub { !grep { alive($_) } $postmaster, @children }, 30, 'all processes of the server are gone');
	# One that init has not reaped yet would pass for a running one.
	unlink $node->data_dir . '/postmaster.pid', $node->host . '/.s.PGSQL.' . $node->port . '.lock';
	$node->start;
}

sub kill_process
{
	my ($pid) = @_;
	kill 'KILL', $pid;
	wait_until(sub { !alive($pid) }, 10, "process $pid is gone");
}

my @kills = (
	[ 'dispatcher', 'turn-before-commit' ], [ 'server', 'turn-before-commit' ],
	[ 'dispatcher', 'turn-committed' ], [ 'everybody', 'turn-committed' ],
	[ 'session', 'commit-before-wake' ], [ 'everybody', 'commit-before-wake' ],
	(map { ['dispatcher'] } 1 .. 8), (map { ['server'] } 1 .. 3), (map { ['everybody'] } 1 .. 3));
for my $i (reverse 1 .. $#kills)
{
	my $j = int rand($i + 1);
	@kills[ $i, $j ] = @kills[ $j, $i ];
}

my $lost_calls = 0;
my @stuck;
for my $kill (@kills)
{
	my ($victim, $point) = @$kill;
	my $name = $point ? "$victim at $point" : "$victim at a random moment";
	my $before = dispatcher_pid();
	my $stuck;
	like($before, qr/^\d+$/, "a dispatcher runs before the kill: $name");

	need_flights();
	if (($point // '') eq 'commit-before-wake')
	{
		# A task that is committed and visible, and whose dispatcher was not told.
		my $nonce = 'plain-0-' . ++$own;
		$node->safe_psql('postgres', "SELECT eduai.test_pause('$point', true)");
		$stuck = EduaiSession->new($node);
		my $pid = $stuck->backend_pid;
		$stuck->send(enqueue_sql($nonce));
		wait_until(sub { $node->safe_psql('postgres', "SELECT count(*) FROM eduai.task WHERE payload->>'user' = '$nonce'") == 1 },
			20, 'the stuck task is committed');
		ok(!$stuck->answered, 'its client has not been told');
		push @stuck, $nonce;
		$victim = $pid if $victim eq 'session';
	}
	elsif ($point)
	{
		pause_at($point);
	}
	else
	{
		my $moment = time() + rand 0.3;
		wait_until(sub { time() >= $moment && sim_stats($sim)->{open} >= 3 }, 20, 'a random moment with requests in flight');
	}

	my $stats = sim_stats($sim);
	cmp_ok($stats->{open}, '>=', 1, "$stats->{open} requests are in flight");
	if ($victim eq 'dispatcher' || $victim =~ /^\d/)
	{
		kill_process($victim eq 'dispatcher' ? $before : $victim);
	}
	else
	{
		kill_server($victim eq 'everybody');
	}
	$stuck->kill if $stuck;
	wait_until(sub { my $now = dispatcher_pid(); $now ne '' && $now ne $before }, 30, 'a new dispatcher runs');
	wait_for_task($node, enqueue_own('plain'), 'completed', 30);
	$lost_calls += sim_stats($sim)->{aborted} - $stats->{aborted};
}
cmp_ok($lost_calls, '>=', scalar @kills, "the kills cut $lost_calls calls off");

# ---- the reckoning ----

append_to_file("$dir/stop", '');
for my $pid (@clients)
{
	wait_until(sub { waitpid($pid, WNOHANG) == $pid }, 60, 'a client ends');
}
my $living = q{FROM eduai.task WHERE state IN ('waiting', 'scheduled', 'ready', 'running')};
eval {
	wait_until(sub { $node->safe_psql('postgres', "SELECT count(*) $living") == 0 }, 90, 'all tasks have ended');
} or do
{
	diag $node->safe_psql('postgres', "SELECT task_id, state, attempt, instance, worker, run_at, started_at, now(), error $living LIMIT 5");
	diag $node->safe_psql('postgres', 'SELECT jsonb_pretty(eduai.health())');
	die $@;
};

my (%tried, %rolled_back);
for my $file (glob "$dir/client*")
{
	for (split /\n/, slurp_file($file))
	{
		my ($word, $nonce, $id) = split / /;
		$tried{$nonce} = 1 if $word eq 'try';
		$rolled_back{$nonce} = 1 if $word eq 'back';
		$acknowledged{$nonce} = $id if $word eq 'ack';
	}
}
my %requests;
$requests{ $_->{user} }++ for @{ sim_journal($sim) };

my (%tasks, %by_nonce);
for (split /\n/, $node->safe_psql('postgres', q{
	SELECT t.task_id, t.payload->>'user', t.state, t.attempt, t.task_type, t.result->>'text',
		(SELECT count(*) FROM eduai.usage_ledger l WHERE l.task_id = t.task_id),
		(SELECT count(*) FROM eduai.usage_ledger l WHERE l.task_id = t.task_id AND l.outcome = 'completed'),
		(SELECT count(*) FROM eduai.usage_ledger l WHERE l.task_id = t.task_id AND l.outcome = 'uncertain'),
		(SELECT count(*) FROM handled h WHERE h.task_id = t.task_id AND h.state = t.state)
	FROM eduai.task t}))
{
	my %t;
	@t{qw(id nonce state attempt type text ledger completed uncertain handled)} = split /\|/;
	$tasks{ $t{id} } = \%t;
	push @{ $by_nonce{ $t{nonce} } }, \%t;
}
my %events = map { split /\|/ } split /\n/, $node->safe_psql('postgres', q{
	SELECT data->>'task_id', count(*)
	FROM generate_series(0, 9) n, eduai.read_stream('learner-u' || n, max_count => 10000)
	WHERE event_type = 'ai_feedback_given' GROUP BY 1});

# Each complaint names what is wrong; the lists are to be empty.
my %wrong;
for my $nonce (keys %acknowledged)
{
	my $t = $tasks{ $acknowledged{$nonce} };
	push @{ $wrong{lost} }, "$nonce $acknowledged{$nonce}" unless $t && $t->{nonce} eq $nonce;
}
$by_nonce{$_} or push @{ $wrong{lost} }, $_ for @stuck;
for my $nonce (keys %by_nonce)
{
	push @{ $wrong{twice} }, $nonce if @{ $by_nonce{$nonce} } > 1;
	push @{ $wrong{resurrected} }, $nonce if $rolled_back{$nonce};
	push @{ $wrong{unknown} }, $nonce unless $tried{$nonce} || $acknowledged{$nonce} || grep { $_ eq $nonce } @stuck;
}
for my $nonce (keys %requests)
{
	push @{ $wrong{sent_without_task} }, $nonce unless $by_nonce{$nonce};
}
for my $t (values %tasks)
{
	my $sent = $requests{ $t->{nonce} } // 0;
	my $what = join ' ', %$t, 'sent', $sent;
	my $completed = $t->{state} eq 'completed';
	push @{ $wrong{state} }, $what unless $completed || ($t->{state} eq 'uncertain' && $t->{type} eq 'careful');
	push @{ $wrong{result} }, $what unless $completed ? $t->{text} eq $t->{nonce} : $t->{text} eq '';
	push @{ $wrong{sent_more_than_attempts} }, $what if $sent > $t->{attempt};
	push @{ $wrong{never_sent} }, $what if $completed && $sent == 0;
	push @{ $wrong{ledger} }, $what if $t->{ledger} != $t->{attempt} || $t->{completed} != ($completed ? 1 : 0);
	push @{ $wrong{careful_sent_again} }, $what if $t->{type} eq 'careful' && $t->{attempt} != 1;
	push @{ $wrong{handler} }, $what if $t->{handled} != ($t->{nonce} =~ /handled/ ? 1 : 0);
	push @{ $wrong{event} }, $what if ($events{ $t->{id} } // 0) != ($completed && $t->{nonce} =~ /learner/ ? 1 : 0);
}
for my $check (
	[ lost => 'every task that a client was told of is there' ],
	[ twice => 'no task is there twice' ],
	[ resurrected => 'no task that was rolled back is there' ],
	[ unknown => 'no task is there that nobody asked for' ],
	[ sent_without_task => 'nothing was sent without a task' ],
	[ state => 'every task is completed, or uncertain where its type holds' ],
	[ result => 'a completed task has its own result, an uncertain one none' ],
	[ sent_more_than_attempts => 'no task was sent more often than attempts were recorded' ],
	[ never_sent => 'no task completed without a request' ],
	[ ledger => 'each attempt is in the ledger once, one of them completed' ],
	[ careful_sent_again => 'a task of the type that holds was never sent again' ],
	[ handler => 'each handler took effect once' ],
	[ event => 'each learner was told once' ])
{
	my @list = @{ $wrong{ $check->[0] } // [] };
	is(scalar @list, 0, $check->[1]) or diag map { "$_\n" } grep { defined } @list[ 0 .. 9 ];
}

my $uncertain = grep { $_->{uncertain} } values %tasks;
my $held = grep { $_->{state} eq 'uncertain' } values %tasks;
cmp_ok(scalar(keys %acknowledged), '>', 100, scalar(keys %acknowledged) . ' tasks were acknowledged');
cmp_ok($uncertain, '>', 0, "$uncertain tasks had an uncertain attempt");
cmp_ok($held, '>', 0, "$held of a type that holds are left for a person");
cmp_ok(scalar(keys %rolled_back), '>', 0, scalar(keys %rolled_back) . ' tasks were rolled back');

$node->stop;
done_testing();
