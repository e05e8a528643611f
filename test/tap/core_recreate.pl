# DROP EXTENSION and CREATE EXTENSION under sessions that have used every room,
# in one transaction and in two: they go on with the new installation, and see
# nothing of the old one's.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on', 'eduai.allow_mock' => 'on' });
my $sim = start_simulator();
$node->safe_psql('postgres', q{CREATE TABLE public.score (pupil text, n int); INSERT INTO public.score VALUES ('ana', 1)});

# Each statement works alone and says the same in each new installation.
my @USES = (
	[ 'an append', q{SELECT version, stream FROM eduai.append_event('s-1', 'x', '{"n": 1}', user_id => 'ana');} ],
	[ 'an event about a learner', q{SELECT count(eduai.publish_event('exercise_completed', 'ana', 'l', '{"skill_name": "fractions", "score": 0.8}'));} ],
	[ 'a read', q{SELECT stream, version, data FROM eduai.read_stream('s-1');} ],
	[ 'progress', q{SELECT eduai.user_progress('ana')->>'exercises_completed';} ],
	[ 'compaction', q{SELECT eduai.compact_events('0 s'), (SELECT count(*) FROM eduai.read_all());} ],
	[ 'a type', q{SELECT eduai.define_task_type('marking', 'application', 'custom');} ],
	[ 'a task', q{SELECT eduai.enqueue('marking', '{"n": 1}', unique_key => 'once', user_id => 'ana');} ],
	[ 'the same', q{SELECT eduai.enqueue('marking', '{"n": 1}', unique_key => 'once', user_id => 'ana');} ],
	[ 'a claim, and its end', q{SELECT attempt, payload, eduai.complete_task(task_id, attempt, '{"ok": true}') FROM eduai.claim_tasks('w', '{marking}');} ],
	[ 'what became of it', q{SELECT state FROM eduai.get_task(1);} ],
	[ 'a provider', qq{SELECT eduai.add_provider('p', 'openai', '$sim->{base_url}', 'k', '{"allow_loopback": true}'), eduai.add_instance('i', 'p', 'm', '{chat}');} ],
	[ 'a route', q{SELECT instance FROM eduai.route('chat');} ],
	[ 'a call', qq{SELECT eduai.enqueue('chat', '{"prompt": "x"}') AS t \\gset\nSELECT (eduai.wait_task(:t, '20 s')).state;} ],
	[ 'a budget', q{SELECT eduai.set_budget('tenant', 5); SELECT usd FROM eduai.budget_status;} ],
	[ 'a limit', q{SELECT eduai.define_tier('twice', 2, '1 hour'), eduai.rate_reset('k', 'twice'); SELECT allowed, remaining FROM eduai.rate_limit('k', 'twice');} ],
	[ 'a value', q{SELECT eduai.cache_get('v') IS NULL, eduai.cache_set('v', '1'), eduai.cache_get('v');} ],
	[ 'a query', q{SELECT eduai.cached_query('SELECT n FROM public.score ORDER BY n'); SELECT eduai.cache_watch('public.score', '{"pupil:{pupil}"}');} ],
	[ 'a consent', q{SELECT eduai.require_consent('event:secret', 'care'), eduai.grant_consent('ana', 'care'), eduai.has_consent('ana', 'care');} ],
	[ 'a sealed type', q{SELECT eduai.register_personal_data('public.score', 'pupil', 'delete');} ],
	[ 'an export', q{SELECT string_agg(DISTINCT source, ',' ORDER BY source) FROM eduai.export_user_rows('ana');} ],
	[ 'retention', q{SELECT eduai.set_retention('events', '1 year', 'delete'); SELECT result FROM eduai.run_maintenance('retain_events');} ],
	[ 'health', q{SELECT eduai.health()->>'status' IN ('ok', 'degraded');} ],
);

sub use_all
{
	my ($session) = @_;
	return map { [ $_->[0], $session->ask($_->[1]) ] } @USES;
}

sub none_fails
{
	my ($used, $what) = @_;
	my @failed = grep { ($_->[1] // 'the session died') =~ /ERROR|died/ } @$used;
	return ok(!@failed, $what) || diag(map { "$_->[0]: " . ($_->[1] // 'died') . "\n" } @failed);
}

my ($old, $other) = map { EduaiSession->new($node) } 1 .. 2;
my @first = use_all($old);
none_fails(\@first, 'every room is used');
use_all($other);

for my $way ('DROP EXTENSION eduai CASCADE; CREATE EXTENSION eduai;', 'BEGIN; DROP EXTENSION eduai CASCADE; CREATE EXTENSION eduai; COMMIT;')
{
	my $name = $way =~ /BEGIN/ ? 'in one transaction' : 'in two';
	unlike(EduaiSession->new($node)->ask($way), qr/ERROR/, "$name: it is created anew");
	my @again = use_all($old);
	none_fails(\@again, "$name: a session that used the old one uses the new one");
	is_deeply(\@again, \@first, '... which says what the first one said');
	none_fails([ use_all($other) ], '... and so does another');
	is($old->ask(q{SELECT count(*) FROM eduai.task; SELECT eduai.erase_user('bob')->>'state';}), "4\npending", '... with its own rows');
	wait_until(sub { try_query($node, q{SELECT count(*) FROM eduai.erasure_status WHERE completed_at IS NULL}) eq '0' }, 30, 'and its own workers');
}

$node->stop;
done_testing();
