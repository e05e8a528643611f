# Shared by the tests of erasure: learners with events of all kinds, what is left of
# them, and the end of all erasures.

package EduaiErasure;

use strict;
use warnings;

use EduaiTest;
use Exporter 'import';

our @EXPORT = qw(learner traces erasures_complete);

# learner(NODE, USER, N): N events in the learner's own stream, ten in the stream of
# a class, one in another, and a task.
sub learner
{
	my ($node, $user, $n) = @_;
	$node->safe_psql('postgres', qq{SELECT count(*) FROM generate_series(1, $n) n, LATERAL eduai.append_event('learner-$user', 'x', jsonb_build_object('n', n, 'text', 'data-of-$user'), '$user', 'session-of-$user');
		SELECT count(*) FROM generate_series(1, 10) n, LATERAL eduai.append_event('class', 'x', jsonb_build_object('n', n, 'text', 'data-of-$user'), '$user', 'session-of-$user');
		SELECT count(*) FROM eduai.append_event('stream-of-$user', 'x', '{"text": "data-of-$user"}', '$user');
		SELECT eduai.enqueue('custom', '{"text": "data-of-$user"}', user_id => '$user') IS NOT NULL});
	return;
}

# traces(NODE, USER, DATABASE) -> what is left: rows of the feed and of the export.
sub traces
{
	my ($node, $user, $database) = @_;
	return $node->safe_psql($database // 'postgres', qq{SELECT coalesce(string_agg(e::text, E'\n'), '') FROM (SELECT e::text FROM eduai.read_all(0, 10000) e WHERE e::text LIKE '%of-$user%' OR user_id = '$user' OR stream LIKE '%$user'
		UNION ALL SELECT x::text FROM eduai.export_user_rows('$user') x) t (e)});
}

# erasures_complete(NODE, DATABASE): waits for it; the server may be starting.
sub erasures_complete
{
	my ($node, $database) = @_;
	return wait_until(sub { (try_query($node, 'SELECT count(*) FROM eduai.erasure WHERE completed_at IS NULL', $database) // 'x') eq '0' }, 60, 'all erasures are complete');
}

1;
