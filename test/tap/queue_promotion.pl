# A standby is promoted while the queue works: what ran is uncertain, leases begin
# anew, what waited runs, each once, and no slot is lost.

use strict;
use warnings;

use EduaiTest;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(time);

my $primary = new_node(name => 'primary', conf => { 'eduai.test_mode' => 'on', 'eduai.sweep_interval' => '1s' });
my $sim = start_simulator();
sim_default($sim, 'sim-silent', 'silent');
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
my $node = $primary;

sub value { return $node->safe_psql('postgres', $_[0]) }

sub enqueue
{
	my ($nonce, $more, $type, $model) = @_;
	$type //= 'chat';
	$model //= 'sim-chat';
	return value(qq{SELECT eduai.enqueue('$type', '{"model": "$model", "user": "$nonce", "prompt": "x"}'} . ($more ? ", $more" : '') . ')');
}

sub requests { my ($nonce) = @_; return scalar grep { $_->{user} eq $nonce } @{ sim_journal($sim) } }

value(q{SELECT eduai.define_task_type('careful', 'gateway', 'chat', on_uncertain => 'hold');
	SELECT eduai.define_task_type('graded', 'application', 'custom');
	SELECT eduai.configure_pool('chat', '{chat,careful}', 3, reserved_critical => 0)});
add_fleet($node, $sim, task_types => '{chat,careful}');
add_fleet($node, $sim, provider => 'slow', model => 'sim-silent', task_types => '{chat,careful}', options => { first_byte_ms => 3600000 });

my $runs = enqueue('runs', undef, 'chat', 'sim-silent');
my $held = enqueue('held', undef, 'careful', 'sim-silent');
my $keyed = enqueue('keyed', q{metadata => '{"concurrency_key": "k"}'}, 'chat', 'sim-silent');
wait_until(sub { sim_stats($sim)->{open} == 3 }, 20, 'three requests hang');
my $second = enqueue('second', q{metadata => '{"concurrency_key": "k"}'});
my $ready = enqueue('ready');
my $child = enqueue('child', "depends_on => '{$ready}'");
my $later = enqueue('later', q{run_at => now() + interval '6 s'});
my $leased = value(q{SELECT eduai.enqueue('graded', '{}')});
is(value(q{SELECT task_id FROM eduai.claim_tasks('w', '{graded}', lease => '5 s')}), $leased, 'a worker has one');
my $kept = value(q{SELECT eduai.enqueue('graded', '{}')});
is(value(q{SELECT task_id FROM eduai.claim_tasks('w', '{graded}', lease => '60 s')}), $kept, 'and another');

$primary->wait_for_catchup($standby);
$primary->stop('immediate');
wait_until(sub { sim_stats($sim)->{open} == 0 }, 20, 'the old primary is gone');
sim_default($sim, 'sim-silent', 'latency=20');
$standby->promote;
my $promoted = time();
$node = $standby;

for my $id ($runs, $keyed, $second, $ready, $child, $later)
{
	is(value("SELECT state FROM eduai.wait_task($id, '30 s')"), 'completed', "task $id completes");
}
is(value("SELECT state FROM eduai.wait_task($held, '10 s')"), 'uncertain', 'one whose type holds it is left to a person');
is(join(' ', map { "$_ " . requests($_) } qw(runs held keyed second ready child later)), 'runs 2 held 1 keyed 2 second 1 ready 1 child 1 later 1',
	'what was uncertain was sent once more, the rest once');
is(value("SELECT count(*) FROM eduai.usage_ledger WHERE outcome = 'uncertain'"), 3, 'three attempts are uncertain');

# Leases run from when the promoted server first heard of them.
wait_until(sub { value("SELECT state FROM eduai.get_task($leased)") eq 'ready' }, 20, 'a lease that nobody extends lapses');
cmp_ok(time() - $promoted, '>=', 4.5, 'not before its time');
is(value("SELECT eduai.extend_lease($kept, 1, '60 s') IS NOT NULL"), 't', 'a worker that comes back keeps its task');
is(value("SELECT eduai.complete_task($kept, 1)"), '', 'and completes it');
is(value(q{SELECT task_id || ' ' || attempt FROM eduai.claim_tasks('v', '{graded}')}), "$leased 2", 'the other is claimed again');
is(value(q{SELECT string_agg(running::text, ',' ORDER BY name) FROM eduai.pool_status WHERE name IN ('chat', 'custom')}), '0,1', 'no slot is lost');

$node->stop;
done_testing();
