# Twenty sessions append to one stream at once, without an expected version: twenty
# successes and twenty dense versions, to a new stream and to an old one, under
# READ COMMITTED and under REPEATABLE READ with snapshots taken before any of them.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on' });
my @sessions = map { EduaiSession->new($node) } 1 .. 20;

sub value { return $node->safe_psql('postgres', $_[0]) }

value(q{SELECT eduai.append_batch(array_agg('old'::text), array_agg('before'::text), array_agg('{}'::jsonb)) FROM generate_series(1, 7)});
# compacted, so that its last version is found where old events are
value(q{SELECT eduai.append_event('ancient', 'before') FROM generate_series(1, 3)});
value(q{SELECT eduai.compact_events('0')});

for my $case ([ 'READ COMMITTED', 'new-rc', 0 ], [ 'REPEATABLE READ', 'new-rr', 0 ], [ 'READ COMMITTED', 'old', 7 ], [ 'REPEATABLE READ', 'old', 27 ], [ 'REPEATABLE READ', 'ancient', 3 ])
{
	my ($level, $stream, $before) = @$case;
	my $what = "$level, stream $stream";

	for my $session (@sessions)
	{
		$session->ask("BEGIN ISOLATION LEVEL $level;");
		$session->ask("SELECT eduai.stream_version('$stream');");
	}
	# all at the same line: the first holds the stream's lock at the point, the others wait for it
	value(q{SELECT eduai.test_pause('events_append_locked', true)});
	$_->send("SELECT version FROM eduai.append_event('$stream', 'x'); COMMIT;") for @sessions;
	wait_until(sub { value(q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%append_event%' AND pid <> pg_backend_pid() AND state = 'active'
		AND (wait_event_type = 'Lock' OR wait_event_type IS NULL OR wait_event = 'Extension')}) >= 20 && value(q{SELECT eduai.test_paused('events_append_locked')}) == 1 },
		30, 'all twenty are there');
	is(value(q{SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'}), 19, "$what: nineteen wait for the first");
	value(q{SELECT eduai.test_pause('events_append_locked', false)});
	my @versions = sort { $a <=> $b } map { $_->answer } @sessions;
	is("@versions", join(' ', $before + 1 .. $before + 20), "$what: twenty successes, dense versions");
	is(value("SELECT eduai.stream_version('$stream')"), $before + 20, "$what: and that is its version");
}
is(value(q{SELECT bool_and(version = n) FROM (SELECT version, row_number() OVER (PARTITION BY stream ORDER BY "position") n FROM eduai.read_all(0, 10000)) f}),
	't', 'the feed has each stream in the order of its versions');

$_->quit for @sessions;
$node->stop('fast');
done_testing();
