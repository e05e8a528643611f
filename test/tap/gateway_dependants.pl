# A task that depends on others sends their results: where its payload says, or
# in a message of its own.

use strict;
use warnings;

use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.sweep_interval' => '1s', 'eduai.max_payload_size' => '4kB' });
my $sim = start_simulator();
sim_default($sim, undef, 'echo');
sim_default($sim, 'sim-broken', 'status=400');
add_fleet($node, $sim);
add_fleet($node, $sim, provider => 'broken', model => 'sim-broken');

sub value { return $node->safe_psql('postgres', $_[0]) }

sub enqueue
{
	my ($payload, $more) = @_;
	return value("SELECT eduai.enqueue('chat', \$\$$payload\$\$" . ($more ? ", $more" : '') . ')');
}

sub answer { return value("SELECT state || ': ' || coalesce(result->>'text', error->>'code') FROM eduai.wait_task($_[0], '20 s')") }

my $red = enqueue('{"model": "sim-chat", "prompt": "red"}');
my $blue = enqueue('{"model": "sim-chat", "prompt": "blue"}');

# in the order of depends_on, whichever came first
is(answer(enqueue('{"model": "sim-chat", "prompt": "{{parents.0.result.text}} and {{parents.1.result.text}}"}', "depends_on => '{$blue,$red}'")),
	'completed: blue and red', 'placeholders are filled in');
is(answer(enqueue('{"model": "sim-chat", "messages": [{"role": "system", "content": "mix them"}]}', "depends_on => '{$red,$blue}'")),
	"completed: Results of the tasks before this one:\n\n1. (chat) red\n\n2. (chat) blue", 'without any, the results are a message');
is(answer(enqueue('{"model": "sim-chat", "prompt": "plain {{parents.0}}"}', "depends_on => '{$red}', metadata => '{\"parents\": false}'")),
	'completed: plain {{parents.0}}', 'metadata.parents false leaves the payload alone');

# a chain in one transaction: each sees what the one before it got
is(answer(value(q{
	WITH a AS (SELECT eduai.enqueue('chat', '{"model": "sim-chat", "prompt": "1"}') AS id),
		b AS (SELECT eduai.enqueue('chat', '{"model": "sim-chat", "prompt": "{{parents.0.result.text}}2"}', depends_on => ARRAY[a.id]) AS id FROM a)
	SELECT eduai.enqueue('chat', '{"model": "sim-chat", "prompt": "{{parents.0.result.text}}3 {{parents.0.result.usage.output}}"}', depends_on => ARRAY[b.id]) FROM b})),
	'completed: 123 1', 'a chain');

# what cannot be filled in fails at once, and says which
my $bad = enqueue('{"model": "sim-chat", "prompt": "top secret {{parents.0.result.words}}"}', "depends_on => '{$red}'");
my $sent = sim_stats($sim)->{requests};
is(answer($bad), 'dead: bad_placeholder', 'an unknown placeholder fails the task');
is(value("SELECT attempt || ' ' || (error->>'message') FROM eduai.get_task($bad)"),
	'1 "{{parents.0.result.words}}" is not in the results of the tasks that this one depends on', 'for good, and names it, not the prompt');
my $text = 'y' x 2000;
my $long = enqueue(qq({"model": "sim-chat", "prompt": "$text"}));
is(answer(enqueue('{"model": "sim-chat", "prompt": "{{parents.0.result.text}}{{parents.0.result.text}}{{parents.0.result.text}}"}', "depends_on => '{$long}'")),
	'dead: payload_too_large', 'a payload that grows too large fails the task');
is(sim_stats($sim)->{requests}, $sent + 1, 'neither sent a request');

# a parent that failed is seen, too
my $broken = enqueue('{"model": "sim-broken", "prompt": "x"}');
is(answer(enqueue('{"model": "sim-chat", "prompt": "{{parents.0.state}} {{parents.0.error.http_status}} {{parents.0.result}}"}',
			"depends_on => '{$broken}', metadata => '{\"on_parent_failure\": \"run\"}'")),
	'completed: dead 400 null', 'how a parent failed');

# an application's task that the gateway's waits for
my $mine = value(q{SELECT eduai.enqueue('custom', '{}')});
my $child = enqueue('{"model": "sim-chat", "prompt": "it is {{parents.0.result.answer}}"}', "depends_on => '{$mine}'");
value(q{SELECT eduai.complete_task(task_id, attempt, '{"answer": 42}') FROM eduai.claim_tasks('w', '{custom}')});
is(answer($child), 'completed: it is 42', q{an application's result});

$node->stop;
done_testing();
