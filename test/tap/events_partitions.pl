# The partitions of the log: made by another process, at the right bounds, one
# beside the other when the period is changed; a clock that goes back does not
# lead into an older one; nobody waits for a transaction that needed a new one.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on', 'eduai.partition_interval' => 'week' });

sub value { return $node->safe_psql('postgres', $_[0]) }

# test time: an offset from a Monday at noon, so that the test does not depend on the day it runs
sub at
{
	my ($offset) = @_;
	value("SELECT eduai.test_clock(timestamptz '2031-03-03 12:00+00' + interval '$offset' - clock_timestamp())");
}

sub append
{
	my ($stream, %option) = @_;
	return value("SELECT version FROM eduai.append_event('$stream', 'x')");
}

my $ranges = q{SELECT m[1] AS lower, m[2] AS upper FROM pg_class,
	regexp_match(pg_get_expr(relpartbound, pg_class.oid), '(\d{4}-\d\d-\d\d).*(\d{4}-\d\d-\d\d)') m
	WHERE relispartition AND relkind = 'r' AND relnamespace = 'eduai'::regnamespace};
my $bounds = qq{SELECT string_agg(lower || '..' || upper, ' ' ORDER BY lower) FROM ($ranges) r};
my $rows = sub { return value("SELECT count(*) FROM eduai.$_[0]") };

is(value($bounds), '', 'a database without appends has no partition: a restore can bring its own');

# ---- the first append, in a transaction that stays open
at('0');
my $slow = EduaiSession->new($node);
$slow->ask(q{BEGIN;});
is($slow->ask(q{SELECT version FROM eduai.append_event('slow', 'x');}), 1, 'the first append makes a partition');
is(append('quick'), 1, 'another session appends while the first transaction is open');
$slow->ask(q{ROLLBACK;});
is(append('quick'), 2, 'the partition does not go with the transaction that needed it');
like(value($bounds), qr/^2031-03-03\.\.2031-03-10/, 'a week begins on Monday');

# ---- further periods
at('8 days');
is(append('quick'), 3, 'versions go on in the next week');
is($rows->('event_p20310310'), 1, 'in a partition of its own');
is(value(q{SELECT string_agg(version::text, ',') FROM eduai.read_stream('quick')}), '1,2,3', 'read across partitions');
is(value(q{SELECT string_agg(version::text, ',') FROM eduai.read_stream('quick', backward => true)}), '3,2,1', 'and backward');
is(value(q{SELECT string_agg(version::text, ',') FROM eduai.read_stream('quick', 2, 1)}), '2', 'and a part');

# ---- the clock goes back over the boundary
at('6 days');
is(append('quick'), 4, 'the clock went back: the next version');
is($rows->('event_p20310310'), 2, 'in the newest partition in use');
is(value(q{SELECT bool_and(recorded_at >= timestamptz '2031-03-10 00:00+00') FROM eduai.read_stream('quick', 4)}), 't', 'recorded no earlier than it starts');
$node->restart;
at('6 days');
is(append('quick'), 5, 'the same after a restart');
is($rows->('event_p20310310'), 3, 'which finds the newest partition in use again');

# ---- another period: no overlap, no gap
at('9 days');
$node->append_conf('postgresql.conf', "eduai.partition_interval = 'day'\n");
$node->reload;
at('22 days');
is(append('quick'), 6, 'days from now on');
like(value($bounds), qr/2031-03-25\.\.2031-03-26/, 'a partition of a day');
$node->append_conf('postgresql.conf', "eduai.partition_interval = 'month'\n");
$node->reload;
at('25 days');
is(append('quick'), 7, 'months from now on');
like(value($bounds), qr/2031-03-2\d\.\.2031-04-01/, 'the rest of the month, beside what is there');
is(value(qq{SELECT count(*) FROM (SELECT lead(lower) OVER (ORDER BY lower) < upper AS overlap FROM ($ranges) r) o WHERE overlap}),
	0, 'no partitions overlap');
is(value(q{SELECT string_agg(version::text, ',') FROM eduai.read_stream('quick')}), '1,2,3,4,5,6,7', 'all versions, in order');
is(value(q{SELECT string_agg(version::text, ',' ORDER BY "position") FROM eduai.read_all(category => 'quick')}), '1,2,3,4,5,6,7', 'in the feed too');

# ---- the same id, once its partition is an old one
is(value(q{SELECT version FROM eduai.append_event('ids', 'x', '{"n": 1}', event_id => '00000000-0000-0000-0000-0000000000aa')}), 1, 'an id is given');
at('60 days');
is(append('ids'), 2, 'months later');
is(value(q{SELECT version FROM eduai.append_event('ids', 'x', '{"n": 1}', event_id => '00000000-0000-0000-0000-0000000000aa')}), 1, 'its repeat returns the first result');
my ($ok, $out, $err) = $node->psql('postgres', q{SELECT eduai.append_event('ids', 'x', '{"n": 2}', event_id => '00000000-0000-0000-0000-0000000000aa')});
like($err, qr/exists with other content/, 'other content is refused');

# ---- an extension created in the same transaction
$node->safe_psql('postgres', 'CREATE DATABASE fresh');
is($node->safe_psql('fresh', q{BEGIN; CREATE EXTENSION eduai; SELECT version FROM eduai.append_event('s', 'x'); COMMIT;}), 1, 'appending in the transaction that creates the extension');

# ---- a database that no worker serves
is($node->safe_psql('fresh', q{SELECT eduai.test_clock(interval '5 years'); SELECT version FROM eduai.append_event('s', 'x');}) =~ s/^\n//r, 2, 'a database that no worker serves gets its partitions too');

# ---- a partition whose indexes a restore has still to make
my $fresh = sub { return $node->psql('fresh', $_[0]) };
my $partition = $node->safe_psql('fresh', q{SELECT relname FROM pg_class WHERE oid = (SELECT tableoid FROM eduai.event ORDER BY version DESC LIMIT 1)});
my $index = $node->safe_psql('fresh', qq{SELECT pg_get_indexdef('eduai.${partition}_event_id'::regclass)});
$node->safe_psql('fresh', qq{DROP INDEX eduai.${partition}_event_id});
(undef, undef, $err) = $fresh->(q{\set VERBOSITY verbose
	SELECT eduai.append_event('s', 'x')});
like($err, qr/55000: a partition of the log of events has no indexes yet/, 'it takes no rows, nor another one beside it');
$node->safe_psql('fresh', $index);
is(($fresh->(q{SELECT version FROM eduai.append_event('s', 'x')}))[1], 3, 'and goes on once it has them');

$node->stop('fast');
done_testing();
