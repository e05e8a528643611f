# The access log: what reads leave, also when they roll back; a chain that names
# what was changed, removed, moved, cut off or made anew; a full ring; erasure and
# retention, which break nothing; a shutdown, which loses nothing.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $head = PostgreSQL::Test::Utils::tempdir() . '/head';
my $node = new_node(conf => {
	'eduai.test_mode' => 'on', 'eduai.access_log' => 'on', 'eduai.access_log_size' => 64, 'eduai.access_log_head' => $head });

sub value { return $node->safe_psql('postgres', $_[0]) }
sub flush { return is(value('SELECT eduai.flush_access_log()'), '0', 'the chain has all reads') }
sub log_rows { return value('SELECT seq, kind, role, user_id, purpose, source, rows FROM eduai.access_record ORDER BY seq') }


value(q{CREATE ROLE teacher LOGIN; GRANT eduai_app TO teacher});
value(qq{SELECT eduai.append_event('learner-$_', 'seen', '{}', user_id => '$_')}) for qw(ann ben);
value(q{SET SESSION AUTHORIZATION teacher; SELECT count(*) FROM eduai.read_stream('learner-ann')});
value(q{SET SESSION AUTHORIZATION teacher; BEGIN; SET LOCAL eduai.purpose = 'report'; SELECT eduai.user_progress('ben'); ROLLBACK});
value(q{SELECT count(*) FROM eduai.progress_of('{ann,ben}')});
value(q{SELECT count(*) FROM eduai.read_all()});
value(q{SELECT count(*) FROM eduai.read_stream('learner-nobody')});
flush();
is(log_rows(), join("\n",
	'1|read|teacher|ann||events|1', '2|read|teacher|ben|report|progress|1', '3|read|' . value('SELECT current_user') . '|ann||progress|1',
	'4|read|' . value('SELECT current_user') . '|ben||progress|1', '5|read|' . value('SELECT current_user') . '|||feed|2'),
	'reads by role, learner, purpose and source; a ROLLBACK hides none; what returned nothing is none');

sub fault_is
{
	my ($sql, $expected, $what) = @_;
	my $out = value("BEGIN; $sql; SELECT seq || ' ' || fault FROM eduai.verify_access_log(); ROLLBACK");
	return is($out, $expected, $what);
}
fault_is(q{UPDATE eduai.access_log SET rows = 9 WHERE seq = 2}, '2 changed', 'an edited row is named');
fault_is(q{UPDATE eduai.access_log SET role = 'other' WHERE seq = 5}, "5 changed", 'the last one, too');
fault_is(q{UPDATE eduai.access_log SET learner = NULL WHERE seq = 1}, '1 changed', 'and the first');
fault_is(q{UPDATE eduai.access_log SET hash = '\x00' WHERE seq = 3}, "3 changed\n4 changed", 'a hash without its row');
fault_is(q{DELETE FROM eduai.access_log WHERE seq = 3}, '3 removed', 'a removed row is named');
fault_is(q{DELETE FROM eduai.access_log WHERE seq <= 2}, '1 removed', 'removed at the beginning');
fault_is(q{DELETE FROM eduai.access_log WHERE seq >= 4}, '4 truncated', 'removed at the end: by the head outside');
fault_is(q{DELETE FROM eduai.access_log}, '1 truncated', 'all removed');
fault_is(q{UPDATE eduai.access_log SET seq = -seq; UPDATE eduai.access_log SET seq = CASE seq WHEN -2 THEN 3 WHEN -3 THEN 2 ELSE -seq END},
	"2 moved\n3 moved\n4 changed", 'two rows that changed places are named');
fault_is(q{UPDATE eduai.access_log SET key = 0 WHERE seq = 4}, "4 weaker\n4 changed", 'a row without the key');
is(value(q{SELECT count(*) FROM eduai.verify_access_log(2, 4)}), '0', 'a part of the chain');
value(q{BEGIN; UPDATE eduai.access_log SET rows = 9 WHERE seq = 2; COMMIT});
is(value(q{SELECT count(*) FROM eduai.verify_access_log(3)}), '0', 'from the middle on the row before is trusted');
is(value(q{SELECT seq || ' ' || fault FROM eduai.verify_access_log()}), '2 changed', 'from the beginning it is not');
value(q{UPDATE eduai.access_log SET rows = 1 WHERE seq = 2});

# Erasure forgets whose the reference is; the hashes stay as they are.
value(q{DELETE FROM eduai.access_learner WHERE user_id = 'ann'});
is(value(q{SELECT count(*) FROM eduai.verify_access_log()}), '0', 'the chain does not need the learner');
is(value(q{SELECT count(*) FROM eduai.access_record WHERE user_id = 'ann'}), '0', 'nobody is named any more');
is(value(q{SELECT count(*) FROM eduai.access_log WHERE learner IS NOT NULL AND seq IN (1, 3)}), '2', 'the rows are there');

# A full ring: the keeper is held before its commit, and reads fill the places.
my $control = EduaiSession->new($node);
$control->ask(q{SELECT eduai.test_pause('privacy-access-commit', true);});
value(q{SELECT eduai.user_progress('ben')});
wait_until(sub { $control->ask(q{SELECT eduai.test_paused('privacy-access-commit');}) eq '1' }, 20, 'the keeper is held');
value(q{SELECT count(eduai.user_progress('ben')) FROM generate_series(1, 60)});
is(value(q{SELECT eduai.health()->'access_log'->>'lost' > '0'}), 't', 'health says that reads were lost');
$node->append_conf('postgresql.conf', q{eduai.access_log_full = 'refuse'});
$node->reload;
my $full = EduaiSession->new($node);
wait_until(sub { $full->ask(q{SHOW eduai.access_log_full;}) eq 'refuse' }, 10, 'the setting is there');
like($full->ask(q{SELECT eduai.user_progress('ben');}), qr/ERROR:  53400: the access log has no room/, 'refuse: the read fails');
is($full->ask(q{SELECT 1;}), '1', 'and nothing else does');
$control->ask(q{SELECT eduai.test_pause('privacy-access-commit', false);});
wait_until(sub { value(q{SELECT count(*) FROM eduai.access_record WHERE kind = 'lost'}) eq '1' }, 20, 'the chain has a row of the loss');
is(value(q{SELECT 61 - count(*) FILTER (WHERE kind = 'read') = sum(rows) FILTER (WHERE kind = 'lost') FROM eduai.access_record WHERE seq > 5}),
	't', 'it says how many are missing');
flush();
is(value(q{SELECT count(*) FROM eduai.verify_access_log()}), '0', 'the chain goes on');

# Retention shortens the chain, and says so in it.
value(q{SELECT eduai.set_retention('access_log', '1 ms', 'delete')});
is(value(q{SELECT result FROM eduai.run_maintenance('retain_access_log')}), 'done', 'retention of the log');
is(value(q{SELECT kind FROM eduai.access_record}), 'removed', 'what is left is the row that says so');
is(value(q{SELECT count(*) FROM eduai.verify_access_log()}), '0', 'no fault');
value(q{SELECT eduai.user_progress('ben')});
flush();
is(value(q{SELECT count(*) FROM eduai.verify_access_log()}), '0', 'the chain continues from it');
is(value(q{SELECT count(*) FROM eduai.access_learner}), '1', 'references that no row has are forgotten');

# A shutdown writes what waits.
value(q{SELECT eduai.set_retention('access_log', NULL, 'delete')});
my $before = value(q{SELECT count(*) FROM eduai.access_record});
value(q{SELECT count(eduai.user_progress('ben')) FROM generate_series(1, 5)});
$node->restart;
is(value(q{SELECT count(*) FROM eduai.access_record}), $before + 5, 'a shutdown writes what waits');
is(value(q{SELECT count(*) FROM eduai.verify_access_log()}), '0', 'and the chain is whole');

# Without the master key nobody can go on as if he had it; with another one nobody can read the key.
write_master_key($node, 'another');
is(value(q{SELECT DISTINCT fault FROM eduai.verify_access_log()}), 'unverified', 'another master key verifies nothing');
write_master_key($node, 'test');
is(value(q{SELECT count(*) FROM eduai.verify_access_log()}), '0', 'the right one does');

$node->append_conf('postgresql.conf', q{eduai.access_log = 'off'});
$node->reload;
wait_until(sub { value('SHOW eduai.access_log') eq 'off' }, 10, 'off');
$before = value(q{SELECT count(*) FROM eduai.access_record});
value(q{SELECT eduai.user_progress('ben')});
flush();
is(value(q{SELECT count(*) FROM eduai.access_record}), $before, 'off: nothing is noted');

done_testing();
