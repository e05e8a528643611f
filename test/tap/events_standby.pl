# Everything that the log stores, on a standby: what its functions read there and
# what they refuse, long readers while the primary compacts and drops, and after
# its promotion.

use strict;
use warnings;

use EduaiEverything;
use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Cluster;
use Test::More;

my $primary = new_node(name => 'primary', conf => {
	'eduai.test_mode' => 'on', 'eduai.compact_after' => '-1', 'eduai.task_retention' => '-1', autovacuum => 'off', wal_keep_size => '256MB',
	hot_standby_feedback => 'on', wal_receiver_status_interval => '1s', max_standby_streaming_delay => '100ms' });
my $standby = PostgreSQL::Test::Cluster->new('standby');
$primary->backup('copy');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
$standby->start;
fill_everything($primary, 'postgres');

sub value { return $primary->safe_psql('postgres', $_[0]) }

sub caught_up
{
	my $lsn = value('SELECT pg_current_wal_insert_lsn()');
	return wait_until(sub { $standby->safe_psql('postgres', "SELECT pg_last_wal_replay_lsn() >= '$lsn'") eq 't' }, 20, 'the standby has caught up');
}

# The last events can be read there once the mark is stored.
sub marked
{
	wait_until(sub { value(q{SELECT mark >= (SELECT max("position") FROM eduai.read_all(0, 10000)) FROM eduai.event_mark}) eq 't' }, 20, 'the mark is stored');
	return caught_up();
}

# ---- reading, and what is refused ----

# Twice: the first fetches of a changed subscription are noted, and compared too.
everything_of($primary, 'postgres');
my $expected = everything_of($primary, 'postgres');
marked();
is_same_everything($standby, 'postgres', $expected, 'standby');
is_same_everything($standby, 'postgres', $expected, 'again');
my $session = EduaiSession->new($standby);
like($session->ask(q{SELECT * FROM eduai.fetch_events('one', wait => '1 s');}), qr/ERROR:  0A000: cannot wait for events during recovery\n.*HINT:  Fetch without wait/s, 'no waiting');
like($session->ask("SELECT eduai.$_;"), qr/ERROR:  25006/, "no $_")
	for q{ack_events('one', 1000)}, q{seek_subscription('one', 0)}, q{set_subscription_members('one', 2)}, q{create_subscription('new')},
	q{save_snapshot('c-1', 1, '{}')}, q{compact_events()}, q{snapshot_streams('d', 'app.fold(jsonb, eduai.event_record)')};

# ---- a long reader, which the primary knows of ----

# What the session's snapshot says, by the functions and by itself.
my $log = q{WITH feed AS MATERIALIZED (SELECT * FROM eduai.read_all(0, 10000))
	SELECT (SELECT count(*) || ' ' || md5(string_agg(feed::text, E'\n' ORDER BY "position")) FROM feed) || ' ' ||
		(SELECT count(*) || ' ' || md5(string_agg(r::text, E'\n' ORDER BY r.stream, r.version))
			FROM (SELECT DISTINCT stream FROM feed) s, eduai.read_stream(s.stream, 1, 10000) r);};
my $reader = EduaiSession->new($standby);
my $before = $reader->ask("BEGIN ISOLATION LEVEL REPEATABLE READ; $log");
like($before, qr/^4976 \w+ 4976 \w+$/, 'the reader sees all');
my $xmin = $reader->ask('SELECT pg_snapshot_xmin(pg_current_snapshot());');
wait_until(sub { value(qq{SELECT coalesce(bool_and(backend_xmin::text::bigint <= $xmin), false) FROM pg_stat_replication}) eq 't' }, 20, 'the primary knows the reader');

sub compact_and_clean
{
	value(q{SELECT eduai.compact_events('1 second')});
	value("VACUUM $_") for 'eduai.event', 'eduai.event_order', 'eduai.event_stream';
	chores_have_run($primary, 'postgres');
	caught_up();
	return;
}
my $oldest = q{SELECT min(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'eduai.event'::regclass};
set_week($primary, 9);
my $old = value($oldest);
compact_and_clean();
is(value('SELECT count(*) FROM eduai.event'), '0', 'the primary has compacted everything');
is(value($oldest), $old, 'it keeps the partitions that the reader may need');
is($reader->ask($log), $before, 'the reader sees the same rows');
$reader->ask('COMMIT;');
is($reader->ask($log), $before, 'and in blocks too, afterwards');
# Partitions are dropped below one that is in use.
set_week($primary, 10);
value(q{SELECT eduai.append_event('c-0', 'note')});
wait_until(sub { compact_and_clean(); value($oldest) gt $old }, 30, 'the primary drops them once it knows that the reader has ended');
marked();
like($before = $reader->ask($log), qr/^4977 \w+ 4977 \w+$/, 'on the standby too');
is($before, value($log), 'with the same rows');

# ---- one that it does not know of ----

$standby->safe_psql('postgres', 'ALTER SYSTEM SET hot_standby_feedback = off');
$standby->reload;
wait_until(sub { value('SELECT bool_and(backend_xmin IS NULL) FROM pg_stat_replication') eq 't' }, 20, 'the standby tells nothing');
value(q{SELECT eduai.append_batch(array_agg('c-' || i % 40), array_agg('quiz'::text), array_agg(jsonb_build_object('score', i))) FROM generate_series(1, 1200) i});
marked();
$before = $reader->ask("BEGIN ISOLATION LEVEL REPEATABLE READ; $log");
like($before, qr/^6177 \w+ 6177 \w+$/, 'the reader sees the new events');
set_week($primary, 11);
compact_and_clean();
my $answer = $reader->ask($log);
# Idle in its transaction, it is ended when it is in the way.
$answer = $reader->drain unless defined $answer;
like($answer, qr/^\Q$before\E$|40001|due to conflict with recovery/, 'the reader sees the same rows, or is told that it cannot');
$reader->quit;
is($session->ask($log), $before, 'a new transaction reads all');
$session->quit;

# ---- promotion ----

# Some work that the standby knows and that a consumer had not finished.
everything_of($primary, 'postgres');
$expected = everything_of($primary, 'postgres');
marked();
$primary->stop('immediate');
$standby->promote;
set_week($standby, 11);
is_same_everything($standby, 'postgres', $expected, 'promoted');
everything_goes_on($standby, 'postgres', 'promoted', 12);

$standby->stop;
done_testing();
