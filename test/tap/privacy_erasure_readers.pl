# Those who go on beside an erasure: who reads by position passes over the gaps that
# it leaves, in hot rows and in blocks; an answer that comes late is not stored.

use strict;
use warnings;

use EduaiErasure;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on', autovacuum => 'off', 'eduai.compact_after' => '-1' });
my $sim = start_simulator();

sub value { return $node->safe_psql('postgres', $_[0]) }

# ---- those who read by position ----

sub mixed { my ($user, $n) = @_; return value(qq{SELECT count(*) FROM generate_series(1, $n) n, LATERAL eduai.append_event('room-' || n % 4, 'said', '{}', CASE WHEN n % 3 = 0 OR n BETWEEN 100 AND 160 THEN '$user' ELSE 'lea' END)}) }
my $feed = q{SELECT string_agg("position"::text, ' ' ORDER BY "position") FROM eduai.read_all(0, 10000) WHERE event_type = 'said' AND user_id = 'lea'};
value(q{SELECT eduai.create_subscription('whole'); SELECT eduai.create_subscription('half', '{said}'); SELECT eduai.create_subscription('pair', category => 'room', members => 2);
	CREATE FUNCTION public.said(state jsonb, e eduai.event_record) RETURNS jsonb IMMUTABLE LANGUAGE sql AS $$ SELECT jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + 1) $$;
	SELECT eduai.create_projection('said', 'public.said(jsonb, eduai.event_record)', key => 'user_id', event_types => '{said}')});
mixed('kit', 300);
value(q{SELECT eduai.compact_events('0')});
mixed('kit', 300);
# The last one is a stranger's: after the erasure the log ends before it.
value(q{SELECT count(*) FROM eduai.append_event('room-9', 'said', '{}', 'kit')});
my $top = value(q{SELECT max("position") FROM eduai.read_all(0, 10000)});
# Fetched and not acknowledged: amid the erased ones, in blocks and in hot rows.
my $in_blocks = value(q{SELECT max("position") FROM eduai.fetch_events('half', 130) WHERE user_id = 'kit'});
value(qq{SELECT eduai.ack_events('pair', max("position"), 0) FROM eduai.fetch_events('pair', 200, 0) WHERE user_id = 'lea'; SELECT count(*) FROM eduai.fetch_events('pair', 100, 1)});
my $of_lea = value($feed);
value(q{SELECT eduai.erase_user('kit')});
erasures_complete($node);
is(value($feed), $of_lea, 'positions of others are what they were');
value("SELECT eduai.ack_events('half', $in_blocks)");
is(value(q{SELECT "position" FROM eduai.subscription_status WHERE name = 'half'}), $in_blocks, 'a position that is gone is acknowledged');
is(value(qq{SELECT min("position") = (SELECT min("position") FROM eduai.read_all($in_blocks, 10000) WHERE event_type = 'said' AND user_id = 'lea') FROM eduai.fetch_events('half', 1)}), 't', 'and the next one follows');
value(q{SELECT count(*) FROM eduai.append_event('room-1', 'said', '{}', 'lea')});
my $last = value(q{SELECT max("position") FROM eduai.read_all(0, 10000)});
cmp_ok($last, '>', $top, 'the position of the last, which was erased, is not given again');

# All of a subscription or of pages of the feed, in order.
sub drained
{
	my ($name, $member) = @_;
	my @all;
	for (1 .. 100)
	{
		my @page = split /\n/, value(qq{SELECT "position" || ' ' || event_type || ' ' || coalesce(user_id, '') FROM eduai.fetch_events('$name', 90, $member)});
		last unless @page;
		push @all, @page;
		my ($at) = split / /, $page[-1];
		value("SELECT eduai.ack_events('$name', $at, $member)");
	}
	return map { (split / /)[0] } grep { / said lea$/ } @all;
}
my @lea = split / /, value($feed);
is(join(' ', drained('whole', 0)), "@lea", 'a subscription gets all that is left, once and in order');
is(join(' ', drained('half', 0)), join(' ', grep { $_ > $in_blocks } @lea), 'one that was amid the gaps goes on');
drained('pair', $_) for 0, 1;
is(value(q{SELECT max(lag_events) FROM eduai.subscription_status}), '0', 'nobody is behind');
my ($at, @paged) = (0);
for (1 .. 200)
{
	my @page = split /\n/, value(qq{SELECT "position" || ' ' || event_type || ' ' || coalesce(user_id, '') FROM eduai.read_all($at, 50)});
	last unless @page;
	($at) = split / /, $page[-1];
	push @paged, map { (split / /)[0] } grep { / said lea$/ } @page;
}
is("@paged", "@lea", 'so do pages of the feed');
wait_until(sub { value(q{SELECT eduai.projection_state('said', 'lea') ->> 'n'}) eq scalar @lea }, 30, 'a projection follows over the gaps');
value(q{SELECT eduai.rebuild_projection('said')});
wait_until(sub { value(q{SELECT bool_or(rebuilding) OR max(lag_events) > 0 FROM eduai.projection_status}) eq 'f' }, 30, 'it is rebuilt');
is(value(q{SELECT eduai.projection_state('said', 'lea') ->> 'n'}), scalar @lea, 'and counts the same');
is(value(q{SELECT count(*) FROM eduai.projection_status p, LATERAL (SELECT eduai.projection_state('said', 'kit') s) k WHERE k.s IS NOT NULL}), '0', 'without the learner');

# ---- late answers ----

add_fleet($node, $sim);
sim_default($sim, 'sim-chat', 'latency=1500');
value(q{SELECT eduai.set_budget('user:*', 100)});
my $task = value(q{SELECT eduai.enqueue('chat', '{"max_tokens": 50, "messages": [{"role": "user", "content": "words of jon"}]}', user_id => 'jon')});
wait_until(sub { sim_stats($sim)->{open} >= 1 }, 30, 'the provider is at it');
my $pid = wait_until(sub {
	my $pid = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'eduai dispatcher'});
	kill 'STOP', $pid;
	return $pid if value("SELECT xact_start IS NULL FROM pg_stat_activity WHERE pid = $pid") eq 't';
	kill 'CONT', $pid;
	return;
}, 10, 'the dispatcher is held, outside of a transaction');
value(q{SELECT eduai.erase_user('jon')});
my $erased = eval { erasures_complete($node) };
kill 'CONT', $pid;
ok($erased, 'an erasure does not wait for the dispatcher');
wait_until(sub { value('SELECT (SELECT count(*) FROM eduai.budget_reservation) = 0 AND (SELECT count(*) FROM eduai.provider_call) > 0') eq 't' }, 30, 'what came late is settled');
is(value(q{SELECT count(*) FROM eduai.budget_spent WHERE user_id = 'jon'}), '0', 'nothing is counted for the learner');
is(value(q{SELECT count(user_id) FROM eduai.provider_call}), '0', 'the ledger names nobody');
is(value(q{SELECT count(*) FROM eduai.export_user_rows('jon')}), '0', 'the answer is not stored');
value(q{SELECT count(*) FROM eduai.enqueue('chat', '{"max_tokens": 50, "messages": [{"role": "user", "content": "x"}]}', user_id => 'lea')});
wait_until(sub { value(q{SELECT count(*) FROM eduai.budget_spent WHERE user_id = 'lea'}) eq '1' }, 30, 'others are counted');

done_testing();
