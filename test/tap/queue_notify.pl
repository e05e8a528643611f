# The ends that workers record are announced, each once, and children follow them,
# while the dispatcher is not woken for each: it comes by itself for a while. The
# sweep, which would find what was left lying, is too far away to help.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.sweep_interval' => '1h', 'eduai.queue_max_size' => 0 });
my $listener = EduaiSession->new($node);
my @workers = map { EduaiSession->new($node) } 1 .. 2;
my (@ids, %heard);

sub value { return $node->safe_psql('postgres', $_[0]) }

value(q{SELECT eduai.configure_pool('wide', '{custom}', 1000)});
$listener->ask('LISTEN eduai_task;');

# claims so many, completes each in a transaction of its own, by turns in two sessions
sub complete
{
	my ($n) = @_;
	my @claimed = split ' ', value("SELECT string_agg(task_id::text, ' ') FROM eduai.claim_tasks('w', '{custom}', $n)");
	for my $w (0, 1)
	{
		$workers[$w]->send(join "\n", map { "SELECT eduai.complete_task($claimed[$_], 1);" } grep { $_ % 2 == $w } 0 .. $#claimed);
	}
	$_->answer(30) for @workers;
	return @claimed;
}

sub all_heard
{
	my (@wanted) = @_;
	wait_until(sub {
		my $answer = $listener->ask('SELECT;');
		$heard{$1}++ while $answer =~ /"eduai_task" with payload "\{"state": "completed", "tenant": "default", "task_id": (\d+)\}"/g;
		return !grep { !$heard{$_} } @wanted;
	}, 20, 'all were announced');
	return join ' ', grep { $heard{$_} != 1 } @wanted;
}

value(q{SELECT cardinality(eduai.enqueue_batch('custom', array_fill('{}'::jsonb, '{300}')))});
@ids = complete(200);
is(scalar @ids, 200, 'many ends, each a commit');
is(all_heard(@ids), '', 'are announced, each once');
is(all_heard(complete(1)), '', 'so is one that comes alone') for 1 .. 3;

# ---- children ----

my $parent = value(q{SELECT eduai.enqueue('custom', '{"parent": true}', 'critical')});
my $child = value(qq{SELECT eduai.enqueue('custom', '{}', 'critical', depends_on => '{$parent}')});
is(value("SELECT (eduai.get_task($child)).state"), 'waiting', 'a child waits');
@ids = complete(50);
ok((grep { $_ == $parent } @ids), 'its parent is among many that end');
is(wait_until(sub { value("SELECT (eduai.get_task($child)).state = 'ready'") eq 't' }, 20, 'the child is let go'), 1, 'the child is let go');
is(all_heard(@ids), '', 'and all are announced');

$_->quit for $listener, @workers;
$node->stop('fast');
done_testing();
