# Subscriptions at work: a waiting fetch wakes when there is something and does
# not poll before; members share the streams while their number changes; what was
# acknowledged outlives a restart; a filter that matches rarely is not looked for
# in the same events again; a standby fetches.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;
use Time::HiRes ();

my $node = new_node(name => 'primary', conf => { 'eduai.test_mode' => 'on' });

sub value { return $node->safe_psql('postgres', $_[0]) }

# Appends numbers as events of 7 streams, in one transaction.
sub add
{
	my ($first, $last, $type) = @_;
	$type //= 'x';
	return value(qq{SELECT eduai.append_batch(array_agg('a-' || n % 7 ORDER BY n), array_agg('$type'::text), array_agg(jsonb_build_object('n', n) ORDER BY n))
		FROM generate_series($first, $last) AS n});
}

sub got { return qq{SELECT coalesce(string_agg(data ->> 'n', ' ' ORDER BY "position"), 'nothing') FROM eduai.fetch_events($_[0]);} }

sub wait_until_asleep
{
	my ($pid) = @_;
	return wait_until(
		sub { value("SELECT coalesce(wait_event_type = 'Extension' AND state = 'active', false) FROM pg_stat_activity WHERE pid = $pid") eq 't' },
		20, 'the session waits');
}

# How often a process gave up its processor to wait.
sub naps
{
	my ($pid) = @_;
	return (slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m)[0];
}

# ---- waiting ----

value(q{SELECT eduai.create_subscription('w', ARRAY['y'])});
my $waiter = EduaiSession->new($node);
my $writer = EduaiSession->new($node);
my $pid = $waiter->backend_pid;

is($waiter->ask(got(q{'w', wait => '10 ms'})), 'nothing', 'there is nothing yet');
my ($naps, $began) = (naps($pid), Time::HiRes::time());
is($waiter->ask(got(q{'w', wait => '2 s'})), 'nothing', 'the time is over');
cmp_ok(Time::HiRes::time() - $began, '>=', 1.9, 'and not before');
cmp_ok(naps($pid) - $naps, '<', 10, 'a waiting fetch does not poll');

$waiter->send(got(q{'w', wait => '1 hour'}));
wait_until_asleep($pid);
add(1, 3);
add(4, 4, 'y');
is($waiter->answer(20), '4', 'what the filter leaves out does not end the wait, what it lets through does');
value(q{SELECT eduai.ack_events('w', max("position")) FROM eduai.fetch_events('w')});

$waiter->send(got(q{'w', wait => '1 hour'}));
wait_until_asleep($pid);
$writer->ask(q{BEGIN; SELECT eduai.append_event('a-1', 'y', '{"n": 5}'); ROLLBACK; BEGIN; SELECT eduai.append_event('a-1', 'y', '{"n": 6}');});
wait_until_asleep($pid);
ok(!$waiter->answered, 'neither a rollback nor an open transaction');
$writer->ask('COMMIT;');
is($waiter->answer(20), '6', 'but its commit');
value(q{SELECT eduai.ack_events('w', max("position")) FROM eduai.fetch_events('w')});

$waiter->send(got(q{'w', wait => '1 hour'}));
wait_until_asleep($pid);
value("SELECT pg_cancel_backend($pid)");
like($waiter->answer(20), qr/57014/, 'a waiting fetch is cancelled');

# a snapshot that cannot be refreshed: one wait, and nothing
$waiter->ask(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1;});
$waiter->send(got(q{'w', wait => '1 hour'}));
wait_until_asleep($pid);
add(7, 7, 'y');
is($waiter->answer(20), 'nothing', 'under REPEATABLE READ the wait ends without what the snapshot does not show');
is($waiter->ask('COMMIT; ' . got(q{'w'})), '7', 'which the next transaction sees');

# another consumer's seek is seen by one that waits
value(q{SELECT eduai.ack_events('w', max("position")) FROM eduai.fetch_events('w')});
$waiter->send(got(q{'w', wait => '1 hour'}));
wait_until_asleep($pid);
value(q{SELECT eduai.seek_subscription('w', 0)});
add(8, 8);
is($waiter->answer(20), '4 6 7', 'a seek is seen once anything is appended');

# ---- members, their change, and many consumers at once ----

value(q{
	CREATE TABLE done (n int, member int, consumer int, seq bigint GENERATED ALWAYS AS IDENTITY, stream text);
	CREATE TABLE stop ();
	CREATE PROCEDURE consume(consumer int, member int) LANGUAGE plpgsql AS $$
	DECLARE
		p bigint;
	BEGIN
		LOOP
			BEGIN
				WITH e AS MATERIALIZED (SELECT * FROM eduai.fetch_events('team', 20, consume.member, '100 ms')),
					i AS (INSERT INTO done (n, member, consumer, stream) SELECT (data ->> 'n')::int, consume.member, consume.consumer, stream FROM e ORDER BY "position")
				SELECT max("position") INTO p FROM e;
				IF p IS NOT NULL THEN
					PERFORM eduai.ack_events('team', p, consume.member);
				END IF;
			EXCEPTION WHEN object_not_in_prerequisite_state THEN
				p := 0; -- the members changed meanwhile: the work is undone, fetch again
			END;
			COMMIT;
			EXIT WHEN p IS NULL AND to_regclass('stop') IS NULL;
		END LOOP;
	END $$;
	SELECT eduai.create_subscription('team', category => 'm', members => 2)});
my @consumers = map { EduaiSession->new($node) } 1 .. 6;
# two consumers for the first member, one for the second
$consumers[$_]->send("CALL consume($_, " . ($_ % 2) . ');') for 0 .. 2;
sub produce
{
	my ($first, $last) = @_;
	value(qq{SELECT eduai.append_event('m-' || n % 23, 'x', jsonb_build_object('n', n)) FROM generate_series($_, $_ + 24) AS n})
	  for grep { ($_ - $first) % 25 == 0 } $first .. $last;
}
produce(1, 500);
value(q{SELECT eduai.set_subscription_members('team', 5)});
$consumers[$_]->send("CALL consume($_, " . ($_ - 1) . ');') for 3 .. 5;
produce(501, 1000);
value('DROP TABLE stop');
is($_->answer(120), '', 'a consumer ends') for @consumers;
is(value('SELECT count(DISTINCT n), min(n), max(n) FROM done'), '1000|1|1000', 'nothing is lost');
is(value(q{SELECT count(*) FROM (SELECT 1 FROM done WHERE n > 500 GROUP BY stream HAVING count(DISTINCT member) > 1) AS s}),
	'0', 'a stream goes to one member');
is(value(q{SELECT count(*) FROM (SELECT n < lag(n) OVER (PARTITION BY consumer, stream, n > 500 ORDER BY seq) AS back FROM done WHERE n > 500) AS s WHERE back}),
	'0', 'in order');
is(value(q{SELECT count(*) FROM (SELECT 1 FROM done WHERE n > 500 GROUP BY n HAVING count(*) > 2) AS s}), '0', 'work and acknowledgement are one commit');
is(value(q{SELECT sum(lag_events), count(*) FROM eduai.subscription_status WHERE name = 'team'}), '0|5', 'all have caught up');
$_->quit for @consumers;

# ---- a filter that matches rarely ----

# The buffers that a fetch looks at, once the session knows its catalogs and plans.
sub buffers
{
	my ($begin) = @_;
	my $plan = value("SELECT count(*) FROM eduai.fetch_events('w'); $begin;
		EXPLAIN (ANALYZE, BUFFERS, COSTS off, TIMING off, SUMMARY off) SELECT * FROM eduai.fetch_events('rare'); COMMIT;");
	my $sum = 0;
	$plan =~ s/\nPlanning:.*//s;
	$sum += $1 while $plan =~ /(?:hit|read)=(\d+)/g;
	return $sum;
}
sub rare { return value(qq{SELECT $_[0] FROM eduai.subscription_status WHERE name = 'rare'}) }

value(q{SELECT eduai.create_subscription('rare', ARRAY['z'], after_position => max("position")) FROM eduai.read_all(max_count => 10000)});
my $start = rare('"position"');
add(10001, 14000);
my $first = buffers('BEGIN READ ONLY');
my $second = buffers('BEGIN READ ONLY');
cmp_ok($first, '>', 1000, "the first fetch looks at the events ($first buffers)");
cmp_ok($second, '<', 100, "the second does not ($second buffers)");
is(rare(qq{"position" = $start, lag_events}), 't|0', 'and nothing was written');
buffers('BEGIN');
is(rare(qq{"position" = $start}), 't', 'nor by a transaction that could, for so few');

# what a rolled back transaction has passed stays passed; what it sought does not
value(q{BEGIN; SELECT eduai.seek_subscription('rare', 0); SELECT count(*) FROM eduai.fetch_events('rare'); ROLLBACK;});
cmp_ok(buffers('BEGIN READ ONLY'), '<', 100, 'a seek that is rolled back costs nothing');

# another session has the member's lock: no wait, and nothing written
add(14001, 25000);
$writer->ask(q{BEGIN; SELECT eduai.ack_events('rare', 0);});
$waiter->send(got(q{'rare'}));
is($waiter->answer(20), 'nothing', 'a fetch does not wait for an acknowledgement');
is(rare(qq{"position" = $start, lag_events}), 't|0', 'and leaves the position');
$writer->ask('COMMIT;');
$waiter->ask('BEGIN ISOLATION LEVEL REPEATABLE READ; ' . got(q{'rare'}) . ' COMMIT;');
is(rare(qq{"position" > $start}), 't', 'the position moves once the lock is free');

add(25001, 25001, 'z');
is($waiter->ask(got(q{'rare'})), '25001', 'the rare one comes');
$waiter->ask(got(q{'rare'}));
add(25002, 30000);
$waiter->ask(got(q{'rare'}));
value(q{SELECT eduai.ack_events('rare', max("position")) FROM eduai.fetch_events('rare')});
is(rare('lag_events'), '0', 'its acknowledgement passes what comes after it');

# ---- a change of the members while a fetch is about to write what it passed ----

# a stream of the second member; the first member has nothing in all the events so far
value(q{SELECT eduai.append_event('q' || n, 'x', '{"n": 0}') FROM generate_series(1, 8) AS n});
my $category = value(q{SELECT eduai.create_subscription('q' || n, NULL, 'q' || n, members => 2) FROM generate_series(1, 8) AS n;
	SELECT min('q' || n) FROM generate_series(1, 8) AS n, LATERAL eduai.fetch_events('q' || n, 1, 1)});
$category =~ s/\s//g;
value(q{SELECT eduai.test_pause('fetch-looked', true)});
$waiter->send(got(qq{'$category', member => 0}));
wait_until(sub { value(q{SELECT eduai.test_paused('fetch-looked')}) eq '1' }, 20, 'a fetch has looked');
value(qq{SELECT eduai.set_subscription_members('$category', 1)});
value(q{SELECT eduai.test_pause('fetch-looked', false)});
is($waiter->answer(20), 'nothing', 'the first of two members has nothing');
is(value(got(qq{'$category'})), '0', 'and what it passed is not passed for the only one');

# ---- a restart ----

my $before = value(q{SELECT name, member, "position" FROM eduai.subscription_status ORDER BY 1, 2});
$_->quit for $waiter, $writer;
$node->restart;
is(value(q{SELECT name, member, "position" FROM eduai.subscription_status ORDER BY 1, 2}), $before, 'positions outlive a restart');
is(value(q{SELECT count(last_fetch_at) FROM eduai.subscription_status}), '0', 'the last fetches do not');
cmp_ok(buffers('BEGIN READ ONLY'), '<', 100, 'what was passed and acknowledged is not looked at again');
add(30001, 30001, 'y');
is(value(got(q{'w'})), '4 6 7 30001', 'and fetching goes on');

# kill -9 after a commit: what was acknowledged stays so
value(q{SELECT eduai.ack_events('w', "position") FROM eduai.fetch_events('w') WHERE data ->> 'n' = '7'});
$node->stop('immediate');
$node->start;
is(value(got(q{'w'})), '30001', 'an acknowledgement is durable');

# ---- a standby ----

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
add(30002, 30002, 'y');
add(30003, 30003);
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
like($standby->safe_psql('postgres', got(q{'w'})), qr/^30001 30002/, 'a standby fetches');
is($standby->safe_psql('postgres', got(q{'w'})), $standby->safe_psql('postgres', got(q{'w'})), 'again the same');
my ($status, $out, $err) = $standby->psql('postgres', '\set VERBOSITY verbose' . "\n" . got(q{'w', wait => '1 s'}));
like($err, qr/0A000/, 'but does not wait');
($status, $out, $err) = $standby->psql('postgres', '\set VERBOSITY verbose' . "\n" . q{SELECT eduai.ack_events('w', 1)});
like($err, qr/25006/, 'nor acknowledge');

$standby->stop('fast');
$node->stop('fast');
done_testing();
