# An erasure that comes while the learner's segment is being anonymised or compacted,
# and the other way round: nothing of the learner is left, and what others have is
# what they had.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on', 'eduai.compact_after' => 0, autovacuum => 'off' });

sub value { return $node->safe_psql('postgres', $_[0]) }

value(q{
	CREATE FUNCTION everything() RETURNS SETOF eduai.event_record LANGUAGE plpgsql AS $$
	DECLARE r eduai.event_record; p bigint := 0; n int;
	BEGIN
		LOOP
			n := 0;
			FOR r IN SELECT * FROM eduai.read_all(p, 1000) LOOP n := n + 1; p := r.position; RETURN NEXT r; END LOOP;
			EXIT WHEN n = 0;
		END LOOP;
	END $$;
	-- what each learner has, whatever his name; of what is recorded here anonymising takes the names only
	CREATE FUNCTION learners(type text) RETURNS TABLE (who text, has text) LANGUAGE sql AS $$
		SELECT user_id, string_agg(concat_ws('|', event_type, version, occurred_at, data, metadata), E'\n' ORDER BY version)
		FROM everything() WHERE event_type = type GROUP BY user_id $$;
	CREATE TABLE kept (type text, has text);
});

# Two segments and hot events of 20 learners and the victim, by days of long ago.
sub fill
{
	my ($case) = @_;
	for my $part (0 .. 2)
	{
		value(qq{
			SELECT eduai.append_batch(array_agg('learner-' || who), array_agg('$case'::text), array_agg(jsonb_build_object('skill', 'skill ' || i % 4, 'score', i % 23)),
				array_agg(who), NULL, NULL, array_agg(timestamptz '2020-01-01 00:00+00' + i / 6 * interval '1 day'))
			FROM generate_series($part * 210, $part * 210 + 209) i, LATERAL (SELECT '$case-' || CASE i % 21 WHEN 20 THEN 'victim' ELSE 'p' || i % 21 END) w (who)});
		value(q{SELECT eduai.compact_events('0 s')}) if $part < 2;
	}
	value(qq{INSERT INTO kept SELECT '$case', has FROM learners('$case') WHERE who <> '$case-victim'});
	return;
}

# For the lock of the tenant's blocks, 0xED19 as pg_locks shows it; or a job that gives way to an erasure.
my $waits = q{SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = -4839 AND NOT granted)
	OR EXISTS (SELECT FROM pg_stat_activity WHERE query = 'anonymise' AND wait_event = 'Extension')};

# The first one is held at its point, the other one is begun and waits, and the first goes on.
sub beside
{
	my ($case, $point, $first, $second) = @_;
	my $control = EduaiSession->new($node);
	my %session = map { $_ => EduaiSession->new($node) } 'first', 'second';
	fill($case);
	value("SELECT eduai.test_pause('$point', true)");
	$session{first}->send("SELECT count(x) FROM $first x;");
	wait_until(sub { value("SELECT eduai.test_paused('$point')") eq '1' }, 30, "$case: $point is reached");
	is(value(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = -4839 AND granted}), '1', "$case: the tenant's blocks are being written");
	$session{second}->send("SELECT count(x) FROM $second x;");
	wait_until(sub { value($waits) eq 't' }, 30, "$case: the second waits for the first");
	$control->ask("SELECT eduai.test_pause('$point', false);");
	is($session{$_}->answer(40), '1', "$case: the $_ succeeds") for 'first', 'second';
	wait_until(sub { value('SELECT count(*) FROM eduai.erasure WHERE completed_at IS NULL') eq '0' }, 40, "$case: the erasure is complete");
	is(value(qq{SELECT count(*) FROM everything() e WHERE e::text LIKE '%$case-victim%'}), '0', "$case: no event of the learner is left");
	is(value(qq{SELECT count(*) FROM eduai.export_user_rows('$case-victim')}), '0', 'nor anything else');
	is(value(qq{SELECT count(*) FROM eduai.read_stream('learner-$case-victim')}), '0', 'nor is the stream named');
	is(value(qq{SELECT count(*) FROM (SELECT has FROM kept WHERE type = '$case' EXCEPT ALL SELECT has FROM learners('$case')) lost}), '0', 'all others have what they had');
	return;
}

my $erase = sub { "eduai.erase_user('$_[0]-victim')" };
my $anonymise = q{eduai.anonymise_events('2 years')};
my $compact = q{eduai.compact_events('0 s')};

beside('erase-anonymise', 'events-erase-written', $erase->('erase-anonymise'), $anonymise);
is(value(q{SELECT count(*) FROM everything() WHERE event_type = 'erase-anonymise' AND user_id NOT LIKE 'anon-%'}), '0', 'and all others are anonymised');
is(value(q{SELECT count(*) FROM learners('erase-anonymise')}), '20', 'as 20 learners');
beside('anonymise-erase', 'privacy-anonymise-written', $anonymise, $erase->('anonymise-erase'));
cmp_ok(value(q{SELECT count(*) FROM learners('anonymise-erase')}), '<=', 21, 'the learner has one new name at most');
beside('compact-erase', 'events-compact-deleted', $compact, $erase->('compact-erase'));
is(value(q{SELECT count(*) FROM learners('compact-erase')}), '20', '20 learners are there');
beside('erase-compact', 'events-erase-written', $erase->('erase-compact'), $compact);
is(value(q{SELECT count(*) FROM learners('erase-compact')}), '20', '20 learners are there');
is(value(q{SELECT count(*) FROM eduai.event WHERE event_type LIKE '%-compact'}), '0', 'all of it is compacted');
$node->stop;
done_testing();
