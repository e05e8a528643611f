# Following the feed: each event is folded exactly once and in order, whoever is
# killed at whatever point; helpers take part; one projection's failure is its own;
# and with nothing to do nobody wakes.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seed = test_seed();
my $rounds = $ENV{EDUAI_KILLS} // 100;
my $node = new_node(conf => {
	'eduai.test_mode' => 'on', 'eduai.sweep_interval' => '1s', 'eduai.projection_helpers' => 2, autovacuum => 'off' });

sub value { return $node->safe_psql('postgres', $_[0]) }

# The reducer's state depends on each event and on their order; the aggregate is
# the same fold in SQL.
value(q{
	CREATE SCHEMA app;
	CREATE FUNCTION app.link(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		RETURN jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + 1,
			'chain', md5(coalesce(state ->> 'chain', '') || event.event_id || event.version || (event.data ->> 'i')));
	END $$;
	CREATE AGGREGATE app.chain(eduai.event_record) (sfunc = app.link, stype = jsonb, initcond = '{}');
	CREATE FUNCTION app.log() RETURNS SETOF eduai.event_record LANGUAGE plpgsql AS $$
	DECLARE
		at bigint := 0;
		before bigint;
		r eduai.event_record;
	BEGIN
		LOOP
			before := at;
			FOR r IN SELECT * FROM eduai.read_all(at, 10000) LOOP
				at := r."position";
				RETURN NEXT r;
			END LOOP;
			EXIT WHEN at = before;
		END LOOP;
	END $$;
	CREATE FUNCTION app.differences(name text) RETURNS bigint LANGUAGE sql AS $$
		WITH p AS (SELECT p.projection, p.key, p.event_types, g.live FROM eduai.projection p
				JOIN eduai.projection_generation g USING (projection) WHERE p.name = differences.name),
			folded AS (SELECT CASE p.key WHEN 'stream' THEN e.stream ELSE e.user_id END AS key,
				app.chain(e::eduai.event_record ORDER BY e."position") AS state, count(*) AS version
				FROM p, app.log() e WHERE p.event_types IS NULL OR e.event_type = ANY (p.event_types) GROUP BY 1)
		SELECT count(*) FROM (SELECT * FROM folded WHERE key IS NOT NULL) f
			FULL JOIN (SELECT s.key, s.state, s.version FROM p JOIN eduai.projection_state s
				ON s.projection = p.projection AND s.generation = p.live AND s.tenant_id = 'default') s USING (key)
		WHERE f.state IS DISTINCT FROM s.state OR f.version IS DISTINCT FROM s.version
	$$;
	SELECT eduai.create_projection('by_user', 'app.link(jsonb, eduai.event_record)', lanes => 4);
	SELECT eduai.create_projection('by_stream', 'app.link(jsonb, eduai.event_record)', key => 'stream', event_types => '{b,c}');
});

my $appended = 0;

# N events of three types to 50 streams about 40 learners, one in ten about nobody.
sub append
{
	my ($n) = @_;
	$appended += $n;
	return value(qq{
		SELECT eduai.append_batch(array_agg('s-' || (random() * 49)::int), array_agg(substr('abc', 1 + i % 3, 1)),
			array_agg(jsonb_build_object('i', i)), user_ids => array_agg(CASE WHEN i % 10 > 0 THEN 'u-' || (random() * 39)::int END))
		FROM generate_series(1, $n) i});
}

sub lag { return try_query($node, q{SELECT coalesce(sum(lag_events), 0) FROM eduai.projection_status WHERE mode = 'async'}) // 'down' }

sub caught_up { return wait_until(sub { lag() eq '0' }, 90, 'all have caught up') }

sub check
{
	my ($what) = @_;
	caught_up();
	is(value(q{SELECT count(*) FROM app.log()}), $appended, "$what: the log has what was appended");
	is(value(q{SELECT app.differences('by_user') || ' ' || app.differences('by_stream')}), '0 0', "$what: each key's state is the fold of its events");
	return;
}

sub pids { return split /\n/, try_query($node, q{SELECT pid FROM pg_stat_activity WHERE backend_type IN } . $_[0] . q{ AND state = 'active'}) // '' }

# ---- killed a hundred times ----

append(500);
check('at first');

# A process at one of the step's points is killed, or everybody is.
my @points = qw(projections-folded projections-positioned projections-committed);
my $in_flight = 0;

for my $round (1 .. $rounds)
{
	my $point = $points[ int rand @points ];
	value("SELECT eduai.test_pause('$point', true)");
	append(100 + int rand 400);
	wait_until(sub { (try_query($node, "SELECT eduai.test_paused('$point')") // 0) > 0 }, 60, "round $round: a step is at $point");
	my @at = pids(q{('eduai projector', 'eduai helper')});
	$in_flight++ if @at && value("SELECT eduai.test_paused('$point')") > 0;
	if ($round % 8 == 0) { kill_server($node); $node->start }
	else
	{
		kill 'KILL', $at[ int rand @at ];
		wait_until(sub { !kill 0, $at[0] }, 20, 'the killed process and its like are gone');
	}
	wait_until(sub { defined try_query($node, 'SELECT 1') }, 60, 'the server is back');
	check("after $round kills, seed $seed") if $round % 20 == 0;
}
is($in_flight, $rounds, 'each kill met a step in flight');
check('at last');
is(value(q{SELECT string_agg(n || ' ' || folded, ', ' ORDER BY n) FROM (SELECT p.name AS n, sum(o.events) AS folded
		FROM eduai.projection p JOIN eduai.projection_position o USING (projection) GROUP BY 1) x}),
	value(q{SELECT 'by_stream ' || count(*) FILTER (WHERE event_type IN ('b', 'c')) || ', by_user ' || count(user_id) FROM app.log()}),
	'the positions count each event once');
is(value(q{SELECT count(DISTINCT lane) FROM eduai.projection_position WHERE tenant_id = 'default'}), '4', 'four lanes took part');

# ---- terminated ----

my ($projector) = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'eduai projector'});
append(2000);
value("SELECT pg_terminate_backend($projector)");
check('after a termination');

# ---- helpers ----

sub helpers { return value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'eduai helper' AND datname = current_database()}) }

value(q{SELECT eduai.test_pause('projections-folded', true)});
append(30000);
wait_until(sub { value(q{SELECT eduai.test_paused('projections-folded')}) eq '1' }, 30, 'the projector is at work');
value(q{SELECT eduai.test_pause('projections-folded', false)});
my $seen = wait_until(sub { my $n = helpers(); $n > 0 && $n }, 30, 'a helper takes part');
cmp_ok($seen, '<=', 2, 'no more than the setting allows');
value(q{SELECT eduai.test_pause('projections-positioned', true)});
wait_until(sub { value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'eduai helper'}) > 0
		&& value(q{SELECT eduai.test_paused('projections-positioned')}) > 0 }, 60, 'a helper is in a step');
value(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'eduai helper'});
value(q{SELECT eduai.test_pause('projections-positioned', false)});
check('after helpers were terminated');
wait_until(sub { helpers() eq '0' }, 20, 'helpers end when they have caught up');

# stop_workers() sends helpers home, too.
append(30000);
wait_until(sub { helpers() > 0 || lag() eq '0' }, 30, 'helpers are at work');
my $session = EduaiSession->new($node);
my $start = time();
$session->ask('SELECT eduai.stop_workers();', 20);
cmp_ok(time() - $start, '<', 3, 'stop_workers() returns soon');
is(helpers(), '0', 'and no helper is left');
my $behind = lag();
append(10);
# two projections and the learner model
is(lag(), $behind + 30, 'nobody follows');
value('SELECT eduai.start_workers()');
check('after a stop');

# Without helpers the projector does it all.
value(q{ALTER SYSTEM SET eduai.projection_helpers = 0});
$node->reload;
append(30000);
check('without helpers');
value(q{ALTER SYSTEM RESET eduai.projection_helpers});
$node->reload;

# ---- a tenant that is new, and one with nothing wanted ----

value(q{SELECT eduai.allow_tenant(current_user, 'default'); SELECT eduai.allow_tenant(current_user, 'school')});
value(q{SET eduai.tenant = 'school'; SELECT eduai.append_batch('{x-1,x-1}', '{a,b}', '{"{\"i\":1}","{\"i\":2}"}', user_ids => '{z,z}')});
wait_until(sub { value(q{SELECT count(*) FROM eduai.projection_state WHERE tenant_id = 'school' AND projection >= 100}) eq '2' }, 20, 'a new tenant is followed');
is(value(q{SET eduai.tenant = 'school'; SELECT eduai.projection_state('by_user', 'z') ->> 'n'}), '2', 'its states are there');
wait_until(sub { value(q{SET eduai.tenant = 'school'; SELECT coalesce(sum(lag_events), 0) FROM eduai.projection_status}) eq '0' }, 20, 'it has caught up');

# ---- one that fails ----

# An upcaster that raises stops who wants its type, and nobody else.
value(q{
	CREATE FUNCTION app.raises(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;
	SELECT eduai.register_event_type('c', schema_version => 1);
});
append(30);
caught_up();
value(q{SELECT eduai.stop_workers()});
append(60);
value(q{
	SELECT eduai.register_event_type('c', schema_version => 2), eduai.register_upcaster('c', 1, 'app.raises(jsonb)');
	SELECT eduai.create_projection('only_a', 'app.link(jsonb, eduai.event_record)', event_types => '{a}');
	SELECT eduai.start_workers();
});
wait_until(sub { value(q{SELECT count(*) FROM eduai.projection_status WHERE error = 'not today'}) eq '3' }, 20, 'the projections that want the type stop');
like(value(q{SELECT string_agg(detail, ' ' ORDER BY detail) FROM eduai.health_problems() WHERE code = 'projection_failing'}),
	qr/^Projection "by_stream" stands still for tenant "default": not today \(SQLSTATE P0001\)\. Projection "by_user" /, 'health() says which, and why');
wait_until(sub { value(q{SELECT lag_events FROM eduai.projection_status WHERE name = 'only_a'}) eq '0' }, 60, 'the other goes on');
is(value(q{SELECT min(lag_events) >= 20 FROM eduai.projection_status WHERE error IS NOT NULL}), 't', 'those that stopped are behind');
value(q{CREATE OR REPLACE FUNCTION app.raises(data jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT data'});
check('once the cause is gone');
is(value(q{SELECT app.differences('only_a')}), '0', 'the one that went on is right');
wait_until(sub { value(q{SELECT count(*) FROM eduai.health_problems()}) eq '0' }, 20, 'and nothing is wrong');

# ---- nobody polls ----

sub wakes
{
	my ($kind) = @_;
	return value(qq{SELECT (w->>'wakes_by_latch')::bigint || ' ' || (w->>'wakes_by_timeout')::bigint
		FROM jsonb_path_query(eduai.health(), '\$.workers[*] ? (\@.worker == "$kind")') w});
}

sub sweeps
{
	my ($n) = @_;
	my ($at) = wakes('dispatcher') =~ / (\d+)/;
	wait_until(sub { (wakes('dispatcher') =~ / (\d+)/)[0] >= $at + $n }, 10 + 5 * $n, "$n sweeps");
}

wait_until(sub { my $w = wakes('projector'); sweeps(1); wakes('projector') eq $w }, 60, 'the projector is asleep');

# A helper that ends late, a mark for standbys: once, but not every five seconds.
my $before;
for (1 .. 4)
{
	$before = wakes('projector');
	sweeps(5);
	last if wakes('projector') eq $before;
}
is(wakes('projector'), $before, 'in five seconds nothing wakes it');
append(1);
caught_up();
my ($latches) = map { $_ - ($before =~ /^(\d+)/)[0] } wakes('projector') =~ /^(\d+)/;
cmp_ok($latches, '<=', 2, 'a commit wakes it once');
cmp_ok($latches, '>=', 1, 'and does wake it');

# Many commits do not signal one by one.
value(q{CREATE PROCEDURE app.many(n int) LANGUAGE plpgsql AS $$
	BEGIN FOR i IN 1 .. n LOOP PERFORM eduai.append_event('s-1', 'a', jsonb_build_object('i', i), 'u-1'); COMMIT; END LOOP; END $$});
sweeps(1);
($before) = wakes('projector') =~ /^(\d+)/;
value('CALL app.many(3000)');
$appended += 3000;
caught_up();
my ($after) = wakes('projector') =~ /^(\d+)/;
cmp_ok($after - $before, '<', 300, 'three thousand commits set its latch less than every tenth time');
check('in the end');

# An event behind an older transaction that is still about to commit is not
# forgotten: the older one is held, the younger commits and wakes the projector,
# which finds nothing to read.  Of another tenant, the older one marks only its own.
value(q{SELECT eduai.test_pause('events-drawn', true)});
my $older = EduaiSession->new($node);
my $pid = $older->backend_pid;
$older->ask(q{SET eduai.tenant = 'school';});
$older->send(q{SELECT version > 0 FROM eduai.append_event('s-2', 'a', '{"i": 1}');});
wait_until(sub { value(q{SELECT eduai.test_paused('events-drawn')}) eq '1' }, 20, 'a transaction has drawn its position');
kill 'STOP', $pid;
value(q{SELECT eduai.test_pause('events-drawn', false)});
($before) = wakes('projector') =~ /^(\d+)/;
value(q{SELECT eduai.append_event('s-3', 'a', '{"i": 2}', 'u-3')});
wait_until(sub { (wakes('projector') =~ /^(\d+)/)[0] > $before }, 20, 'the younger one wakes the projector');
wait_until(sub { my $w = wakes('projector'); sweeps(1); wakes('projector') eq $w }, 60, 'which sleeps again');
is(value(q{SELECT count(*) FROM eduai.read_all(0, 10000) WHERE stream = 's-3' AND data ->> 'i' = '2' AND event_type = 'a' AND recorded_at > now() - '5 s'::interval}), '0', 'the feed ends before both');
kill 'CONT', $pid;
is($older->answer(20), 't', 'the older one commits');
$older->quit;
$appended += 1;
check('with commits that overtake each other');

# ---- rows that are elsewhere ----

# The projector goes to where it last saw a key's row; when rows were deleted,
# another key's may stand there, or no page at all.
sub one_each
{
	my ($from, $to) = @_;
	value(qq{SELECT eduai.append_batch(array_agg('m-' || i), array_agg('m'::text), array_agg('{"i": 1}'::jsonb),
		user_ids => array_agg('m-' || to_char(i, 'FM0000'))) FROM generate_series($from, $to) i});
	$appended += $to - $from + 1;
	caught_up();
	return;
}

sub moved { return value(q{SELECT count(*) || ' ' || coalesce(max(version), 0) FROM eduai.projection_state s JOIN eduai.projection p USING (projection) WHERE p.name = 'moved'}) }

sub remove
{
	value(q{DELETE FROM eduai.projection_state s USING eduai.projection p WHERE p.projection = s.projection AND p.name = 'moved'});
	value('VACUUM eduai.projection_state');
	return;
}

value(q{SELECT eduai.create_projection('moved', 'app.link(jsonb, eduai.event_record)', event_types => '{m}')});
caught_up();
wait_until(sub { helpers() eq '0' }, 20, 'no helper has it');
one_each(1, 3000);
is(moved(), '3000 1', 'each key has its row');
my $pages = value(q{SELECT pg_relation_size('eduai.projection_state') / 8192});
remove();
cmp_ok(value(q{SELECT pg_relation_size('eduai.projection_state') / 8192}), '<', $pages, 'the rows are gone, and their pages');
one_each(2999, 3000);
is(moved(), '2 1', 'a row whose page is gone is made anew');
one_each(1501, 2998);
one_each(1, 1500);
is(moved(), '3000 1', "nobody takes another key's row for his");
is(value(q{SELECT count(*) FROM (SELECT DISTINCT ON (user_id) user_id, app.link('{}', e::eduai.event_record) AS state
		FROM app.log() e WHERE event_type = 'm' ORDER BY user_id, "position" DESC) l
	JOIN eduai.projection_state s ON s.key = l.user_id JOIN eduai.projection p USING (projection)
	WHERE p.name = 'moved' AND s.state = l.state}), '3000', 'and each has the state of its own last event');

$node->stop;
done_testing();
