# A dump of a queue in full work, restored: what ran is uncertain and its type's
# policy follows, what a worker had can be claimed, what waited runs, each once.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(conf => { 'eduai.database' => 'postgres,restored', 'eduai.sweep_interval' => '500ms' });
my $sim = start_simulator();
sim_default($sim, 'sim-silent', 'silent');
my $dir = PostgreSQL::Test::Utils::tempdir();

sub value { return $node->safe_psql($_[1] // 'postgres', $_[0]) }

sub enqueue
{
	my ($nonce, $more, $type, $model) = @_;
	$type //= 'chat';
	$model //= 'sim-chat';
	return value(qq{SELECT eduai.enqueue('$type', '{"model": "$model", "user": "$nonce", "prompt": "x"}'} . ($more ? ", $more" : '') . ')');
}

sub states
{
	return value(q{SELECT string_agg(coalesce(payload->>'user', task_type) || ' ' || state, ', ' ORDER BY task_id) FROM eduai.task}, $_[0]);
}

sub requests { my ($nonce) = @_; return scalar grep { $_->{user} eq $nonce } @{ sim_journal($sim) } }

value(q{SELECT eduai.define_task_type('careful', 'gateway', 'chat', on_uncertain => 'hold');
	SELECT eduai.define_task_type('graded', 'application', 'custom');
	SELECT eduai.configure_pool('chat', '{chat,careful}', 3, reserved_critical => 0)});
add_fleet($node, $sim, task_types => '{chat,careful}');
add_fleet($node, $sim, provider => 'slow', model => 'sim-silent', task_types => '{chat,careful}', options => { first_byte_ms => 3600000 });

my $done = enqueue('done');
wait_for_task($node, $done, 'completed', 20);
my $runs = enqueue('runs', undef, 'chat', 'sim-silent');
my $held = enqueue('held', undef, 'careful', 'sim-silent');
my $keyed = enqueue('keyed', q{metadata => '{"concurrency_key": "k"}'}, 'chat', 'sim-silent');
wait_until(sub { sim_stats($sim)->{open} == 3 }, 20, 'three requests hang');
my $second = enqueue('second', q{metadata => '{"concurrency_key": "k"}'});
my $ready = enqueue('ready');
my $child = enqueue('child', "depends_on => '{$ready,$done}'");
my $later = enqueue('later', q{run_at => now() + interval '1 hour'});
my $leased = value(q{SELECT eduai.enqueue('graded', '{"user": "leased"}')});
value(q{SELECT task_id FROM eduai.claim_tasks('w', '{graded}', lease => '1 h')});
my $free = value(q{SELECT eduai.enqueue('graded', '{"user": "free"}')});
value("SELECT eduai.cancel_task(" . enqueue('gone') . ")");
my $before = states('postgres');
is($before, 'done completed, runs running, held running, keyed running, second ready, ready ready, child waiting, later scheduled, leased running, free ready, gone cancelled',
	'the original, in full work');

my ($dump) = run_command([ 'pg_dump', '-d', $node->connstr('postgres') ]);
append_to_file("$dir/dump.sql", $dump);
my $sent = sim_stats($sim)->{requests};
value('CREATE DATABASE restored TEMPLATE template0');
$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', "$dir/dump.sql" ], 'the dump is restored');

# Without adoption nothing is sent, but what ran elsewhere is seen to.
wait_until(sub { states('restored') =~ /runs ready, held uncertain, keyed ready, .* leased ready/ }, 30, 'what ran is uncertain, and its policy follows');
is(states('restored'), 'done completed, runs ready, held uncertain, keyed ready, second ready, ready ready, child waiting, later scheduled, leased ready, free ready, gone cancelled',
	'the rest is as it was');
is(value("SELECT string_agg(outcome, ',') FROM eduai.usage_ledger WHERE task_id IN ($runs, $held, $keyed)", 'restored'), 'uncertain,uncertain,uncertain', 'the ledger says so');
my @claimed;
wait_until(sub { push @claimed, split /\n/, value(q{SELECT task_id || ' ' || attempt FROM eduai.claim_tasks('v', '{graded}', 10)}, 'restored'); @claimed >= 2 },
	20, 'workers claim two');
is(join(', ', sort { $a <=> $b } @claimed), "$leased 2, $free 1", 'workers claim what was leased, and what waited');
my $session = EduaiSession->new($node, 'restored');
like($session->ask("SELECT eduai.complete_task($leased, 1);"), qr/ERROR:  UE009/, 'the lease of the original is void there');
$session->quit;
is(sim_stats($sim)->{requests}, $sent, 'nothing was sent');

sim_default($sim, 'sim-silent', 'latency=20');
value('SELECT eduai.adopt_database()', 'restored');
for my $id ($runs, $keyed, $second, $ready, $child)
{
	is(value("SELECT state FROM eduai.wait_task($id, '20 s')", 'restored'), 'completed', "task $id completes once it is adopted");
}
is(join(' ', map { "$_ " . requests($_) } qw(done runs held keyed second ready child later)),
	'done 1 runs 2 held 1 keyed 2 second 1 ready 1 child 1 later 0', 'what was uncertain was sent once more, the rest once');
is(value(q{SELECT coalesce(sum(running), 0) FROM eduai.pool_status WHERE name = 'chat'}, 'restored'), 0, 'no slot is lost');
is(states('postgres'), $before, 'the original is as it was');

$node->stop('immediate');
done_testing();
