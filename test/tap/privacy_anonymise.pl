# Anonymisation: statistics stay, whom they are about does not; what is not due
# stays as it is; a kill -9 in the middle loses nothing and gives nobody a second
# name; no id can be found again by hashing the ids that are known, and the key
# of the names is gone.

use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use Digest::SHA qw(hmac_sha256_hex sha1_hex sha256_hex);
use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(fsync => 1, conf => { 'eduai.test_mode' => 'on', 'eduai.compact_after' => 0, autovacuum => 'off' });

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
	CREATE VIEW per_skill AS
		SELECT data->>'skill' AS skill, date(occurred_at AT TIME ZONE 'UTC') AS day, count(*) AS n,
			sum((data->>'score')::numeric) AS score, count(*) FILTER (WHERE (data->>'correct')::boolean) AS correct
		FROM everything() WHERE event_type = 'exercise_attempted' AND occurred_at < now() - interval '2 years'
		GROUP BY 1, 2;
});

# Three segments of old events, of the same 40 learners, and young ones of theirs.
sub append_old
{
	my ($from, $to) = @_;
	return value(qq{
		SELECT eduai.append_batch(array_agg('learner-pupil' || i % 40), array_agg('exercise_attempted'::text),
			array_agg(jsonb_build_object('skill', 'skill ' || i % 7, 'score', i % 11 / 10.0, 'correct', i % 3 = 0,
				'answer', 'said by pupil' || i % 40, 'note', 'pupil' || i % 40 || ' is tired', 'pupil' || i % 40, true,
				'phone', 600000 + i, 'points', i % 5, 'remark', 'all said so', 'deep', jsonb_build_object('item', 'i' || i % 9, 'text', 'pupil' || i % 40))),
			array_agg('pupil' || i % 40), array_agg('session ' || i % 100), NULL,
			array_agg(now() - interval '3 years' + i * interval '7 minutes')) FROM generate_series($from, $to) i});
}

for my $part (0 .. 2)
{
	append_old($part * 1000 + 1, $part * 1000 + 1000);
	value(q{SELECT eduai.compact_events('0 s')});
}
value(q{SELECT eduai.append_event('learner-pupil1', 'exercise_attempted', '{"skill": "alone", "score": 1}', user_id => 'pupil1',
	occurred_at => now() - interval '3 years')});
value(q{SELECT eduai.append_event('club', 'note', '{"text": "pupil2"}', occurred_at => now() - interval '3 years')});
value(qq{SELECT eduai.append_event('learner-pupil$_', 'young', '{"note": "stays"}', user_id => 'pupil$_')}) for 1 .. 3;
value(q{SELECT eduai.save_snapshot('learner-pupil3', 5, '{"who": "pupil3"}')});
value(q{SELECT eduai.set_cohort('c', '{pupil1}')});
my $young = value(q{SELECT string_agg(e::text, ' ' ORDER BY position) FROM everything() e WHERE event_type = 'young'});
value(q{CREATE TABLE before AS SELECT * FROM per_skill});

my $control = EduaiSession->new($node);
my $caller = EduaiSession->new($node);
$control->ask(q{SELECT eduai.test_pause('privacy-anonymise-written', true);});
$caller->send(q{CALL eduai.anonymise_events('2 years', NULL);});
wait_until(sub { $control->ask(q{SELECT eduai.test_paused('privacy-anonymise-written');}) eq '1' }, 30, 'a segment is written');
is(value(q{SELECT count(*) FROM everything() WHERE user_id LIKE 'anon-%'}), '0', 'before its commit nobody sees it');
is(value(q{SELECT count(*) || ' ' || count(backend_xmin) || ' ' || count(backend_xid) FROM pg_stat_activity WHERE query LIKE 'CALL eduai.anonymise_events%'}), '1 0 0',
	'the caller of the procedure waits without a snapshot');

# Writers go on meanwhile, also to the learner whose events are being changed.
is(value(q{SELECT version > 0 FROM eduai.append_event('learner-pupil1', 'later', user_id => 'pupil1')}), 't', 'appends wait for nothing');
my ($again, $refused) = (0, '');
$node->psql('postgres', q{SELECT eduai.anonymise_events('2 years')}, stderr => \$refused);
like($refused, qr/this runs already/, 'twice at once: the second is refused');

$control->ask(q{SELECT eduai.test_pause('privacy-anonymise-segment', true); SELECT eduai.test_pause('privacy-anonymise-written', false);});
wait_until(sub { $control->ask(q{SELECT eduai.test_paused('privacy-anonymise-segment');}) eq '1' }, 30, 'the next segment begins');
my $first = value(q{SELECT count(*) FROM everything() WHERE user_id LIKE 'anon-%'});
cmp_ok($first, '>', 0, 'one segment is committed');
my @key = glob($node->data_dir . '/pgsql_tmp_eduai_anonymise.*');
is(scalar @key, 1, 'the key of the names is in a file that base backups pass over');
kill_server($node);
$node->start;
wait_until(sub { defined try_query($node, 'SELECT 1') }, 60, 'the server is back');
is(value(q{SELECT count(*) FROM everything() WHERE user_id LIKE 'anon-%'}), $first, 'what was committed is there after kill -9');

cmp_ok(value(q{SELECT eduai.anonymise_events('2 years')}), '>', 0, 'a second call goes on');
is(value(q{CALL eduai.anonymise_events('2 years', NULL)}), '0', 'and there is no more to do');
is(scalar(my @left = glob($node->data_dir . '/pgsql_tmp_eduai_anonymise.*')), 0, 'the key is gone');

is(value(q{SELECT count(DISTINCT user_id) FROM everything() WHERE user_id LIKE 'anon-%'}), '40', 'one name for each learner, before and after the crash');
is(value(q{SELECT count(DISTINCT session_id) FROM everything() WHERE user_id LIKE 'anon-%'}), '100', 'one for each session');
is(value(q{SELECT bool_and(stream = 'learner-' || user_id) FROM everything() WHERE user_id LIKE 'anon-%'}), 't', 'a stream says whose it is, by the new name');
is(value(q{
	SELECT count(*) FROM before b FULL JOIN per_skill a USING (skill, day)
	WHERE skill <> 'alone' AND (b.n, b.score, b.correct) IS DISTINCT FROM (a.n, a.score, a.correct)}), '0', 'the statistics of each skill and day are the same');
is(value(q{SELECT count(*) FROM everything() WHERE data->>'skill' = 'alone'}), '0', 'what one learner alone had is suppressed');
is(value(q{SELECT count(*) FROM everything() WHERE event_type = 'exercise_attempted' AND data->'skill' = 'null'}), '1', 'and the event stays');
is(value(q{SELECT count(*) FROM everything() e WHERE event_type <> 'young' AND event_type <> 'later' AND (e::text ~ 'pupil|said|tired' OR data->>'phone' IS NOT NULL)}), '0', 'no id, text or number of theirs is left');
is(value(q{SELECT count(*) FROM everything() WHERE user_id LIKE 'anon-%' AND (occurred_at <> date_trunc('day', occurred_at, 'UTC') OR recorded_at <> date_trunc('day', recorded_at, 'UTC'))}), '0', 'times are days');
is(value(q{SELECT count(*) FROM everything() WHERE user_id LIKE 'anon-%' AND metadata <> '{}'}), '0', 'no metadata');
is(value(q{SELECT count(DISTINCT stream) FROM everything() WHERE stream LIKE 'club%'}), '0', 'a rare category of streams has another name');
is(value(q{SELECT string_agg(e::text, ' ' ORDER BY position) FROM everything() e WHERE event_type = 'young'}), $young, 'what is not due is as it was');
is(value(q{SELECT count(*) FROM eduai.load_snapshot('learner-pupil3')}), '0', 'a snapshot of those versions is gone');
is(value(q{
	SELECT count(*) FROM (SELECT array_agg(version ORDER BY position) AS v FROM everything() WHERE user_id LIKE 'anon-%' GROUP BY stream) s
	WHERE v <> ARRAY(SELECT generate_series(1::bigint, cardinality(v)))}), '0', 'each stream has the versions 1, 2, 3 ... in the order of the feed');
is(value(q{
	SELECT count(*) FROM (SELECT DISTINCT stream FROM everything() WHERE user_id LIKE 'anon-%') s,
		LATERAL (SELECT count(*) AS n FROM eduai.read_stream(s.stream)) r,
		LATERAL (SELECT count(*) AS n FROM everything() e WHERE e.stream = s.stream) a WHERE r.n <> a.n}), '0', 'read_stream finds all of them');
is(value(q{SELECT count(*) FROM eduai.read_stream('learner-pupil7')}), '0', 'the old stream has nothing');
is(value(q{SELECT eduai.stream_version('learner-pupil7')}), '0', 'and is named no more');

# Who knows all ids and hashes them finds nobody.
my %name = map { $_ => 1 } split /\n/, value(q{SELECT DISTINCT user_id FROM everything() WHERE user_id LIKE 'anon-%'});
my $found = 0;
for my $id (map { ("pupil$_", "learner-pupil$_", "default/pupil$_", "upupil$_", "udefault\0pupil$_") } 0 .. 39)
{
	for my $hash (md5_hex($id), sha1_hex($id), sha256_hex($id), map { hmac_sha256_hex($id, $_) } '', 'eduai', 'default', "\0" x 32)
	{
		$found++ if $name{ 'anon-' . substr $hash, 0, 32 };
	}
}
is($found, 0, 'no name is a hash of an id');

# A further run gives other names.
append_old(5001, 5200);
value(q{SELECT eduai.anonymise_events('2 years')});
is(value(q{SELECT count(DISTINCT user_id) FROM everything() WHERE user_id LIKE 'anon-%'}), '80', 'another run, other names');
is(value(q{SELECT eduai.anonymise_events('2 years')}), '0', 'what is anonymised stays as it is');

done_testing();
