# Rebuilding: the new states equal the live ones byte for byte, whatever is
# appended and read meanwhile; it goes on after a crash, and when its caller has
# left; and the cut-over waits for whoever is in its way without holding up others.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node(conf => {
	'eduai.test_mode' => 'on', 'eduai.compact_after' => 0, 'eduai.projection_tries' => 1, autovacuum => 'off' });

sub value { return $node->safe_psql('postgres', $_[0]) }

# A call that is to fail, and its error with SQLSTATE.
sub failure
{
	my ($sql) = @_;
	my ($out, $err);
	$node->psql('postgres', "\\set VERBOSITY verbose\n$sql", stdout => \$out, stderr => \$err);
	return $err =~ /ERROR:\s+(\S+: .*)/ ? $1 : "no error: $out";
}

value(q{
	CREATE SCHEMA app;
	CREATE FUNCTION app.link(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		IF event.data ? 'poison' THEN
			RAISE 'poison';
		END IF;
		RETURN jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + 1,
			'chain', md5(coalesce(state ->> 'chain', '') || event.event_id || event.version || event.data));
	END $$;
	SELECT eduai.create_projection('async', 'app.link(jsonb, eduai.event_record)', lanes => 2);
	SELECT eduai.create_projection('inline', 'app.link(jsonb, eduai.event_record)', mode => 'inline');
});

sub append
{
	my ($n, $data) = @_;
	$data //= q{jsonb_build_object('i', i, 'skill', 'a', 'score', 0.5)};
	return value(qq{
		SELECT eduai.append_batch(array_agg('s-' || (random() * 20)::int), array_agg('exercise_completed'::text), array_agg($data),
			user_ids => array_agg('u-' || (random() * 30)::int)) FROM generate_series(1, $n) i});
}

# md5 over (key, state, version, parked) of each generation there is.
sub sums
{
	my ($name) = @_;
	return value(qq{
		SELECT string_agg(g || ':' || md5, ' ' ORDER BY g) FROM (
			SELECT s.generation AS g, md5(string_agg(s.key || s.state || s.version || s.last_at || s.parked, E'\\n' ORDER BY s.tenant_id, s.key)) AS md5
			FROM eduai.projection_state s
			WHERE s.projection = coalesce((SELECT projection FROM eduai.projection WHERE name = '$name'), 1) GROUP BY 1) x});
}

sub generation
{
	my ($name, $column) = @_;
	return value(qq{SELECT $column FROM eduai.projection_generation
		WHERE projection = coalesce((SELECT projection FROM eduai.projection WHERE name = '$name'), 1)});
}

sub status { return value(qq{SELECT $_[1] FROM eduai.projection_status WHERE name = '$_[0]'}) }

sub caught_up { return wait_until(sub { value(q{SELECT sum(lag_events) FROM eduai.projection_status}) eq '0' }, 60, 'the projector has caught up') }

# While retired states are kept, both can be compared.
sub keep_retired { return value(qq{SELECT eduai.test_pause('projections-clear', $_[0])}) }

sub is_equal
{
	my ($name, $what) = @_;
	my @md5 = map { (split /:/)[1] } split / /, sums($name);
	is(scalar @md5, 2, "$what: both sets of states are there");
	is($md5[0], $md5[1], "$what: they are equal");
	return;
}

# Lets the projector delete what it holds, and waits for that.
sub clear
{
	keep_retired('false');
	wait_until(sub { value(q{SELECT count(*) FROM eduai.projection_generation WHERE retired <> '{}'}) eq '0' }, 60, 'retired states are deleted');
	is(value(q{SELECT count(*) FROM eduai.projection_state s WHERE NOT EXISTS (SELECT FROM eduai.projection_generation g
			WHERE g.projection = s.projection AND s.generation IN (g.live, g.next)) AND (s.projection >= 100 OR s.generation > 1)}), '0', 'nothing of them is left');
	return;
}

# ---- an empty log, and small ones ----

is(value(q{SELECT eduai.rebuild_projection('progress')}), '0', 'an empty log is rebuilt');
is(status('progress', 'live_generation'), '2', 'the new generation is live');
clear();

# ---- compacted and hot events, with an event that is parked ----

append(3000);
append(1, q{'{"poison": true}'::jsonb});
is(value(q{SELECT eduai.compact_events('0') > 0}), 't', 'old events are compacted');
append(500);
caught_up();
is(value(q{SELECT count(*) FROM eduai.parked_event}), '2', 'the poison is parked, inline and async');
for my $name (qw(progress inline async))
{
	keep_retired('true');
	my $events = value(q{SELECT eduai.rebuild_projection('} . $name . q{')});
	is($events, '3501', "$name: every event is folded");
	is_equal($name, $name);
	is(status($name, 'rebuilding'), 'f', "$name: it is over");
	clear();
}
is(value(q{SELECT count(*) FROM eduai.parked_event}), '2', 'the poison is parked in the new states');
is(value(q{SELECT min(parked_events) FROM eduai.projection_status WHERE name IN ('inline', 'async')}), '1', 'and counted for each of them');
is(value(q{SELECT eduai.skip_parked(projection, event_id) FROM eduai.parked_event LIMIT 1} . ';' . q{SELECT eduai.skip_parked(projection, event_id) FROM eduai.parked_event LIMIT 1}), "1\n1", 'it is skipped');
for my $name (qw(inline async))
{
	keep_retired('true');
	value(q{SELECT eduai.rebuild_projection('} . $name . q{')});
	is_equal($name, "$name without the skipped event");
	clear();
}

# ---- while others append and read ----

value(q{CREATE PROCEDURE app.many(n int, k int) LANGUAGE plpgsql AS $$
	BEGIN FOR i IN 1 .. n LOOP
		PERFORM eduai.append_event('s-' || (random() * 20)::int, 'exercise_completed', jsonb_build_object('i', i, 'k', k), 'u-' || (random() * 30)::int);
		COMMIT;
	END LOOP; END $$;
	CREATE PROCEDURE app.looks(INOUT longest_ms double precision, INOUT odd int) LANGUAGE plpgsql AS $$
	DECLARE
		start timestamptz;
		n int;
		before int := 0;
	BEGIN
		longest_ms := 0;
		odd := 0;
		FOR i IN 1 .. 100000 LOOP
			start := clock_timestamp();
			n := (eduai.user_progress('u-1') ->> 'version')::int;
			PERFORM eduai.projection_state('inline', 'u-1'), eduai.projection_state('async', 'u-1');
			longest_ms := greatest(longest_ms, extract(epoch FROM clock_timestamp() - start) * 1000);
			odd := odd + (n < before)::int;
			before := n;
			COMMIT;
			EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%app.many(%' AND pid <> pg_backend_pid() AND state = 'active');
		END LOOP;
	END $$});
append(20000);
caught_up();
for my $name (qw(progress inline async))
{
	my @writers = map { EduaiSession->new($node) } 1 .. 2;
	$writers[$_]->send("CALL app.many(1500, $_);") for 0 .. 1;
	my $reader = EduaiSession->new($node);
	$reader->send('CALL app.looks(NULL, NULL);');
	keep_retired('true');
	my $events = value(q{SELECT eduai.rebuild_projection('} . $name . q{')});
	cmp_ok($events, '>=', 23000, "$name: rebuilt while others append");
	is($_->answer(60), '', "$name: a writer has not failed") for @writers;
	my ($longest_ms, $odd) = split /\|/, $reader->answer(60);
	is($odd, '0', "$name: no reader sees an older state after a newer one");
	diag(sprintf "%s: the longest read took %.1f ms", $name, $longest_ms);
	$_->quit for @writers, $reader;
	keep_retired('false');
	caught_up();
	# Rebuilt once more in peace, the states are those that were cut over to and went on.
	clear();
	keep_retired('true');
	value(q{SELECT eduai.rebuild_projection('} . $name . q{')});
	is_equal($name, "$name after that");
	clear();
}

# ---- somebody is in the way ----

my $open = EduaiSession->new($node);
$open->ask(q{BEGIN; SELECT eduai.append_event('s-1', 't', '{}', 'u-open');});
my $caller = EduaiSession->new($node);
my $caller_pid = $caller->backend_pid;
$caller->send(q{SELECT eduai.rebuild_projection('inline');});
# Others append from before the first attempt on.
my $appender = EduaiSession->new($node);
my ($slowest, $n, $waits) = (0, 0, 0);
wait_until(
	sub {
		my $start = time();
		$n++;
		$appender->ask(qq{SELECT eduai.append_event('s-2', 't', '{}', 'v-$n');});
		my $took = time() - $start;
		$slowest = $took if $took > $slowest;
		$waits ||= status('inline', 'rebuild_phase') eq 'waiting for open transactions';
		return $waits && $n >= 20;
	},
	60, 'the rebuild waits');
$appender->quit;
like(status('inline', q{rebuilding || ' ' || rebuild_position}), qr/^true \d+$/, 'the status says so');
diag(sprintf 'the slowest append took %.0f ms', $slowest * 1000);
cmp_ok($slowest, '<', 2, 'others append meanwhile');
is(value(q{SELECT eduai.user_progress('v-5') ->> 'version'}), '1', 'and read what they appended');
ok(!$caller->answered, 'the caller waits');
value("SELECT pg_cancel_backend($caller_pid)");
like($caller->answer(10), qr/NOTICE:.*waits for open transactions.*ERROR:  57014/s, 'he was told, and can be cancelled');
is(status('inline', 'rebuilding'), 't', 'the rebuild goes on');
$caller->send(q{SELECT eduai.rebuild_projection('inline');});
my $second = EduaiSession->new($node);
$second->send(q{SELECT eduai.rebuild_projection('inline');});
my $live = generation('inline', 'live');
keep_retired('true');
is(generation('inline', 'next'), $live + 1, 'others join the rebuild at work');
$open->ask('COMMIT;');
like($caller->answer(30), qr/(^|\n)\d+$/, 'when the transaction ends the rebuild does');
like($second->answer(30), qr/(^|\n)\d+$/, 'for all who wait');
is(generation('inline', 'live'), $live + 1, 'it was one rebuild');
is(value(q{SELECT eduai.projection_state('inline', 'u-open') ->> 'n'}), '1', 'with the event of the open transaction');
is_equal('inline', 'after the wait');
clear();

# ---- in a transaction ----

like(failure(q{BEGIN; SELECT eduai.append_event('s-1', 't', '{}', 'u-1'); SELECT eduai.rebuild_projection('inline');}), qr/^25001: cannot rebuild projection "inline" in a transaction that has written/, 'not in a transaction that has written');
like(failure(q{SELECT eduai.rebuild_projection('nothing');}), qr/^42704: projection "nothing" does not exist/, 'not what does not exist');
like(failure(q{SELECT eduai.rebuild_projection(NULL);}), qr/^22004/, 'not NULL');

# REPEATABLE READ: a snapshot from before the cut-over cannot append after it.
my $repeatable = EduaiSession->new($node);
$repeatable->ask(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM eduai.read_all(0, 1);});
value(q{SELECT eduai.rebuild_projection('progress')});
like($repeatable->ask(q{SELECT eduai.append_event('s-1', 't', '{}', 'u-new');}), qr/ERROR:  40001: could not serialize access to projection "progress"/, 'an old snapshot is told to retry');
$repeatable->ask('ROLLBACK;');
$repeatable->quit;
$_->quit for $open, $caller, $second;
clear();

# ---- killed half way ----

for my $name (qw(inline async))
{
	for my $point (qw(projections-positioned projections-cut-over))
	{
		caught_up();
		value(qq{SELECT eduai.test_pause('$point', true)});
		my $session = EduaiSession->new($node);
		$session->send(q{SELECT eduai.rebuild_projection('} . $name . q{');});
		wait_until(sub { value(qq{SELECT eduai.test_paused('$point')}) eq '1' }, 30, "$name: the rebuild is at $point");
		my $before = generation($name, 'live');
		my ($md5) = sums($name) =~ /^$before:(\w+)/;
		is(generation($name, 'next'), $before + 1, "$name at $point: it is registered");
		my $pid = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'eduai helper' AND query = 'rebuilds a projection'});
		like($pid, qr/^\d+$/, "$name at $point: a process of its own is at work");
		kill 'KILL', $pid;
		$session->drain;
		$session->quit;
		wait_until(sub { defined try_query($node, 'SELECT 1') }, 60, 'the server is back');
		wait_until(sub { generation($name, 'live') == $before + 1 && generation($name, 'next') == 0 }, 60, "$name at $point: it goes on by itself");
		clear();
		is(sums($name), $before + 1 . ":$md5", "$name killed at $point: the new states equal the ones before");
	}
}

# It goes on from where it was, not from the start.
append(30000);
caught_up();
value(q{SELECT eduai.test_pause('projections-committed', true)});
my $session = EduaiSession->new($node);
$session->send(q{SELECT eduai.rebuild_projection('async');});
my $id = value(q{SELECT projection FROM eduai.projection WHERE name = 'async'});
wait_until(sub { value(q{SELECT eduai.test_paused('projections-committed')}) eq '1' }, 30, 'a step is committed');
my $next = generation('async', 'next');
my $done = value(qq{SELECT coalesce(sum(events), 0) FROM eduai.projection_position WHERE projection = $id AND generation = $next});
cmp_ok($done, '>', 0, 'part of the log is folded');
my $helper = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'eduai helper' AND query = 'rebuilds a projection'});
value(q{SELECT eduai.test_pause('projections-positioned', true)});
value("SELECT pg_terminate_backend($helper)");
value(q{SELECT eduai.test_pause('projections-committed', false)});
wait_until(sub { value(qq{SELECT count(*) FROM pg_stat_activity WHERE pid = $helper}) eq '0' }, 20, 'the process is terminated');
wait_until(sub { value(q{SELECT eduai.test_paused('projections-positioned')}) eq '1' }, 30, 'another goes on');
is(value(qq{SELECT sum(events) FROM eduai.projection_position WHERE projection = $id AND generation = $next}), $done, 'from where it was');
value(q{SELECT eduai.test_pause('projections-positioned', false)});
like($session->answer(60), qr/^\d+$/, 'and who waits gets the answer');
$session->quit;
clear();

# ---- upcasters, and what fails ----

value(q{
	CREATE FUNCTION app.raises(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;
	SELECT eduai.register_event_type('t', schema_version => 2), eduai.register_upcaster('t', 1, 'app.raises(jsonb)');
});
$live = generation('inline', 'live');
like(failure(q{SELECT eduai.rebuild_projection('inline');}), qr/^P0001: could not rebuild projection "inline": not today/, 'a rebuild that fails says why');
is(generation('inline', 'live'), $live, 'the live states stay');
like(status('inline', 'error'), qr/^not today$/, 'the status tells');
value(q{CREATE OR REPLACE FUNCTION app.raises(data jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT data || '{"up": 1}' $$});
my $before = value(q{SELECT eduai.projection_state('inline', 'u-open') ->> 'chain'});
wait_until(sub { generation('inline', 'live') == $live + 1 }, 60, 'once the cause is gone it is done by itself');
isnt(value(q{SELECT eduai.projection_state('inline', 'u-open') ->> 'chain'}), $before, 'and the upcaster was applied');
is(status('inline', 'error'), '', 'nothing is wrong any more');

# ---- altered and dropped meanwhile ----

clear();
value(q{SELECT eduai.test_pause('projections-positioned', true)});
$session = EduaiSession->new($node);
$session->send(q{SELECT eduai.rebuild_projection('inline');});
wait_until(sub { value(q{SELECT eduai.test_paused('projections-positioned')}) eq '1' }, 30, 'a rebuild is at work');
value(q{
	CREATE FUNCTION app.count(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql IMMUTABLE
		AS $$ SELECT jsonb_build_object('count', coalesce((state ->> 'count')::int, 0) + 1) $$;
	SELECT eduai.alter_projection('inline', 'app.count(jsonb, eduai.event_record)', schema_version => 2)});
value(q{SELECT eduai.test_pause('projections-positioned', false)});
like($session->answer(60), qr/^\d+$/, 'a projection altered meanwhile is rebuilt with the new reducer');
is(value(q{SELECT eduai.projection_state('inline', 'u-open')}), '{"count": 1}', 'its states are those of the new one');
clear();
value(q{SELECT eduai.test_pause('projections-positioned', true)});
$session->send(q{SELECT eduai.rebuild_projection('inline');});
wait_until(sub { value(q{SELECT eduai.test_paused('projections-positioned')}) eq '1' }, 30, 'a rebuild is at work again');
value(q{SELECT eduai.drop_projection('inline')});
value(q{SELECT eduai.test_pause('projections-positioned', false)});
like($session->answer(60), qr/ERROR:  42704/, 'who waits for one that is dropped is told');
$session->quit;
wait_until(sub { value(q{SELECT count(*) FROM eduai.projection_state WHERE projection NOT IN (SELECT projection FROM eduai.projection) AND projection >= 100}) eq '0' }, 30, 'its states are deleted');
wait_until(sub { value(q{SELECT count(*) FROM eduai.projection_generation WHERE projection NOT IN (SELECT projection FROM eduai.projection) AND projection >= 100}) eq '0' }, 30, 'and it is forgotten');
is(value(q{SELECT count(*) FROM eduai.health_problems()}), '0', 'nothing is wrong');

# ---- without a worker ----

value('ALTER SYSTEM SET max_worker_processes = 5');
$node->restart;
wait_until(sub { value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('eduai launcher', 'eduai dispatcher', 'eduai projector', 'eduai keeper', 'logical replication launcher')}) eq '5' },
	20, 'all places are taken');
like(failure(q{SELECT eduai.rebuild_projection('async');}), qr/^53000: could not start a process to rebuild projection "async"/, 'without a free worker it says so');
$node->stop;
done_testing();
