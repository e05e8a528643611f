# Compaction is one transaction: killed anywhere it loses and doubles nothing,
# old snapshots go on seeing the hot rows, and appends to the streams that are
# being compacted go on and continue their versions.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(fsync => 1, conf => { 'eduai.test_mode' => 'on', 'restart_after_crash' => 'off' });

sub fill
{
	my ($from, $to) = @_;
	return $node->safe_psql('postgres', qq{
		SELECT eduai.append_batch(array_agg('learner-' || n % 40 ORDER BY n), array_agg('type-' || n % 3 ORDER BY n),
			array_agg(jsonb_build_object('n', n, 'x', round(random()::numeric, 3)) ORDER BY n), array_agg((n % 40)::text ORDER BY n))
		FROM generate_series($from, $to) AS n});
}

# Every row, by stream and by the feed.
my $hash = q{SELECT md5(string_agg(r::text, ',' ORDER BY n, r.version)), count(*) FROM generate_series(0, 39) AS n, eduai.read_stream('learner-' || n, max_count => 10000) AS r
	UNION ALL SELECT md5(string_agg(r::text, ',' ORDER BY position)), count(*) FROM eduai.read_all(0, 10000) AS r};
my $where = q{SELECT (SELECT count(*) FROM eduai.event), (SELECT coalesce(sum(events), 0) FROM eduai.event_order), (SELECT coalesce(sum(events), 0) FROM eduai.event_block)};

fill(1, 3000);
my $before = $node->safe_psql('postgres', $hash);
like($before, qr/\|3000\n.*\|3000$/, 'events by stream and in the feed');

# ---- killed at each pause point ----

for my $point (qw(events-compact-written events-compact-deleted))
{
	my $control = EduaiSession->new($node);
	$control->ask("SELECT eduai.test_pause('$point', true);");
	my $session = EduaiSession->new($node);
	$session->send("SELECT eduai.compact_events('0');");
	wait_until(sub { $control->ask("SELECT eduai.test_paused('$point');") eq '1' }, 30, "compaction is at $point");
	$node->stop('immediate');
	$session->kill;
	$control->kill;
	$node->start;
	is($node->safe_psql('postgres', $where), '3000|3000|0', "killed at $point: all is hot again");
	is($node->safe_psql('postgres', $hash), $before, "killed at $point: the same rows");
}

# ---- an old snapshot, and appends meanwhile ----

my $reader = EduaiSession->new($node);
$reader->ask('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class;');
my $control = EduaiSession->new($node);
$control->ask("SELECT eduai.test_pause('events-compact-deleted', true);");
my $compaction = EduaiSession->new($node);
$compaction->send("SELECT eduai.compact_events('0');");
wait_until(sub { $control->ask("SELECT eduai.test_paused('events-compact-deleted');") eq '1' }, 30, 'compaction has deleted');
my $writer = EduaiSession->new($node);
is($writer->ask(q{SELECT version FROM eduai.append_event('learner-7', 'meanwhile', '{}', user_id => '7');}, 30),
	'76', 'an append to a stream that is being compacted does not wait');
my $second = EduaiSession->new($node);
$second->send("SELECT eduai.compact_events('0');");
$control->ask("SELECT eduai.test_pause('events-compact-deleted', false);");
is($compaction->answer(60), '3000', 'compacted');
is($second->answer(60), '1', 'a second compaction waited and took what was left');
is($node->safe_psql('postgres', $where), '0|0|3001', 'all is in blocks');
is($reader->ask("$hash;"), $before, 'a snapshot from before compaction sees the same rows');
$reader->ask('COMMIT;');
is($reader->ask(q{SELECT count(*) FROM eduai.read_all(0, 10000);}), '3001', 'the next transaction sees the new one too');
is($writer->ask(q{SELECT version FROM eduai.append_event('learner-7', 'later');}), '77', 'versions go on');
is($writer->ask(q{SELECT string_agg(version::text, ',' ORDER BY version) FROM eduai.read_stream('learner-7', 75);}), '75,76,77', 'across the boundary');
$_->quit for $reader, $control, $compaction, $second, $writer;

# ---- appends all the while ----

my @clients;
for my $client (1 .. 3)
{
	my $session = EduaiSession->new($node);
	$session->send(qq{DO \$\$ BEGIN FOR i IN 1 .. 300 LOOP
		PERFORM eduai.append_event('learner-' || (i * $client) % 40, 'busy', jsonb_build_object('client', $client, 'i', i)); COMMIT;
		END LOOP; END \$\$; SELECT 'done';});
	push @clients, $session;
}
my $compactor = EduaiSession->new($node);
my $compactions = 0;
wait_until(
	sub {
		$compactions += $compactor->ask("SELECT eduai.compact_events('0') > 0;") eq 't';
		return !grep { !$_->answered } @clients;
	}, 120, 'the clients are done');
is($_->answer(10), 'done', 'a client appended') for @clients;
cmp_ok($compactions, '>', 1, 'compactions in between');
is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT position), count(DISTINCT (stream, version)) FROM eduai.read_all(0, 10000)}),
	'3902|3902|3902', 'each event once in the feed');
is($node->safe_psql('postgres', q{SELECT bool_and(eduai.stream_version('learner-' || n) = (SELECT count(*) FROM eduai.read_stream('learner-' || n, max_count => 10000))) FROM generate_series(0, 39) AS n}),
	't', 'dense versions in each stream');
$_->quit for @clients, $compactor;

# ---- after a restart ----

my $all = $node->safe_psql('postgres', $hash);
$node->restart;
is($node->safe_psql('postgres', $hash), $all, 'the same rows after a restart');
my $version = $node->safe_psql('postgres', q{SELECT eduai.stream_version('learner-7')});
is($node->safe_psql('postgres', q{SELECT version FROM eduai.append_event('learner-7', 'restarted')}), $version + 1, 'and a stream goes on');

done_testing();
