# The order of the feed in schedules where it could go wrong, each held at a
# named point: no reader passes an event by, whatever the commits and readers
# around it are doing.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on' });
my ($one, $two, $late, $reader) = map { EduaiSession->new($node) } 1 .. 4;
my %pid = map { $_ => $_->backend_pid } ($one, $two, $late, $reader);
my %frozen;

# A point holds everybody who comes there. To hold one process and let the next
# ones pass, it is stopped while it waits there, and the point released.
sub freeze
{
	my ($session, $sql, $point) = @_;
	$node->safe_psql('postgres', "SELECT eduai.test_pause('$point', true)");
	$session->send($sql);
	wait_until(sub { $node->safe_psql('postgres', "SELECT eduai.test_paused('$point')") == 1 }, 10, "a process is at $point");
	kill 'STOP', $pid{$session};
	$frozen{ $pid{$session} } = 1;
	$node->safe_psql('postgres', "SELECT eduai.test_pause('$point', false)");
}

sub thaw
{
	my ($session) = @_;
	kill 'CONT', $pid{$session};
	delete $frozen{ $pid{$session} };
	return $session->answer(10);
}

# A server does not stop while a process of it is stopped.
END
{
	local ($?, $!);
	kill 'CONT', keys %frozen;
}

sub append
{
	my ($stream) = @_;
	return "SELECT version FROM eduai.append_event('$stream', 'x');";
}

# The events since this test began, in the order of the feed.
my $begin = 0;
sub feed_sql { return "SELECT string_agg(stream || ' ' || version, ', ' ORDER BY position) FROM eduai.read_all($begin);" }
sub feed { return $node->safe_psql('postgres', feed_sql()) }

sub start_test
{
	$begin = $node->safe_psql('postgres', "SELECT coalesce(max(position), 0) FROM eduai.read_all($begin)");
}

$node->safe_psql('postgres', append('first'));
is(feed(), 'first 1', 'the feed shows what is there');

# ---- positions drawn, and not committed ----

for my $point (qw(events-drawn events-ordered))
{
	start_test();
	$one->ask('BEGIN;' . append("one-$point"));
	freeze($one, 'COMMIT;', $point);
	is($two->ask(append("two-$point")), '1', "$point: the second commits while the first is held");
	is(feed(), '', "$point: a reader stops before the first");
	is($node->safe_psql('postgres', "SELECT count(*) FROM eduai.read_stream('two-$point')"), '1', "$point: though the second is there");
	is(thaw($one), '', "$point: the first commits");
	is(feed(), "one-$point 1, two-$point 1", "$point: then both are there, in the order of their draws");
}

# ---- visible, and still in flight ----

start_test();
$one->ask('BEGIN;' . append('one-visible'));
freeze($one, 'COMMIT;', 'commit-visible');
is($node->safe_psql('postgres', q{SELECT count(*) FROM eduai.read_stream('one-visible')}), '1', 'commit-visible: the first is visible');
$two->ask(append('two-visible'));
is(feed(), '', 'commit-visible: a reader stops before what is in flight');
thaw($one);
is(feed(), 'one-visible 1, two-visible 1', 'commit-visible: what saw the first commit comes after it');

# ---- a reader between mark and snapshot ----

start_test();
freeze($reader, feed_sql(), 'feed-after-mark');
$one->ask(append('one-mark'));
$two->ask(append('two-mark'));
is(thaw($reader), '', 'feed-after-mark: a reader goes no further than its mark');
is(feed(), 'one-mark 1, two-mark 1', 'feed-after-mark: the next read has both');

start_test();
$one->ask('BEGIN;' . append('one-between'));
freeze($one, 'COMMIT;', 'events-ordered');
$two->ask(append('two-between'));
freeze($reader, feed_sql(), 'feed-after-mark');
thaw($one);
is(thaw($reader), '', 'feed-after-mark: not the second without the first, which committed in between');
is(feed(), 'one-between 1, two-between 1', 'feed-after-mark: then both');

# ---- an early transaction id, an idle transaction ----

start_test();
$late->ask('BEGIN; SELECT pg_current_xact_id();');
$two->ask(append('shared'));
is(feed(), 'shared 1', 'an open transaction with an early id holds nobody up');
is($late->ask(append('shared')), '2', 'it appends late');
is(feed(), 'shared 1', 'and is not seen before it commits');
$late->ask('COMMIT;');
is(feed(), 'shared 1, shared 2', 'then it comes last, its stream in the order of versions');

start_test();
$one->ask('BEGIN;' . append('one-idle'));
$two->ask(append('two-idle'));
is(feed(), 'two-idle 1', 'a transaction that appended and sits idle holds up no other stream');
$one->ask('COMMIT;');
is(feed(), 'two-idle 1, one-idle 1', 'its event comes where it committed');

# ---- snapshots that are older than what they must not pass by ----

for my $level ('REPEATABLE READ', 'SERIALIZABLE')
{
	start_test();
	$two->ask(append("zero-$level"));
	$one->ask('BEGIN;' . append("one-$level"));
	freeze($one, 'COMMIT;', 'events-ordered');
	$two->ask(append("two-$level"));
	$reader->ask("BEGIN ISOLATION LEVEL $level; SELECT 1;");
	thaw($one);
	$two->ask(append("three-$level"));
	is($reader->ask(feed_sql()), "zero-$level 1", "$level: an old snapshot without the first is not read beyond it");
	is($reader->ask("SELECT count(*) FROM eduai.read_stream('two-$level');"), '1', "$level: though it shows the second");
	$reader->ask('COMMIT;');
	is( $reader->ask("BEGIN ISOLATION LEVEL $level;" . feed_sql() . 'COMMIT;'),
		join(', ', map { "$_-$level 1" } qw(zero one two three)),
		"$level: the next one shows all, to the last");
}

# ---- an old snapshot, and a compaction that takes what it does not show ----

start_test();
$one->ask('BEGIN;' . append('one-compacted'));
freeze($one, 'COMMIT;', 'events-ordered');
$two->ask(append('two-compacted'));
$reader->ask('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1;');
thaw($one);
cmp_ok($node->safe_psql('postgres', q{SELECT eduai.compact_events('0')}), '>', 1, 'both are compacted');
is($reader->ask(feed_sql()), '', 'compaction: not the second without the first');
$reader->ask('COMMIT;');
is(feed(), 'one-compacted 1, two-compacted 1', 'compaction: the next snapshot shows both');

# ---- savepoints ----

start_test();
$one->ask('BEGIN;' . append('nested') . 'SAVEPOINT a;' . append('nested') . append('undone') . 'SAVEPOINT b;' . append('nested')
	  . 'RELEASE b; ROLLBACK TO a;' . append('nested') . 'SAVEPOINT c;' . append('kept') . 'RELEASE c; COMMIT;');
is(feed(), 'nested 1, nested 2, kept 1', 'what a savepoint took back leaves no gap in versions');
is($node->safe_psql('postgres', "SELECT max(position) - min(position) FROM eduai.read_all($begin)"), '2', 'nor in positions');

# ---- PREPARE TRANSACTION ----

start_test();
like($one->ask('BEGIN;' . append('prepared') . q{PREPARE TRANSACTION 'p';}),
	qr/ERROR:  0A000: cannot prepare a transaction that appended events/, 'PREPARE TRANSACTION after an append is refused');
$one->ask('ROLLBACK;');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), '0', 'nothing is prepared');
$two->ask(append('after-prepare'));
is(feed(), 'after-prepare 1', 'and nothing is in flight');
is($node->safe_psql('postgres', q{SELECT eduai.stream_version('prepared')}), '0', 'nor left of it');

# ---- a commit that fails after its positions were drawn ----

start_test();
$node->safe_psql('postgres', 'CREATE TABLE skewed (n int)');
for my $session ($one, $two)
{
	$session->ask('BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM skewed;');
}
$one->ask('INSERT INTO skewed VALUES (1);' . append('failed'));
$two->ask('INSERT INTO skewed VALUES (2);' . append('survivor'));
freeze($one, 'COMMIT;', 'events-drawn');
is($two->ask('COMMIT;'), '', 'the second commits, and so dooms the first');
is(feed(), '', 'a reader waits for the first');
like(thaw($one), qr/ERROR:  40001/, 'the first fails in its commit');
is(feed(), 'survivor 1', 'its positions are given up');

$_->quit for ($one, $two, $late, $reader);
$node->stop;
done_testing();
