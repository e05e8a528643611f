# A crash at each place where an anonymisation commits, or is about to, changes
# nothing: two tenants have the same events; one is anonymised in one go, the other
# with a kill -9 at every such place. Afterwards both have the same learners, each
# with the same events, but for the names.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on', 'eduai.compact_after' => 0, autovacuum => 'off' });

sub value { return $node->safe_psql('postgres', $_[0]) }
sub of_tenant { return value("SET eduai.tenant = '$_[0]'; $_[1]") }

sub keys_of_names { return scalar(my @files = glob($node->data_dir . '/pgsql_tmp_eduai_anonymise.*')) }

value(q{
	DO $$ BEGIN PERFORM eduai.allow_tenant(current_user, 'calm'), eduai.allow_tenant(current_user, 'stormy'); END $$;
	CREATE FUNCTION everything() RETURNS SETOF eduai.event_record LANGUAGE plpgsql AS $$
	DECLARE r eduai.event_record; p bigint := 0; n int;
	BEGIN
		LOOP
			n := 0;
			FOR r IN SELECT * FROM eduai.read_all(p, 1000) LOOP n := n + 1; p := r.position; RETURN NEXT r; END LOOP;
			EXIT WHEN n = 0;
		END LOOP;
	END $$;
	-- what each learner has, whatever his name: his events in their order
	CREATE VIEW learners AS
		SELECT string_agg(concat_ws('|', split_part(stream, '-', 1), event_type, version, CASE WHEN event_type <> 'young' THEN occurred_at END, data, metadata), E'\n' ORDER BY stream, version) AS has
		FROM everything() GROUP BY coalesce(user_id, stream);
	CREATE TABLE calm (has text);
});

# Two segments and hot events, all old, of 30 learners and of nobody; and young ones.
my ($events, $old) = (0, 0);
for my $part (0 .. 2)
{
	for my $tenant ('calm', 'stormy')
	{
		of_tenant($tenant, qq{
			SELECT eduai.append_batch(array_agg(CASE WHEN i % 11 = 0 THEN 'room-' || i % 3 ELSE 'learner-pupil' || i % 30 END), array_agg('tried'::text),
				array_agg(jsonb_build_object('skill', 'skill ' || i % 7, 'score', i % 13, 'said', 'words of pupil' || i % 30)),
				array_agg(CASE WHEN i % 11 = 0 THEN NULL ELSE 'pupil' || i % 30 END), array_agg('lesson ' || i % 40), NULL,
				array_agg(timestamptz '2020-01-01 01:00+00' + i * interval '3 hours')) FROM generate_series($part * 300, $part * 300 + 299) i;
			SELECT eduai.append_event('learner-pupil4', 'young', '{"said": "words"}', user_id => 'pupil4');});
	}
	value(q{SELECT eduai.compact_events('0 s')}) if $part < 2;
	$old += 300;
	$events += 301;
}

is(of_tenant('calm', q{SELECT eduai.anonymise_events('2 years')}), $old, 'one tenant in one go');
is(keys_of_names(), 0, 'its key is gone');
of_tenant('calm', q{INSERT INTO calm SELECT has FROM learners});
cmp_ok(value(q{SELECT count(DISTINCT has) FROM calm}), '>=', 34, 'its learners are unlike each other');

# Where it is killed, by way of which points; how many events are named anew then,
# and whether the key of the names is there.
my @places = (
	[ 0, 0, 'events-compact-written' ],
	[ 0, 0, 'events-compact-deleted' ],
	[ 0, 1, 'privacy-anonymise-counted' ],
	[ 0, 1, 'privacy-anonymise-segment' ],
	[ 0, 1, 'privacy-anonymise-written' ],
	[ 300, 1, 'privacy-anonymise-written', 'privacy-anonymise-segment' ],
	[ 300, 1, 'privacy-anonymise-written' ],
	[ 900, 1, 'privacy-anonymise-ended' ]);

sub named { return of_tenant('stormy', q{SELECT count(*) FROM everything() WHERE session_id LIKE 'anon-%'}) }

for my $place (@places)
{
	my ($named, $keys, @points) = @$place;
	my $control = EduaiSession->new($node);
	my $caller = EduaiSession->new($node);
	my $last;
	$caller->ask(q{SET eduai.tenant = 'stormy';});
	for my $point (@points)
	{
		$control->ask("SELECT eduai.test_pause('$point', true);");
		$last ? $control->ask("SELECT eduai.test_pause('$last', false);") : $caller->send(q{SELECT eduai.anonymise_events('2 years');});
		wait_until(sub { $control->ask("SELECT eduai.test_paused('$point');") eq '1' }, 20, "$point is reached");
		$last = $point;
	}
	is(named(), $named, "@points: $named are named anew");
	is(keys_of_names(), $keys, $keys ? 'the key is there' : 'no key yet');
	kill_server($node);
	$node->start;
	is(named(), $named, 'the same after kill -9');
}

is(of_tenant('stormy', q{SELECT eduai.anonymise_events('2 years')}), '0', 'nothing is left to do');
is(keys_of_names(), 0, 'the key is gone');
is(of_tenant('stormy', q{SELECT count(*) FROM everything()}), $events, 'no event is lost or there twice');
is(of_tenant('stormy', q{
	SELECT count(*) FROM (SELECT has, count(*) AS n FROM learners GROUP BY has) s FULL JOIN (SELECT has, count(*) AS n FROM calm GROUP BY has) c USING (has)
	WHERE s.n IS DISTINCT FROM c.n}), '0', 'each learner has what he has where nothing crashed, under one name');
is(value(q{SELECT count(*) FROM eduai.anonymise_run}), '0', 'no run is left');
$node->stop;
done_testing();
