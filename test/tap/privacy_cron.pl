# pg_cron runs the maintenance jobs, each minute here; scheduling again replaces what
# was there; two at once do no harm. It takes as long as pg_cron has still to wait for
# the next full minute, 60 s at most: no shorter schedule exists. What needs no pg_cron
# is looked at meanwhile, in a database of its own.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

# It connects over the socket, as whoever scheduled the job.
my $node = new_node(start => 0, conf => {
	'eduai.test_mode' => 'on', shared_preload_libraries => 'pg_cron,eduai', 'cron.database_name' => 'postgres', autovacuum => 'off' });
$node->append_conf('postgresql.conf', "cron.host = '" . $node->host . "'\n");
$node->start;

sub value { return $node->safe_psql('postgres', $_[0]) }
sub by_hand { return $node->safe_psql('by_hand', $_[0]) }

# ---- scheduled first: the minute runs ----

value('CREATE EXTENSION eduai');
like(value(q{SELECT command FROM eduai.schedule_maintenance() WHERE job = 'prune_runs'}), qr/^SELECT cron\.schedule_in_database\('eduai prune_runs', '[^']+', 'CALL eduai\.run_maintenance\(''prune_runs'', NULL\)', 'postgres'\)$/,
	'without the extension pg_cron it returns what to run');
is(value(q{SELECT count(*) FROM eduai.maintenance_status WHERE installed}), '0', 'and installs nothing');
value('CREATE EXTENSION pg_cron');
value(q{SELECT count(eduai.append_event('learner-' || i, 'old', jsonb_build_object('n', i), user_id => i::text)) FROM generate_series(1, 50) i});
value(q{SELECT eduai.set_retention('events', '1 ms', 'delete'), eduai.set_retention('usage', '90 days', 'delete')});
is(value(q{SELECT count(*) FROM eduai.schedule_maintenance('0 0 1 1 *')}), '5', 'a job for each policy and three more');
is(value(q{SELECT count(*) FROM cron.job WHERE jobname LIKE 'eduai %' AND schedule = '0 0 1 1 *' AND database = 'postgres'}), '5', 'they are on pg_cron');
value(q{SELECT eduai.schedule_maintenance('* * * * *')});
is(value(q{SELECT count(*) FROM cron.job}), '5', 'scheduling again replaces them');
is(value(q{SELECT count(*) FROM eduai.maintenance_status WHERE installed AND schedule = '* * * * *'}), '5', 'the status says when');

# ---- meanwhile: the same functions by hand ----

value('CREATE DATABASE by_hand');
by_hand('CREATE EXTENSION eduai');
by_hand(q{SELECT eduai.set_retention('events', '1 ms', 'delete'), eduai.set_retention('usage', '90 days', 'delete')});
by_hand(q{SELECT count(eduai.append_event('learner-' || i, 'old', jsonb_build_object('n', i), user_id => i::text)) FROM generate_series(1, 51) i});
my @session = map { EduaiSession->new($node, 'by_hand') } 1 .. 2;
$_->send(q{SELECT count(*) FILTER (WHERE r.result IN ('done', 'busy')) FROM generate_series(1, 10) i, LATERAL eduai.run_maintenance('retain_events') r;}) for @session;
is($_->answer(60), '10', 'twice at once: each is done or busy') for @session;
is(by_hand(q{SELECT count(*) FROM eduai.read_all()}), '0', 'what was old is gone');
is(by_hand(q{SELECT sum(rows) FROM eduai.maintenance_run WHERE job = 'retain_events'}), '51', 'each event was counted once');
is(by_hand(q{SELECT r.result FROM eduai.run_maintenance('fit_learner_model') r}), 'done', 'a job by hand');
like(by_hand(q{CALL eduai.run_maintenance('retain_events', NULL)}), qr/^\(retain_events,done,0,/, 'by the procedure');
like(by_hand(q{BEGIN; CALL eduai.run_maintenance('prune_runs', NULL); COMMIT}), qr/^\(prune_runs,done,0,/, 'in a transaction block, too');
my ($out, $err) = ('', '');
$node->psql('by_hand', q{SELECT eduai.run_maintenance('nothing')}, stderr => \$err);
like($err, qr/unknown job "nothing"/, 'an unknown job');

# A job that fails says so and stays visible.
by_hand(q{ALTER TABLE eduai.provider_call RENAME TO moved});
is(by_hand(q{SELECT result || ': ' || error FROM eduai.run_maintenance('retain_usage')}), 'failed: relation "eduai.provider_call" does not exist', 'a job that fails');
is(by_hand(q{SELECT last_result FROM eduai.maintenance_status WHERE job = 'retain_usage'}), 'failed', 'the status says so');
by_hand(q{ALTER TABLE eduai.moved RENAME TO provider_call});
is(by_hand(q{SELECT count(*) FROM eduai.maintenance_status WHERE installed}), '0', 'another database has no schedule');

# ---- the minute is over ----

wait_until(sub { value(q{SELECT count(DISTINCT job) FROM eduai.maintenance_run}) eq '5' }, 90, 'pg_cron has run all five');
is(value(q{SELECT string_agg(DISTINCT result, ' ') FROM eduai.maintenance_run}), 'done', 'they are done');
is(value(q{SELECT count(*) FROM eduai.read_all()}), '0', 'and did what they are for');
is(value(q{SELECT sum(rows) FROM eduai.maintenance_run WHERE job = 'retain_events'}), '50', 'to each event, once');
wait_until(sub { value(q{SELECT count(DISTINCT jobid) FROM cron.job_run_details WHERE status = 'succeeded'}) eq '5' }, 20, 'pg_cron saw them succeed');
is(value(q{SELECT count(*) FROM cron.job_run_details WHERE status = 'failed'}), '0', 'and none fail');

is(value(q{SELECT eduai.unschedule_maintenance()}), '5', 'taken off again');
is(value(q{SELECT count(*) FROM cron.job}), '0', 'pg_cron has none');
$node->stop;
done_testing();
