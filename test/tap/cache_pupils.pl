# 200 pupils at once, in 24 sessions: what examples/cache_revedkids.sql caches, on
# a seeded trace, with every answer compared with the tables in one statement.
#
# The sessions share one trace, each takes every 24th request, and so asks for all
# pupils: recommendations 45 %, progress 35 %, hierarchy 15 %, an answer 5 %.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my ($pupils, $sessions, $requests, $seed) = (200, 24, 24_000, 7);
my $node = new_node(conf => { 'eduai.test_mode' => 'on', 'eduai.cache_max_entries' => 2000, max_connections => 60 });
my $example = "$ENV{TESTDIR}/examples/cache_revedkids.sql";
$node->psql('postgres', '', extra_params => ['-q', '-v', 'ON_ERROR_STOP=1', '-f', $example]) == 0 or BAIL_OUT('the example fails');

# The same queries again, without the cache; and a session's part of the trace.
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION school.cached(what text, pupil int) RETURNS jsonb LANGUAGE sql AS $$
	SELECT CASE what WHEN 'r' THEN school.recommendations(pupil) WHEN 'p' THEN school.progress_of(pupil)
		ELSE school.hierarchy(CASE WHEN pupil % 2 = 0 THEN 'CP' ELSE 'CE1' END) END $$;
CREATE FUNCTION school.plain(what text, pupil int) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
	rows jsonb;
BEGIN
	IF what = 'r' THEN
		SELECT jsonb_agg(to_jsonb(x)) INTO rows FROM (
			SELECT e.exercise_id, e.title, coalesce(p.success_rate, 0) AS success_rate
			FROM school.exercise e LEFT JOIN school.progress p ON p.exercise_id = e.exercise_id AND p.student_id = pupil
			WHERE e.active AND coalesce(p.success_rate, 0) < 80
			ORDER BY coalesce(p.success_rate, 0) DESC, e.exercise_id LIMIT 5) x;
	ELSIF what = 'p' THEN
		SELECT jsonb_agg(to_jsonb(x)) INTO rows FROM (
			SELECT count(*) AS exercises, sum(attempts) AS attempts, round(avg(success_rate)) AS success_rate
			FROM school.progress WHERE student_id = pupil) x;
	ELSE
		SELECT jsonb_agg(to_jsonb(x)) INTO rows FROM (
			SELECT module, jsonb_agg(title ORDER BY exercise_id) AS exercises FROM school.exercise
			WHERE level = (CASE WHEN pupil % 2 = 0 THEN 'CP' ELSE 'CE1' END) AND active GROUP BY module ORDER BY module) x;
	END IF;
	RETURN rows;
END $$;
-- Both sides of a comparison are read in one snapshot.
CREATE TABLE school.wrong (what text, pupil int, cached jsonb, plain jsonb);
CREATE PROCEDURE school.pupils(part int, parts int, pupils int, requests int, seed bigint, INOUT reads int, INOUT computed int)
LANGUAGE plpgsql AS $$
DECLARE
	state bigint := seed;
	draw int;
	pupil int;
	what text;
	one jsonb;
	other jsonb;
	before bigint := eduai.test_cache_computed();
BEGIN
	reads := 0;
	FOR i IN 1 .. requests LOOP
		state := (state * 1103515245 + 12345) % 2147483648;
		pupil := (state / 65536) % pupils;
		state := (state * 1103515245 + 12345) % 2147483648;
		draw := (state / 65536) % 100;
		CONTINUE WHEN i % parts <> part;
		IF draw < 5 THEN
			BEGIN
				PERFORM school.answer(1000 + pupil, 1 + i % 40, draw * 20);
			EXCEPTION WHEN serialization_failure THEN
				NULL; -- another session's answer of this moment stands
			END;
			COMMIT;
			CONTINUE;
		END IF;
		what := CASE WHEN draw < 50 THEN 'r' WHEN draw < 85 THEN 'p' ELSE 'h' END;
		SELECT c, p INTO one, other FROM school.cached(what, 1000 + pupil) AS c, school.plain(what, 1000 + pupil) AS p;
		reads := reads + 1;
		IF one IS DISTINCT FROM other THEN
			INSERT INTO school.wrong VALUES (what, pupil, one, other);
		END IF;
		COMMIT;
	END LOOP;
	computed := eduai.test_cache_computed() - before;
END $$;
SQL

my @sessions = map { EduaiSession->new($node) } 1 .. $sessions;
$sessions[$_]->send("SET default_transaction_isolation = 'repeatable read'; CALL school.pupils($_, $sessions, $pupils, $requests, $seed, 0, 0);") for 0 .. $#sessions;
my ($reads, $computed, $ended) = (0, 0, 0);
for my $session (@sessions)
{
	my $answer = $session->answer(60) // '';
	if ($answer =~ /^(\d+)\|(\d+)$/) { $reads += $1; $computed += $2; $ended++; }
	else { diag($answer); }
}
is($ended, $sessions, 'all sessions came to the end');
cmp_ok($reads, '>', 0.9 * $requests, "$reads reads");
my $ratio = $reads > 0 ? 100 * ($reads - $computed) / $reads : 0;
diag(sprintf '%d pupils in %d sessions, trace of %d requests, seed %d: %d reads, %d computed, %.1f %% hits', $pupils, $sessions, $requests, $seed, $reads, $computed, $ratio);
cmp_ok($ratio, '>', 80, 'more than four of five are hits');
is($node->safe_psql('postgres', 'SELECT count(*) FROM school.wrong'), '0', 'and every answer is what the tables say');
is($node->safe_psql('postgres', q{SELECT bool_and(hits > 0 AND computations > 0) FROM eduai.cache_stats WHERE kind IN ('recommendations', 'progress', 'hierarchy')}), 't', 'each kind hit');

# What each query brings is known by its text, until somebody is erased whom a text may name.
is($node->safe_psql('postgres', q{SELECT count(*) FROM eduai.cache_advice WHERE calls > 1000 AND hits > 0 AND kind <> 'query'}), '3', 'three queries are known');
is($node->safe_psql('postgres', q{SELECT sum(calls - hits) FROM eduai.cache_advice}), "$computed", 'with their computations');
$node->safe_psql('postgres', q{SELECT eduai.erase_user('pupil-1')});
wait_until(sub { $node->safe_psql('postgres', 'SELECT count(*) FROM eduai.cache_advice') eq '0' }, 20, 'an erasure empties it');

done_testing();
