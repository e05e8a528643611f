# Answers that stream, from the provider to whoever waits for the text: it is
# shown while it comes, a few times a second, and only the last attempt's.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use JSON::PP ();
use Test::More;
use Time::HiRes ();

my $node = new_node();
my $sim = start_simulator();
my $base = $sim->{base_url};
$node->safe_psql('postgres', qq{
	SELECT eduai.add_provider('sim', 'openai', '$base/v1', NULL, '{"allow_loopback": true}');
	SELECT eduai.add_provider('ant', 'anthropic', '$base', 'sk-ant-0123456789', '{"allow_loopback": true}')});

sub value { return $node->safe_psql('postgres', $_[0]) }

# An instance whose model is its name, and which the simulator answers so.
sub instance
{
	my ($name, $behaviour, %option) = @_;
	my $options = JSON::PP::encode_json($option{options} // {});
	my $types = $option{types} // '{chat}';
	value("SELECT eduai.add_instance('$name', '@{[$option{provider} // 'sim']}', '$name', '$types', price_input => 1, price_output => 2, options => '$options')");
	sim_default($sim, $name, $behaviour);
}

sub enqueue
{
	my ($model, %option) = @_;
	my $type = $option{type} // 'chat';
	my $attempts = $option{max_attempts} // 1;
	return value(qq{SELECT eduai.enqueue('$type', '{"model": "$model", "user": "$model", "messages": [{"role": "user", "content": "hello"}]}', max_attempts => $attempts)});
}

sub deltas
{
	my ($task, $after, $wait) = @_;
	return map { [ split /\|/, $_, 3 ] } split /\n/, value("SELECT seq, done, delta FROM eduai.task_output($task, $after, '$wait')");
}

sub until_final
{
	my ($task) = @_;
	return wait_until(sub { my $state = value("SELECT state FROM eduai.get_task($task)"); return $state =~ /^(completed|dead|cancelled)$/ && $state }, 30, "task $task has ended");
}

# ---- while it comes

my $words = join '+', map { "word$_" } 1 .. 60;
instance('slow', "chunk_ms=50;text=$words");
my $begun = Time::HiRes::time();
my $task = enqueue('slow');
my @first = deltas($task, 0, '20 s');
is(value("SELECT state FROM eduai.get_task($task)"), 'running', 'text comes while the task runs');
cmp_ok(scalar @first, '>=', 1, 'some of it');
my $shown = value("SELECT progress->>'text' FROM eduai.get_task($task)");
my @all = @first;
my $after = $all[-1][0];
while ($all[-1][1] ne 't')
{
	my @more = deltas($task, $all[-1][0], '20 s');
	BAIL_OUT('a reader waited for 20 s') if !@more;
	push @all, @more;
}
my $took = Time::HiRes::time() - $begun;
my $text = value("SELECT result->>'text' FROM eduai.get_task($task)");
is(join('', map { $_->[2] } @all), $text, 'the deltas are the result\'s text');
is($text, $words =~ s/\+/ /gr, 'which is the provider\'s');
ok(length $shown && length $shown < length $text && index($text, $shown) == 0, 'the beginning of it was the progress of the task');
is(value("SELECT progress IS NULL FROM eduai.get_task($task)"), 't', '... which has none at its end');
is(join(',', map { $_->[0] } @all), join(',', 1 .. @all), 'numbered without a gap') if $all[-1][2] ne '';
cmp_ok(scalar @all, '<=', 4 * $took + 3, 'at most four times a second');
cmp_ok(scalar @all, '>=', 3, 'and more than once');
my ($first_ms, $ms) = split /\|/, value("SELECT first_byte_ms, ms FROM eduai.usage_ledger WHERE task_id = $task");
cmp_ok($first_ms, '<', $ms / 2, 'the first byte is the first event\'s');
is(join('|', map { "$_->{plan}" } grep { $_->{user} eq 'slow' } @{ sim_journal($sim) }), 'stream', 'a stream was asked for');

# ---- an answer in one piece is the same

instance('whole', "text=$words", options => { stream => JSON::PP::false });
instance('quick', "text=$words");
my %same;
for my $model (qw(whole quick))
{
	my $id = enqueue($model);
	is(until_final($id), 'completed', "$model: completed");
	$same{$model} = value("SELECT (result - 'model')::text || ' ' || cost_usd FROM eduai.get_task($id)");
}
is($same{quick}, $same{whole}, 'the result and the cost do not depend on streaming');
is(join('|', map { $_->{plan} } grep { $_->{user} eq 'whole' } @{ sim_journal($sim) }), 'answer', 'stream: false asks for none');

# ---- what an attempt gave is gone when the next begins

instance('twice', "stall_after=2000;chunk_ms=20;text=$words", options => { stall_ms => 1500 });
$task = enqueue('twice', max_attempts => 2);
my @old = deltas($task, 0, '20 s');
cmp_ok($old[0][0], '<', 1000000, 'the first attempt gives text');
# The second is silent for a while.
sim_default($sim, 'twice', 'latency=3000;text=another+answer');
wait_until(sub { value("SELECT attempt FROM eduai.get_task($task)") == 2 }, 20, 'the second attempt');
wait_until(sub { !deltas($task, 0, '0 s') || value("SELECT state FROM eduai.get_task($task)") ne 'running' }, 20, 'the first attempt\'s text is gone');
is(value("SELECT state FROM eduai.get_task($task)"), 'running', 'while the second runs');
is(until_final($task), 'completed', 'which completes');
is(join('', map { $_->[2] } deltas($task, 0, '5 s')), 'another answer', 'to a late reader, the last attempt\'s text');
my @rest = deltas($task, $old[-1][0], '5 s');
is(join('', map { $_->[2] } @rest), 'another answer', 'to one who has the first\'s, too');
cmp_ok($rest[0][0], '>', 1000000, 'numbered as another attempt\'s');

# ---- what was used is charged, whatever became of the answer

instance('cut', "cut_after=1100;text=$words", provider => 'ant');
$task = enqueue('cut');
is(until_final($task), 'dead', 'a stream that is cut has failed');
my ($outcome, $code, $in, $cost) = split /\|/, value("SELECT outcome, code, tokens_in, cost_usd FROM eduai.usage_ledger WHERE task_id = $task");
is("$outcome $code", 'failed body_cut', 'as such');
cmp_ok($in, '>', 0, 'its input was used');
cmp_ok($cost, '>', 0, 'and is paid');
is(value("SELECT cost_usd FROM eduai.get_task($task)"), $cost, 'by the task') if value("SELECT cost_usd IS NOT NULL FROM eduai.get_task($task)") eq 't';

# ---- cancelling

instance('left', "chunk_ms=200;text=$words");
my $aborted = sim_stats($sim)->{aborted};
$task = enqueue('left');
cmp_ok(scalar deltas($task, 0, '20 s'), '>=', 1, 'a stream begins');
value("SELECT eduai.cancel_task($task)");
wait_until(sub { sim_stats($sim)->{aborted} == $aborted + 1 }, 10, 'the provider sees us leave');
wait_until(sub { value("SELECT outcome FROM eduai.usage_ledger WHERE task_id = $task") eq 'cancelled' }, 10, 'the ledger has it');
pass('a stream is cancelled in the middle');

# ---- nobody reads along with an analysis

instance('judge', "chunk_ms=20;text={%22a%22:+1}", types => '{analysis}');
$task = enqueue('judge', type => 'analysis');
my $state = until_final($task);
like($state, qr/^(completed|dead)$/, "an analysis ends ($state)");
is(scalar(grep { $_->[1] ne 't' } deltas($task, 0, '1 s')), 0, 'without partial text');

# ---- many at once, in turns: each text whole, in its order

instance('many', "chunk_ms=30;text=$words", options => {});
my @tasks = split /\n/, value(q{SELECT unnest(eduai.enqueue_batch('chat', array_fill('{"model": "many", "messages": [{"role": "user", "content": "hello"}]}'::jsonb, ARRAY[20])))});
my $whole = $words =~ s/\+/ /gr;
my $good = 0;
for my $id (@tasks)
{
	my ($seen, $last, $done) = ('', 0, '');
	while ($done ne 't')
	{
		my @more = deltas($id, $last, '20 s') or last;
		$seen .= $_->[2] for @more;
		($last, $done) = @{ $more[-1] };
	}
	$good++ if $seen eq $whole;
}
is($good, 20, '20 streams at once, each read whole');

$node->stop;
done_testing();
