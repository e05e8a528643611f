# An erasure whose keeper or server is killed in the middle of it.

use strict;
use warnings;

use EduaiErasure;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = new_node(conf => {
	'eduai.test_mode' => 'on', 'eduai.database' => 'postgres', autovacuum => 'off',
	'eduai.key_store' => "$dir/keys", 'eduai.compact_after' => '-1' });
my $db = 'postgres';

sub value { return $node->safe_psql($_[1] // $db, $_[0]) }
sub failure { my (undef, undef, $err) = $node->psql($db, "\\set VERBOSITY verbose\n$_[0]"); return $err =~ /ERROR:\s+(\w+)/ ? $1 : $err }
sub keeper { return value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'eduai keeper' AND datname = current_database()}) }
sub paused { my ($point) = @_; return wait_until(sub { (try_query($node, "SELECT eduai.test_paused('$point')") // 0) > 0 }, 30, "the keeper is at $point") }

value('SELECT eduai.create_key_store()');
my $identity = value('SELECT eduai.user_ref(\'nobody\')');
learner($node, 'bea', 100);
value(q{SELECT eduai.compact_events('0')});
learner($node, 'bea', 100);
my $others = q{SELECT md5(string_agg(e::text, E'\n' ORDER BY "position")) FROM eduai.read_all(0, 10000) e WHERE user_id = 'bea'};
my $of_bea = value($others);

# ---- killed in the middle ----

for my $case (map { my $point = $_; map { [ $point, $_ ] } 'keeper', 'server' } qw(privacy-ledger-written privacy-keys-destroyed privacy-step-done))
{
	my ($point, $victim) = @$case;
	my $user = "u-$point-$victim";
	learner($node, $user, 3000);
	value("SELECT eduai.test_pause('$point', true)");
	my $pid = keeper();
	value("SELECT eduai.erase_user('$user')");
	paused($point);
	is(failure(qq{SELECT eduai.publish_event('x', '$user', NULL)}), 'UE008', "$point: new data is refused");
	is(value(q{SELECT count(*) FROM eduai.claim_tasks('w', '{custom}', 10) WHERE payload ->> 'text' LIKE 'data-of-u-%'}), '0', 'no task of the learner starts');
	if ($victim eq 'keeper')
	{
		kill 'KILL', $pid;
		wait_until(sub { my $now = try_query($node, q{SELECT string_agg(pid::text, '') FROM pg_stat_activity WHERE backend_type = 'eduai keeper'}); defined $now && $now ne '' && $now ne $pid }, 30, 'another keeper runs');
	}
	else
	{
		$node->stop('immediate');
		$node->start;
	}
	value("SELECT eduai.test_pause('$point', false)");
	erasures_complete($node);
	is(traces($node, $user), '', "$point: $victim killed: nothing is left of the learner");
	is(value($others), $of_bea, 'the other learner has everything');
	is(failure(qq{SELECT eduai.publish_event('x', '$user', NULL)}), 'UE008', 'refused still');
}
is(value(q{SELECT count(*) FROM eduai.read_all(0, 10000) WHERE event_type = 'learner_erased'}), '6', 'one tombstone each');
is(value(q{SELECT count(DISTINCT version) = count(*) AND min(version) >= 1 FROM eduai.read_stream('class')}), 't', 'no version twice');

done_testing();
