# Two tenants with the same ids, each with a role of its own: every function of
# the extension is called by one of them, with arguments from the ids that both
# have, and afterwards the other one's rows are identical and nothing of its data
# was in any answer, error, view or table. The functions come from the catalog: a
# new one is called by itself, or must be listed here with its reason.
#
# EDUAI_ISOLATION_ROUNDS says how often (2; make fuzz takes 60); EDUAI_SEED repeats.

use strict;
use warnings;
use utf8;

use EduaiSession;
use EduaiTest;
use Encode qw(encode_utf8);
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = test_seed();
my $rounds = $ENV{EDUAI_ISOLATION_ROUNDS} || 2;
my $node = new_node(conf => {
	'eduai.test_mode' => 'on', 'eduai.access_log' => 'on', 'eduai.compact_after' => 0, autovacuum => 'off',
	'eduai.queue_max_size' => 0, 'eduai.task_retention' => -1, 'eduai.dead_task_retention' => -1 });

# Quotes, statements, an apostrophe and other scripts; and 63 bytes exactly.
my ($mine, $theirs) = (q{a'); DROP TABLE eduai.event; --"$x$ é学校%s\\}, 'b"\'' . '学' x 20);
is(length encode_utf8($theirs), 63, 'a name as long as names may be');

# Functions that this role may call and that are not called here, and why.
my %listed = (
	'allow_tenant' => 'binds roles to tenants: an administrator of the server decides that',
	'disallow_tenant' => 'as allow_tenant',
	'stop_workers' => 'stops the workers of the database, of all tenants',
	'start_workers' => 'as stop_workers',
	'compact_events' => 'stores all tenants\' old events otherwise; they read the same',
	'adopt_database' => 'global: who dispatches',
	'add_provider' => 'global: providers are the administrator\'s',
	'remove_provider' => 'as add_provider',
	'add_instance' => 'as add_provider',
	'remove_instance' => 'as add_provider',
	'set_instance_state' => 'as add_provider',
	'reseal_secrets' => 'global: seals all secrets anew',
	'rotate_master_key' => 'global: seals all keys anew',
	'define_task_type' => 'global: task types are the administrator\'s',
	'configure_pool' => 'global: pools are the administrator\'s',
	'pause_queue' => 'global: pauses a task type for all tenants',
	'resume_queue' => 'as pause_queue',
	'register_event_type' => 'global: event types are the administrator\'s',
	'register_upcaster' => 'as register_event_type',
	'create_projection' => 'global: projections are the administrator\'s, and fold the events of all tenants',
	'alter_projection' => 'as create_projection',
	'drop_projection' => 'as create_projection',
	'rebuild_projection' => 'as create_projection: makes all tenants\' states anew',
	'await_task' => 'a procedure; called by itself below',
	'event_removed' => 'a trigger\'s',
	'fleet_changed' => 'a trigger\'s',
	'schedule_maintenance' => 'global: the schedule of the database',
	'unschedule_maintenance' => 'as schedule_maintenance',
	'record_schedule' => 'as schedule_maintenance',
	'define_cache_kind' => 'global: kinds of values are the administrator\'s',
	'set_tier' => 'global: tiers are the administrator\'s',
	'define_tier' => 'global: tiers are the administrator\'s',
	'export_erasures' => 'global: the ledger of the database, for its restores',
	'register_personal_data' => 'global: the application\'s tables are the administrator\'s',
);

sub quoted
{
	my ($value) = @_;
	return 'NULL' unless defined $value;
	(my $text = $value) =~ s/'/''/g;
	$text =~ s/\\/\\\\/g;
	return "E'$text'";
}

sub ask
{
	my ($session, $sql) = @_;
	my $answer = $session->ask(encode_utf8($sql));
	die "the session died at: $sql" unless defined $answer;
	return $answer;
}

my $admin = EduaiSession->new($node);
ask($admin, 'CREATE ROLE mine LOGIN; CREATE ROLE theirs LOGIN; CREATE ROLE probe LOGIN;'
	  . 'GRANT eduai_app, eduai_worker, eduai_admin, eduai_reader TO mine, theirs;'
	  . 'GRANT USAGE ON SCHEMA eduai TO probe; GRANT SELECT ON ALL TABLES IN SCHEMA eduai TO probe;'
	  . 'GRANT EXECUTE ON FUNCTION eduai.current_tenant() TO probe;'
	  . 'CREATE SCHEMA app; GRANT ALL ON SCHEMA app TO mine, theirs;'
	  . 'CREATE FUNCTION app.fold(state jsonb, event eduai.event_record) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT state || jsonb_build_object(event.event_type, event.data) $$;'
	  . q{SELECT eduai.define_task_type('essay', 'application', 'custom');}
	  . q{SELECT eduai.create_projection('notes', 'app.fold(jsonb,eduai.event_record)', mode => 'inline');});
ask($admin, "SELECT eduai.allow_tenant('mine', " . quoted($mine) . "); SELECT eduai.allow_tenant('probe', " . quoted($mine)
	  . "); SELECT eduai.allow_tenant('theirs', " . quoted($theirs) . ');');

sub session_of
{
	my ($role, $tenant) = @_;
	my $session = EduaiSession->new($node->connstr('postgres') . " user=$role");
	ask($session, 'SET eduai.tenant = ' . quoted($tenant) . q{; SET statement_timeout = '5s'; SET client_min_messages = error; SET lock_timeout = '2s';});
	return $session;
}
my $me = session_of('mine', $mine);
my $they = session_of('theirs', $theirs);

# The same ids for both; what is mine says "mine", what is theirs "canary".
my @users = ('ann', 'ben', q{o'neill}, '学生');
my $uuid = '00000000-0000-4000-8000-00000000000';
for my $one ([ $me, 'mine' ], [ $they, 'canary' ])
{
	my ($session, $word) = @$one;
	my $n = 0;
	for my $user (map { quoted($_) } @users)
	{
		$n++;
		ask($session, qq{SELECT eduai.append_event('learner-' || $user, 'exercise_completed', '{"skill": "sums", "item": "i1", "correct": true, "score": 1, "answer": "$word"}', user_id => $user, session_id => 's1', event_id => '$uuid$n');});
		ask($session, qq{SELECT eduai.enqueue('essay', '{"text": "$word"}', user_id => $user, unique_key => 'k' || $user, idempotency_key => 'i' || $user, metadata => '{"w": "$word"}');});
	}
	ask($session, qq{SELECT eduai.create_subscription('sub'); SELECT eduai.save_snapshot('learner-ann', 1, '{"w": "$word"}'); SELECT eduai.set_cohort('class', '{ann,ben}');});
	ask($session, qq{SELECT eduai.attach('$word', 'text/plain', 'ann'); SELECT eduai.set_budget('tenant', 100, '1 day');});
	ask($session, qq{SELECT eduai.set_retention('usage', '1000 days', 'delete'); SELECT eduai.fetch_events('sub'); SELECT eduai.register_exercises('{i1,i2}', '{sums,sums}');});
	ask($session, qq{SELECT eduai.claim_tasks('w', '{essay}', 1, '1 h');});
	ask($session, qq{SELECT eduai.user_progress('ann');});
}
ask($admin, q{SELECT eduai.flush_access_log();});

# Some of it compacted.
ask($admin, q{SELECT eduai.compact_events('0 s');});
ask($_->[0], qq{SELECT eduai.append_event('learner-ann', 'exercise_completed', '{"skill": "sums", "answer": "$_->[1]"}', user_id => 'ann', event_id => '${uuid}9');}) for [ $me, 'mine' ], [ $they, 'canary' ];

# Tables that none of this filled get a row each: a value of each column's type, the
# same keys for both tenants. Nothing that runs here takes a row of the year 2100 up.
ask($admin, qq{
	CREATE FUNCTION app.fill(tenant text, word text) RETURNS void LANGUAGE plpgsql AS \$\$
	DECLARE
		t record; r record;
	BEGIN
		FOR t IN SELECT c.oid, c.relname FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
			AND d.deptype = 'e' JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' WHERE c.relkind IN ('r', 'p') ORDER BY 2
		LOOP
			EXECUTE format('SELECT 1 FROM eduai.%I WHERE tenant_id = %L LIMIT 1', t.relname, tenant) INTO r;
			CONTINUE WHEN r IS NOT NULL;
			SELECT string_agg(quote_ident(a.attname), ', ') AS names, string_agg(quote_literal(CASE
				WHEN a.attname = 'tenant_id' THEN tenant
				WHEN a.attname = 'user_id' THEN 'ann'
				WHEN a.attname = 'subject' THEN 'event:quiz'
				WHEN a.attname = 'on_missing' THEN 'redact'
				WHEN a.attname = 'on_erase' THEN 'delete'
				WHEN a.attname = 'kind' THEN 'stream'
				WHEN a.attname = 'outcome' THEN 'completed'
				WHEN a.attname = 'algorithm' THEN 'window'
				WHEN t.relname = 'task_end' AND a.attname = 'state' THEN 'completed'
				WHEN f.type LIKE '%[]' THEN '{}'
				WHEN f.type IN ('text', 'name', 'bytea') THEN word
				WHEN f.type = 'jsonb' THEN '{"w": "' || word || '"}'
				WHEN f.type ~ '^timestamp' THEN '2100-01-01'
				WHEN f.type = 'uuid' THEN '${uuid}1'
				WHEN f.type = 'interval' THEN '1 day'
				WHEN f.type = 'boolean' THEN 'true'
				ELSE '1' END), ', ') AS vals INTO r
			FROM pg_attribute a, format_type(a.atttypid, NULL) f (type)
			WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attidentity <> 'a';
			EXECUTE format('INSERT INTO eduai.%I (%s) VALUES (%s)', t.relname, r.names, r.vals);
		END LOOP;
	END \$\$;});
is(ask($admin, 'SELECT app.fill(' . quoted($_->[0]) . ", '$_->[1]');"), '', 'a row in every table') for [ $mine, 'mine' ], [ $theirs, 'canary' ];

# Until the projector has nothing more to do.
my $behind = q{SELECT coalesce(sum(lag_events), 0) FROM eduai.projection_status;};
wait_until(sub { ask($me, $behind) eq '0' && ask($they, $behind) eq '0' }, 30, 'the projector has done what is to be done');

# ---- what the other tenant has ----

my @tables = split /\n/, ask($admin, q{SELECT c.relname FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
	AND d.deptype = 'e' JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' WHERE c.relkind IN ('r', 'p') ORDER BY 1;});
cmp_ok(scalar @tables, '>=', 20, 'tables of tenants: ' . @tables);

sub rows_of_theirs
{
	return join "\n", map { "$_ " . ask($admin, "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, chr(10) ORDER BY t::text)), '') FROM eduai.$_ t WHERE tenant_id = " . quoted($theirs) . ';') } @tables;
}

my $before = rows_of_theirs();
my @empty = grep { $_ } map { /^(\S+) 0 / ? $1 : '' } split /\n/, $before;
is(join(' ', @empty), '', 'so they have');

# ---- calls ----

my @attachments = split /\n/, ask($admin, 'SELECT attachment_id FROM eduai.attachment;');
my @tasks = split /\n/, ask($admin, 'SELECT task_id FROM eduai.task WHERE finished_at IS NULL;');
my @names = (@users, 'sub', 'class', 'learner-ann', 'notes', 'sums', 'i1', 's1', 'essay', 'kann', 'iann', 'tenant', 'usage', 'learner', $theirs,
	q{x'; DELETE FROM eduai.event; --}, '%', '*', '', 'normal', 'w', 'learner_model', 'skill', 'events', 'default', 'task:essay', 'event:note');

sub one { return $_[ int rand @_ ] }

# By a type's name: what to say, as SQL.
my %value_of = (
	text => sub { quoted(one(@names)) },
	name => sub { quoted(one(@names)) },
	bigint => sub { one(@tasks, 0, 1, 5, -1) },
	integer => sub { one(0, 1, 2, 5) },
	smallint => sub { one(0, 1) },
	boolean => sub { one('true', 'false') },
	jsonb => sub { quoted(one('{}', '[]', '{"w": "x"}', '{"text": "t"}', '[{"type": "note", "data": {}, "user_id": "ann"}]', '{"attachment": "' . one(@attachments) . '"}')) },
	json => sub { quoted(one('{}', '[]')) },
	uuid => sub { quoted(one(@attachments, $uuid . '1', $uuid . '2')) },
	interval => sub { quoted(one('0 s', '10 ms', '1 day')) },
	'timestamp with time zone' => sub { one('now()', q{now() - interval '1 day'}) },
	'double precision' => sub { one(0, 0.5, 1) },
	real => sub { one(0, 1) },
	numeric => sub { one(0, 1, 100) },
	bytea => sub { q{'\x00'} },
	regprocedure => sub { quoted('app.fold(jsonb,eduai.event_record)') },
	regclass => sub { quoted('eduai.event') },
	pg_snapshot => sub { 'pg_current_snapshot()' },
);
my %by_name = (
	wait => sub { q{'0 s'} }, timeout => sub { q{'10 ms'} }, older_than => sub { one(q{'0 s'}, q{'1 day'}) }, task_type => sub { quoted(one('essay', 'chat', 'custom')) },
	task_types => sub { q{'{essay}'} }, user_id => sub { quoted(one(@users)) }, priority => sub { q{'normal'} }, job => sub { quoted(one(map { "retain_$_" } qw(events tasks usage access_log))) },
	relation => sub { quoted('eduai.event') }, query => sub { quoted(q{SELECT * FROM eduai.read_all()}) },
);

sub argument
{
	my ($name, $type) = @_;
	return $by_name{$name}->() if $by_name{$name} && $type !~ /\[\]$/;
	if ($type =~ /^(.*)\[\]$/)
	{
		my $make = $value_of{$1} or return undef;
		return 'ARRAY[' . join(', ', map { $make->() } 1 .. 1 + int rand 3) . "]::$type";
	}
	return "NULL::$type" if $type =~ /^eduai\./;
	my $make = $value_of{$type} or return undef;
	return $make->() . "::$type";
}

my @functions = map { JSON::PP::decode_json($_) } split /\n/, ask($admin, q{
	SELECT json_build_object('name', p.proname, 'kind', p.prokind, 'signature', p.oid::regprocedure::text, 'required', p.pronargs - p.pronargdefaults,
		'variadic', p.provariadic <> 0, 'names', coalesce(p.proargnames[1:p.pronargs], '{}'),
		'types', ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY u (t, n) ORDER BY n),
		'may', has_function_privilege('mine', p.oid, 'EXECUTE'))::text
	FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'eduai' ORDER BY p.oid::regprocedure::text;});
# Who was erased has nothing more to ask for: last.
@functions = ((grep { $_->{name} !~ /^erase/ } @functions), grep { $_->{name} =~ /^erase/ } @functions);
cmp_ok(scalar @functions, '>', 100, 'functions in the catalog: ' . @functions);

my @leaks;
my ($calls, $ok) = (0, 0);

sub call
{
	my ($sql) = @_;
	my $answer = ask($me, $sql);
	$calls++;
	$ok++ unless $answer =~ /ERROR:/;
	push @leaks, "$sql => $answer" if $answer =~ /canary/;
	return;
}

sub arguments
{
	my ($f, $n) = @_;
	return map { argument($f->{names}[$_], $f->{types}[$_]) } 0 .. $n - 1;
}

my @unhandled;
for my $round (1 .. $rounds)
{
	for my $f (@functions)
	{
		next if $listed{ $f->{name} };
		if (!$f->{may})
		{
			next;
		}
		my $n = $f->{required} + int rand(1 + @{ $f->{types} } - $f->{required});
		my @arguments = arguments($f, $n);
		if (grep { !defined } @arguments)
		{
			push @unhandled, $f->{signature} if $round == 1;
			next;
		}
		call("SELECT * FROM eduai.$f->{name}(" . join(', ', @arguments) . ') AS r;');
	}
}
call('CALL eduai.await_task(' . one(@tasks) . q{, '10 ms', NULL);}) for 1 .. $rounds;
is(join(' ', @unhandled), '', 'every function that the role may call is called, or listed with its reason');
cmp_ok($ok, '>', $calls / 4, "of $calls calls $ok did something");

# ---- looking ----

my @relations = split /\n/, ask($admin, q{SELECT c.relname FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
	AND d.deptype = 'e' WHERE c.relkind IN ('r', 'p', 'v', 'm') AND c.relnamespace = 'eduai'::regnamespace ORDER BY 1;});
call("SELECT * FROM eduai.$_;") for @relations;
is(encode_utf8(join("\n", @leaks)), '', 'no answer, error, view or table had anything of theirs');

my $probe = session_of('probe', $mine);
my @seen = grep { ask($probe, "SELECT count(*) FROM eduai.$_ WHERE tenant_id <> " . quoted($mine) . ';') ne '0' } @tables;
is(join(' ', @seen), '', 'who may read the tables sees no row of theirs: row security');
like(ask($probe, 'SET eduai.tenant = ' . quoted($theirs) . '; SELECT count(*) FROM eduai.event;'), qr/ERROR:  UE012/, 'nor by saying another name');
like(ask($me, 'SET eduai.tenant = ' . quoted($theirs) . '; SELECT * FROM eduai.read_all();'), qr/ERROR:  UE012/, 'nor with the functions');

ask($admin, q{SELECT eduai.flush_access_log();});
my $after = rows_of_theirs();
my @was = split /\n/, $before;
my @now = split /\n/, $after;
is($now[$_], $was[$_], "theirs are identical: $was[$_]") for 0 .. $#was;

is(ask($they, q{SELECT count(*) FROM eduai.read_stream('learner-ann') WHERE data->>'answer' = 'canary';}), '2', 'and they read what they had');
like(ask($they, q{SELECT eduai.projection_state('notes', 'ann');}), qr/canary/, 'their states, too');

done_testing();
