# A dump of the log, restored: every event is there, in the same order, and the
# log goes on as if nothing had happened. The databases are served while the
# restore runs.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my @targets = qw(custom plain parallel again);
my $node = new_node(conf => {
	'eduai.test_mode' => 'on', 'eduai.database' => join(', ', 'postgres', @targets),
	autovacuum => 'off', max_worker_processes => 40 });
my $dir = PostgreSQL::Test::Utils::tempdir();

sub value { return $node->safe_psql($_[1] // 'postgres', $_[0]) }

# As the tenant.
sub of_tenant
{
	my ($tenant, $sql, $database) = @_;
	return $node->safe_psql($database // 'postgres', "SET eduai.tenant = '$tenant'; $sql");
}

sub week
{
	my ($n) = @_;
	value(qq{SELECT eduai.test_clock(make_interval(secs => extract(epoch FROM date_trunc('week', now()) + '1 week'::interval * (2 + $n) + '2 days 1 hour' - now())))});
}

sub started
{
	my ($database) = @_;
	wait_until(
		sub { value(q{SELECT coalesce(bool_and(c ? 'last_run_at'), false) FROM jsonb_path_query(eduai.health(), '$.events.chores[*]') c}, $database) eq 't' },
		30, "the projector of $database has done its chores");
}

sub upkeep
{
	my ($database) = @_;
	my $runs = q{SELECT c->>'runs' FROM jsonb_path_query(eduai.health(), '$.events.chores[*]') c WHERE c->>'chore' = 'partitions'};
	my $done = value($runs, $database);
	$node->reload;
	wait_until(sub { value($runs, $database) > $done }, 20, "the projector of $database has looked at the partitions");
}

my @tenants = qw(default school);
my $dumped; # the partitions as they were dumped

# ---- a log of many weeks ----

value(q{
	INSERT INTO eduai.tenant_binding SELECT 'postgres', t FROM unnest('{default,school}'::text[]) t;
	SELECT eduai.define_task_type('marking', 'application', 'analysis');
	SELECT eduai.register_event_type('page_turned', '{note}', '{"type": "object", "required": ["n"]}', 3);
});
for my $n (0 .. 7)
{
	week($n);
	for my $tenant (@tenants)
	{
		of_tenant($tenant, qq{
			SELECT eduai.append_batch(array_agg('page-' || i % 7), array_agg('page_turned'::text), array_agg(jsonb_build_object('n', i, 'week', $n)),
				user_ids => array_agg('u' || i % 3)) FROM generate_series(1, 60) i;
			SELECT eduai.append_event('given-$n', 'page_turned', '{"n": 1}', event_id => '00000000-0000-4000-8000-00000000000$n');
			SELECT eduai.publish_event('exercise_completed', 'ana', 's$n', '{"skill_name": "fractions", "score": 0.8}');
			SELECT eduai.enqueue('marking', '{"week": $n}', user_id => 'ana');
		});
	}
}
# Positions that no event has: a transaction that drew them and was rolled back.
value(q{DO $$ BEGIN PERFORM eduai.append_event('gone', 't'); RAISE EXCEPTION 'no'; EXCEPTION WHEN raise_exception THEN NULL; END $$});

# What a tenant's log says, in one line.
sub log_of
{
	my ($tenant, $database) = @_;
	return of_tenant($tenant, q{
		WITH feed AS MATERIALIZED (SELECT * FROM eduai.read_all(0, 10000)),
		streams AS (SELECT DISTINCT stream FROM feed),
		rows AS (SELECT r.* FROM streams s, eduai.read_stream(s.stream, 1, 10000) r)
		SELECT (SELECT count(*) || ' ' || md5(string_agg(feed::text, E'\n' ORDER BY "position")) FROM feed) || ' ' ||
			(SELECT count(*) || ' ' || md5(string_agg(rows::text, E'\n' ORDER BY stream, version)) FROM rows) || ' ' ||
			(SELECT md5(string_agg(stream || eduai.stream_version(stream), ' ' ORDER BY stream)) FROM streams)}, $database);
}

sub tasks_of { return of_tenant($_[0], q{SELECT count(*) || ' ' || md5(string_agg(concat_ws(' ', task_id, payload, user_id, state, priority, enqueued_at), ',' ORDER BY task_id)) FROM eduai.task}, $_[1]) }

sub partitions { return value(q{SELECT coalesce(string_agg(inhrelid::regclass::text || ' ' || pg_get_expr(relpartbound, c.oid), ', ' ORDER BY inhrelid::regclass::text), '') FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'eduai.event'::regclass}, $_[0]) }

# The last position of all tenants, and the next one, by appending an event.
sub last_position
{
	my ($database) = @_;
	return (sort { $b <=> $a } map { of_tenant($_, q{SELECT max("position") FROM eduai.read_all(0, 10000)}, $database) } @tenants)[0];
}

# A restored log goes on.
sub goes_on
{
	my ($database, $what) = @_;
	my $last = last_position($database);
	for my $tenant (@tenants)
	{
		is(of_tenant($tenant, q{SELECT version FROM eduai.append_event('page-1', 'page_turned', '{"n": 0}')}, $database),
			of_tenant($tenant, q{SELECT max(version) FROM eduai.read_stream('page-1')}, $database), "$what: versions of $tenant go on");
		is(of_tenant($tenant, q{SELECT count(*) || ' ' || count(DISTINCT version) || ' ' || max(version) FROM eduai.read_stream('page-1', max_count => 10000)}, $database)
			=~ /^(\d+) \1 \1$/, 1, "$what: densely");
		my $next = of_tenant($tenant, q{SELECT max("position") FROM eduai.read_all(0, 10000)}, $database);
		cmp_ok($next, '>', $last, "$what: the next position is beyond all");
		$last = $next;
		is(of_tenant($tenant, q{SELECT count(*) = count(DISTINCT "position") FROM eduai.read_all(0, 10000)}, $database), 't', "$what: no position twice");
		is(of_tenant($tenant, q{SELECT version FROM eduai.append_event('given-3', 'page_turned', '{"n": 1}', event_id => '00000000-0000-4000-8000-000000000003')}, $database), '1',
			"$what: a given id is known");
	}
	my $before = partitions($database);
	week(8);
	upkeep($database);
	of_tenant('school', q{SELECT eduai.append_event('page-1', 'page_turned', '{"n": 0}')}, $database);
	upkeep($database);
	my $after = partitions($database);
	is(substr($after, 0, length $before), $before, "$what: the partitions are still there");
	is(scalar(() = $after =~ /FOR VALUES/g), 10, "$what: and the next one is made ahead");
	is(value(q{SELECT coalesce(string_agg(code || ': ' || detail, ', '), '') FROM eduai.health_problems() WHERE code LIKE 'projector%'}, $database), '', "$what: the projector has no complaints");
	week(7);
}

sub same
{
	my ($database, $from, $what) = @_;
	for my $tenant (@tenants)
	{
		is(log_of($tenant, $database), log_of($tenant, $from), "$what: the log of $tenant is the same");
		is(tasks_of($tenant, $database), tasks_of($tenant, $from), "$what: the tasks too");
	}
	# the projector may have made the next one by now
	like(partitions($database), qr/^\Q$dumped\E(?:, eduai\.event_p\d{8} FOR VALUES FROM [^,]*)?$/, "$what: the partitions");
	my $type = q{SELECT t FROM eduai.event_type t WHERE event_type = 'page_turned'};
	is(value($type, $database), value($type, $from), "$what: the registered types");
	like(EduaiSession->new($node, $database)->ask(q{SELECT eduai.append_event('page-1', 'page_turned', '{}');}), qr/ERROR:  23514/, "$what: with their schemas");
	my $progress = q{SELECT (eduai.user_progress('ana')->>'exercises_completed')};
	is(of_tenant('school', $progress, $database), of_tenant('school', $progress, $from), "$what: the progress");
}

like(log_of('default'), qr/^496 \w+ 496 /, 'the log has what was appended');
$dumped = partitions();
command_ok([ 'pg_dump', '-Fc', '-f', "$dir/custom", $node->connstr('postgres') ], 'pg_dump, custom');
command_ok([ 'pg_dump', '-f', "$dir/plain", $node->connstr('postgres') ], 'pg_dump, plain');

# ---- custom, section by section ----

# Between the sections the workers do all they would do in an hour.
value('CREATE DATABASE custom');
for my $section (qw(pre-data data post-data))
{
	command_ok([ 'pg_restore', '-e', "--section=$section", '-d', $node->connstr('custom'), "$dir/custom" ], "pg_restore, $section");
	started('custom') if $section eq 'pre-data';
	# A reader that comes too early sees what is there, and spoils nothing.
	$node->psql('custom', 'SELECT count(*) FROM eduai.read_all()');
	upkeep('custom');
}
same('custom', 'postgres', 'custom');
goes_on('custom', 'custom');

# ---- plain, in one go ----

value('CREATE DATABASE plain');
command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('plain'), '-f', "$dir/plain" ], 'psql with a plain dump');
same('plain', 'postgres', 'plain');
goes_on('plain', 'plain');

# ---- in parallel ----

value('CREATE DATABASE parallel');
command_ok([ 'pg_restore', '-e', '-j2', '-d', $node->connstr('parallel'), "$dir/custom" ], 'pg_restore -j2');
same('parallel', 'postgres', 'parallel');
goes_on('parallel', 'parallel');

# ---- the restored one, dumped and restored ----

$dumped = partitions('parallel');
command_ok([ 'pg_dump', '-Fc', '-f', "$dir/again", $node->connstr('parallel') ], 'pg_dump of a restored database');
value('CREATE DATABASE again');
command_ok([ 'pg_restore', '-e', '-j2', '-d', $node->connstr('again'), "$dir/again" ], 'and its restore');
same('again', 'parallel', 'again');
for my $tenant (@tenants)
{
	is(of_tenant($tenant, q{SELECT version FROM eduai.append_event('page-2', 'page_turned', '{"n": 0}', expected_version => eduai.stream_version('page-2'))}, 'again') > 0, 1, "again: $tenant goes on");
	is(of_tenant($tenant, q{SELECT count(*) = count(DISTINCT "position") FROM eduai.read_all(0, 10000)}, 'again'), 't', 'again: no position twice');
}
unlike(slurp_file($node->logfile), qr/could not do its chore/, 'no chore failed meanwhile');

$node->stop;
done_testing();
