# Keys of providers reach the provider and nobody else, and requests go only where
# they may.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my %key = (
	literal => 'sk-literal-4f1d9c', replaced => 'sk-replaced-77ab02', env => 'sk-env-90c3e1', file => 'sk-file-5be8d4',
	wrong => 'sk-wrong-e2a6f0', claude => 'sk-claude-1c47d9');
my $dir = PostgreSQL::Test::Utils::tempdir();
append_to_file("$dir/key", "$key{file}\n");
append_to_file("$dir/twolines", "$key{file}\nsecond line\n");

$ENV{EDUAI_TEST_KEY} = $key{env};
my $node = new_node(
	conf => { shared_preload_libraries => 'eduai,pg_stat_statements', log_min_messages => 'debug1', 'eduai.sweep_interval' => '1s' });
delete $ENV{EDUAI_TEST_KEY};
$node->safe_psql('postgres', 'CREATE EXTENSION pg_stat_statements; SELECT pg_stat_statements_reset()');

sub value { return $node->safe_psql('postgres', $_[0]) }

# What users and logs were shown, to be searched in the end.
my @shown;

sub chat
{
	my ($model, $state, $what) = @_;
	my $id = value(qq{SELECT eduai.enqueue('chat', '{"model": "$model", "messages": [{"role": "user", "content": "hello"}]}', max_attempts => 2)});
	is(value("SELECT state FROM eduai.wait_task($id, '20 s')"), $state, $what);
	push @shown, value("SELECT * FROM eduai.get_task($id)");
	return value("SELECT error->>'code' FROM eduai.get_task($id)");
}

# ---- keys that are sent ----

my %sim;
for my $name (qw(literal env file wrong claude))
{
	my $reference = { env => 'env:EDUAI_TEST_KEY', file => "file:$dir/key" }->{$name} // $key{$name};
	$sim{$name} = start_simulator();
	sim_post($sim{$name}, '/_sim/key', { key => $name eq 'wrong' ? 'sk-right' : $key{$name} });
	add_fleet($node, $sim{$name}, provider => $name, model => "sim-$name", api_key => $reference, kind => $name eq 'claude' ? 'anthropic' : 'openai');
}
chat("sim-$_", 'completed', "a key of the kind: $_") for qw(literal env file claude);
is(chat('sim-wrong', 'dead', 'a wrong key'), 'auth', 'has the code auth');
is(scalar(grep { $_->{endpoint} =~ /chat/ } @{ sim_journal($sim{wrong}) }), 1, 'and is not tried again');

# Replaced, the new one is sent.
sim_post($sim{literal}, '/_sim/key', { key => $key{replaced} });
is(chat('sim-literal', 'dead', 'a key that the provider has revoked'), 'auth', 'has the code auth');
value("SELECT eduai.add_provider('literal', 'openai', '$sim{literal}{base_url}/v1', '$key{replaced}', '{\"allow_loopback\": true}')");
chat('sim-literal', 'completed', 'its replacement');

# A reference that leads nowhere: the task waits, and health() knows.
add_fleet($node, $sim{env}, provider => 'nowhere', model => 'sim-nowhere', api_key => 'env:EDUAI_NO_SUCH_KEY');
my $waiting = value(q{SELECT eduai.enqueue('chat', '{"model": "sim-nowhere", "messages": [{"role": "user", "content": "hello"}]}')});
is(value("SELECT state FROM eduai.wait_task($waiting, '1 s')"), 'ready', 'a task whose key is missing waits');
like(value(q{SELECT string_agg(code || ' ' || detail, ',') FROM eduai.health_problems() WHERE code LIKE 'provider_key%'}),
	qr/^provider_key_missing Provider "nowhere" is not called: its key cannot be had\.$/, 'and health() knows, without where the key should be');
value("SELECT eduai.add_provider('nowhere', 'openai', '$sim{env}{base_url}/v1', 'env:EDUAI_TEST_KEY', '{\"allow_loopback\": true}')");
is(value("SELECT state FROM eduai.wait_task($waiting, '20 s')"), 'completed', 'until it is there');
is(value(q{SELECT count(*) FROM eduai.health_problems() WHERE code LIKE 'provider_key%'}), '0', 'when health() has nothing against it');

# ---- providers that are refused when they are added ----

my $session = EduaiSession->new($node);

sub refused
{
	my ($sqlstate, $what, $url, %option) = @_;
	my $kind = $option{kind} // 'openai';
	my $key = $option{key} // $key{literal};
	my $answer = $session->ask("SELECT eduai.add_provider('bad', '$kind', '$url', '$key'" . ($option{options} ? ", '$option{options}'" : '') . ');');
	push @shown, $answer;
	like($answer, qr/ERROR:  $sqlstate: /, "$what: $sqlstate");
}
refused('22023', 'a file URL', 'file:///etc/passwd');
refused('22023', 'a gopher URL', 'gopher://provider.example/');
refused('22023', 'user and password in the URL', 'https://user:secret@provider.example/v1');
refused('22023', 'a query in the URL', 'https://provider.example/v1?key=1');
refused('22023', 'no host', 'https:///v1');
refused('22023', 'a line break in the URL', "https://provider.example/v1\nX-Other: 1");
refused('22023', 'an unknown kind', 'https://provider.example/v1', kind => 'oracle');
refused('22023', 'an unknown option', 'https://provider.example/v1', options => '{"follow_redirects": true}');
refused('22023', 'an empty key', 'https://provider.example/v1', key => '');
refused('22023', 'a key with a line break', 'https://provider.example/v1', key => "$key{literal}\nX-Other: 1");
refused('22023', 'a relative path', 'https://provider.example/v1', key => 'file:key');
is(value(q{SELECT count(*) FROM eduai.provider WHERE name = 'bad'}), '0', 'none of them is there');

# ---- addresses that are refused, at add time or before a byte leaves ----

my $target = start_simulator();
my $port = $target->{port};
for my $case (
	[ 'loopback', "http://127.0.0.1:$port/v1" ], [ 'localhost', "http://localhost:$port/v1" ],
	[ 'loopback in IPv6', "http://[::1]:$port/v1" ], [ 'loopback mapped into IPv6', "http://[::ffff:127.0.0.1]:$port/v1" ],
	[ 'loopback as a number', "http://2130706433:$port/v1" ], [ 'loopback in hex', "http://0x7f.1:$port/v1" ],
	[ 'the unspecified address', "http://0.0.0.0:$port/v1", '{"allow_loopback": true}' ],
	[ 'a private address', 'https://10.255.255.1/v1' ], [ 'a private address where loopback is allowed', 'https://192.168.255.1/v1', '{"allow_loopback": true}' ],
	[ 'the metadata address of a cloud', 'http://169.254.169.254/v1', '{"allow_private": true, "allow_loopback": true}' ])
{
	my ($what, $url, $options) = @$case;
	my $answer = $session->ask("SELECT eduai.add_provider('where', 'openai', '$url', NULL, '@{[$options // '{}']}');
		SELECT eduai.add_instance('where-1', 'where', 'sim-where');");
	if ($answer =~ /ERROR:  (\w+)/)
	{
		is($1, '22023', "$what: refused when it is added");
	}
	else
	{
		is(chat('sim-where', 'dead', "$what: the task is dead"), 'address_refused', "$what: address_refused");
	}
	$session->ask(q{SELECT eduai.remove_instance('where-1'); SELECT eduai.remove_provider('where');});
}
is(sim_stats($target)->{connections}, 0, 'nothing of that reached the simulator');
# The simulator is there all the same.
add_fleet($node, $target, provider => 'allowed', model => 'sim-allowed');
chat('sim-allowed', 'completed', 'with allow_loopback it is reached');

# A redirect to elsewhere takes neither the request nor the key along.
sim_default($sim{env}, 'sim-env', "redirect=$target->{base_url}/v1/chat/completions");
is(chat('sim-env', 'dead', 'a redirect'), 'redirect_refused', 'is not followed');
is(sim_stats($target)->{requests}, 1, 'the other provider hears nothing of it');

# ---- nobody else knows a key ----

is($session->ask('SET ROLE eduai_admin; SELECT count(*) FROM eduai.provider_secret; RESET ROLE;') =~ /42501/ ? 1 : 0, 1, 'eduai_admin may not read literal keys');
for my $query (
	'SELECT eduai.health()', 'SELECT * FROM eduai.health_problems()', 'SELECT * FROM eduai.instance_status', 'SELECT * FROM eduai.usage_ledger',
	'SELECT * FROM eduai.dead_letter', 'SELECT * FROM eduai.queue_status', 'SELECT * FROM eduai.provider', 'SELECT * FROM eduai.instance',
	'SELECT * FROM eduai.provider_call', 'SELECT * FROM eduai.task', 'SELECT query FROM pg_stat_statements')
{
	my $rows = value($query);
	cmp_ok(length $rows, '>', 0, "$query shows something") unless $query =~ /health_problems/;
	push @shown, $rows;
}
my ($dump) = PostgreSQL::Test::Utils::run_command([ 'pg_dump', '-d', $node->connstr('postgres') ]);
like($dump, qr/COPY eduai\.provider .*literal/s, 'the dump has the providers');
push @shown, $dump;

# ---- without a master key no literal is stored ----

$session->ask(q{ALTER SYSTEM SET eduai.master_key_file = '';});
$node->reload;
wait_until(sub { $session->ask('SHOW eduai.master_key_file;') eq '' }, 10, 'there is no master key');
my $secrets = value('SELECT count(*), md5(string_agg(sealed::text, $$,$$ ORDER BY provider)) FROM eduai.provider_secret');
refused('55000', 'a literal without a master key', 'https://provider.example/v1');
like($shown[-1], qr/HINT:  Give the key as env:NAME or file:PATH, or let a superuser set eduai.master_key_file/, 'and what to do instead');
my $replaced = $session->ask("SELECT eduai.add_provider('literal', 'openai', 'https://provider.example/v1', '$key{replaced}');");
push @shown, $replaced;
like($replaced, qr/ERROR:  55000: /, 'nor is one replaced');
is(value('SELECT count(*), md5(string_agg(sealed::text, $$,$$ ORDER BY provider)) FROM eduai.provider_secret'), $secrets, 'what is stored stays as it was');
unlike($session->ask("SELECT eduai.add_provider('ref', 'openai', 'https://provider.example/v1', '$_');"), qr/ERROR/, "a reference is: $_") for 'env:EDUAI_TEST_KEY', "file:$dir/key";

$session->quit;
$node->stop;
push @shown, slurp_file($node->logfile);
like($shown[-1], qr/22023|invalid|must/, 'the log has the errors');
for my $name (sort keys %key)
{
	my @found = map { /(.*\Q$key{$name}\E.*)/ ? $1 : () } @shown;
	is(scalar @found, 0, "the key $name is nowhere to be seen") or diag map { substr($_, 0, 400) . "\n" } @found;
}

done_testing();
