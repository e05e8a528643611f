# A standby reads the feed, in order and to its end; a synchronous one holds the
# feed back; promoted, it goes on where the primary ended.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $primary = new_node(name => 'primary', conf => { 'eduai.test_mode' => 'on', 'eduai.sweep_interval' => '1s', autovacuum => 'off', hot_standby_feedback => 'on', wal_keep_size => '256MB' });
sub value { return $primary->safe_psql('postgres', $_[0]) }

value(q{SELECT eduai.append_event('early', 't') FROM generate_series(1, 3)});
$primary->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
$standby->start;
sub there { return $standby->safe_psql('postgres', $_[0]) }

my $feed = q{SELECT string_agg("position" || ' ' || event_id, ',' ORDER BY "position") FROM eduai.read_all(0, 10000)};

# ---- nothing is skipped, and the end is reached ----

wait_until(sub { there('SELECT count(*) FROM eduai.read_all()') eq '3' }, 10, 'what was there before the standby');
pass('the standby reads what was appended before it existed');

# Twelve sessions take turns at one of three streams; some commit slowly, some
# roll back. A reader of the standby follows the feed all the while.
my @writers = map { EduaiSession->new($primary) } 1 .. 4;
my $slow = EduaiSession->new($primary);
my $reader = EduaiSession->new($standby);
my ($read, %seen, @order) = (0);

sub follow
{
	my $rows = $reader->ask(qq{SELECT "position" || ' ' || stream || ' ' || version FROM eduai.read_all($read, 1000);});
	for my $row (split /\n/, $rows)
	{
		my ($position, $stream, $version) = split / /, $row;
		die "unexpected: $row" unless $row =~ /^\d+ \S+ \d+$/;
		die "position $position after $read" if $position <= $read;
		die "$stream: $version after $seen{$stream}" if $version != ($seen{$stream} // 0) + 1;
		($read, $seen{$stream}) = ($position, $version);
		push @order, $row;
	}
	return;
}

$slow->ask(q{BEGIN; SELECT eduai.append_event('slow', 't');});
value(q{SELECT eduai.test_pause('events-drawn', true)});
$slow->send('COMMIT;');
wait_until(sub { value(q{SELECT eduai.test_paused('events-drawn')}) eq '1' }, 10, 'a slow commit has drawn its position');
value(q{SELECT eduai.test_pause('events-drawn', false)});
is($slow->answer(10), '', 'a slow commit');
for my $round (1 .. 60)
{
	# Every tenth round a transaction draws first and commits last.
	if ($round % 10 == 0)
	{
		$slow->ask(q{BEGIN; SELECT eduai.append_event('slow', 't');});
		value(q{SELECT eduai.test_pause('events-ordered', true)});
		$slow->send('COMMIT;');
		wait_until(sub { value(q{SELECT eduai.test_paused('events-ordered')}) eq '1' }, 10, 'it holds its position');
		# The pause point would hold these too: they append what they do not commit.
		my $before = @order;
		follow() for 1 .. 3;
		value(q{SELECT eduai.test_pause('events-ordered', false)});
		$slow->answer(10);
	}
	$writers[$_]->send(qq{SELECT FROM eduai.append_event('w-' || (($round + $_) % 3), 't');}) for 0 .. $#writers;
	follow();
	$_->answer(10) for @writers;
	$writers[0]->ask(q{BEGIN; SELECT eduai.append_event('w-0', 't'); ROLLBACK;}) if $round % 7 == 0;
}
my $last = time();
wait_until(sub { follow(); ($seen{slow} // 0) == 7 && 240 == grep { / w-/ } @order }, 10, 'the standby reads the last event');
cmp_ok(time() - $last, '<', 2, 'the last events can be read soon after the appends have paused');
is(join("\n", @order), value(q{SELECT string_agg("position" || ' ' || stream || ' ' || version, E'\n' ORDER BY "position") FROM eduai.read_all(0, 10000)}),
	'the standby read just what the primary has, in that order');
is(there($feed), value($feed), 'and reads it again');

# A commit, and nothing after it.
my @waits;
for my $n (1 .. 5)
{
	my $start = time();
	my $version = value(q{SELECT version FROM eduai.append_event('single', 't')});
	wait_until(sub { follow(); ($seen{single} // 0) == $version }, 10, 'a single event is read on the standby');
	push @waits, time() - $start;
}
diag(sprintf 'readable on the standby after %s ms', join ', ', map { int($_ * 1000) } @waits);
cmp_ok((sort { $a <=> $b } @waits)[2], '<', 1, 'a single event can be read within a second');

# A range that ends by an abort may be all that the mark waits for. A NOTIFY is
# queued after the positions are drawn, under a lock that only one commit holds.
my $notifier = EduaiSession->new($primary);
value(q{SELECT eduai.test_pause('commit-before-wake', true)});
$notifier->send(q{BEGIN; NOTIFY anybody; SELECT eduai.start_workers(); COMMIT;});
wait_until(sub { value(q{SELECT eduai.test_paused('commit-before-wake')}) eq '1' }, 10, 'a commit holds the lock of NOTIFY');
my $victim = $slow->backend_pid;
$slow->ask(q{BEGIN; NOTIFY anybody; SELECT eduai.append_event('never', 't');});
$slow->send('COMMIT;');
wait_until(sub { value("SELECT wait_event_type FROM pg_stat_activity WHERE pid = $victim") eq 'Lock' }, 10, 'another has drawn a position and waits for it');
value(q{SELECT eduai.append_event('above', 't')});
is(value(q{SELECT count(*) FROM eduai.read_all(0, 10000, category => 'above')}), '0', 'what comes after it waits');
is(there(q{SELECT count(*) FROM eduai.read_all(0, 10000, category => 'above')}), '0', 'on the standby too');
value("SELECT pg_cancel_backend($victim)");
like($slow->answer(10), qr/ERROR:  57014/, 'the one that has drawn ends without a commit');
is(value(q{SELECT count(*) FROM eduai.read_all(0, 10000, category => 'above')}), '1', 'the feed goes on');
wait_until(sub { follow(); $seen{above} }, 10, 'on the standby too');
pass('on the standby too');
value(q{SELECT eduai.test_pause('commit-before-wake', false)});
$notifier->answer(10);
$notifier->quit;

# ---- at rest nothing is written ----

# Checkpoints and the background writer's snapshots aside: what is committed.
# The dispatcher's sweeps are the clock.
sub sweeps
{
	my ($n) = @_;
	my $count = q{SELECT w->>'wakes_by_timeout' FROM jsonb_path_query(eduai.health(), '$.workers[*] ? (@.worker == "dispatcher")') w};
	my $start = value($count);
	wait_until(sub { value($count) >= $start + $n }, 10 + 5 * $n, "$n sweeps");
}
sub mark_row { return value(q{SELECT xmin || ' ' || ctid || ' ' || mark FROM eduai.event_mark}) }
sub projector_wakes { return value(q{SELECT w FROM jsonb_path_query(eduai.health(), '$.workers[*] ? (@.worker == "projector")') w}) }
sweeps(1);
my @at_rest = (mark_row(), projector_wakes(), value('SELECT pg_current_xact_id_if_assigned() IS NULL, pg_snapshot_xmax(pg_current_snapshot())'));
sweeps(4);
is_deeply([ mark_row(), projector_wakes(), value('SELECT pg_current_xact_id_if_assigned() IS NULL, pg_snapshot_xmax(pg_current_snapshot())') ], \@at_rest,
	'at rest the projector sleeps and nothing is written');
cmp_ok(value('SELECT count(*) FROM eduai.event_mark'), '==', 1, 'one mark is stored');

# ---- what a standby refuses ----

like($reader->ask(q{SELECT eduai.append_event('w-0', 't');}), qr/ERROR:  25006/, 'a standby takes no append');

# ---- a synchronous standby ----

# A commit that waits for the standby is visible to nobody; its position, drawn
# before, holds back all that come after, whether they wait or not.
sub standby_name { return value(q{SELECT application_name FROM pg_stat_replication}) }
wait_until(sub { standby_name() ne '' }, 10, 'the standby streams');
value(qq{ALTER SYSTEM SET synchronous_standby_names = '"@{[standby_name()]}"'});
$primary->reload;
wait_until(sub { value(q{SELECT sync_state FROM pg_stat_replication}) eq 'sync' }, 10, 'the standby is synchronous');
value(q{SELECT eduai.append_event('sync', 't')});
my $read_before = value(q{SELECT max("position") FROM eduai.read_all(0, 10000)});
$standby->stop;
wait_until(sub { value(q{SELECT count(*) FROM pg_stat_replication}) eq '0' }, 20, 'the standby is gone');
$slow->send(q{SELECT version FROM eduai.append_event('sync', 't');});
wait_until(sub { value(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'}) eq '1' }, 10, 'a commit waits for the standby');
my $waiting = value(q{SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'});
is($writers[1]->ask(q{SET synchronous_commit = local; SELECT version FROM eduai.append_event('local', 't');}, 10), '1', 'another, that does not wait, commits');
is(value(q{SELECT version FROM eduai.read_stream('local')}), '1', 'and is in its stream');
is(value(qq{SELECT count(*) FROM eduai.read_all($read_before)}), '0', 'but the feed shows neither: what comes after the waiting one comes later');
my $stopped = time();
$writers[2]->ask('SELECT eduai.stop_workers();', 20);
cmp_ok(time() - $stopped, '<', 2, 'the projector does not wait for the standby');
ok(!$slow->answered, 'it still waits');
# Cancelled, it has committed all the same, as PostgreSQL warns.
value("SELECT pg_cancel_backend($waiting)");
like($slow->answer(10), qr/WARNING:.*synchronous replication|canceling wait for synchronous replication/s, 'the wait can be cancelled');
is(value(qq{SELECT string_agg(stream || ' ' || version, ', ' ORDER BY "position") FROM eduai.read_all($read_before)}), 'sync 2, local 1', 'then the feed goes on, in order');
$writers[2]->ask('SET synchronous_commit = local; SELECT eduai.start_workers();', 20);
wait_until(sub { value(q{SELECT mark >= (SELECT max("position") FROM eduai.read_all(0, 10000)) FROM eduai.event_mark}) eq 't' }, 10, 'the projector stores the mark');
pass('the projector stores the mark without the standby');
$slow->send(q{SELECT version FROM eduai.append_event('sync', 't');});
wait_until(sub { value(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'}) eq '1' }, 10, 'the next waits again');
is(value(qq{SELECT count(*) FROM eduai.read_all($read_before)}), '2', 'and is not in the feed');
$standby->start;
is($slow->answer(20), '3', 'until the standby is back');
is(value(qq{SELECT count(*) FROM eduai.read_all($read_before)}), '3', 'and in the feed');

# ---- promotion ----

my $positions = value(q{SELECT string_agg("position"::text, ',' ORDER BY "position") FROM eduai.read_all(0, 10000)});
$last = value(q{SELECT max("position") FROM eduai.read_all(0, 10000)});
$read = 0;
%seen = @order = ();
$reader->quit;
$reader = EduaiSession->new($standby);
wait_until(sub { follow(); $read == $last }, 20, 'the standby has read everything');
$_->quit for @writers, $slow, $reader;
$primary->stop('immediate');
$standby->promote;
$standby->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = ''});
$standby->reload;
is(there(q{SELECT string_agg("position"::text, ',' ORDER BY "position") FROM eduai.read_all(0, 10000)}), $positions, 'promoted: nothing is lost, no position has changed');
is(there(q{SELECT version FROM eduai.append_event('sync', 't', expected_version => 3)}), '4', 'appends go on with the next version');
is(there(q{SELECT version FROM eduai.append_event('new', 't')}), '1', 'and with new streams');
cmp_ok(there(q{SELECT min("position") FROM eduai.read_all(} . $last . ')'), '>', $last, 'their positions are beyond all');
is(there(qq{SELECT string_agg(stream || ' ' || version, ', ' ORDER BY "position") FROM eduai.read_all($last)}), 'sync 4, new 1', 'the feed goes on');
is(there(q{SELECT count(*) = count(DISTINCT "position") AND count(*) = count(DISTINCT event_id) FROM eduai.read_all(0, 10000)}), 't', 'no position twice');
wait_until(
	sub { there(q{SELECT string_agg(backend_type, ', ' ORDER BY backend_type) FROM pg_stat_activity WHERE backend_type LIKE 'eduai%'}) eq 'eduai dispatcher, eduai keeper, eduai launcher, eduai projector' },
	20, 'the workers run on the promoted server');
pass('the workers run on the promoted server');
wait_until(sub { there(q{SELECT mark >= (SELECT max("position") FROM eduai.read_all(0, 10000)) FROM eduai.event_mark}) eq 't' }, 20, 'the mark is stored');
pass('the mark is stored for standbys to come');

$standby->stop;
done_testing();
