# The projector compacts by itself: what is old enough and makes a full segment,
# or has waited twice as long; it forgets given ids after their window, and an
# emptied partition goes once no snapshot can see its rows.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on', 'eduai.partition_interval' => 'week' });

sub value { return $node->safe_psql('postgres', $_[0]) }

# test time: an offset from a Monday at noon
sub at
{
	my ($offset) = @_;
	value("SELECT eduai.test_clock(timestamptz '2031-03-03 12:00+00' + interval '$offset' - clock_timestamp())");
	return;
}

# Has the projector look at a chore again, and waits until it has.
sub upkeep
{
	my ($chore) = @_;
	my $runs = qq{SELECT coalesce((c->>'runs')::bigint, 0) FROM jsonb_path_query(eduai.health(), '\$.events.chores[*]') c WHERE c->>'chore' = '$chore'};
	my $done = value($runs);
	$node->reload;
	wait_until(sub { value($runs) > $done }, 20, "the projector has looked at $chore");
	return;
}

sub set
{
	my ($name, $value) = @_;
	value("ALTER SYSTEM SET $name = '$value'");
	return;
}

my $where = q{SELECT (SELECT count(*) FROM eduai.event), (SELECT coalesce(sum(events), 0) FROM eduai.event_block)};
my $rows = q{SELECT md5(string_agg(r::text, ',' ORDER BY position)), count(*) FROM eduai.read_all(0, 10000) AS r WHERE event_type <> 'late'};
my $streams = q{SELECT md5(string_agg(r::text, ',' ORDER BY n, r.version)), count(*) FROM generate_series(0, 39) AS n, eduai.read_stream('learner-' || n) AS r};
my $partition = q{SELECT count(*) FROM pg_class WHERE relname = 'event_p20310303' AND relnamespace = 'eduai'::regnamespace};
my $given = q{SELECT version FROM eduai.append_event('learner-1', 'given', '{"a": 1}', event_id => 'b0e42fe7-31a5-4894-a441-007e5256afea')};

my $fill = q{SELECT eduai.append_batch(array_agg('learner-' || n % 40 ORDER BY n), array_agg('type-' || n % 3 ORDER BY n),
	array_agg(jsonb_build_object('n', n) ORDER BY n), array_agg((n % 40)::text ORDER BY n)) FROM generate_series(1, 1999) AS n};

at('0');
value($fill);
is(value($given), 51, 'an event with an id of its own');
my $before = value($rows);
my $before_streams = value($streams);
upkeep('compaction');
is(value($where), '2000|0', 'young events stay');

at('40 days');
value(q{SELECT version FROM eduai.append_event('late', 'late')});
upkeep('compaction');
is(value($where), '2001|0', 'events past eduai.compact_after wait for a full segment');

my $reader = EduaiSession->new($node);
$reader->ask('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class;');
at('59 days');
upkeep('compaction');
is(value($where), '2001|0', 'until they are nearly twice as old');
at('61 days');
upkeep('compaction');
is(value($where), '1|2000', 'and then go without one; the young one stays');
is(value($rows), $before, 'the feed is the same');
is(value($streams), $before_streams, 'the streams are the same');
is(value(q{SELECT count(*) FROM eduai.read_all(0, 10000) WHERE event_type = 'late'}), 1, 'what follows at the next position is still there');

# ---- the emptied partition ----

upkeep('partitions');
is(value($partition), 1, 'a partition stays while a snapshot sees its rows');
is($reader->ask("$rows;"), $before, 'which that snapshot reads');
is($reader->ask("$streams;"), $before_streams, 'stream by stream too');
$reader->ask('COMMIT;');
$reader->quit;
wait_until(sub { upkeep('partitions'); value($partition) == 0 }, 30, 'afterwards it is dropped');
is(value($rows), $before, 'and the feed is the same');
is(value($streams), $before_streams, 'and the streams');

# ---- given ids ----

at('89 days');
upkeep('compaction');
is(value($given), 51, 'a given id is known for 90 days');
at('91 days');
upkeep('compaction');
is(value($given), 52, 'after them it is a new event');
is(value(q{SELECT count(*) FROM eduai.event_seen}), 0, 'and takes no room');

# ---- switched off ----

value($fill);
set('eduai.compact_after', '-1');
at('400 days');
upkeep('compaction');
is(value(q{SELECT count(*) FROM eduai.event}), 2001, 'nothing by itself with eduai.compact_after = -1');

done_testing();
