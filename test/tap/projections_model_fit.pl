# A fit while answers come: its parameters hold from a position that no follower
# has passed, so that a replay agrees with the live model; one that is rolled
# back leaves the model following.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on' });

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Answers in one skill, of each of 30 learners; right ones come by and by.
sub append
{
	my ($from, $to) = @_;
	sql(qq{
		SELECT eduai.append_batch(array_agg(who), array_agg('quiz'::text), array_agg(jsonb_build_object('correct', (l * 7 + i * i) % 12 < i, 'skill', 'sums')), array_agg(who),
			occurred_at => array_agg(timestamptz '2025-01-01 UTC' + i * interval '30 hours'))
		FROM (SELECT 'learner-' || l AS who, l, i FROM generate_series($from, $to) AS i, generate_series(1, 30) AS l ORDER BY i, l) AS a});
}

sub followed { return sql('SELECT coalesce(sum(answers), 0) FROM eduai.model_tenant') }

sub agrees
{
	return sql(q{SELECT r[4:3 + cardinality(features)]::text = features::text AND r[1] = answers
		FROM eduai.model_tenant, eduai.test_replay_learner_model() AS r});
}

append(1, 6);
wait_until(sub { followed() == 180 }, 30, 'the first answers are followed');

# between what it has read and what it writes, others are appended and followed
sql(q{SELECT eduai.test_pause('projections-fitted', true)});
my $fit = EduaiSession->new($node);
$fit->send('SELECT eduai.fit_learner_model();');
wait_until(sub { sql(q{SELECT eduai.test_paused('projections-fitted')}) eq '1' }, 30, 'a fit is about to write');
append(7, 9);
wait_until(sub { followed() == 270 }, 30, 'answers that it has not read are followed');
sql(q{SELECT eduai.test_pause('projections-fitted', false)});
is($fit->answer(30), '1', 'a skill is fitted');
is(sql('SELECT answers FROM eduai.model_parameters'), 180, 'to the answers that it read');
is(agrees(), 't', 'live and replay agree before the parameters hold');

append(10, 12);
wait_until(sub { followed() == 360 }, 30, 'answers for which they hold are followed');
is(agrees(), 't', 'and after');
sql('DELETE FROM eduai.model_parameters');
is(agrees(), 'f', 'without them they would not');

# followers stand still while a fit is not committed, and go on after it
$fit->ask('BEGIN; SELECT eduai.fit_learner_model();');
append(13, 13);
$fit->ask('ROLLBACK;');
wait_until(sub { followed() == 390 }, 60, 'the model goes on');
pass('a fit that is rolled back leaves the model following');
$fit->quit;

done_testing();
