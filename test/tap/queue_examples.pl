# The workers of examples/: each does tasks, keeps its lease while it works, says
# what failed, leaves a task alone that is no longer its own, and goes when told.

use strict;
use warnings;

use EduaiTest;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

$ENV{NODE_PATH} //= "$ENV{TESTDIR}/.cache/node/node_modules";

# What each needs: [program, its test, what is missing when that fails].
my %needs = (
	'worker.py' => [ [ '/usr/bin/python3', '-c', 'import psycopg2' ], '/usr/bin/python3 with psycopg2 (python3-psycopg2)' ],
	'worker.js' => [ [ 'node', '-e', 'require("pg")' ], 'Node with the package pg' ],
	'worker.sh' => [ [ 'sh', '-c', 'command -v psql && command -v jq' ], 'psql and jq' ]);

# A lease of three seconds: a worker of the shell starts several processes for a task.
my $node = new_node();
my $dir = PostgreSQL::Test::Utils::tempdir();
(my $host = $node->host) =~ s{/}{%2F}g;
my $url = "postgres://worker\@$host:" . $node->port . '/postgres';

sub value { return $node->safe_psql('postgres', $_[0]) }
value('CREATE ROLE worker LOGIN; GRANT eduai_worker TO worker');

sub enqueue { return value("SELECT eduai.enqueue('custom', '$_[0]', max_attempts => " . ($_[1] // 1) . ')') }

for my $example (sort keys %needs)
{
	my ($program, $what) = @{ $needs{$example} };
  SKIP:
	{
		my $there = eval { IPC::Run::run($program, '<', '/dev/null', '>', '/dev/null', '2>', '/dev/null') };
		skip "$example needs $what", 8 unless $there;

		my $log = "$dir/$example.log";
		my $worker = IPC::Run::start([ "examples/$example", $url, 'custom', 3 ], '<', '/dev/null', '>', $log, '2>', "$dir/$example.err");

		my $task = enqueue(q({"text": "it''s \"a|b\" ü"}));
		wait_for_task($node, $task, 'completed', 30);
		is(value("SELECT result ->> 'text' FROM eduai.get_task($task)"), $example eq 'worker.sh' ? 'IT\'S "A|B" ü' : 'IT\'S "A|B" Ü', "$example does a task");

		$task = enqueue('{}');
		wait_until(sub { value("SELECT state FROM eduai.get_task($task)") eq 'dead' }, 30, 'the task is dead');
		is(value("SELECT error ->> 'message' <> '' FROM eduai.get_task($task)"), 't', 'it says what failed');

		# more than two leases long
		$task = enqueue('{"text": "slow", "seconds": 7}', 2);
		wait_for_task($node, $task, 'running', 30);
		is(value("SELECT count(*) FROM eduai.claim_tasks('rival', '{custom}', wait => '6500 ms')"), 0, 'nobody else gets what it works at');
		wait_for_task($node, $task, 'completed', 30);
		is(value("SELECT attempt FROM eduai.get_task($task)"), 1, 'it keeps its lease while it works');

		$task = enqueue('{"text": "unwanted", "seconds": 4}');
		wait_for_task($node, $task, 'running', 30);
		value("SELECT eduai.cancel_task($task)");
		my $next = enqueue('{"text": "next"}', 3);
		wait_for_task($node, $next, 'completed', 30);
		is(value("SELECT state, result IS NULL FROM eduai.get_task($task)"), 'cancelled|t', 'it leaves a task alone that was cancelled');
		like(slurp_file($log), qr/^task $task: attempt 1 is no longer ours$/m, 'says so, and goes on');

		$task = enqueue('{"text": "last", "seconds": 1}');
		wait_for_task($node, $task, 'running', 30);
		$worker->signal('TERM');
		wait_until(sub { !$worker->pumpable }, 30, "$example has gone");
		$worker->finish;
		is($worker->full_result(0), 0, 'told to go, it goes');
		is(value("SELECT state FROM eduai.get_task($task)"), 'completed', 'when the task at hand is done');
		diag(slurp_file("$dir/$example.err")) if -s "$dir/$example.err";
	}
}

$node->stop('fast');
done_testing();
