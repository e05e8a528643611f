# Events that a reducer cannot fold: the projector goes on with the rest, tries
# again by itself, and then a person is told.  What a reducer may not do: take
# longer than it is given, keep locks, fail what eduai itself writes.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on' });

sub value { return $node->safe_psql('postgres', $_[0]) }

value(q{
	CREATE SCHEMA app;
	CREATE TABLE app.refused (v int);
	CREATE FUNCTION app.collect(state jsonb, e eduai.event_record) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		IF EXISTS (SELECT FROM app.refused r WHERE r.v = (e.data -> 'v')::int) THEN
			RAISE 'refused %', e.data -> 'v';
		END IF;
		IF e.data ->> 'do' = 'lock' THEN
			PERFORM pg_advisory_lock(27);
		ELSIF e.data ->> 'do' = 'sleep' THEN
			LOOP
				BEGIN
					PERFORM pg_sleep(60);
				EXCEPTION WHEN query_canceled THEN
					NULL;
				END;
			END LOOP;
		END IF;
		RETURN state || jsonb_build_array(e.data -> 'v');
	END $$;
	CREATE FUNCTION app.count(state jsonb, e eduai.event_record) RETURNS jsonb LANGUAGE sql AS
		$$SELECT jsonb_build_object('n', coalesce((state -> 'n')::int, 0) + 1)$$});

# appends data.v for a learner
sub add
{
	my ($who, @values) = @_;
	value("SELECT eduai.append_batch(array_agg('l-$who'::text), array_agg('x'::text), array_agg(jsonb_build_object('v', v)), array_agg('$who'::text)) FROM unnest('{" . join(',', @values) . "}'::int[]) AS v");
}

sub state { return value("SELECT eduai.projection_state('$_[0]', '$_[1]')") }

sub parked { return value("SELECT key, version, error, tries, next_try_at IS NULL, waiting FROM eduai.parked_event WHERE projection = '$_[0]' ORDER BY key") }

sub live
{
	my ($name) = @_;
	wait_until(sub { value("SELECT g.live > 0 AND g.next = 0 FROM eduai.projection p JOIN eduai.projection_generation g USING (projection) WHERE p.name = '$name'") eq 't' },
		30, "$name is live");
}

# All that there is of a projection's live states.
sub states
{
	return value("SELECT s.tenant_id, s.key, s.version, s.last_at, s.parked, s.state FROM eduai.projection_state s JOIN eduai.projection p USING (projection)
		JOIN eduai.projection_generation g USING (projection) WHERE p.name = '$_[0]' AND s.generation = g.live ORDER BY 1, 2");
}

# a time limit for tries: the clock is put forward, the projector told
my $shift = 0;
sub later
{
	$shift += $_[0];
	value("SELECT eduai.test_clock(interval '$shift s')");
	$node->reload;
}

# ---- async: history and what comes ----

add('ana', 1 .. 5);
value('INSERT INTO app.refused VALUES (3)');
value(q{SELECT eduai.create_projection('seen', 'app.collect(jsonb, eduai.event_record)', initial => '[]', lanes => 2)});
add('ben', 1, 2);
wait_until(sub { state('seen', 'ben') eq '[1, 2]' && parked('seen') ne '' }, 30, 'the others go on');
is(state('seen', 'ana'), '[1, 2]', 'a state has no hole');
like(parked('seen'), qr/^ana\|3\|refused 3\|\d\|.\|2$/, 'the event is parked, the others wait behind it');
is(value(q{SELECT "position" = (SELECT r."position" FROM eduai.read_all() r WHERE r.event_id = p.event_id) FROM eduai.parked_event p}), 't', 'with its position');
add('ana', 6);
add('ben', 4);
wait_until(sub { state('seen', 'ben') eq '[1, 2, 4]' && parked('seen') =~ /\|3$/ }, 30, 'later ones come behind');

# ---- it tries by itself, and then no more ----

wait_until(sub { parked('seen') =~ /\|2\|f\|3$/ }, 30, 'it is tried again');
later(60);
wait_until(sub { parked('seen') =~ /\|3\|t\|3$/ }, 30, 'after three tries it waits for a person');
is(value(q{SELECT severity || ': ' || detail FROM eduai.health_problems() WHERE code = 'projection_parked'}),
	'warning: Events that projection "seen" could not fold: 1.', 'who is told');
is(value(q{SELECT eduai.health() ->> 'status'}), 'degraded', 'by the status, too');
later(3600);
add('cleo', 1);
wait_until(sub { state('seen', 'cleo') eq '[1]' }, 30, 'the projector has been there');
is(parked('seen'), 'ana|3|refused 3|3|t|3', 'it was left alone');
value('TRUNCATE app.refused');
is(value(q{SELECT eduai.retry_parked('seen')}), 4, 'the person mends the reducer and tries');
is(state('seen', 'ana'), '[1, 2, 3, 4, 5, 6]', 'in the order of the log');
is(value(q{SELECT count(*) FROM eduai.health_problems() WHERE code = 'projection_parked'}), 0, 'all is well');
add('ana', 7);
wait_until(sub { state('seen', 'ana') eq '[1, 2, 3, 4, 5, 6, 7]' }, 30, 'the key goes on');

# mended before its time: nobody has to do anything
value('INSERT INTO app.refused VALUES (8)');
add('ana', 8, 9);
wait_until(sub { parked('seen') ne '' }, 30, 'another one is parked');
value('TRUNCATE app.refused');
later(60);
wait_until(sub { state('seen', 'ana') eq '[1, 2, 3, 4, 5, 6, 7, 8, 9]' }, 30, 'it is folded by itself');
is(parked('seen'), '', 'nothing waits');

# ---- the tenant that the event is of, in a process that acts for none ----

value(q{
	SELECT eduai.allow_tenant('postgres', 'default'), eduai.allow_tenant('postgres', 'north');
	CREATE FUNCTION app.whose(state jsonb, e eduai.event_record) RETURNS jsonb LANGUAGE sql AS
		$$SELECT to_jsonb(current_setting('eduai.tenant') || ' ' || eduai.current_tenant())$$;
	SELECT eduai.create_projection('whose', 'app.whose(jsonb, eduai.event_record)', 'stream', event_types => '{w}');
	SET eduai.tenant = 'north';
	SELECT eduai.append_event('w', 'w')});
wait_until(sub { value(q{SET eduai.tenant = 'north'; SELECT eduai.projection_state('whose', 'w')}) eq '"north north"' }, 30, 'the reducer has the tenant');
value(q{SELECT eduai.append_event('w', 'w')});
wait_until(sub { state('whose', 'w') eq '"default default"' }, 30, 'as has that of another');
value(q{SELECT eduai.drop_projection('whose')});

# ---- inline, too ----

value(q{SELECT eduai.create_projection('now', 'app.collect(jsonb, eduai.event_record)', mode => 'inline', initial => '[]')});
live('now');
value('INSERT INTO app.refused VALUES (20)');
add('dora', 20, 21);
value('TRUNCATE app.refused');
later(60);
wait_until(sub { state('now', 'dora') eq '[20, 21]' && state('seen', 'dora') eq '[20, 21]' }, 30, 'an inline projection is tried by itself');

# ---- what is skipped stays out; a rebuild makes the same states ----

value('INSERT INTO app.refused VALUES (31), (33)');
add('eve', 30 .. 34);
wait_until(sub { parked('seen') =~ /^eve/ && parked('now') =~ /^eve/ }, 30, 'in both');
is(value(qq{SELECT eduai.skip_parked('$_', event_id) FROM eduai.parked_event WHERE projection = '$_'}), 1, "$_: skipped") foreach qw(seen now);
is(state($_, 'eve'), '[30, 32]', "$_: up to the next") foreach qw(seen now);
value('TRUNCATE app.refused');
value(qq{SELECT eduai.retry_parked('$_')}) foreach qw(seen now);
is(state($_, 'eve'), '[30, 32, 33, 34]', "$_: all but the one that was skipped") foreach qw(seen now);
foreach my $name (qw(seen now))
{
	my $before = states($name);
	value("SELECT eduai.rebuild_projection('$name')");
	is(states($name), $before, "$name: rebuilt, it is the same");
	like($before, qr/^default\|eve\|4\|/m, "$name: there was something");
}
# what a rebuild cannot fold is parked beside it, and does not stop it
value('INSERT INTO app.refused VALUES (31), (32)');
value("SELECT eduai.rebuild_projection('seen')");
is(state('seen', 'eve'), '[30]', 'up to there');
like(parked('seen'), qr/^eve\|3\|refused 32\|\d\|.\|2$/, 'the skipped one is passed over, the others wait');
value('TRUNCATE app.refused');
is(value(q{SELECT eduai.retry_parked('seen')}), 3, 'and are folded');
is(state('seen', 'eve'), '[30, 32, 33, 34]', 'the same states again');

# ---- an alteration shows only when it is complete ----

my $open = EduaiSession->new($node);
$open->ask(q{BEGIN; SELECT version FROM eduai.append_event('open', 'x', '{"v": 0}');});
value(q{SELECT eduai.alter_projection('now', 'app.count(jsonb, eduai.event_record)', initial => '{"n": 100}', schema_version => 2)});
add('ana', 40);
is(state('now', 'ana'), '[1, 2, 3, 4, 5, 6, 7, 8, 9, 40]', 'until then the old reducer goes on');
$open->ask('COMMIT;');
wait_until(sub { state('now', 'ana') eq '{"n": 110}' }, 30, 'then all is of the new one');
add('ana', 41);
is(state('now', 'ana'), '{"n": 111}', 'as are later events');
live('now');
value(q{SELECT eduai.alter_projection('now', event_types => '{y}')});
wait_until(sub { state('now', 'ana') eq '' }, 30, 'another choice of events');
value(q{SELECT eduai.append_event('l-ana', 'y', '{}', 'ana')});
is(state('now', 'ana'), '{"n": 101}', 'what was altered before stays so');
$open->quit;

# the projector is woken before the invalidations of the commit that woke it have left
value(q{SELECT eduai.test_pause('commit-after-wake', true)});
my $altering = EduaiSession->new($node);
$altering->send(q{SELECT eduai.alter_projection('now', initial => '{"n": 200}');});
wait_until(sub { state('now', 'ana') eq '{"n": 201}' }, 30, 'the projector has seen the change');
value(q{SELECT eduai.test_pause('commit-after-wake', false)});
$altering->answer(10);
$altering->quit;
live('now');

# ---- the time that a reducer has ----

value(q{SELECT eduai.drop_projection('now')});
value(q{ALTER SYSTEM SET eduai.reducer_timeout = '200ms'});
$node->reload;
wait_until(sub { value('SHOW eduai.reducer_timeout') eq '200ms' }, 10, 'the limit is set');
value(q{SELECT eduai.create_projection('timed', 'app.collect(jsonb, eduai.event_record)', 'stream', 'inline', initial => '[]', event_types => '{z}')});
live('timed');
is(value(q{SET statement_timeout = '30s'; SELECT version FROM eduai.append_event('t', 'z', '{"v": 1, "do": "sleep"}')}), 1, 'an append outlives a reducer that does not end');
is(value(q{SELECT sqlstate FROM eduai.parked_event WHERE projection = 'timed'}), '57014', 'which is parked');
value(q{SELECT eduai.append_event('u', 'z', '{"v": 2}', 'una'), eduai.append_event('u', 'z', '{"v": 3, "do": "lock"}', 'una')});
wait_until(sub { state('seen', 'una') eq '[2, 3]' }, 30, 'the projector folded one that locks');
is(value(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 27 AND objsubid = 1}), 0, 'and keeps no lock');

my (undef, undef, $cut) = $node->psql('postgres', q{SET statement_timeout = '1s'; SELECT version, pg_sleep(20) FROM eduai.append_event('t2', 'z', '{"v": 1}')});
like($cut, qr/canceling statement due to statement timeout/, "the session's own limit goes on after a fold");

# an upcaster is a user's function, too
value(q{
	CREATE FUNCTION app.up(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN RAISE 'not up'; END$$;
	SELECT eduai.register_event_type('z', schema_version => 2), eduai.register_upcaster('z', 1, 'app.up(jsonb)')});
is(value(q{SELECT eduai.retry_parked('timed')}), 0, 'an upcaster that raises');
is(value(q{SELECT error FROM eduai.parked_event WHERE projection = 'timed'}), 'not up', 'is why the event is parked now');
value(q{CREATE OR REPLACE FUNCTION app.up(data jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT data - 'do'$$});
is(value(q{SELECT eduai.retry_parked('timed')}), 1, 'one that is mended');
is(state('timed', 't'), '[1]', 'gives the reducer the new data');

# ---- what eduai itself writes is never refused ----

value(q{
	CREATE FUNCTION app.never(state jsonb, e eduai.event_record) RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN RAISE 'never' USING ERRCODE = '40001'; END$$;
	SELECT eduai.create_projection('never', 'app.never(jsonb, eduai.event_record)', mode => 'inline', on_error => 'raise', event_types => '{ai_feedback_given}')});
live('never');
value(q{SET eduai.allow_mock = on; SELECT eduai.add_provider('m', 'mock', ''), eduai.add_instance('m', 'm', 'm')});
sub ask { return value(qq{SELECT eduai.enqueue('chat', '{"model": "m", "messages": [{"role": "user", "content": "x"}]}', user_id => nullif('$_[0]', ''))}) }
sub task { return value("SELECT state FROM eduai.get_task($_[0])") }
my $task = ask('vera');
wait_for_task($node, $task, "completed");
is(task($task), 'completed', 'a result is recorded');
is(value(q{SELECT key, error, sqlstate, waiting FROM eduai.parked_event WHERE projection = 'never'}), 'vera|never|40001|0', 'its event is parked');
# whoever has what a reducer, or its parking, would wait for holds nothing else up
value(q{
	CREATE TABLE app.gate ();
	CREATE FUNCTION app.waits(state jsonb, e eduai.event_record) RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN LOCK TABLE app.gate; RETURN '1'; END$$;
	SELECT eduai.create_projection('waits', 'app.waits(jsonb, eduai.event_record)', mode => 'inline', event_types => '{ai_feedback_given}')});
live('waits');
my $holder = EduaiSession->new($node);
$holder->ask(q{BEGIN; LOCK TABLE app.gate;});
$task = ask('xaver');
wait_for_task($node, $task, "completed");
is(value(q{SELECT key, sqlstate FROM eduai.parked_event WHERE projection = 'waits'}), 'xaver|55P03', 'a reducer that would wait is cut short');
$holder->ask('ROLLBACK; BEGIN;');
$holder->ask(q{SELECT eduai.retry_parked('never');});
$task = ask('vera');
my $other = ask('');
wait_for_task($node, $other, "completed");
is(task($other), 'completed', 'a result about nobody is recorded');
isnt(task($task), 'completed', 'one whose event would wait is not yet');
$holder->ask('ROLLBACK;');
$holder->quit;
wait_for_task($node, $task, "completed");
is(value(q{SELECT waiting FROM eduai.parked_event WHERE projection = 'never' AND key = 'vera'}), 1, 'then it is');
my ($status, $out, $err) = $node->psql('postgres', q{SELECT eduai.append_event('l-vera', 'ai_feedback_given', '{}', 'wim')});
like($err, qr/never/, "an application's is refused");

# ---- a handler of a result appends what a projection folds: a limit within a limit ----

value(q{
	CREATE FUNCTION app.handles(status eduai.task_status) RETURNS void LANGUAGE sql AS
		$$SELECT eduai.append_event('h', 'h', status.metadata, status.user_id)$$;
	SELECT eduai.create_projection('handled', 'app.collect(jsonb, eduai.event_record)', mode => 'inline', initial => '[]', event_types => '{h}')});
live('handled');
sub handled
{
	my ($who, $metadata) = @_;
	my $id = value(qq{SELECT eduai.enqueue('chat', '{"model": "m", "messages": [{"role": "user", "content": "x"}]}', user_id => '$who',
		metadata => '$metadata', on_result => 'app.handles')});
	wait_for_task($node, $id, 'completed');
	return value("SELECT coalesce(error -> 'on_result' ->> 'sqlstate', 'none') FROM eduai.get_task($id)");
}
is(handled('yan', '{"v": 1, "follow_up": false}'), 'none', 'it is folded');
is(state('handled', 'yan'), '[1]', 'into its state');
is(handled('zoe', '{"v": 2, "do": "sleep", "follow_up": false}'), 'none', 'a reducer that takes too long is stopped first');
is(value(q{SELECT key, sqlstate FROM eduai.parked_event WHERE projection = 'handled'}), 'zoe|57014', 'and its event parked');
value(q{ALTER SYSTEM SET eduai.reducer_timeout = '3s'});
$node->reload;
wait_until(sub { value('SHOW eduai.reducer_timeout') eq '3s' }, 10, 'the limit is raised');
my $versions = value(q{SELECT eduai.stream_version('h')});
is(handled('zoe', '{"v": 3, "follow_up": false}'), 'none', 'one that waits behind it does not run');
is(handled('yan', '{"v": 4, "do": "sleep", "follow_up": false}'), '57014', "with more time than the handler's it is stopped with that");
is(value(q{SELECT eduai.stream_version('h')}), $versions + 1, 'and its event is not there');
is(state('handled', 'yan'), '[1]', 'nor folded');

# ---- a reducer that is gone ----

# Nothing is wrong with the events: they wait in the log, and none is parked.
value(q{
	CREATE FUNCTION app.fleeting(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql AS
		$$ SELECT jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + 1) $$;
	SELECT eduai.create_projection('fleeting', 'app.fleeting(jsonb, eduai.event_record)', event_types => '{passing}');
	SELECT eduai.append_event('f', 'passing', user_id => 'flo');
});
wait_until(sub { state('fleeting', 'flo') eq '{"n": 1}' }, 20, 'it is folded while the reducer is there');
value(q{
	DROP FUNCTION app.fleeting(jsonb, eduai.event_record);
	SELECT count(eduai.append_event('f', 'passing', user_id => 'flo')) FROM generate_series(1, 3);
});
wait_until(sub { value(q{SELECT error FROM eduai.projection_status WHERE name = 'fleeting'}) =~ /does not exist/ }, 20, 'without it the projection stops and says why');
is(value(q{SELECT parked_events || ' ' || lag_events FROM eduai.projection_status WHERE name = 'fleeting'}), '0 3', 'no event is parked');
is(state('fleeting', 'flo'), '{"n": 1}', 'the state stays');
value(q{
	CREATE FUNCTION app.fleeting(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql AS
		$$ SELECT jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + 1) $$;
});
wait_until(sub { state('fleeting', 'flo') eq '{"n": 4}' }, 90, 'it goes on when the reducer is there again');

# ---- dropped: nothing is left ----

my $id = value(q{SELECT projection FROM eduai.projection WHERE name = 'seen'});
value(q{INSERT INTO app.refused VALUES (50)});
add('ana', 50);
wait_until(sub { parked('seen') ne '' }, 30, 'something is parked');
value(qq{SELECT eduai.drop_projection('$_')}) foreach qw(seen timed never waits handled fleeting);
wait_until(sub { value('SELECT (SELECT count(*) FROM eduai.projection_state WHERE projection >= 100) + (SELECT count(*) FROM eduai.projection_parked)
	+ (SELECT count(*) FROM eduai.projection_skipped) + (SELECT count(*) FROM eduai.projection_position WHERE projection >= 100)
	+ (SELECT count(*) FROM eduai.projection_generation WHERE projection >= 100) + (SELECT count(*) FROM eduai.projection_altered)') eq '0' }, 30, 'all of them are cleared away');

done_testing();
