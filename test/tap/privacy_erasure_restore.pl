# After an erasure nothing of the learner is left: not for SQL, dumps, slots, nor,
# once the tables are rewritten, in the files. A dump of before is restored, a
# standby takes over.

use strict;
use warnings;

use EduaiErasure;
use EduaiTest;
use PostgreSQL::Test::Utils qw(slurp_file slurp_dir);
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = new_node(conf => {
	'eduai.test_mode' => 'on', 'eduai.database' => 'postgres, restored', wal_level => 'logical', max_wal_senders => 4,
	max_replication_slots => 4, hot_standby => 'on', max_worker_processes => 40, autovacuum => 'off',
	'eduai.key_store' => "$dir/keys", 'eduai.compact_after' => '-1' });
my $db = 'postgres';

sub value { return $node->safe_psql($_[1] // $db, $_[0]) }
value('SELECT eduai.create_key_store()');
learner($node, 'bea', 100);
my $others = q{SELECT md5(string_agg(e::text, E'\n' ORDER BY "position")) FROM eduai.read_all(0, 10000) e WHERE user_id = 'bea'};
my $of_bea = value($others);

# ---- nothing is left ----

learner($node, 'zoe-canary', 50);
value(q{SELECT eduai.compact_events('0')});
learner($node, 'zoe-canary', 50);
value(q{SELECT pg_create_logical_replication_slot('watch', 'test_decoding')});
my $before = "$dir/before.sql";
$node->command_ok([ 'pg_dump', '-d', $node->connstr($db), '-f', $before ], 'a dump of before');
like(slurp_file($before), qr/zoe-canary/, 'which has the learner');
my $ledger = value('SELECT eduai.export_erasures()');
value(q{SELECT eduai.erase_user('zoe-canary')});
erasures_complete($node);
unlike($node->safe_psql($db, q{SELECT data FROM pg_logical_slot_get_changes('watch', NULL, NULL) WHERE data LIKE '%INSERT%' AND data NOT LIKE '%erasure%'}), qr/zoe-canary/, 'a slot gets no new row with the learner');
value(q{SELECT pg_drop_replication_slot('watch')});
$node->command_ok([ 'pg_dump', '-d', $node->connstr($db), '-f', "$dir/after.sql" ], 'a dump of after');
unlike(slurp_file("$dir/after.sql"), qr/zoe-canary/, 'has nothing of the learner');
is(value($others), $of_bea, 'the other learner has everything');
value('VACUUM FULL; CHECKPOINT');
value(q{SELECT pg_stat_reset()});
my $base = $node->data_dir . '/base';
my @found;
for my $sub (slurp_dir($base))
{
	next if $sub =~ /^\./;
	push @found, map { "$sub/$_" } grep { -f "$base/$sub/$_" && slurp_file("$base/$sub/$_") =~ /zoe-canary/ } slurp_dir("$base/$sub");
}
is("@found", '', 'nor have the files, once the tables are rewritten');
unlike(slurp_file($node->logfile), qr/data-of-zoe-canary/, 'nor has the log of the server');

# ---- restored ----

value('CREATE DATABASE restored');
$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=0', '-d', $node->connstr('restored'), '-f', $before ], 'the old dump is restored');
like(traces($node, 'zoe-canary', 'restored'), qr/session-of-zoe-canary.*session-of-zoe-canary/s, 'the learner is back');
like(value(q{SELECT string_agg(code, ' ') FROM eduai.health_problems()}, 'restored'), qr/\berasures_missing\b/, 'health() warns');
wait_until(sub { value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'eduai keeper' AND datname = 'restored'}) eq '1' }, 90, 'its keeper runs');
is(value('SELECT eduai.apply_erasures()', 'restored'), '1', 'one is applied');
erasures_complete($node, 'restored');
is(traces($node, 'zoe-canary', 'restored'), '', 'the learner is gone again');
unlike(value(q{SELECT coalesce(string_agg(code, ' '), '') FROM eduai.health_problems()}, 'restored'), qr/erasures_missing/, 'health() is silent');
is(value('SELECT eduai.apply_erasures()', 'restored'), '0', 'once is enough');
is(value(qq{SELECT eduai.apply_erasures('$ledger')}, 'restored'), '0', 'an older ledger has nothing new');

# Rows of a dump that come into a database that has asked already whom it must refuse.
value('CREATE DATABASE late');
value(q{CREATE EXTENSION eduai; SELECT count(*) FROM eduai.append_event('s', 'x', '{}', 'zoe-canary')}, 'late');
$node->command_ok([ 'pg_dump', '-a', '-t', 'eduai.eras*', '-d', $node->connstr($db), '-f', "$dir/erasures.sql" ], 'a dump of the erasures');
$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('late'), '-f', "$dir/erasures.sql" ], 'is restored');
(undef, undef, my $refused) = $node->psql('late', "\\set VERBOSITY verbose\nSELECT eduai.publish_event('x', 'zoe-canary', NULL)");
like($refused, qr/UE008/, 'and counts at once');

# ---- promoted ----

$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
learner($node, 'ivy', 5);
value(q{SELECT eduai.erase_user('ivy')});
erasures_complete($node);
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
$node->stop('immediate');
$standby->promote;
my (undef, undef, $err) = $standby->psql('postgres', "\\set VERBOSITY verbose\nSELECT eduai.publish_event('x', 'ivy', NULL)");
like($err, qr/UE008/, 'the promoted server knows who was erased');
$standby->stop;
done_testing();
