# A copy of a database calls no provider until somebody says that it may.

use strict;
use warnings;

use EduaiTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $literal = 'sk-literal-83c1';
my $reference = 'sk-reference-d027';

$ENV{EDUAI_TEST_KEY} = $reference;
my $node = new_node(conf => { 'eduai.database' => 'postgres,restored,copied', 'eduai.sweep_interval' => '1s' });
my $sim = start_simulator();
sim_post($sim, '/_sim/key', { key => $reference });
sim_default($sim, 'sim-silent', 'silent');
my $dir = PostgreSQL::Test::Utils::tempdir();

sub enqueue
{
	my ($nonce, %option) = @_;
	my $model = $option{model} // 'sim-chat';
	my $type = $option{type} // 'chat';
	my $more = $option{more} // '';
	return $node->safe_psql($option{database} // 'postgres',
		qq{SELECT eduai.enqueue('$type', '{"model": "$model", "user": "$nonce", "messages": [{"role": "user", "content": "hello"}]}'$more)});
}

sub requests
{
	my ($pattern) = @_;
	return scalar grep { $_->{user} =~ $pattern } @{ sim_journal($sim) };
}

sub problems { return $_[0]->safe_psql($_[1] // 'postgres', q{SELECT string_agg(code, ',' ORDER BY code) FROM eduai.health_problems()}) }

sub dispatchers
{
	my ($server, $database) = @_;
	return $server->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'eduai dispatcher' AND datname = '$database'");
}

# Several sweeps of a database's own dispatcher: it has had every chance to send.
sub sweeps
{
	my ($server, $database) = @_;
	my $count = q{SELECT coalesce((jsonb_path_query_first(eduai.health(), '$.workers[*] ? (@.worker == "dispatcher")')->>'wakes_by_timeout')::int, 0)};
	wait_until(sub { dispatchers($server, $database) == 1 }, 20, "$database has a dispatcher");
	my $start = $server->safe_psql($database, $count);
	wait_until(sub { $server->safe_psql($database, $count) >= $start + 3 }, 30, "three sweeps in $database");
}

sub states
{
	my ($server, $database) = @_;
	return $server->safe_psql($database, q{SELECT string_agg(payload->>'user' || ' ' || state, ', ' ORDER BY task_id) FROM eduai.task});
}

# ---- a database in full work ----

$node->safe_psql('postgres', q{SELECT eduai.define_task_type('careful', 'gateway', 'chat', on_uncertain => 'hold')});
add_fleet($node, $sim, api_key => 'env:EDUAI_TEST_KEY', task_types => '{chat,careful}');
add_fleet($node, $sim, provider => 'slow', model => 'sim-silent', api_key => 'env:EDUAI_TEST_KEY', task_types => '{chat,careful}',
	options => { first_byte_ms => 3600000 });
add_fleet($node, $sim, provider => 'secret', model => 'sim-secret', api_key => $literal);
wait_for_task($node, enqueue('done'), 'completed', 20);
# Two that hang fill the pool, so that the others stay ready.
$node->safe_psql('postgres', q{SELECT eduai.configure_pool('chat', '{chat,careful}', 2, reserved_critical => 0)});
enqueue('hangs', model => 'sim-silent');
enqueue('held', model => 'sim-silent', type => 'careful');
wait_until(sub { sim_stats($sim)->{open} == 2 }, 20, 'two requests hang');
my @ready = map { enqueue("ready-$_") } 1 .. 3;
my $child = enqueue('child', more => ", depends_on => '{$ready[0]}'");
my $sent = sim_stats($sim)->{requests};
is(states($node, 'postgres'), 'done completed, hangs running, held running, ready-1 ready, ready-2 ready, ready-3 ready, child waiting', 'the original');

# ---- dump and restore ----

my ($dump) = run_command([ 'pg_dump', '-d', $node->connstr('postgres') ]);
# The dispatcher looks while it is being restored, when the tasks are there and their types are not.
$dump =~ s/^\\(?:un)?restrict .*\n//mg;
my ($first, $rest) = split /(?=^COPY eduai\.task_type )/m, $dump, 2;
append_to_file("$dir/first.sql", $first);
append_to_file("$dir/rest.sql", $rest);
unlike($dump, qr/\Q$literal\E/, 'the dump has no literal key');
unlike($dump, qr/\Q$reference\E/, 'nor what a reference stands for');
$node->safe_psql('postgres', 'CREATE DATABASE restored TEMPLATE template0');
for my $part ('first', 'rest')
{
	$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', "$dir/$part.sql" ], "the dump is restored: $part");
	sweeps($node, 'restored') if $part eq 'first';
}

sweeps($node, 'restored');
is(sim_stats($sim)->{requests}, $sent, 'nothing was sent from the restored database');
like(problems($node, 'restored'), qr/\bdatabase_not_adopted\b/, 'health() says why');
like(states($node, 'restored'), qr/^done completed, hangs ready, held uncertain, ready-1 ready, ready-2 ready, ready-3 ready, child waiting$/,
	'what ran in the original is uncertain in the copy, and handled');
is($node->safe_psql('restored', q{SELECT string_agg(name || ' ' || key_ref, ', ' ORDER BY name) FROM eduai.provider}),
	'secret literal, sim env:EDUAI_TEST_KEY, slow env:EDUAI_TEST_KEY', 'the providers are there');
is($node->safe_psql('restored', 'SELECT count(*) FROM eduai.instance'), '3', 'and the instances');
is($node->safe_psql('restored', 'SELECT count(*) FROM eduai.provider_secret'), '0', 'but no literal key');
is(problems($node), '', 'the original is as it was');

# What is enqueued there waits too; its number goes on where the original's were.
my $new = enqueue('new', database => 'restored');
cmp_ok($new, '>', $child, 'numbers of tasks go on');
# So does one for a provider that was added there.
add_fleet($node, $sim, database => 'restored', provider => 'fresh', model => 'sim-fresh', api_key => 'env:EDUAI_TEST_KEY');
my $fresh = enqueue('new-fresh', database => 'restored', model => 'sim-fresh');
sweeps($node, 'restored');
is(sim_stats($sim)->{requests}, $sent, 'new tasks wait as well');

$node->safe_psql('restored', 'SELECT eduai.adopt_database()');
for my $id (@ready, $child, $new, $fresh)
{
	is($node->safe_psql('restored', "SELECT state FROM eduai.wait_task($id, '20 s')"), 'completed', "task $id completes after adopt_database()");
}
is(problems($node, 'restored') =~ /not_adopted/ ? 1 : 0, 0, 'and health() has nothing against it');
is(requests(qr/^(?:ready|child|new)/), 6, 'each was sent once');
wait_until(sub { requests(qr/^hangs/) == 2 }, 20, 'the uncertain one is tried again');
is(requests(qr/^held/), 1, 'the one to be held is not');

# Its provider with a literal key needs the key anew.
my $secret = enqueue('secret', database => 'restored', model => 'sim-secret');
is($node->safe_psql('restored', "SELECT state FROM eduai.wait_task($secret, '1 s')"), 'ready', 'without its literal key a provider is not called');
sim_post($sim, '/_sim/key', { key => $literal });
$node->safe_psql('restored', "SELECT eduai.add_provider('secret', 'openai', '$sim->{base_url}/v1', '$literal', '{\"allow_loopback\": true}')");
is($node->safe_psql('restored', "SELECT state FROM eduai.wait_task($secret, '20 s')"), 'completed', 'with it, it is');
sim_post($sim, '/_sim/key', { key => $reference });
$node->safe_psql('postgres', 'DROP DATABASE restored WITH (FORCE)');

# ---- CREATE DATABASE ... TEMPLATE ----

$node->safe_psql('postgres', 'SELECT eduai.stop_workers()');
$node->safe_psql('template1', 'CREATE DATABASE copied TEMPLATE postgres');
$sent = sim_stats($sim)->{requests};
# The launcher looks for copies once a minute, and whenever it is told to reload.
$node->reload;
sweeps($node, 'copied');
is(sim_stats($sim)->{requests}, $sent, 'nothing was sent from a copied database');
like(problems($node, 'copied'), qr/\bdatabase_not_adopted\b/, 'health() says why');
is($node->safe_psql('copied', 'SELECT eduai.adopt_database()'), '', 'it is adopted');
is($node->safe_psql('copied', "SELECT state FROM eduai.wait_task($ready[0], '20 s')"), 'completed', 'and sends');
is(requests(qr/^ready-1/), 2, 'the task that it copied');
$node->safe_psql('postgres', 'DROP DATABASE copied WITH (FORCE)');

# ---- another fleet ----

$node->append_conf('postgresql.conf', "eduai.fleet = 'staging'");
$node->restart;
wait_until(sub { sim_stats($sim)->{open} == 0 }, 20, 'no request is in flight');
$sent = sim_stats($sim)->{requests};
sweeps($node, 'postgres');
is(sim_stats($sim)->{requests}, $sent, 'nothing was sent under the name of another fleet');
like(problems($node), qr/\bdatabase_not_adopted\b/, 'health() says why');
$node->append_conf('postgresql.conf', "eduai.fleet = ''");
$node->restart;
wait_until(sub { sim_stats($sim)->{requests} > $sent }, 20, 'under its own name it sends again');
is($node->safe_psql('postgres', "SELECT state FROM eduai.wait_task($ready[0], '20 s')"), 'completed', 'under its own name it works again');
is(problems($node) =~ /not_adopted/ ? 1 : 0, 0, 'health() has nothing against it');
$node->safe_psql('postgres', q{SELECT count(eduai.cancel_task(task_id)) FROM eduai.task WHERE finished_at IS NULL});

# ---- a physical standby ----

$node->safe_psql('postgres', q{SELECT eduai.configure_pool('chat', '{chat,careful}', 20)});
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
my $hangs = enqueue('moves', model => 'sim-silent');
my $held = enqueue('stays', model => 'sim-silent', type => 'careful');
wait_until(sub { requests(qr/^(?:moves|stays)/) == 2 }, 20, 'two requests hang');
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', 'SELECT pg_is_in_recovery()'), 't', 'a standby');
is($standby->safe_psql('postgres', "SELECT state FROM eduai.get_task($hangs)"), 'running', 'sees the tasks');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'eduai%'}), '0', 'and has no worker');
is($standby->safe_psql('postgres', q{SELECT eduai.health() IS NOT NULL}), 't', 'health() answers there');

$node->stop('immediate');
wait_until(sub { sim_stats($sim)->{open} == 0 }, 20, 'the old primary is gone');
sim_default($sim, 'sim-silent', 'latency=20');
$standby->promote;
is($standby->safe_psql('postgres', "SELECT state FROM eduai.wait_task($hangs, '30 s')"), 'completed', 'promoted, it goes on with what the old primary had begun');
is($standby->safe_psql('postgres', "SELECT string_agg(outcome, ',' ORDER BY attempt) FROM eduai.usage_ledger WHERE task_id = $hangs"),
	'uncertain,completed', 'whose attempt is uncertain');
is($standby->safe_psql('postgres', "SELECT state FROM eduai.wait_task($held, '10 s')"), 'uncertain', 'what is to be held is uncertain');
is(requests(qr/^stays/), 1, 'and not sent again');
$node = $standby;
my $after = enqueue('after-promotion');
wait_for_task($standby, $after, 'completed', 20);
cmp_ok($after, '>', $held, 'and new tasks run');
$standby->stop;

done_testing();
