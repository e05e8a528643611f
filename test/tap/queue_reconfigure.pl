# A dispatcher that a change of instances or pools wakes acts on it at once.
#
# The commit that makes the change is held after it woke the dispatcher and
# before its invalidations leave; the sweep, which would find it later, is off.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.sweep_interval' => '1h', 'eduai.test_mode' => 'on', 'eduai.allow_mock' => 'on' });
my $admin = EduaiSession->new($node);

sub value { return $node->safe_psql('postgres', $_[0]) }

sub ask_for
{
	my ($model) = @_;
	return value(qq{SELECT eduai.enqueue('chat', '{"model": "$model", "messages": [{"role": "user", "content": "x"}]}', on_refusal => 'defer')});
}

# while_committing(SQL, CODE): runs CODE while a session is held in the commit of SQL.
sub while_committing
{
	my ($sql, $then) = @_;
	value(q{SELECT eduai.test_pause('commit-after-wake', true)});
	$admin->send($sql);
	wait_until(sub { value(q{SELECT eduai.test_paused('commit-after-wake')}) > 0 }, 20, 'the change commits');
	$then->();
	is(value(q{SELECT eduai.test_paused('commit-after-wake')}), 1, 'the change is still committing');
	value(q{SELECT eduai.test_pause('commit-after-wake', false)});
	return $admin->answer;
}

value(q{SELECT eduai.add_provider('slow', 'mock', '', options => '{"latency_ms": 600000}');
	SELECT eduai.add_provider('quick', 'mock', '')});
value(q{SELECT eduai.add_instance('slow', 'slow', 'slow')});

my $deferred = ask_for('quick');
while_committing(q{SELECT eduai.add_instance('quick', 'quick', 'quick');}, sub { wait_for_task($node, $deferred, 'completed', 20) });

# two slots, one of them kept for critical tasks: the second waits for a wider pool
value(q{SELECT eduai.configure_pool('chat', '{chat}', 2)});
wait_for_task($node, ask_for('slow'), 'running', 20);
my $waiting = ask_for('quick');
is(value("SELECT state FROM eduai.wait_task($waiting, '200 ms')"), 'ready', 'the pool is full');
while_committing(q{SELECT eduai.configure_pool('chat', '{chat}', 3);}, sub { wait_for_task($node, $waiting, 'completed', 20) });

$node->stop('fast');
done_testing();
