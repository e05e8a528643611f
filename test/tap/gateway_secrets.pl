# Keys leak nowhere: three keys, given as a variable, a file and a literal, go
# through calls that succeed and fail in every way, at providers that echo them
# wherever they can; then every place where a key might be is searched. Each place
# is searched for a decoy as well, which must be there: so it is really looked at.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use File::Find ();
use IO::Socket::INET;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my %key = (
	env => 'sk-EnvKey-7d1f3b9a5c2e4f60', file => 'sk-FileKey-8e2a4c0b6d3f5a71', literal => 'sk-LiteralKey-9f3b5d1c7e4a6b82');
my $dir = PostgreSQL::Test::Utils::tempdir();
append_to_file("$dir/key", "$key{file}\n");
chmod 0600, "$dir/key";

# ---- a provider that echoes the key ----

sub whole
{
	my ($status, $body, $headers) = @_;
	return "HTTP/1.1 $status\r\n" . ($headers // '') . "Connection: close\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
}

sub answer
{
	my ($text, $model) = @_;
	return qq({"model": "$model", "choices": [{"message": {"content": "$text"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}});
}

my %script = (
	plain => sub { whole('200 OK', answer('fine', 'm')) },
	text => sub { whole('200 OK', answer("your key is $_[0]", "model $_[0]"), "X-Request-Id: $_[0]\r\n") },
	escaped => sub { whole('200 OK', answer('your key is ' . join('', map { sprintf '\\u%04x', ord } split //, $_[0]), 'm')) },
	# pieces of a stream, with the key cut into three of them
	stream => sub {
		my @parts = ('your key is ' . substr($_[0], 0, 9), substr($_[0], 9, 8), substr($_[0], 17) . ', sk-', 'yes');
		("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n",
			(map { qq(data: {"model": "m", "choices": [{"delta": {"content": "$_"}}]}\n\n) } @parts),
			qq(data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n));
	},
	tools => sub { whole('200 OK', qq({"model": "m", "choices": [{"message": {"content": null, "refusal": "$_[0]"}, "finish_reason": "stop"}], "usage": {}})) },
	auth => sub { whole('401 No', qq({"error": {"message": "no such key: $_[0]", "type": "$_[0]", "code": "$_[0]", "param": "$_[0]"}}), "WWW-Authenticate: Bearer $_[0]\r\nX-Request-Id: $_[0]\r\n") },
	twice => sub { whole('400 Bad', '{"error": {"message": "' . $_[0] x 2 . ' and ' . 'x' x 450 . $_[0] . '"}}') },
	status => sub { whole("500 $_[0]", "$_[0]") },
	busy => sub { whole('429 Slow', qq({"error": "$_[0]"}), "Retry-After: $_[0]\r\n") },
	error200 => sub { whole('200 OK', qq({"error": {"code": 502, "message": "$_[0]", "metadata": {"raw": "$_[0]"}}})) },
	garbage => sub { whole('200 OK', "<html>$_[0]</html>") },
	redirect => sub { whole('302 Elsewhere', '', "Location: http://127.0.0.1/?key=$_[0]\r\n") },
	headers => sub { whole('200 OK', '{}', join '', map { "X-$_: $_[0]\r\n" } 1 .. 3000) },
	encoding => sub { whole('200 OK', "$_[0]", "Content-Encoding: gzip\r\n") },
	chunk => sub { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n$_[0]\r\n" },
	cut => sub { "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"$_[0]" },
	nonsense => sub { "$_[0]\r\n\r\n" },
	nothing => sub { '' });
my @ways = sort keys %script;

my $listener = IO::Socket::INET->new(Listen => 100, LocalAddr => '127.0.0.1', ReuseAddr => 1) or die "listen: $!";
my $port = $listener->sockport;
my $seen = "$dir/seen";
my $server = fork() // die;
if ($server == 0)
{
	$SIG{CHLD} = 'IGNORE';
	$SIG{PIPE} = 'IGNORE';
	while (my $client = $listener->accept)
	{
		next if fork();
		my $request = '';
		while ($request !~ /\r\n\r\n/) { sysread($client, $request, 65536, length $request) or POSIX::_exit(0) }
		# (health checks are GETs: they get the same, and what comes of it must not leak either)
		my ($method, $way) = $request =~ m{^(\w+) /(\w+)/};
		my ($given) = $request =~ /^Authorization: Bearer (.*?)\r$/mi;
		append_to_file($seen, "$method $given $way\n");
		my @pieces = $script{$way}->($given);
		while (defined(my $piece = shift @pieces))
		{
			syswrite $client, $piece;
			select undef, undef, undef, 0.3 if @pieces;
		}
		POSIX::_exit(0);
	}
	POSIX::_exit(0);
}
close $listener;
END { local ($?, $!); kill 'KILL', $server if $server }

# ---- a server that logs all it can ----

$ENV{EDUAI_SECRETS_KEY} = $key{env};
my $node = new_node(
	conf => {
		shared_preload_libraries => 'eduai,pg_stat_statements,auto_explain',
		'pg_stat_statements.track' => 'all', 'auto_explain.log_min_duration' => 0, 'auto_explain.log_nested_statements' => 'on',
		# (with log_verbose its plans show the values of parameters: docs/gateway-secrets.md)
		log_statement => 'all', log_min_messages => 'debug3', log_min_error_statement => 'debug5', log_min_duration_statement => 0, log_connections => 'on',
		log_error_verbosity => 'verbose',
		# bound parameters are values: PostgreSQL logs them unless it is told not to
		log_parameter_max_length => 0, log_parameter_max_length_on_error => 0, 'auto_explain.log_parameter_max_length' => 0,
		'eduai.queue_events' => 'all', 'eduai.test_mode' => 'on' });
delete $ENV{EDUAI_SECRETS_KEY};
$node->safe_psql('postgres', 'CREATE EXTENSION pg_stat_statements');
sub value { return $node->safe_psql('postgres', $_[0]) }

# PLACE => what was found there
my %place;
sub look { my ($where, $text) = @_; $place{$where} = ($place{$where} // '') . $text . "\n"; return $text }

# ---- the keys are given ----

sub provider_sql
{
	my ($name, $way, $key) = @_;
	return "SELECT eduai.add_provider('$name-$way', 'openai', 'http://127.0.0.1:$port/$way', $key, '{\"allow_loopback\": true}');\n";
}
my %reference = (env => "'env:EDUAI_SECRETS_KEY'", file => "'file:$dir/key'");
my $limits = '{"first_byte_ms": 5000, "connect_ms": 5000}';
for my $name (sort keys %reference)
{
	value(join '', map { provider_sql($name, $_, $reference{$name}) } @ways);
}
# The literal as a bound parameter: pgbench sends its variables as such.
append_to_file("$dir/add.sql", join '', map { provider_sql('literal', $_, ':key') } @ways);
sub bound
{
	my ($script, $key) = @_;
	my ($out, $err) = PostgreSQL::Test::Utils::run_command(
		[ 'pgbench', '-n', '-t', '1', '-M', 'extended', '-f', $script, '-D', "key=$key", '-h', $node->host, '-p', $node->port, 'postgres' ]);
	return look('errors shown', $out . $err);
}
like(bound("$dir/add.sql", $key{literal}), qr/number of failed transactions: 0|transactions actually processed: 1\/1/, 'the literal is given as a bound parameter');
for my $name (sort keys %key)
{
	value(join '', map { "SELECT eduai.add_instance('$name-$_', '$name-$_', '$name-$_', options => '$limits');\n" } @ways);
	value("SELECT eduai.add_provider('$name-tls', 'openai', 'https://127.0.0.1:$port/plain', " . ($reference{$name} // 'NULL') . ", '{\"allow_loopback\": true}');
		SELECT eduai.add_instance('$name-tls', '$name-tls', '$name-tls')");
}
append_to_file("$dir/tls.sql", "SELECT eduai.add_provider('literal-tls', 'openai', 'https://127.0.0.1:$port/plain', :key, '{\"allow_loopback\": true}');\n");
bound("$dir/tls.sql", $key{literal});

# Refused, with a key among the arguments.
for my $bad ("'openai', 'http://api.example.com/', :key", "'nokind', 'https://api.example.com/', :key", "'openai', 'https://user:' || :key || '\@api.example.com/', NULL",
	"'openai', 'ftp://api.example.com/', :key", "'openai', 'https://api.example.com/', :key || E'\\n'", "'openai', 'https://api.example.com/', 'file:' || :key",
	"'openai', 'https://api.example.com/', 'env:' || :key", "'openai', 'https://api.example.com/', :key, '{\"x\": 1}'")
{
	state_file("$dir/bad.sql", "SELECT eduai.add_provider('bad', $bad);\n");
	like(bound("$dir/bad.sql", $key{literal}), qr/ERROR/, "refused: $bad");
}
sub state_file { my ($file, $text) = @_; unlink $file; append_to_file($file, $text) }

# ---- calls ----

my $listening = EduaiSession->new($node);
$listening->ask('LISTEN eduai_task;');
my @ids;
for my $name (sort keys %key)
{
	for my $way (@ways, 'tls')
	{
		push @ids, value(qq{SELECT eduai.enqueue('chat', '{"model": "$name-$way", "messages": [{"role": "user", "content": "sk-DECOY-payload"}]}',
			max_attempts => 1, user_id => 'pupil', metadata => '{"sk": "sk-DECOY-metadata"}')});
	}
}
my $all = join ',', @ids;
value("SELECT count(*) FROM eduai.wait_tasks('{$all}', '120 s')");
my %states = map { split /\|/ } split /\n/, value("SELECT state, count(*) FROM eduai.get_tasks('{$all}') GROUP BY 1");
is($states{completed} + $states{dead}, scalar @ids, 'every task has ended') or diag explain \%states;
cmp_ok($states{completed}, '>=', 3 * 2, 'some well');
cmp_ok($states{dead}, '>=', 3 * 10, 'most not');
for my $name (sort keys %key)
{
	is(scalar(grep { /^POST \Q$key{$name}\E / } split /\n/, slurp_file($seen)), scalar @ways, "every way got the key: $name");
}
cmp_ok(value(q{SELECT count(DISTINCT code) FROM eduai.provider_call WHERE code IS NOT NULL}), '>=', 8, 'the failures are of many kinds');
like(look('results', value("SELECT * FROM eduai.get_tasks('{$all}')")), qr/your key is \[key\]/, 'an answer that has the key is shown without it');
my $streams = value(qq{SELECT string_agg(task_id::text, ' ') FROM eduai.task WHERE task_id IN ($all) AND model LIKE '%-stream'});
for my $id (split / /, $streams)
{
	is(look('streamed output', value("SELECT string_agg(delta, '' ORDER BY seq) FROM eduai.task_output($id, 0, '0')")), 'your key is [key], sk-yes', 'a key cut into pieces of a stream is not shown');
	cmp_ok(value("SELECT count(*) FROM eduai.task_output($id, 0, '0')"), '>', 2, '... though the text was shown while it came');
}
is(value(qq{SELECT string_agg(DISTINCT result->>'text', '|') FROM eduai.task WHERE task_id IN ($all) AND model LIKE '%-escaped'}), 'your key is [key]', 'nor is one in escapes');
look('notifications', $listening->ask('SELECT 1;'));
wait_until(sub { look('notifications', $listening->ask('SELECT 1;')); (() = $place{notifications} =~ /eduai_task/g) >= @ids }, 20, 'all were announced');

# ---- a session that is adding a key, seen by another ----

my $holder = EduaiSession->new($node);
$holder->ask('BEGIN; LOCK TABLE eduai.provider IN SHARE ROW EXCLUSIVE MODE;');
my $adding = EduaiSession->new($node);
my $pid = $adding->backend_pid;
my $inline = 'sk-InlineKey-0a4c6e2d8f5b7c93';
$adding->send("SELECT eduai.add_provider('inline', 'openai', 'https://api.example.com/', '$inline');");
wait_until(sub { value("SELECT wait_event_type FROM pg_stat_activity WHERE pid = $pid") eq 'Lock' }, 20, 'a session waits with a key');
is(look('activity of add_provider', value("SELECT query FROM pg_stat_activity WHERE pid = $pid")), 'eduai.add_provider() with a key (hidden)', 'others do not see which');
$holder->ask('COMMIT;');
$adding->answer;
is(look('activity of add_provider', value("SELECT query FROM pg_stat_activity WHERE pid = $pid")), 'eduai.add_provider() with a key (hidden)', 'nor afterwards');
$adding->ask(q{SELECT 'sk-DECOY-activity';});
look('activity', value('SELECT * FROM pg_stat_activity'));
$adding->quit;
$holder->quit;

# ---- every place ----

look('errors shown', (value(q{SELECT 'sk-DECOY-error'})));
look('statements', value(q{DO $$ BEGIN PERFORM 'sk-DECOY-statement'; END $$; SELECT query FROM pg_stat_statements}));
my $relations = 0;
for my $role ('postgres', 'eduai_admin', 'eduai_app', 'eduai_worker', 'eduai_reader')
{
	for my $relation (split /\n/, value(qq{SELECT oid::regclass FROM pg_class WHERE relnamespace = 'eduai'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
		AND has_table_privilege('$role', oid, 'SELECT') ORDER BY 1}))
	{
		my ($status, $out, $err) = $node->psql('postgres', "SET ROLE $role; SELECT t::text FROM $relation t");
		look("relations as $role", "$out$err");
		$relations++;
	}
}
cmp_ok($relations, '>', 60, "$relations relations were read");
is(value(q{SET ROLE eduai_admin; SELECT has_table_privilege('eduai.provider_secret', 'SELECT')}), 'f', 'administrators of eduai cannot read even sealed keys');
look('events', value('SELECT * FROM eduai.read_all(0, 10000)'));
look('health', value('SELECT eduai.health()') . value('SELECT * FROM eduai.health_problems()') . value(q{SELECT 'sk-DECOY-health'}));
value(q{ALTER ROLE eduai_reader SET eduai.tenant = 'sk-DECOY-setting'});
look('settings', value('SELECT * FROM pg_settings') . value('SELECT * FROM pg_db_role_setting') . value('SELECT * FROM pg_file_settings'));
for my $what ([ 'pg_dump', '-d', $node->connstr('postgres') ], [ 'pg_dump', '-t', 'eduai.*', '-d', $node->connstr('postgres') ], [ 'pg_dumpall', '-d', $node->connstr('postgres') ])
{
	my ($dump) = PostgreSQL::Test::Utils::run_command($what);
	cmp_ok(length $dump, '>', 10_000, "@$what[0 .. 1] gives a dump");
	look('dumps', $dump);
}
like($place{dumps}, qr/COPY eduai\.provider .*literal/s, 'with the providers');
like($place{'relations as postgres'}, qr/\(literal-plain,"\\\\x01/, 'a superuser sees sealed keys');

# What processes show: title and arguments; only the environment has what is there by nature.
my @processes = split /\n/, value('SELECT pid FROM pg_stat_activity');
push @processes, (slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/)[0];
my ($dispatcher) = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'eduai dispatcher'}) =~ /(\d+)/;
ok((grep { $_ == $dispatcher } @processes), 'the dispatcher is among the processes');
for my $process (@processes)
{
	for my $file (qw(cmdline comm status))
	{
		open my $in, '<', "/proc/$process/$file" or next;
		local $/;
		look('processes', scalar <$in>);
	}
}
like($place{processes}, qr/eduai dispatcher/, 'its title');

$listening->quit;
value('CHECKPOINT');
my $heap = $node->data_dir . '/' . value(q{SELECT pg_relation_filepath('eduai.provider_secret')});
look('heap of provider_secret', slurp_file($heap));
like($place{'heap of provider_secret'}, qr/literal-plain/, 'the heap file has the rows');
$node->stop;

# The data directory, WAL and all.
my (%in_file, $files);
File::Find::find(
	sub {
		return unless -f $_;
		open my $in, '<:raw', $_ or return;
		local $/;
		my $content = <$in> // '';
		$files++;
		for my $word (values %key, $inline, 'sk-DECOY-payload') { push @{ $in_file{$word} }, $File::Find::name if index($content, $word) >= 0 }
	},
	$node->data_dir);
cmp_ok($files, '>', 500, "$files files of the data directory were read");
cmp_ok(scalar @{ $in_file{'sk-DECOY-payload'} // [] }, '>=', 2, 'the payload is in a table\'s file and in WAL');
is_deeply($in_file{ $key{$_} } // [], [], "the key $_ is in no file of it") for sort keys %key;

# At debug3 PostgreSQL logs its environment when it starts: a line of its own.
my $log = slurp_file($node->logfile);
my $own = () = $log =~ /^.* postmaster DEBUG:  00000: \tEDUAI_SECRETS_KEY=\Q$key{env}\E$/mg;
is($own, 1, 'debug3 shows the environment, and with it the key, once at the start');
$log =~ s/^.* postmaster DEBUG:  00000: \tEDUAI_SECRETS_KEY=.*\n//m;
look('log', $log);

# ---- what was found ----

my %decoy = (
	results => 'sk-DECOY-metadata', 'streamed output' => 'your key is', notifications => 'eduai_task', 'activity' => 'sk-DECOY-activity', 'activity of add_provider' => 'hidden', 'errors shown' => 'sk-DECOY-error',
	statements => 'sk-DECOY-statement', 'relations as postgres' => 'sk-DECOY-payload', 'relations as eduai_admin' => 'env:EDUAI_SECRETS_KEY', 'relations as eduai_app' => 'pupil',
	'relations as eduai_worker' => '', 'relations as eduai_reader' => 'literal-plain', events => 'pupil', health => 'sk-DECOY-health', settings => 'sk-DECOY-setting',
	dumps => 'sk-DECOY-payload', processes => 'eduai dispatcher', 'heap of provider_secret' => 'literal-plain', log => 'sk-DECOY-statement');
is_deeply([ sort keys %place ], [ sort keys %decoy ], 'all places, and no other, have a decoy');
for my $where (sort keys %place)
{
	cmp_ok(index($place{$where}, $decoy{$where}), '>=', 0, "$where: looked at");
	my @found = grep { index($place{$where}, $key{$_}) >= 0 } sort keys %key;
	is("@found", '', "$where: no key") or diag map { $place{$where} =~ /(.{0,200}\Q$key{$_}\E.{0,50})/ ? "$1\n" : () } @found;
}

# What eduai cannot hide: a statement is logged before it runs. Only there is it.
like($log, qr/LOG:  .*statement: SELECT eduai\.add_provider\('inline', .*\Q$inline\E/, 'log_statement shows a literal that is part of the statement');
my @shows = grep { index($place{$_}, $inline) >= 0 } sort keys %place;
is_deeply(\@shows, ['log'], 'and nothing else does');
is_deeply([ grep { !/\.log$/ } @{ $in_file{$inline} // [] } ], [], 'nor a file of the data directory');

done_testing();
