# Automatic snapshots: the projector takes them when they are due, as the role
# that registered the reducer; one that fails concerns its stream only.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on' });

sub value { return $node->safe_psql('postgres', $_[0]) }

value(q{
	CREATE ROLE school;
	GRANT eduai_app TO school;
	SELECT eduai.allow_tenant('school', 'north');
	CREATE SCHEMA app AUTHORIZATION school;
	CREATE TABLE secret ();
	SET ROLE school;
	CREATE FUNCTION app.fold(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		IF event.data ? 'boom' THEN
			RAISE EXCEPTION 'boom at version %', event.version;
		END IF;
		RETURN jsonb_build_object('sum', coalesce((state ->> 'sum')::int, 0) + (event.data ->> 'n')::int,
			'versions', coalesce(state -> 'versions', '[]') || to_jsonb(event.version),
			'as', current_user || ' ' || current_setting('eduai.tenant') || ' ' || (event."position" IS NULL));
	END $$});

# As the application: its role and its tenant.
sub app { return value("SET ROLE school; SET eduai.tenant = 'north'; $_[0]") }

sub add
{
	my ($stream, $count) = @_;
	app("SELECT count(*) FROM generate_series(1, $count) AS n, LATERAL eduai.append_event('$stream', 'x', jsonb_build_object('n', n))");
}

sub version { return app("SELECT coalesce((SELECT version FROM eduai.load_snapshot('$_[0]', " . ($_[1] // 1) . ')), 0)') }

sub wait_for_version
{
	my ($stream, $version, $schema_version) = @_;
	return wait_until(sub { version($stream, $schema_version) == $version }, 20, "$stream has a snapshot at version $version");
}

sub status { return app("SELECT $_[0] FROM eduai.snapshot_status WHERE category = 'c'") }

# Until the projector has done what is to be done by now.
sub settled
{
	add('settle-1', 1);
	wait_for_version('settle-1', app(q{SELECT eduai.stream_version('settle-1')}));
}
app(q{CREATE FUNCTION app.settle(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
	SELECT eduai.snapshot_streams('settle', 'app.settle(jsonb, eduai.event_record)', 1)});

# ---- existing streams, and new events ----

add('c-1', 25);
add('c-2', 9);
add('d-1', 40);
app(q{SELECT eduai.snapshot_streams('c', 'app.fold(jsonb, eduai.event_record)', 10)});
ok(wait_for_version('c-1', 20), 'an existing stream gets its snapshot');
settled();
is(version('c-2') . ' ' . version('d-1'), '0 0', 'one with too few events does not, nor another category');
is(app(q{SELECT state ->> 'sum', jsonb_array_length(state -> 'versions'), state ->> 'as' FROM eduai.load_snapshot('c-1')}),
	'210|20|school north true', 'each event once, as the registrant, for the tenant');

add('c-2', 1);
ok(wait_for_version('c-2', 10), 'an append that makes one due wakes the projector');
add('c-1', 120);
ok(wait_for_version('c-1', 140), 'from the last snapshot on');
is(app(q{SELECT jsonb_array_length(state -> 'versions'), state -> 'versions' -> 139 FROM eduai.load_snapshot('c-1')}), '140|140', 'without a gap or a repetition');

my $row = value(q{SELECT xmin, position FROM eduai.snapshot_rule WHERE category = 'c'});
add('c-2', 5);
settled();
is(value(q{SELECT xmin, position FROM eduai.snapshot_rule WHERE category = 'c'}), $row, 'nothing due writes nothing');

# many at once, in one transaction
app(q{SELECT eduai.append_batch(array_agg('c-many' || n % 150), array_agg('x'::text), array_agg(jsonb_build_object('n', 1))) FROM generate_series(1, 1500) AS n});
wait_until(sub { app(q{SELECT count(*) FROM generate_series(0, 149) AS n, LATERAL eduai.load_snapshot('c-many' || n) AS s WHERE s.version = 10}) == 150 }, 30, 'all of them');
pass('150 streams that are due at once');

# ---- failures ----

app(q{SELECT eduai.append_event('c-bad', 'x', '{"n": 1, "boom": true}')});
add('c-bad', 9);
add('c-good', 10);
ok(wait_for_version('c-good', 10), 'another stream goes on');
is(version('c-bad'), '0', 'the stream whose reducer raises does not');
is(status('failed_streams, last_error'), '1|boom at version 1', 'the status tells');
like(slurp_file($node->logfile), qr/WARNING:  could not take a snapshot of stream "c-bad" at version 10\n.*DETAIL:  Reducer app.fold: boom at version 1/, 'and the log');
value(q{ALTER FUNCTION app.fold(jsonb, eduai.event_record) RENAME TO broken; SET ROLE school;
	CREATE FUNCTION app.fold(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql AS
		$$ SELECT jsonb_build_object('sum', coalesce((state ->> 'sum')::int, 0) + (event.data ->> 'n')::int) $$});
add('c-bad', 10);
ok(wait_for_version('c-bad', 20), 'tried again at the next one due');
is(status('failed_streams, last_error'), '0|', 'and forgotten');

# what the registrant may not do, the reducer may not
value(q{SET ROLE school; CREATE OR REPLACE FUNCTION app.fold(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(count(*)) FROM public.secret $$});
add('c-bad', 10);
wait_until(sub { status('last_error') =~ /permission denied for table secret/ }, 20, 'it is refused');
value(q{SET ROLE school; CREATE OR REPLACE FUNCTION app.fold(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb'});
add('c-bad', 10);
wait_until(sub { status('last_error') =~ /returned null/ }, 20, 'nor return null');
# a reducer that will not end, and catches its cancellation
value(q{SET ROLE school; CREATE OR REPLACE FUNCTION app.fold(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		LOOP
			BEGIN
				PERFORM pg_sleep(60);
			EXCEPTION WHEN query_canceled THEN
				NULL;
			END;
		END LOOP;
	END $$});
add('c-bad', 10);
wait_until(sub { status('last_error') =~ /canceling statement/ }, 40, 'it is ended');
pass('a reducer that raises, returns null or does not end');

# ---- another schema version, another registration ----

value(q{SET ROLE school; CREATE FUNCTION app.count(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(state::int + 1) $$});
app(q{SELECT eduai.snapshot_streams('c', 'app.count(jsonb, eduai.event_record)', 5, '1000', 2)});
wait_for_version('c-1', 145, 2);
is(app(q{SELECT state FROM eduai.load_snapshot('c-1', 2)}), '1145', 'another schema version starts from the initial state');
is(app(q{SELECT version FROM eduai.load_snapshot('c-1')}), '140', 'the old one stays');
is(status('failed_streams, last_error IS NULL'), '0|t', 'without the failures of the one before');

# the backlog is done, so that the role is missed by the rule and not by a stream
wait_until(sub { app(q{SELECT count(*) FROM generate_series(0, 149) AS n, LATERAL eduai.load_snapshot('c-many' || n, 2) AS s WHERE s.version = 10}) == 150 }, 30, 'all of them');
settled();
value('ALTER ROLE school RENAME TO other');
value(q{SET ROLE other; SET eduai.tenant = 'default'});
value(q{SELECT eduai.allow_tenant('other', 'north')});
value(q{SET ROLE other; SET eduai.tenant = 'north'; SELECT count(*) FROM generate_series(1, 5) AS n, LATERAL eduai.append_event('c-1', 'x', jsonb_build_object('n', n))});
wait_until(sub { value(q{SELECT coalesce(error, '') FROM eduai.snapshot_rule WHERE category = 'c'}) eq 'role "school" does not exist' }, 20, 'the role is missed');
value('ALTER ROLE other RENAME TO school');
add('c-1', 5);
ok(wait_for_version('c-1', 155, 2), 'a role that comes back is found again');
is(status('last_error IS NULL'), 't', 'and its error gone');

# a restart goes on where it was, and a registration outlives it
$node->restart;
add('c-1', 5);
ok(wait_for_version('c-1', 160, 2), 'after a restart');

app(q{SELECT eduai.unsnapshot_streams('c')});
add('c-1', 20);
settled();
is(version('c-1', 2), '160', 'ended');

# ---- a rule that is being changed does not hold up the projector ----

my $holder = EduaiSession->new($node);
app(q{SELECT eduai.snapshot_streams('e', 'app.count(jsonb, eduai.event_record)', 1, '0')});
$holder->ask(q{SET ROLE school; SET eduai.tenant = 'north'; BEGIN; SELECT eduai.unsnapshot_streams('e');});
settled() for 1 .. 2;
unlike(slurp_file($node->logfile), qr/lock timeout/, 'the projector does not wait for it');
$holder->ask('ROLLBACK;');
add('e-1', 1);
ok(wait_for_version('e-1', 1), 'a locked rule waits its turn');
# nor does a stream that an application is saving itself
$holder->ask(q{BEGIN; SELECT eduai.save_snapshot('e-1', 1, '5');});
add('e-1', 1);
settled();
is(version('e-1'), 1, 'a stream that an application saves is left to it');
$holder->ask('COMMIT;');
add('e-1', 1);
ok(wait_for_version('e-1', 3), 'until the next time');
is(app(q{SELECT state FROM eduai.load_snapshot('e-1')}), '7', 'which goes on from what it saved');

$holder->quit;
$node->stop('fast');
done_testing();
