# Where a task goes when an instance fails it, and how it waits when none can
# take it. The sweep comes once an hour: what wakes the dispatcher is a time it
# knows, or a call that ended.

use strict;
use warnings;

use EduaiTest;
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my $node = new_node(
	conf => {
		'eduai.sweep_interval' => '1h',
		'eduai.breaker_open' => '4s',
		'eduai.breaker_ramp' => 0,
		'eduai.balancer' => 'cost_optimized'
	});
my $sim = start_simulator();
my $other = start_simulator();

sub value { return $node->safe_psql('postgres', $_[0]) }

# instance(NAME, MODEL, { option => value }, { argument => SQL value }): a model's
# behaviour is after its @.
sub instance
{
	my ($name, $model, $options, $arguments) = @_;
	my %a = (provider => q{'sim'}, %{ $arguments // {} });
	my $json = JSON::PP::encode_json({ first_byte_ms => 700, aliases => [ $model =~ s/@.*//r ], %{ $options // {} } });
	my $more = join '', map { ", $_ => $a{$_}" } grep { $_ ne 'provider' } sort keys %a;
	value("SELECT eduai.add_instance('$name', $a{provider}, '$model', options => '$json'$more)");
}

sub enqueue
{
	my ($model, $more, $prompt) = @_;
	return value("SELECT eduai.enqueue('chat', jsonb_build_object('model', '$model', 'user', '$model', 'prompt', "
		  . ($prompt // q{'hello'}) . ')' . ($more // '') . ')');
}

sub path_of { return value("SELECT string_agg(instance || ':' || coalesce(code, outcome), ' ' ORDER BY attempt) FROM eduai.usage_ledger WHERE task_id = $_[0]") }
sub state_of { return value("SELECT state FROM eduai.get_task($_[0])") }

sub ends
{
	my ($task, $state, $path, $what) = @_;
	wait_for_task($node, $task, $state, 20);
	is(path_of($task), $path, $what);
}

# The requests of a model's tasks, as the simulator saw them.
sub requests
{
	my ($user, $at) = @_;
	return grep { $_->{user} eq $user } @{ sim_journal($at // $sim) };
}

value(qq{
	SELECT eduai.configure_pool('chat', '{chat}', 100);
	SELECT eduai.add_provider('sim', 'openai', '$sim->{base_url}/v1', options => '{"allow_loopback": true}');
	SELECT eduai.add_provider('other', 'openai', '$other->{base_url}/v1', options => '{"allow_loopback": true}');
});

# ---- at once, to the next ----

for my $case ([ 429, 'status=429;retry_after=30', 'rate_limited' ], [ 529, 'status=529', 'overloaded' ], [ 503, 'status=503', 'http_503' ])
{
	my ($n, $behaviour, $code) = @$case;
	instance("first-$n", "m-$n\@$behaviour", { aliases => ["x-$n"] });
	instance("next-$n", "n-$n", { aliases => ["x-$n"], tier => 2 });
	ends(enqueue("x-$n"), 'completed', "first-$n:$code next-$n:completed", "$n goes to the next");
	my @sent = requests("x-$n");
	cmp_ok($sent[1]{first_byte_us} - $sent[0]{first_byte_us}, '<', 1500000, "$n: at once");
}
ends(enqueue('x-429'), 'completed', 'next-429:completed', 'one that said when to come back is left alone until then');
is(value(q{SELECT instance FROM eduai.route('chat', request => '{"model": "x-429"}')}), 'next-429', 'so says route()');
like(value(q{SELECT reason FROM eduai.route('chat', request => '{"model": "x-429"}')}), qr/Out: first-429 \(rate limit used up, for \d+ s\)/, 'and why');

# ---- a context that is too small ----

instance('small', 'small@code=context_length_exceeded', { aliases => ['ctx'], context_tokens => 1000 });
instance('small-2', 'small-2', { aliases => ['ctx'], context_tokens => 1000, tier => 2 });
instance('large', 'large', { aliases => ['ctx'], context_tokens => 8000, tier => 3 });
ends(enqueue('ctx'), 'completed', 'small:context_length_exceeded large:completed', 'too much for a context goes to a larger one, past its equals');
ends(enqueue('ctx', '', q{repeat('hello ', 3000)}), 'completed', 'large:completed', 'what is too long by its estimate goes to the larger one first');
value(q{SELECT eduai.set_instance_state('large', 'disabled')});
ends(enqueue('ctx'), 'dead', 'small:context_length_exceeded', 'without a larger one it ends');

# ---- what only others can mend ----

instance('bad-1', 'bad@status=401', { aliases => ['auth'] });
instance('bad-2', 'bad@status=401;latency=1', { aliases => ['auth'] });
instance('good', 'good', { aliases => ['auth'], tier => 2 }, { provider => q{'other'} });
my $task = enqueue('auth');
wait_for_task($node, $task, 'completed', 20);
like(path_of($task), qr/^bad-[12]:auth good:completed$/, 'a refused key: another provider before another model of this one');

instance('silent', 'silent@silent', { aliases => ['quiet'] });
instance('broken', 'broken@status=500', { aliases => ['quiet'], tier => 2 });
ends(enqueue('quiet', ', max_attempts => 3'), 'dead', 'silent:timeout_first_byte broken:http_500 broken:http_500',
	'a silent one is not asked twice while another is left');

instance('lone', 'lone@status=401');
$task = enqueue('lone');
ends($task, 'dead', 'lone:auth', 'a refused key without another provider ends the task');
sim_default($sim, 'lone', '');
instance('lone', 'lone');
instance('spare', 'spare', { aliases => ['lone'], tier => 2 });
value("SELECT eduai.retry_task($task)");
ends($task, 'completed', 'lone:auth lone:completed', 'whoever retries it forgives the instance');

# ---- all are out: it waits ----

sim_default($sim, 'open', 'status=500');
instance('open', 'open');
ends(enqueue('open', ', max_attempts => 3'), 'dead', join(' ', ('open:http_500') x 3), 'three failures in a row');
is(value(q{SELECT reason LIKE 'Nobody can take it now; the earliest in %Out: open (circuit breaker open, for %' FROM eduai.route('chat', request => '{"model": "open"}')}),
	't', 'open the breaker');
my @before = requests('open');
sim_default($sim, 'open', 'latency=300');
my @waiting = map { enqueue('open') } 1 .. 4;
is(state_of($waiting[0]), 'ready', 'a task waits for it');
wait_for_task($node, $_, 'completed', 20) for @waiting;
my @after = (requests('open'))[ 3 .. 6 ];
my $wait_us = $after[0]{first_byte_us} - $before[2]{done_us};
cmp_ok($wait_us, '>=', 3600000, 'and is sent when the breaker lets a probe pass');
cmp_ok($wait_us, '<', 15000000, 'not much later');
cmp_ok($after[1]{first_byte_us}, '>=', $after[0]{done_us}, 'one probe alone');
is(value(q{SELECT sum(attempt) FROM eduai.get_tasks(ARRAY[} . join(',', @waiting) . '])'), 4, 'an attempt each: waiting is none');

instance('cool', 'cool@fail_first=1;status=429;retry_after=2');
$task = enqueue('cool');
wait_until(sub { requests('cool') == 1 }, 10, 'the first was refused');
wait_until(sub { value(q{SELECT instance IS NULL FROM eduai.route('chat', request => '{"model": "cool"}')}) eq 't' }, 5, 'the instance cools down');
my $later = enqueue('cool', q{, priority => 'high'});
wait_for_task($node, $_, 'completed', 20) for $task, $later;
my @sent = requests('cool');
is(scalar @sent, 3, 'nobody asks while it cools down');
cmp_ok($sent[1]{first_byte_us} - $sent[0]{done_us}, '>=', 1800000, 'both wait until it may be asked');

# ---- what is too much for now blocks only itself ----

instance('narrow', 'narrow', { aliases => ['mixed'], context_tokens => 200 }, { price_input => 9 });
instance('wide', 'wide@latency=2500', { aliases => ['mixed'], context_tokens => 100000, first_byte_ms => 9000 }, { max_concurrent => 1 });
my $long = q{repeat('hello ', 1000)};
# This one would take long ones, too, but not for a minute: it is not what they wait for.
instance('stuck', 'stuck@status=429;retry_after=60', { aliases => [ 'mixed', 'stuck' ], context_tokens => 100000 });
my $stuck = enqueue('stuck');
wait_until(sub { state_of($stuck) eq 'scheduled' }, 10, 'an instance is out for a minute');
value("SELECT eduai.cancel_task($stuck)");
my $running = enqueue('mixed', '', $long);
wait_until(sub { state_of($running) eq 'running' }, 10, 'a long one runs');
my $held = enqueue('mixed', '', $long);
my $short = enqueue('mixed');
ends($short, 'completed', 'narrow:completed', 'a short one behind it in the same lane goes on');
is(state_of($held), 'scheduled', 'while the next long one waits by itself');
ends($held, 'completed', 'wide:completed', 'until its turn comes');
is(value("SELECT attempt FROM eduai.get_task($held)"), 1, 'in its first attempt');

# ---- fallbacks ----

instance('wanted', 'wanted@latency=400', { fallback => [ 'cheaper', 'tiny-1' ] }, { max_concurrent => 1 });
instance('cheaper', 'cheaper-model', { aliases => ['cheaper'] });
instance('tiny-1', 'tiny');
my @two = map { enqueue('wanted') } 1, 2;
ends($_, 'completed', 'wanted:completed', 'one that is busy is waited for') for @two;
value(q{SELECT eduai.set_instance_state('wanted', 'draining')});
ends(enqueue('wanted'), 'completed', 'cheaper:completed', 'one that is out is stood in for');
value(q{SELECT eduai.set_instance_state('cheaper', 'draining')});
ends(enqueue('wanted'), 'completed', 'tiny-1:completed', 'by the next of the chain when that is out, too');
value(q{SELECT eduai.set_instance_state('wanted', 'active')});
instance('wanted', 'wanted@status=500', { fallback => [ 'cheaper', 'tiny-1' ] });
ends(enqueue('wanted'), 'completed', 'wanted:http_500 tiny-1:completed', 'a failure goes to it, too');

# ---- embeddings stay in their space ----

value(q{
	SELECT eduai.add_instance('e-1', 'sim', 'emb@status=500', '{embeddings}', options => '{"embedding_space": "s", "aliases": ["emb"], "fallback": ["e-3"]}');
	SELECT eduai.add_instance('e-2', 'sim', 'emb-2', '{embeddings}', options => '{"embedding_space": "s"}');
	SELECT eduai.add_instance('e-3', 'sim', 'emb-3', '{embeddings}')});
$task = value(q{SELECT eduai.enqueue('embeddings', '{"model": "emb", "input": "x"}')});
ends($task, 'completed', 'e-1:http_500 e-2:completed', 'embeddings fail over within their space');
value(q{SELECT eduai.remove_instance('e-2')});
$task = value(q{SELECT eduai.enqueue('embeddings', '{"model": "emb", "input": "x"}', max_attempts => 2)});
ends($task, 'dead', 'e-1:http_500 e-1:http_500', 'and not beyond, whatever stands in');

# ---- counts are exact ----

instance('single', 'single', { rpm => 5 }, { max_concurrent => 1 });
value(q{ALTER SYSTEM SET eduai.trace_routing = on});
value(q{SELECT pg_reload_conf()});
wait_until(sub { enqueue('x-503'); value(q{SELECT count(*) > 0 FROM eduai.routing_trace}) eq 't' }, 10, 'choices are traced');
value(q{ALTER TABLE eduai.routing_trace ADD CONSTRAINT full_stop CHECK (false) NOT VALID});
$task = enqueue('single');
wait_until(sub { slurp_file($node->logfile) =~ /could not claim tasks: new row for relation "routing_trace"/ }, 20, 'claims fail after the choice');
is(state_of($task), 'ready', 'the task is as it was');
value(q{ALTER TABLE eduai.routing_trace DROP CONSTRAINT full_stop});
ends($task, 'completed', 'single:completed', 'a claim that was rolled back has taken no place');
my $hangs = enqueue('hangs', q{, on_refusal => 'defer'});
instance('hangs', 'hangs@silent', { first_byte_ms => 60000 });
wait_until(sub { state_of($hangs) eq 'running' }, 10, 'one hangs');
like(value(q{SELECT reason FROM eduai.route('chat', request => '{"model": "hangs"}')}), qr/, 1 of 10 calls in flight/, 'and counts');
value("SELECT eduai.cancel_task($hangs)");
wait_until(sub { value("SELECT count(*) FROM eduai.usage_ledger WHERE task_id = $hangs") == 1 }, 10, 'it is cancelled');
wait_until(sub { value(q{SELECT count(*) FROM eduai.task WHERE finished_at IS NULL}) == 0 }, 20, 'all has ended');
is( value(q{SELECT string_agg(i.name, ' ') FROM eduai.instance i, eduai.route('chat', request => jsonb_build_object('model', i.model)) r
		WHERE 'chat' = ANY (i.task_types) AND r.reason ~ '[1-9]\d* of \d+ calls'}), '', 'nothing is counted as in flight any more');

# ---- a limit for ever, that ends after all ----

# Each refusal doubles the pause, which so is no longer than the refusals have
# lasted: a provider that has room again is asked within as much time again.
{
	my ($after) = map { @$_ ? $_->[-1]{seq} : 0 } sim_journal($sim);
	instance('refuses', 'refuses');
	sim_default($sim, 'refuses', 'status=429');
	my @tasks = map { enqueue("refuses", ", max_attempts => 50") } 1 .. 3;
	my $asked = sub { return grep { $_->{model} eq 'refuses' } @{ sim_journal($sim, $after) } };
	wait_until(sub { my @r = $asked->(); @r >= 4 && $r[-1]{arrival_us} - $r[0]{arrival_us} > 0.9e6 }, 30, 'it has refused for a while');
	my @refused = $asked->();
	sim_default($sim, 'refuses', '');
	my $well_us = Time::HiRes::time() * 1e6;
	my ($first) = @{ wait_until(sub { my @good = grep { $_->{status} == 200 } $asked->(); @good && \@good }, 60, 'it is asked again') };
	my $lasted = ($well_us - $refused[0]{arrival_us}) / 1e6;
	cmp_ok(($first->{arrival_us} - $well_us) / 1e6, '<', $lasted + 2, sprintf('after refusals for %.1f s it is asked within as long', $lasted));
	wait_until(sub { join(' ', map { state_of($_) } @tasks) eq join ' ', ("completed") x 3 }, 60, 'and then all are served');
	pass('and then all are served');
}

$node->stop;
done_testing();
