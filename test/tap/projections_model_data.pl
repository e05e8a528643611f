# The learner model on real answers (Algebra I 2005-06, ../shared/data, or where
# EDUAI_DATA says): each predicted before it is learnt from, by the live model
# and in a replay. Skipped where the data are not.

use strict;
use warnings;

use EduaiTest;
use Test::More;

my $directory = $ENV{EDUAI_DATA} // '../shared/data';
my $file = "$directory/algebra05/attempts.tsv.gz";
plan skip_all => "no data at $file (EDUAI_DATA says where)" unless -r $file;

my $node = new_node(conf => { 'eduai.test_mode' => 'on', shared_buffers => '256MB', max_wal_size => '4GB' });

# all of them, by time
my $answers = 129_998;

sub sql { return $node->safe_psql('postgres', "SET eduai.tenant = '$_[0]'; $_[1]") }

# The file as a table, and the same answers with their outcomes at random.
sub read_file
{
	my @lines = `gzip -dc '$file'`;
	die "cannot read $file" unless @lines == 129_999;
	shift @lines;
	my $rows = $node->basedir . '/answers';
	open my $out, '>', $rows or die "$rows: $!";
	print $out @lines;
	close $out;
	$node->safe_psql('postgres', qq{
		CREATE TABLE answer (n serial, user_id text, item text, at bigint, correct int, skill text);
		COPY answer (user_id, item, at, correct, skill) FROM '$rows';
		CREATE TABLE shuffled AS
			SELECT a.n, a.user_id, a.item, a.at, b.correct, a.skill
			FROM (SELECT *, row_number() OVER (ORDER BY at, n) AS k FROM answer) a
			JOIN (SELECT correct, row_number() OVER (ORDER BY md5(n::text)) AS k FROM answer) b USING (k)});
}

# All learners by the time since their first answer, from where on.
sub append
{
	my ($tenant, $table, $from, $to) = @_;
	$node->safe_psql('postgres', "SELECT eduai.allow_tenant(current_user::text, '$tenant')");
	return sql($tenant, qq{
		SELECT sum(n) FROM (
			SELECT eduai.append_batch(array_agg('learner-' || user_id), array_agg('exercise_attempted'::text),
				array_agg(jsonb_build_object('correct', correct = 1, 'skill', skill, 'item', item)), array_agg('learner-' || user_id),
				occurred_at => array_agg(timestamptz '2005-09-01 UTC' + at * interval '1 s')) AS n
			FROM (SELECT *, row_number() OVER (ORDER BY at, n) AS k FROM $table) AS a
			WHERE k > $from AND k <= $to GROUP BY k / 2000 ORDER BY k / 2000) AS b});
}

sub evaluate
{
	my ($tenant) = @_;
	my @names = qw(answers auc rmse log_loss calibration_error last_outcome_auc skill_mean_auc bkt_auc elo_auc logistic_auc
	  skill_mean_log_loss bkt_log_loss elo_log_loss logistic_log_loss);
	my %eval;
	@eval{@names} = split /\|/, sql($tenant, 'SELECT * FROM eduai.learner_model_eval()');
	note("$tenant: " . join(', ', map { "$_ $eval{$_}" } @names));
	return \%eval;
}

read_file();

# a fit in the middle: the parameters hold from there on, live and in the replay
is(append('algebra', 'answer', 0, 40_000), 40_000, 'the first answers are appended');
cmp_ok(sql('algebra', 'SELECT eduai.fit_learner_model()'), '>', 30, 'skills are fitted');
is(append('algebra', 'answer', 40_000, $answers), $answers - 40_000, 'the others are appended');

my $eval = evaluate('algebra');
is($eval->{answers}, $answers, 'all answers are evaluated');
cmp_ok($eval->{auc}, '>=', $eval->{$_}, "the blend's AUC is at least $_")
  for qw(last_outcome_auc skill_mean_auc bkt_auc elo_auc logistic_auc);
cmp_ok($eval->{log_loss}, '<=', $eval->{$_}, "the blend's log loss is at most $_")
  for qw(skill_mean_log_loss bkt_log_loss elo_log_loss logistic_log_loss);
cmp_ok($eval->{calibration_error}, '<=', 0.05, 'the blend is calibrated');
cmp_ok($eval->{auc}, '>=', 0.82, 'and as good as it was');
cmp_ok($eval->{bkt_auc}, '>=', 0.76, 'so is BKT');

# the live model has learnt the same, bit by bit
wait_until(sub { sql('algebra', 'SELECT coalesce(sum(answers), 0) FROM eduai.model_tenant WHERE tenant_id = eduai.current_tenant()') == $answers },
	60, 'the live model has followed');
is( sql('algebra', q{SELECT r[4:3 + cardinality(features)]::text = features::text AND r[1] = answers AND r[2] = correct
		FROM eduai.model_tenant, eduai.test_replay_learner_model() AS r WHERE tenant_id = eduai.current_tenant()}),
	't', 'live and replayed states are equal');

# outcomes that nothing tells: chance
is(append('shuffled', 'shuffled', 0, 30_000), 30_000, 'answers with shuffled outcomes are appended');
my $chance = evaluate('shuffled');
cmp_ok(abs($chance->{$_} - 0.5), '<=', 0.02, "shuffled, $_ is chance") for qw(auc bkt_auc elo_auc logistic_auc);

done_testing();
