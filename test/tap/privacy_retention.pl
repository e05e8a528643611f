# Retention of events: what a policy says and nothing else; whole segments and whole
# partitions go, and what is young keeps what is old beside it.

use strict;
use warnings;

use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on', 'eduai.compact_after' => '-1', 'eduai.partition_interval' => 'week', autovacuum => 'off' });

sub value { return $node->safe_psql('postgres', $_[0]) }

# test time: so long after a Monday at noon
sub at { return value("SELECT eduai.test_clock(timestamptz '2031-03-03 12:00+00' + interval '$_[0]' - clock_timestamp())") }

sub append
{
	my ($stream, $n, $tenant) = @_;
	return value(($tenant ? "SET eduai.tenant = '$tenant'; " : '') . "SELECT count(eduai.append_event('$stream', 'x', jsonb_build_object('n', i))) FROM generate_series(1, $n) i");
}

sub events
{
	my ($tenant) = @_;
	return value(($tenant ? "SET eduai.tenant = '$tenant'; " : '') . q{SELECT coalesce(string_agg(stream || ' ' || n, ', ' ORDER BY stream), '') FROM (SELECT stream, count(*) AS n FROM eduai.read_all(0, 1000) GROUP BY 1) s});
}

# the partitions that have rows or had some, without those made ahead
sub partitions
{
	return value(q{SELECT string_agg(c.relname || ' ' || c.oid, ', ' ORDER BY c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'eduai.event'::regclass AND c.relname <= 'event_p20310324'});
}

sub run_job
{
	return value(q{SELECT r.result || ' ' || r.rows FROM eduai.run_maintenance('retain_events') r});
}

value(q{DO $$ BEGIN PERFORM eduai.allow_tenant(current_user, 'other'), eduai.allow_tenant(current_user, 'default'); END $$});
at('0');
append('first', 100);
append('first', 30, 'other');
at('8 days');
append('second', 50);
at('22 days');
append('fourth', 20);
my $all = 'first 100, fourth 20, second 50';
is(events(), $all, 'three weeks have events');

# ---- what is kept, and what is done with the rest, is what the policy says ----

value(q{SELECT eduai.set_retention('events', '40 days', 'delete')});
is(run_job(), 'done 0', 'a policy that nothing is old enough for');
is(events(), $all, 'does nothing');
value(q{SELECT eduai.set_retention('events', '40 days', 'delete'), eduai.set_retention('events', '10 days', 'compact')});
is(run_job(), 'done 150', 'a policy to compact');
is(events(), $all, 'deletes nothing');
is(value(q{SELECT count(*) FROM eduai.event WHERE tenant_id = 'default'}), '20', 'but has compacted what is old');
is(value(q{SELECT count(*) FROM eduai.event WHERE tenant_id = 'other'}), '30', 'of this tenant');
value(q{SET eduai.tenant = 'other'; SELECT eduai.set_retention('events', '90 days', 'compact')});
value(q{SELECT eduai.set_retention('events', NULL, 'compact')});
is(value(q{SELECT string_agg(tenant_id || ' ' || action, ', ' ORDER BY tenant_id, action) FROM eduai.retention_policy}), 'default delete, other compact', q{a policy is taken back, and no other tenant's});

# ---- deletion, with a neighbour of the same time ----

value(q{SELECT eduai.set_retention('events', '10 days', 'delete')});
like(run_job(), qr/^done [1-9]/, 'a policy to delete');
is(events(), 'fourth 20', 'deletes what is older');
is(events('other'), 'first 30', q{and nothing of another tenant's});
my $between = partitions();
is($between =~ /event_p20310303/ ? 1 : 0, 1, 'a partition that somebody has events in stays');

# ---- partitions go whole ----

value(q{SET eduai.tenant = 'other'; SELECT eduai.set_retention('events', '10 days', 'delete')});
like(run_job(), qr/^done [1-9]/, 'the other tenant wants the same');
is(events('other'), '', 'and has it');
is(events(), 'fourth 20', 'the first keeps what is young');
$node->reload; # looks after partitions at once
wait_until(sub { partitions() !~ /event_p20310303|event_p20310310/ }, 30, 'the emptied partitions are dropped');
is(value(q{SELECT count(*) FROM eduai.event}), '20', 'the young ones are where they were');

# ---- young events keep old ones in the same segment ----

append('young', 5);
value(q{SELECT eduai.compact_events('0 s')});
at('30 days');
is(run_job(), 'done 0', 'a segment whose last event is young stays');
is(events(), 'fourth 20, young 5', 'whole');
at('33 days');
like(run_job(), qr/^done [1-9]/, 'until its last event is old');
is(events(), '', 'then it goes');
$node->stop;
done_testing();
