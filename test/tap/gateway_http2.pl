# HTTP/2: calls share a connection, losing it loses them all, each with its own
# outcome, and nothing is sent twice. Needs Node for a server that can do it.

use strict;
use warnings;

use EduaiTest;
use FindBin;
use HTTP::Tiny;
use JSON::PP ();
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my ($version) = run_command([ 'sh', '-c', 'node --version 2>/dev/null' ]);
plan skip_all => 'no Node for an HTTP/2 server' unless $version =~ /^v(\d+)/ && $1 >= 18;
plan skip_all => 'libcurl without HTTP/2' unless (run_command([ 'sh', '-c', 'curl-config --features 2>/dev/null || curl --version' ]))[0] =~ /HTTP2/;

my $dir = PostgreSQL::Test::Utils::tempdir();
system_or_bail('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', "$dir/key",
	'-out', "$dir/cert", '-days', '2', '-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1');

my $server = fork() // die "fork: $!";
if ($server == 0)
{
	open STDIN, '<', '/dev/null';
	open STDOUT, '>', "$PostgreSQL::Test::Utils::log_path/h2_server.log";
	open STDERR, '>&', \*STDOUT;
	exec('node', "$FindBin::Bin/h2_server.mjs", "$dir/key", "$dir/cert", "$dir/port") or POSIX::_exit(127);
}
END { local ($?, $!); kill 'KILL', $server if $server; }
my ($port, $control) = @{ wait_until(sub { -s "$dir/port" && [ slurp_file("$dir/port") =~ /^(\d+) (\d+)$/ ] }, 20, 'the server listens') };

my $node = new_node(conf => { 'eduai.http_ca_file' => "$dir/cert", 'eduai.breaker_open' => '1ms', 'eduai.breaker_ramp' => 0 });
$node->safe_psql('postgres', qq{SELECT eduai.add_provider('h2', 'openai', 'https://127.0.0.1:$port/v1', NULL, '{"allow_loopback": true, "http2": true}')});
$node->safe_psql('postgres', q{SELECT eduai.configure_pool('chat', '{chat}', 50)});
$node->safe_psql('postgres', "SELECT eduai.add_instance('$_', 'h2', '$_', max_concurrent => 50)") for qw(plain stream held mute refused);

sub server
{
	my ($path) = @_;
	my $answer = HTTP::Tiny->new(timeout => 20)->get("http://127.0.0.1:$control$path");
	die "GET $path: $answer->{status}" unless $answer->{success};
	return JSON::PP::decode_json($answer->{content});
}

sub enqueue
{
	my ($model, $n, $max_attempts) = @_;
	$max_attempts //= 1;
	return split /\n/, $node->safe_psql('postgres', qq{SELECT eduai.enqueue('chat',
		'{"model": "$model", "messages": [{"role": "user", "content": "hello"}]}', max_attempts => $max_attempts) FROM generate_series(1, $n)});
}

# "outcome code: count, ..." of these tasks in the ledger, once they have ended.
sub outcomes
{
	my $ids = join ',', @_;
	wait_until(sub { $node->safe_psql('postgres', "SELECT count(*) FROM eduai.task WHERE task_id IN ($ids) AND state NOT IN ('completed', 'dead')") == 0 }, 30, 'the tasks have ended');
	return join ', ', split /\n/, $node->safe_psql('postgres', "SELECT concat_ws(' ', outcome, code) || ': ' || count(*) FROM eduai.usage_ledger WHERE task_id IN ($ids) GROUP BY outcome, code ORDER BY 1");
}

# ---- one connection for all

is(outcomes(enqueue('plain', 1)), 'completed: 1', 'a call');
is(outcomes(enqueue('plain', 20), enqueue('stream', 20)), 'completed: 40', 'answers and streams over HTTP/2');
my $stats = server('/stats');
is_deeply($stats->{versions}, { '2.0' => 41 }, 'all of them');
is($stats->{connections}, 1, 'over one connection');

# ---- it is lost

my @held = enqueue('held', 10);
my @mute = enqueue('mute', 10);
wait_until(sub { server('/stats')->{requests} == 61 }, 20, 'twenty calls are at the provider');
is(server('/stats')->{open}, 20, 'all at once');
server('/cut');
# libcurl may call the one it was reading complete: what it has says that it is not.
like(outcomes(@held), qr/^failed body_cut: (?:10|9, failed missing_finish_reason: 1)$/, 'answers that had begun are cut');
is(outcomes(@mute), 'failed connection_closed: 10', 'those that had not began never will');
is(server('/stats')->{requests}, 61, 'nothing was sent again');
is(outcomes(enqueue('stream', 5)), 'completed: 5', 'the next calls take a new connection');
is(server('/stats')->{connections}, 2, 'one');

# ---- refused, and asked to come again: the queue decides that, not libcurl

is(outcomes(enqueue('refused', 3)), 'failed connection_closed: 3', 'streams that are refused have failed');
is(server('/stats')->{requests}, 69, 'nothing was sent again');

# ---- a polite end: a call that meets it has not been answered, and comes again

server('/goaway');
my @after = enqueue('stream', 5, 3);
like(outcomes(@after), qr/^completed: 5(?:, failed protocol_error: \d)?$/, 'after a GOAWAY');
is(server('/stats')->{requests}, 74, 'each was answered once');

# ---- only where it was asked for

my $before = server('/stats')->{versions};
$node->safe_psql('postgres', qq{SELECT eduai.add_provider('h1', 'openai', 'https://127.0.0.1:$port/v1', NULL, '{"allow_loopback": true}');
	SELECT eduai.add_instance('h1', 'h1', 'plain', options => '{"aliases": ["one"]}')});
is(outcomes(enqueue('one', 3)), 'completed: 3', 'a provider without the option');
is_deeply(server('/stats')->{versions}, { %$before, '1.1' => 3 }, '... is called over HTTP/1.1');

$node->stop;
done_testing();
