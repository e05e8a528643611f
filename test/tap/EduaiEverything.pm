# For tests of dumps, copies and upgrades: a database in which everything that the
# log stores is there, what it says in a form that can be compared, and a check
# that it goes on.
#
#   fill_everything($node, 'postgres');
#   my $before = everything_of($node, 'postgres');
#   is_same_everything($node, 'copy', $before, 'the copy');
#   everything_goes_on($node, 'copy', 'the copy');

package EduaiEverything;

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Exporter 'import';
use Test::More;

our @EXPORT = qw(set_week of_tenant chores_have_run fill_everything everything_of log_of is_same_everything everything_goes_on);

my @tenants = qw(default school);

# The subscriptions and their members.
my %members = (one => 1, three => 3, moved => 3, filtered => 1);

# set_week(NODE, N): the test clock, for the server, to week N of the log.
sub set_week
{
	my ($node, $n) = @_;
	return $node->safe_psql('postgres', qq{SELECT eduai.test_clock(make_interval(secs => extract(epoch FROM date_trunc('week', now()) + '1 week'::interval * (2 + $n) + '2 days 1 hour' - now())))});
}

sub of_tenant
{
	my ($node, $database, $tenant, $sql) = @_;
	return $node->safe_psql($database, "SET eduai.tenant = '$tenant'; $sql");
}

# chores_have_run(NODE, DATABASE): all chores of its projector, once more. Dies
# when one fails for 20 seconds.
sub chores_have_run
{
	my ($node, $database) = @_;
	my $runs = sub {
		return try_query($node, q{SELECT string_agg(c->>'chore' || '=' || (c->>'runs'), ',' ORDER BY c->>'chore')
			FROM jsonb_path_query(eduai.health(), '$.events.chores[*]') c}, $database) // '';
	};
	my %before = map { split /=/ } split /,/, $runs->();
	$node->reload;
	return wait_until(
		sub {
			my %now = map { split /=/ } split /,/, $runs->();
			return %now && !grep { $now{$_} <= ($before{$_} // 0) } keys %now;
		},
		20, "the projector of $database has done its chores");
}

# ---- filling ----

sub fill_week
{
	my ($node, $database, $n) = @_;
	my $key = $n < 4 ? 'points' : 'score';
	set_week($node, $n);
	for my $tenant (@tenants)
	{
		of_tenant($node, $database, $tenant, qq{
			SELECT eduai.append_batch(array_agg('c-' || i % 40 ORDER BY i), array_agg('quiz'::text ORDER BY i),
				array_agg(jsonb_build_object('$key', i % 10, 'week', $n, 'of', '$tenant', 'unit', md5((i % 23)::text) || md5((i % 23 + 100)::text), 'difficulty', (ARRAY['easy', 'medium', 'hard'])[1 + i % 3]) ORDER BY i),
				user_ids => array_agg('u' || i % 40 ORDER BY i), session_ids => array_agg('s-' || i / 40 ORDER BY i)) FROM generate_series(1, 600) i;
			SELECT eduai.append_batch(array_agg('given-' || i % 5 ORDER BY i), array_agg('note'::text), array_agg(jsonb_build_object('i', i, 'week', $n) ORDER BY i),
				event_ids => array_agg(md5('$n ' || i)::uuid ORDER BY i)) FROM generate_series(1, 20) i;
			SELECT eduai.publish_event('exercise_completed', 'ana', 's$n', '{"skill_name": "fractions", "score": 0.8}');
			SELECT eduai.publish_event('emotion_detected', 'ana', 's$n', '{"emotion": "joy", "context": "reading"}');
			SELECT eduai.enqueue('marking', '{"week": $n}', user_id => 'ana');
		});
	}
	return;
}

sub subscribe
{
	my ($node, $database, $tenant) = @_;
	my $ack = sub {
		my ($name, $member, $count) = @_;
		return qq{SELECT eduai.ack_events('$name', max("position"), $member) FROM eduai.fetch_events('$name', $count, $member);};
	};
	# A change of the members counts from the first fetch after its commit.
	of_tenant($node, $database, $tenant, qq{
		SELECT eduai.create_subscription('one'), eduai.create_subscription('three', category => 'c', members => 3),
			eduai.create_subscription('moved', members => 2), eduai.create_subscription('filtered', event_types => '{emotion_detected}');}
		. $ack->('one', 0, 700) . $ack->('three', 0, 100) . $ack->('three', 1, 900) . $ack->('moved', 0, 200) . $ack->('moved', 1, 400) . $ack->('filtered', 0, 3));
	of_tenant($node, $database, $tenant, q{SELECT eduai.set_subscription_members('moved', 3)});
	of_tenant($node, $database, $tenant, q{SELECT count(*) FROM eduai.fetch_events('moved', 30, 1)});
	return;
}

# Tasks in every state that lasts, and one with an attachment.
my $tasks = q{
	SELECT eduai.enqueue('marking', jsonb_build_object('audio', jsonb_build_object('attachment', eduai.attach('\x0102', 'audio/wav'))), 'low', user_id => 'ana', unique_key => 'sound') AS living,
		eduai.enqueue('marking', '{}', idempotency_key => 'done') AS cancelled, eduai.enqueue('marking', '{}', run_at => now() + interval '10 years') AS scheduled \gset
	SELECT eduai.cancel_task(:cancelled);
	SELECT eduai.enqueue('marking', '{}', depends_on => ARRAY[:living]::bigint[]), eduai.enqueue('marking', '{}', depends_on => ARRAY[:cancelled]::bigint[]);
};

# Eight weeks of two tenants, of which four are compacted.
sub fill_everything
{
	my ($node, $database) = @_;
	$node->safe_psql($database, q{
		INSERT INTO eduai.tenant_binding SELECT 'postgres', t FROM unnest('{default,school}'::text[]) t;
		SELECT eduai.define_task_type('marking', 'application', 'analysis');
		CREATE SCHEMA app;
		CREATE FUNCTION app.quiz_2(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
			$$ SELECT data - 'points' || jsonb_build_object('score', data -> 'points', 'upcast', true) $$;
		CREATE FUNCTION app.fold(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql AS
			$$ SELECT jsonb_build_object('count', coalesce((state ->> 'count')::int, 0) + 1, 'last', event.version) $$;
		SELECT eduai.register_event_type('quiz', '{note}');
		SELECT eduai.register_event_type('emotion_detected', '{context,extra}', '{"type": "object", "required": ["emotion"]}')});
	fill_week($node, $database, $_) for 0 .. 3;
	of_tenant($node, $database, $_, q{SELECT eduai.save_snapshot('c-1', 17, '{"by": "hand"}', 7)}) for @tenants;
	set_week($node, 4);
	$node->safe_psql($database, q{SELECT eduai.compact_events('1 day');
		SELECT eduai.register_upcaster('quiz', 1, 'app.quiz_2(jsonb)');
		SELECT eduai.register_event_type('quiz', '{note}', '{"type": "object", "required": ["score"]}', 2)});
	fill_week($node, $database, $_) for 4 .. 7;
	for my $tenant (@tenants)
	{
		subscribe($node, $database, $tenant);
		of_tenant($node, $database, $tenant, $tasks);
		of_tenant($node, $database, $tenant, q{SELECT eduai.set_cohort('6b', '{ana,u1,u2,nobody}'), eduai.set_cohort('6c', '{u2,u3}')});
		of_tenant($node, $database, $tenant, q{SELECT eduai.snapshot_streams('c', 'app.fold(jsonb, eduai.event_record)', 50)});
	}
	# the newest that are due: there are snapshots of older versions before them
	wait_until(sub { $node->safe_psql($database, q{SELECT count(*) FROM eduai.event_snapshot s WHERE schema_version = 1 AND NOT EXISTS
		(SELECT FROM eduai.event e WHERE (e.tenant_id, e.stream) = (s.tenant_id, s.stream) AND e.version > s.version AND e.version % 50 = 0)}) == 80 }, 30, 'snapshots of all streams');
	return;
}

# ---- comparing ----

# What the functions say of the log.
sub log_of
{
	my ($node, $database, $tenant) = @_;
	return of_tenant($node, $database, $tenant, q{
		WITH feed AS MATERIALIZED (SELECT * FROM eduai.read_all(0, 10000)),
		streams AS (SELECT DISTINCT stream FROM feed),
		rows AS (SELECT r.* FROM streams s, eduai.read_stream(s.stream, 1, 10000) r)
		SELECT (SELECT count(*) || ' ' || md5(string_agg(feed::text, E'\n' ORDER BY "position")) FROM feed) || ' ' ||
			(SELECT count(*) || ' ' || md5(string_agg(rows::text, E'\n' ORDER BY stream, version)) FROM rows) || ' ' ||
			(SELECT md5(string_agg(stream || eduai.stream_version(stream), ' ' ORDER BY stream)) FROM streams)});
}

my %tables = (
	blocks => q{SELECT b FROM eduai.event_block b}, directory => q{SELECT s FROM eduai.event_stream s},
	dictionaries => q{SELECT d FROM eduai.event_dictionary d}, 'given ids' => q{SELECT s FROM eduai.event_seen s},
	subscriptions => q{SELECT s FROM eduai.subscription s}, members => q{SELECT m FROM eduai.subscription_member m},
	'snapshots as stored' => q{SELECT s FROM eduai.event_snapshot s},
	'snapshot rules' => q{SELECT (tenant_id, category, reducer, role, every, schema_version, initial, generation, created_at, error) FROM eduai.snapshot_rule},
	types => q{SELECT t FROM eduai.event_type t}, upcasters => q{SELECT u FROM eduai.event_upcaster u},
	states => q{SELECT s FROM eduai.projection_state s}, projections => q{SELECT p FROM eduai.projection p},
	generations => q{SELECT g FROM eduai.projection_generation g}, positions => q{SELECT p.tenant_id, p.projection, p.generation, p.lane, p.events FROM eduai.projection_position p},
	'parked events' => q{SELECT p FROM eduai.projection_parked p}, 'skipped events' => q{SELECT s FROM eduai.projection_skipped s},
	cohorts => q{SELECT m FROM eduai.cohort_member m},
	'tasks asked for' => q{SELECT r FROM eduai.task_request r}, 'living tasks' => q{SELECT t FROM eduai.task t WHERE t.finished_at IS NULL},
	'ended tasks' => q{SELECT e FROM eduai.task_end e}, 'edges between tasks' => q{SELECT d FROM eduai.task_dependency d},
	attachments => q{SELECT (a, t.task_id) FROM eduai.attachment a LEFT JOIN eduai.task_attachment t USING (tenant_id, attachment_id)});

sub tables_of
{
	my ($node, $database) = @_;
	my @names = sort keys %tables;
	my $sql = join ' UNION ALL ', map { "(SELECT '$_: ' || count(*) || ' rows ' || coalesce(md5(string_agg(t.r::text, E'\\n' ORDER BY t.r::text COLLATE \"C\")), '') FROM ($tables{$_}) AS t (r))" } @names;
	return map { split /: / } split /\n/, $node->safe_psql($database, $sql);
}

# What is still to come for a member, and where it stands.
sub to_come
{
	my ($node, $database, $tenant, $name, $member) = @_;
	return of_tenant($node, $database, $tenant, qq{SELECT count(*) || ' from ' || coalesce(min("position"), 0) || ' ' || coalesce(md5(string_agg(e::text, ' ' ORDER BY "position")), '')
		FROM eduai.fetch_events('$name', 10000, $member) e});
}

# everything_of(NODE, DATABASE) -> { what => text }. Fetches for the members, so
# take the copy before.
sub everything_of
{
	my ($node, $database) = @_;
	my %all = tables_of($node, $database);
	for my $tenant (@tenants)
	{
		$all{"$tenant: log"} = log_of($node, $database, $tenant);
		$all{"$tenant: snapshots"} = of_tenant($node, $database, $tenant, q{SELECT count(*) || ' ' || md5(string_agg(concat_ws(' ', i, v, l.version, l.state), ',' ORDER BY i, v))
			FROM generate_series(0, 39) i, unnest('{1,7}'::int[]) v, eduai.load_snapshot('c-' || i, v) l});
		$all{"$tenant: progress"} = of_tenant($node, $database, $tenant, q{SELECT eduai.user_progress('ana')});
		$all{"$tenant: classes"} = of_tenant($node, $database, $tenant, q{SELECT string_agg(concat_ws(' ', user_id, level, mastered, attempts, success_rate, last_activity), ',' ORDER BY cohort, user_id)
			FROM unnest('{6b,6c}'::text[]) cohort, eduai.class_overview(cohort)});
		for my $name (sort keys %members)
		{
			$all{"$tenant: $name $_ gets"} = to_come($node, $database, $tenant, $name, $_) for 0 .. $members{$name} - 1;
		}
	}
	return \%all;
}

sub is_same_everything
{
	my ($node, $database, $expected, $what) = @_;
	my $all = everything_of($node, $database);
	is($all->{$_}, $expected->{$_}, "$what: $_") for sort keys %$expected;
	return;
}

# ---- going on ----

# A late acknowledgement of the old members, then all that is to come, once.
sub subscriptions_go_on
{
	my ($node, $database, $tenant, $what) = @_;
	my $session = EduaiSession->new($node, $database);
	$session->ask("SET eduai.tenant = '$tenant';");
	for my $name (sort keys %members)
	{
		my %got;
		for my $member (0 .. $members{$name} - 1)
		{
			$got{$_}++ for split /\n/, $session->ask(qq{SELECT "position" FROM eduai.fetch_events('$name', 10000, $member);});
			is($session->ask(qq{SELECT eduai.ack_events('$name', max("position"), $member) FROM eduai.fetch_events('$name', 10000, $member);}), '', "$what: $name $member of $tenant acknowledges");
			is($session->ask(qq{SELECT count(*) FROM eduai.fetch_events('$name', 10000, $member);}), '0', "$what: and gets nothing again");
		}
		is(scalar(grep { $_ > 1 } values %got), 0, "$what: no event for two members of $name");
	}
	$session->ask(q{SELECT eduai.append_event('c-2', 'quiz', '{"score": 1}'), eduai.append_event('c-3', 'quiz', '{"score": 1}'), eduai.append_event('new-1', 'emotion_detected', '{"emotion": "joy"}');});
	for my $name (sort keys %members)
	{
		my $streams = $session->ask("SELECT string_agg(stream, ' ' ORDER BY stream) FROM (" . join(' UNION ALL ', map { "SELECT stream FROM eduai.fetch_events('$name', 10, $_)" } 0 .. $members{$name} - 1) . ') s;');
		is($streams, $name eq 'three' ? 'c-2 c-3' : $name eq 'filtered' ? 'new-1' : 'c-2 c-3 new-1', "$what: $name of $tenant gets what is new");
	}
	$session->quit;
	return;
}

sub appends_go_on
{
	my ($node, $database, $tenant, $what) = @_;
	my $session = EduaiSession->new($node, $database);
	$session->ask("SET eduai.tenant = '$tenant';");
	my $last = $session->ask(q{SELECT max("position") FROM eduai.read_all(0, 10000);});
	my $version = $session->ask(q{SELECT eduai.stream_version('c-1');});
	is($session->ask(q{SELECT version FROM eduai.append_event('c-1', 'quiz', '{"score": 1}');}), $version + 1, "$what: versions of $tenant go on");
	is($session->ask(q{SELECT count(*) || ' ' || max(version) || ' ' || count(DISTINCT version) FROM eduai.read_stream('c-1', max_count => 10000);}), join(' ', ($version + 1) x 3), "$what: densely");
	cmp_ok($session->ask(qq{SELECT min("position") FROM eduai.read_all($last);}), '>', $last, "$what: a position beyond all");
	# Week 1 is compacted, week 6 is not.
	for my $week (1, 6)
	{
		my $append = sub { return qq{SELECT version FROM eduai.append_event('given-3', 'note', '{"i": $_[0], "week": $week}', event_id => md5('$week 8')::uuid);} };
		is($session->ask($append->(8)), $week * 4 + 2, "$what: an id of week $week repeated gives the first result");
		like($session->ask($append->(9)), qr/ERROR:  UE006/, "$what: and with other content an error");
	}
	is($session->ask(q{SELECT data - '{unit,week,difficulty}'::text[] FROM eduai.read_stream('c-1', 1, 1);}), qq({"of": "$tenant", "score": 1, "upcast": true}), "$what: an old event is upcast");
	like($session->ask(q{SELECT eduai.append_event('c-1', 'quiz', '{"points": 1}');}), qr/ERROR:  23514/, "$what: a type has its schema");
	like($session->ask(q{SELECT eduai.append_event('c-1', 'emotion_detected', '{}');}), qr/ERROR:  23514/, "$what: a built-in one too");
	$session->quit;
	return;
}

# Progress goes on from the state that was copied, and members can be changed.
sub progress_goes_on
{
	my ($node, $database, $tenant, $what) = @_;
	my $version = of_tenant($node, $database, $tenant, q{SELECT eduai.user_progress('ana')->>'version'});
	cmp_ok($version, '>=', 16, "$what: progress of $tenant is there");
	of_tenant($node, $database, $tenant, q{SELECT eduai.publish_event('exercise_attempted', 'ana', NULL, '{"skill": "new", "correct": true}'), eduai.set_cohort('6c', '{ana}')});
	is(of_tenant($node, $database, $tenant, q{SELECT concat_ws(' ', p->>'version', p->'skills'->'new'->>'attempts') FROM eduai.user_progress('ana') p}), ($version + 1) . ' 1', "$what: and goes on");
	is(of_tenant($node, $database, $tenant, q{SELECT user_id || ' ' || attempts FROM eduai.class_overview('6c')}), 'ana 9', "$what: a cohort of $tenant has other members");
	return;
}

# The rule takes the next snapshot of a stream, and has missed no event.
sub snapshots_go_on
{
	my ($node, $database, $tenant, $what) = @_;
	my $next = of_tenant($node, $database, $tenant, q{SELECT (eduai.stream_version('c-4') / 50 + 1) * 50});
	of_tenant($node, $database, $tenant, qq{SELECT count(eduai.append_event('c-4', 'quiz', '{"score": 1}')) FROM generate_series(eduai.stream_version('c-4') + 1, $next)});
	wait_until(sub { of_tenant($node, $database, $tenant, q{SELECT version FROM eduai.load_snapshot('c-4')}) eq $next }, 20, "$what: the next snapshot");
	is(of_tenant($node, $database, $tenant, q{SELECT state FROM eduai.load_snapshot('c-4')}), qq({"last": $next, "count": $next}), "$what: a snapshot of $tenant, without a gap");
	return;
}

# Ids go on, keys are known, and what waited for a task goes with it.
sub tasks_go_on
{
	my ($node, $database, $tenant, $what) = @_;
	is(of_tenant($node, $database, $tenant, q{SELECT eduai.enqueue('marking', '{}') > (SELECT max(task_id) FROM eduai.task_request)}), 't', "$what: an id of $tenant beyond all");
	my ($living, $cancelled) = split /\|/, of_tenant($node, $database, $tenant, qq{SELECT max(task_id) FILTER (WHERE unique_key = 'sound'), max(task_id) FILTER (WHERE idempotency_key = 'done') FROM eduai.task_request WHERE tenant_id = '$tenant'});
	is(of_tenant($node, $database, $tenant, q{SELECT eduai.enqueue('marking', '{}', unique_key => 'sound')}), $living, "$what: a unique key of $tenant is known");
	of_tenant($node, $database, $tenant, "SELECT eduai.cancel_task($living)");
	wait_until(sub { of_tenant($node, $database, $tenant, "SELECT count(*) FROM eduai.task_live WHERE state = 'waiting' AND tenant_id = '$tenant'") eq '0' }, 30, "$what: what waited for it ends");
	is(of_tenant($node, $database, $tenant, "SELECT eduai.retry_task($cancelled), (SELECT state FROM eduai.get_task($cancelled))"), 't|ready', "$what: an ended task is taken back");
	return;
}

sub everything_goes_on
{
	my ($node, $database, $what, $week) = @_;
	$week //= 8;
	for my $tenant (@tenants)
	{
		subscriptions_go_on($node, $database, $tenant, $what);
		appends_go_on($node, $database, $tenant, $what);
		progress_goes_on($node, $database, $tenant, $what);
		snapshots_go_on($node, $database, $tenant, $what);
		tasks_go_on($node, $database, $tenant, $what);
	}
	# The next partition is made ahead, and what is hot is compacted with the rest.
	set_week($node, $week);
	of_tenant($node, $database, 'school', q{SELECT eduai.append_event('c-1', 'quiz', '{"score": 1}')});
	chores_have_run($node, $database);
	is($node->safe_psql($database, q{SELECT count(*) FROM pg_inherits WHERE inhparent = 'eduai.event'::regclass AND inhrelid::regclass::text > (SELECT max(tableoid::regclass::text) FROM eduai.event)}), '1', "$what: a partition is made ahead");
	set_week($node, $week + 1);
	my @logs = map { log_of($node, $database, $_) } @tenants;
	cmp_ok($node->safe_psql($database, q{SELECT eduai.compact_events('1 second')}), '>', $week == 8 ? 4000 : 0, "$what: the rest is compacted");
	is($node->safe_psql($database, q{SELECT count(*) FROM eduai.event}), '0', "$what: all of it");
	is(log_of($node, $database, $tenants[$_]), $logs[$_], "$what: and $tenants[$_] reads the same") for 0 .. 1;
	is($node->safe_psql($database, q{SELECT coalesce(string_agg(code || ': ' || detail, ', '), '') FROM eduai.health_problems() WHERE code LIKE 'projector%'}), '', "$what: the projector has no complaints");
	return;
}

1;
