# The queue's limit with prepared transactions: their tasks count from PREPARE
# on, over a restart too, and until they end, whoever ends them.

use strict;
use warnings;

use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.queue_max_size' => 5, 'eduai.sweep_interval' => '200ms' });

# As many single tasks as the limit lets in now.
sub fill
{
	my $n = 0;
	$n++ while try_query($node, q{SELECT eduai.enqueue('custom', '{}', on_refusal => 'skip')}) ne '';
	return $n;
}

sub empty { $node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE eduai.cancel_task(task_id)) FROM eduai.task WHERE finished_at IS NULL}) }

sub prepare
{
	my ($name, $what) = @_;
	$node->safe_psql('postgres', "BEGIN; $what; PREPARE TRANSACTION '$name'");
}

my $three = q{SELECT eduai.enqueue('custom', '{}'); SELECT eduai.enqueue_batch('custom', ARRAY['{}', '{}']::jsonb[])};

for my $restart (0, 1)
{
	my $when = $restart ? ', after a restart' : '';

	prepare('p', $three);
	$node->restart if $restart;
	is(fill(), 2, "prepared tasks count$when");
	$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
	is(fill(), 0, "and when they are committed$when");
	is(empty(), 5, "all are there$when");
	is(fill(), 5, "nothing is counted twice$when");
	empty();

	prepare('p', $three);
	$node->restart if $restart;
	is(fill(), 2, "prepared tasks count again$when");
	$node->safe_psql('postgres', q{ROLLBACK PREPARED 'p'});
	is(fill(), 3, "rolled back, they give their places back$when");
	is(empty(), 5, "only the others are there$when");
	is(fill(), 5, "and the count is right$when");
	empty();
}

# the savepoint that was undone before does not count
prepare('p', qq{SAVEPOINT s; $three; ROLLBACK TO s; SELECT eduai.enqueue('custom', '{}')});
is(fill(), 4, 'what a savepoint gave back is free at PREPARE');
$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
is(fill(), 0, 'and the one is kept');
empty();

# the first thing after a restart is an end, or a task that lives again: its own row is counted once
for my $first ('cancel_task', 'retry_task')
{
	my $task = $node->safe_psql('postgres', q{SELECT eduai.enqueue('custom', '{}')});
	$node->safe_psql('postgres', "SELECT eduai.cancel_task($task)") if $first eq 'retry_task';
	$node->restart;
	$node->safe_psql('postgres', "SELECT eduai.$first($task)");
	is(fill(), $first eq 'cancel_task' ? 5 : 4, "$first() is the first after a restart");
	is(empty(), 5, "all of the limit after $first()");
}

# a cancellation that is prepared
my $task = $node->safe_psql('postgres', q{SELECT eduai.enqueue('custom', '{}')});
SKIP:
{
	my ($ok) = $node->psql('postgres', "BEGIN; SELECT eduai.cancel_task($task); PREPARE TRANSACTION 'c'");
	skip 'a cancellation cannot be prepared', 2 if $ok != 0;
	is(fill(), 4, 'a cancellation that is prepared frees nothing yet');
	$node->safe_psql('postgres', q{COMMIT PREPARED 'c'});
	is(fill(), 1, 'but when it is committed');
}

done_testing();
