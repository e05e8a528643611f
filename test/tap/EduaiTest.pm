
# Shared by the TAP tests: a server with eduai loaded, the provider simulator,
# and waiting for a condition with a deadline instead of sleeping.
#
#   use EduaiTest;
#   my $node = new_node();                  # started, extension created
#   my $sim = start_simulator();
#   add_fleet($node, $sim);
#   my $id = $node->safe_psql('postgres', q{SELECT eduai.enqueue(...)});
#   wait_until(sub { ... }, 10, 'the task is completed');

package EduaiTest;

use strict;
use warnings;

use Carp qw(croak);
use Exporter 'import';
use HTTP::Tiny;
use IPC::Run ();
use JSON::PP ();
use MIME::Base64 qw(encode_base64);
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

our @EXPORT = qw(
  new_node master_key_file write_master_key
  start_simulator stop_simulator
  sim_get sim_post sim_stats sim_journal sim_default sim_reset
  add_fleet
  wait_until wait_for_task try_query kill_server
  test_seed
);

my $json = JSON::PP->new->utf8->canonical;
my @simulators;
my $nodes = 0;

# new_node(%options) -> a started PostgreSQL::Test::Cluster
#   name       of the node; 'main'
#   fsync      0; 1 where the test pulls the plug on the operating system's side
#   conf       { setting => value } on top of the defaults below
#   initdb     arguments for initdb; UTF8, locale C
#              (the first node of a file, with these, is a copy of a data
#              directory: EDUAI_TEMPLATE, see scripts/suites.sh. Others are a
#              system of their own, with an identifier of its own.)
#   start      1; 0 leaves it initialised but not started, without the extension
#   master_key 1; 0 gives it no eduai.master_key_file (else master_key_file())
#   extension  1; 0 leaves the database without CREATE EXTENSION
sub new_node
{
	my (%option) = (name => 'main', fsync => 0, conf => {}, initdb => [ '--encoding=UTF8', '--no-locale' ], start => 1, extension => 1, master_key => 1, @_);
	my $node = PostgreSQL::Test::Cluster->new($option{name});
	local $ENV{EDUAI_TEMPLATE} = $nodes++ ? '' : $ENV{EDUAI_TEMPLATE};
	# Streaming makes wal_level replica; a test of slots or physical copies
	# says so in conf.
	$node->init(allows_streaming => $option{conf}{wal_level} ? 0 : 1, extra => $option{initdb});

	my %conf = (
		shared_preload_libraries => 'eduai',
		'eduai.database' => 'postgres',
		# what a provider gets is what the test sends
		'eduai.health_interval' => 0,
		fsync => $option{fsync} ? 'on' : 'off',
		max_connections => 60,
		max_worker_processes => 16,
		max_prepared_transactions => 8,
		max_locks_per_transaction => 256,
		shared_buffers => '64MB',
		log_statement => 'none',
		log_min_messages => 'info',
		log_line_prefix => '%m [%p] %b %q%d ',
		timezone => 'UTC',
		restart_after_crash => 'on',
		($option{master_key} ? ('eduai.master_key_file' => write_master_key($node, 'test')) : ()),
		%{ $option{conf} });
	$node->append_conf('postgresql.conf', join('', map { "$_ = '$conf{$_}'\n" } sort keys %conf));

	return $node unless $option{start};
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION eduai') if $option{extension};
	return $node;
}

sub master_key_file { return $_[0]->basedir . '/master.key' }

# write_master_key(NODE, ID ...) -> the file: a key for each id, the first one
# current. An id that was written before keeps its key. In one step, so that no
# server ever reads half of it.
my %master_key;

sub write_master_key
{
	my ($node, @ids) = @_;
	my $file = master_key_file($node);
	for (@ids)
	{
		next if exists $master_key{$_};
		open my $random, '<', '/dev/urandom' or croak "/dev/urandom: $!";
		read($random, my $bytes, 32) == 32 or croak 'no randomness';
		$master_key{$_} = encode_base64($bytes, '');
	}
	my $umask = umask 077;
	open my $out, '>', "$file.new" or croak "$file.new: $!";
	print $out map { "$_ $master_key{$_}\n" } @ids;
	close $out;
	umask $umask;
	rename "$file.new", $file or croak "$file: $!";
	return $file;
}

# wait_until(CODE, SECONDS, WHAT) -> what CODE returned once it was true. Looks
# often at first, then every 100 ms, after 2 s every 250 ms: a look by psql takes
# 20 ms of a processor. Past the deadline the test file dies. What took longer than
# a second is noted in the log.
sub wait_until
{
	my ($condition, $deadline_s, $what) = @_;
	my $start = Time::HiRes::time();
	my $pause = 0.005;
	while (1)
	{
		my $seen = $condition->();
		my $waited = Time::HiRes::time() - $start;
		if ($seen)
		{
			note(sprintf 'waited %.1f s: %s', $waited, $what) if $waited > 1;
			return $seen;
		}
		croak "not within $deadline_s s: $what" if $waited > $deadline_s;
		Time::HiRes::sleep($pause);
		$pause = $pause * 1.5 if $pause < ($waited < 2 ? 0.1 : 0.25);
	}
}

# try_query(NODE, SQL, DATABASE) -> what it printed, or undef when it failed: for
# a server that may be down or recovering. ($node->psql feeds the query through a
# pipe, and dies when psql has left before reading it.)
sub try_query
{
	my ($node, $sql, $database) = @_;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database // 'postgres'), '-c', $sql ],
		'<', '/dev/null', '>', \$out, '2>', \$err);
	chomp $out;
	return $ok ? $out : undef;
}

# kill_server(NODE): SIGKILL to every process of it, as a power cut would be. Nobody
# starts it again.
sub kill_server
{
	my ($node) = @_;
	my @pids = split /\n/, $node->safe_psql('postgres', 'SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()');
	# Without a postmaster a pause point would let them go on, and a postmaster
	# would start others: it stands still while they go.
	kill 'STOP', (slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/)[0];
	kill 'KILL', @pids;
	$node->kill9;
	wait_until(sub { !grep { kill 0, $_ } @pids }, 20, 'the server is dead');
	return;
}

# wait_for_task(NODE, TASK_ID, STATE, SECONDS): until the task is in that state.
# A final state other than the wanted one fails at once, with the task's error;
# a server that is down or recovering is waited for.
sub wait_for_task
{
	my ($node, $task_id, $state, $deadline_s) = @_;
	my ($now, $error);
	return wait_until(
		sub {
			my $row = try_query($node, qq{SELECT state || E'\\t' || coalesce(error::text, '') FROM eduai.get_task($task_id)});
			($now, $error) = split /\t/, $row // '', 2;
			return 1 if defined $now && $now eq $state;
			croak "task $task_id is $now, not $state: $error"
			  if defined $now && $now =~ /^(?:completed|dead|cancelled|uncertain|expired)$/;
			return 0;
		},
		$deadline_s // 20,
		"task $task_id is $state");
}

# test_seed() -> the seed of a random test, given by EDUAI_SEED or drawn; printed,
# and srand() called with it.
sub test_seed
{
	my $seed = $ENV{EDUAI_SEED} || int(Time::HiRes::time() * 1000) % 1000000000;
	diag("seed $seed: EDUAI_SEED=$seed repeats it");
	srand $seed;
	return $seed;
}

# start_simulator(%options) -> { port, pid, base_url, journal_file }; it ends with the test.
#   port  0 (a free one); seed 1
sub start_simulator
{
	my (%option) = (port => 0, seed => 1, @_);
	my $program = $ENV{EDUAI_SIMULATOR} // 'test/provider/eduai-simulator';
	croak "no provider simulator at $program: build test/provider, or set EDUAI_SIMULATOR" unless -x $program;

	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $port_file = "$dir/port";
	my $log = "$PostgreSQL::Test::Utils::log_path/simulator_$$" . '_' . scalar(@simulators) . '.log';
	my $pid = fork() // croak "fork: $!";
	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', $log;
		open STDERR, '>&', \*STDOUT;
		exec($program, '--port', $option{port}, '--port-file', $port_file, '--parent-pid', getppid(),
			'--journal', "$dir/journal", '--seed', $option{seed})
		  or POSIX::_exit(127);
	}
	my $sim = { pid => $pid, journal_file => "$dir/journal", running => 1 };
	push @simulators, $sim;
	$sim->{port} = wait_until(
		sub {
			croak "the simulator ended at once; see $log" if waitpid($pid, POSIX::WNOHANG()) == $pid;
			return -s $port_file && (slurp_file($port_file) =~ /^(\d+)\s/)[0];
		},
		10,
		'the simulator listens');
	$sim->{base_url} = "http://127.0.0.1:$sim->{port}";
	return $sim;
}

# stop_simulator(SIM, SIGNAL): 'KILL' for a provider that vanishes mid-answer.
sub stop_simulator
{
	my ($sim, $signal) = @_;
	return unless $sim->{running};
	kill $signal // 'TERM', $sim->{pid};
	waitpid $sim->{pid}, 0;
	$sim->{running} = 0;
}

END
{
	# The exit status is the test's, not that of what is reaped here.
	local ($?, $!);
	stop_simulator($_, 'KILL') for @simulators;
}

sub sim_request
{
	my ($sim, $method, $path, $body) = @_;
	my $answer = HTTP::Tiny->new(timeout => 30)->request(
		$method,
		"$sim->{base_url}$path",
		defined $body ? { content => $json->encode($body), headers => { 'Content-Type' => 'application/json' } } : {});
	croak "$method $path: $answer->{status} $answer->{content}" unless $answer->{success};
	return $json->decode($answer->{content});
}

sub sim_get { return sim_request($_[0], 'GET', $_[1]) }
sub sim_post { return sim_request($_[0], 'POST', $_[1], $_[2]) }

# Counters: requests, open, peak_open, completed, aborted, connections ...
sub sim_stats { return sim_get($_[0], '/_sim/stats') }

# The journal's entries after that sequence number, oldest first, all of them.
sub sim_journal
{
	my ($sim, $after) = @_;
	my @entries;
	$after //= 0;
	while (1)
	{
		my $page = sim_get($sim, "/_sim/journal?after=$after&limit=50000");
		push @entries, @$page;
		return \@entries if @$page < 50000;
		$after = $page->[-1]{seq};
	}
}

# sim_default(SIM, MODEL or undef for all, 'key=value;key=value')
sub sim_default
{
	my ($sim, $model, $behaviour) = @_;
	return sim_post($sim, '/_sim/default', { (defined $model ? (model => $model) : ()), behaviour => $behaviour });
}

# Forgets the journal, the counters and every default behaviour.
sub sim_reset { return sim_post($_[0], '/_sim/reset', {}) }

# add_fleet(NODE, SIM, %options): one provider 'sim' and COUNT instances of it,
# sim-1, sim-2 ..., serving chat with the model 'sim-chat'.
#   count 1; model; task_types; max_concurrent 100; options {} of each instance;
#   api_key; provider_options {} beside allow_loopback
sub add_fleet
{
	my ($node, $sim, %given) = @_;
	my %option = (
		database => 'postgres', provider => 'sim', kind => 'openai', count => 1, model => 'sim-chat',
		task_types => '{chat}', max_concurrent => 100, price_input => 1, price_output => 2, api_key => undef, provider_options => {}, options => {}, %given);
	my $url = $option{kind} eq 'anthropic' ? $sim->{base_url} : "$sim->{base_url}/v1";
	my $options = $json->encode($option{options});
	my $provider_options = $json->encode({ allow_loopback => JSON::PP::true, %{ $option{provider_options} } });
	my $key = defined $option{api_key} ? "'$option{api_key}'" : 'NULL';
	my $sql = "SELECT eduai.add_provider('$option{provider}', '$option{kind}', '$url', $key, '$provider_options');\n";
	for my $n (1 .. $option{count})
	{
		$sql .= "SELECT eduai.add_instance('$option{provider}-$n', '$option{provider}', '$option{model}', '$option{task_types}', "
		  . "max_concurrent => $option{max_concurrent}, price_input => $option{price_input}, "
		  . "price_output => $option{price_output}, options => '$options');\n";
	}
	$node->safe_psql($option{database}, $sql);
}

1;
