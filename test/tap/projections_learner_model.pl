# The learner model and its follower: switched off it leaves the answers waiting
# and loses none; a reader sees one state of it whatever is followed and rebuilt
# meanwhile; kill -9 at any point of a step leaves what a replay gives.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(fsync => 1, conf => { 'eduai.test_mode' => 'on', autovacuum => 'off' });

sub value { return $node->safe_psql('postgres', $_[0]) }

my $appended = 0;

# N answers of many learners to many items; one call, one transaction.
sub answer
{
	my ($n) = @_;
	my $first = $appended + 1;
	$appended += $n;
	value(qq{SELECT eduai.append_batch(array_agg('s' || n % 5), array_agg('exercise_attempted'::text),
		array_agg(jsonb_build_object('skill', 'k' || n % 7, 'item', n % 50, 'correct', n % 3 > 0, 'time_spent', n % 60) ORDER BY n),
		array_agg('u' || n % 31 ORDER BY n), occurred_at => array_agg('2025-01-01Z'::timestamptz + n * interval '3 minutes' ORDER BY n))
		FROM generate_series($first, $appended) n});
	return;
}

sub status { return value(qq{SELECT $_[0] FROM eduai.projection_status WHERE name = 'learner_model'}) }

sub learnt { return value(q{SELECT coalesce(sum(answers), 0) FROM eduai.skill_statistics()}) }

sub followed
{
	my ($what) = @_;
	wait_until(sub { learnt() == $appended }, 60, "$what: all is followed");
	return;
}

# All rows of the live generation, without its number.
sub rows
{
	my $all = join ' UNION ALL ', map { "SELECT '$_', (to_jsonb(r) - 'generation')::text FROM eduai.model_$_ r, live WHERE r.generation = live.generation" }
		qw(tenant learner skill item learner_skill learner_item);
	return value(qq{WITH live AS (SELECT coalesce((SELECT live FROM eduai.projection_generation WHERE projection = 2), 1) AS generation)
		$all ORDER BY 1, 2});
}

sub set_model
{
	my ($state) = @_;
	$node->append_conf('postgresql.conf', "eduai.learner_model = $state\n");
	$node->reload;
	return;
}

# ---- off and on ----

value(q{CREATE FUNCTION count_event(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql IMMUTABLE
	AS $$ SELECT jsonb_build_object('n', coalesce((state -> 'n')::int, 0) + 1) $$;
	SELECT eduai.create_projection('counted', 'count_event(jsonb, eduai.event_record)', mode => 'async')});
sub counted { return value(q{SELECT coalesce(sum((state -> 'n')::int), 0) FROM eduai.projection_state s JOIN eduai.projection p USING (projection) WHERE p.name = 'counted'}) }

answer(10);
followed('on');
set_model('off');
# the other projection follows on, and the projector has heard of the setting some time
wait_until(
	sub {
		answer(1);
		wait_until(sub { counted() == $appended }, 30, 'the other projection follows');
		return learnt() < $appended;
	},
	30, 'the model is off');
my $stopped = learnt();
answer(500);
wait_until(sub { counted() == $appended }, 30, 'the other projection follows');
is(learnt(), $stopped, 'off: the other projection has followed 500 answers, the model none');
is(status('lag_events'), $appended - $stopped, 'and they are its lag');
set_model('on');
followed('on again');
is(status('lag_events'), 0, 'on again: it has followed them all');
my $live = rows();
is(value(q{SELECT eduai.rebuild_projection('learner_model')}), $appended, 'a rebuild reads all answers');
ok($live eq rows(), 'and gives the same rows');

# ---- a reader's snapshot ----

my $reader = EduaiSession->new($node);
my $look = q{SELECT sum(answers), round(sum(success_rate)::numeric, 9) FROM eduai.skill_statistics();
	SELECT round(eduai.learner_prediction('u1', 'k1', '1')::numeric, 2), count(*) FROM eduai.recommend_exercises('u1', 100);};
value(q{SELECT eduai.register_exercises(array_agg('e' || n), array_agg('k1'::text)) FROM generate_series(1, 20) n});
my $before = $reader->ask("BEGIN ISOLATION LEVEL REPEATABLE READ; $look");
like($before, qr/^$appended\|/, 'a reader sees all answers');
answer(1000);
followed('behind a reader');
value(q{SELECT eduai.rebuild_projection('learner_model')});
is($reader->ask($look), $before, 'and the same in its snapshot after a thousand more, followed and rebuilt');
like($reader->ask("COMMIT; $look"), qr/^$appended\|/, 'then all of them');
$reader->quit;

# ---- kill -9 ----

for my $point ('projections-folded', 'projections-positioned', 'projections-committed')
{
	value(qq{SELECT eduai.test_pause('$point', true)});
	answer(300);
	wait_until(sub { value(qq{SELECT eduai.test_paused('$point')}) > 0 }, 30, "the projector is at $point");
	my ($pid) = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'eduai projector'}) =~ /^(\d+)$/m;
	kill 'KILL', $pid;
	wait_until(sub { defined try_query($node, 'SELECT 1') && value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'eduai projector'}) ne $pid },
		60, 'the server is back');
	followed($point);
	is(value(q{SELECT sum(t.answers) FROM eduai.model_tenant t JOIN eduai.projection_generation g ON g.projection = 2 AND g.live = t.generation}),
		$appended, "$point: each answer counts once");
	my $live = rows();
	value(q{SELECT eduai.rebuild_projection('learner_model')});
	ok($live eq rows(), "$point: the rows are what a replay gives");
}

$node->stop;
done_testing();
