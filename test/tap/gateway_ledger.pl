# The ledger is written without SQL, unless its table has what only SQL heeds.
# Both ways write the same, and every index knows every row.

use strict;
use warnings;

use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.sweep_interval' => '1s' });
my $sim = start_simulator();
sim_default($sim, 'sim-broken', 'status=400');
add_fleet($node, $sim);
add_fleet($node, $sim, provider => 'broken', model => 'sim-broken');

sub value { return $node->safe_psql('postgres', $_[0]) }

# calls of some tasks by two models, all recorded; who made them
sub calls
{
	my ($user) = @_;
	my $ids = value(qq{SELECT string_agg(eduai.enqueue('chat', jsonb_build_object('model', m, 'prompt', 'hello'), user_id => '$user')::text, ',')
		FROM unnest('{sim-chat,sim-chat,sim-broken}'::text[]) m});
	value("SELECT count(*) FROM eduai.wait_tasks('{$ids}', '20 s')");
	return value(qq{SELECT string_agg(DISTINCT concat_ws(' ', instance, provider, task_type, model, tokens_in, tokens_out, tokens_cached, images, audio_ms,
			cost_usd, outcome, code, http_status, attempt, ms > 0, first_byte_ms <= ms, bound_usd, counted_usd, started_at <= now(), request_id IS NOT NULL), ', ')
		FROM eduai.provider_call WHERE user_id = '$user'});
}

# the rows that each index has, and the table
sub counts
{
	return join ' ', map { value("SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(*) FROM eduai.provider_call WHERE $_") }
		'tenant_id >= $$$$', 'instance >= $$$$', 'user_id = $$sql$$', 'ctid IS NOT NULL';
}

my $directly = calls('directly');
like($directly, qr/completed.*failed|failed.*completed/s, 'calls are recorded');
is(value(q{SELECT count(*) FROM eduai.provider_call}), '3', 'each');
is(counts(), '3 3 0 3', 'and each index has them');

value(q{CREATE TABLE seen (task_id bigint, user_id text);
	CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
		$$BEGIN INSERT INTO public.seen VALUES (NEW.task_id, NEW.user_id); RETURN NEW; END$$;
	CREATE TRIGGER see AFTER INSERT ON eduai.provider_call FOR EACH ROW EXECUTE FUNCTION see()});
is(calls('trigger'), $directly, 'with a trigger the rows are the same');
is(value('SELECT count(*) FROM seen'), '3', 'and it is fired');
value('DROP TRIGGER see ON eduai.provider_call');

value(q{CREATE INDEX some_users ON eduai.provider_call (user_id) WHERE user_id = 'sql'});
is(calls('sql'), $directly, 'with a partial index too');
is(calls('other'), $directly, 'and for others');
is(counts(), '12 12 3 12', 'which has what it should');
value(q{DROP INDEX eduai.some_users; CREATE INDEX all_users ON eduai.provider_call (user_id)});
is(calls('again'), $directly, 'an index of plain columns is kept');
is(value(q{SET enable_seqscan = off; SELECT count(*) FROM eduai.provider_call WHERE user_id = 'again'}), '3', 'without SQL, too');

done_testing();
