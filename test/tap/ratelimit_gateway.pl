# Adaptive tiers named after a provider or an instance follow how its calls
# fare: refusals and failures lower them, answers raise them again, and never
# above the limit; what a request is itself to blame for says nothing.

use strict;
use warnings;

use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on' });
my $sim = start_simulator();

sub value { return $node->safe_psql('postgres', $_[0]) }
sub instance { value("SELECT eduai.add_instance('$_[0]', '$_[1]', '$_[2]', options => '{\"aliases\": [\"$_[0]-alias\"]}')") }

# Three calls of the instance, each in its own task, to their end.
sub calls
{
	my ($instance, $state) = @_;
	my @tasks = split /\n/, value(qq{SELECT eduai.enqueue('chat', '{"model": "$instance-alias", "messages": [{"role": "user", "content": "hello"}]}', max_attempts => 1)
		FROM generate_series(1, 3)});
	wait_for_task($node, $_, $state) for @tasks;
}

# The limits in force of the tiers, those reported so far being judged.
my $periods = 0;
sub limits
{
	$periods += 61;
	value("SELECT eduai.test_clock('$periods s')");
	return value(q{SELECT string_agg((eduai.rate_peek('k', name, request_type)).limit_count::text, ' ' ORDER BY name, request_type) FROM eduai.rate_tiers WHERE name LIKE '%:%' AND NOT of_tenant});
}

value(qq{
	SELECT eduai.add_provider(p, 'openai', '$sim->{base_url}/v1', options => '{"allow_loopback": true}') FROM unnest('{busy,calm,blamed}'::text[]) p;
	SELECT eduai.allow_tenant(current_user, t) FROM unnest('{school,default}'::text[]) t;
	SELECT eduai.define_tier('instance:busy-1', 100, '1 hour', adaptive => true), eduai.define_tier('instance:calm-1', 50, '1 hour'),
		eduai.define_tier('provider:blamed', 100, '1 hour', adaptive => true), eduai.define_tier('provider:busy', 100, '1 hour', adaptive => true),
		eduai.define_tier('provider:calm', 100, '1 hour', adaptive => true);
	SELECT eduai.define_tier('provider:busy', 40, '1 hour', adaptive => true, tenant => 'school'), eduai.define_tier('provider:busy', 80, '1 hour', adaptive => true, request_type => 'embeddings');
});
instance('busy-1', 'busy', 'm@status=429;retry_after_ms=1');
instance('calm-1', 'calm', 'm');
instance('blamed-1', 'blamed', 'm@status=400');
is(limits(), '100 50 100 100 80 100', 'the limits at first');

calls('busy-1', 'dead');
calls('calm-1', 'completed');
calls('blamed-1', 'dead');
is(limits(), '70 50 100 70 80 100', 'refusals lower the tiers of the provider and of the instance, and no other');
is(value(q{SET eduai.tenant = 'school'; SELECT limit_count FROM eduai.rate_peek('k', 'provider:busy')}), 40, 'a tenant with a tier of its own, who called nobody, keeps its limit');

instance('busy-1', 'busy', 'other');
calls('busy-1', 'completed');
calls('calm-1', 'completed');
is(limits(), '75 50 100 75 80 100', 'answers raise them again; one that was not lowered stays at its limit');

# A server's failure counts as a refusal does.
instance('busy-1', 'busy', 'm@status=500');
calls('busy-1', 'dead');
is(limits(), '52 50 100 52 80 100', 'failures lower them, too');

done_testing();
