# The wire against a server of our own: what is sent, what is never sent twice,
# which connections are refused, and answers that no simulator would give.

use strict;
use warnings;

use EduaiTest;
use IO::Socket::INET;
use JSON::PP ();
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $answer = '{"model": "m", "choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}], '
  . '"usage": {"prompt_tokens": 1, "completion_tokens": 1}}';

sub whole
{
	my ($body, $status, $headers) = @_;
	return 'HTTP/1.1 ' . ($status // '200 OK') . "\r\n" . ($headers // '') . 'Content-Length: ' . length($body) . "\r\n\r\n$body";
}

# By the first part of the path: what to send after the nth request on a
# connection; undef closes it.
my %script = (
	plain => sub { whole($answer) },
	# closes a connection that was kept, having read the second request
	closing => sub { $_[0] == 1 ? whole($answer) : undef },
	hints => sub { "HTTP/1.1 103 Early Hints\r\nRetry-After: 7\r\n\r\n" . whole($answer) },
	http10 => sub { ("HTTP/1.0 200 OK\r\n\r\n$answer", undef) },
	http10_cut => sub { ("HTTP/1.0 200 OK\r\n\r\n" . substr($answer, 0, 40), undef) },
	http09 => sub { ($answer, undef) },
	cut_429 => sub { ("HTTP/1.1 429 Slow down\r\nRetry-After: 3\r\nContent-Length: 100\r\n\r\n{\"er", undef) },
	echo_key => sub { whole('{"error": {"message": "no such key: ' . ($_[1] =~ /^Authorization: Bearer (.*?)\r$/mi)[0] . '"}}', '401 No') },
	cookie => sub { whole($answer, '200 OK', "Set-Cookie: a=b; Path=/\r\n") },
	redirect => sub { whole('', '307 Elsewhere', "Location: /plain/chat/completions\r\n") },
	date => sub { whole('{}', '503 Busy', "Retry-After: " . http_date(time + 100) . "\r\n") });

sub http_date
{
	my @t = gmtime $_[0];
	return sprintf '%s, %02d %s %d %02d:%02d:%02d GMT', (qw(Sun Mon Tue Wed Thu Fri Sat))[ $t[6] ], $t[3],
	  (qw(Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec))[ $t[4] ], $t[5] + 1900, $t[2], $t[1], $t[0];
}

# A process per connection; each request is appended to a file.
my $listener = IO::Socket::INET->new(Listen => 100, LocalAddr => '127.0.0.1', ReuseAddr => 1) or die "listen: $!";
my $port = $listener->sockport;
my $seen = PostgreSQL::Test::Utils::tempdir() . '/requests';

sub serve
{
	my ($client) = @_;
	my $n = 0;
	while (1)
	{
		my $request = '';
		while ($request !~ /\r\n\r\n/) { sysread($client, $request, 65536, length $request) or return }
		my ($head, $body) = split /\r\n\r\n/, $request, 2;
		my ($length) = $head =~ /^Content-Length: (\d+)/mi;
		while (length $body < $length) { sysread($client, $body, 65536, length $body) or return }
		my ($path) = $head =~ m{^POST /(\w+)/} or return;
		open my $file, '>>', $seen or die;
		syswrite $file, JSON::PP::encode_json({ path => $path, head => $head, body => $body }) . "\n";
		close $file;
		for ($script{$path}->(++$n, "$head\r\n"))
		{
			return unless defined;
			syswrite $client, $_;
		}
	}
}

my $server = fork() // die;
if ($server == 0)
{
	$SIG{CHLD} = 'IGNORE';
	$SIG{PIPE} = 'IGNORE';
	while (my $client = $listener->accept)
	{
		next if fork();
		serve($client);
		POSIX::_exit(0);
	}
	POSIX::_exit(0);
}
close $listener;
END { local ($?, $!); kill 'KILL', $server if $server }

my $node = new_node(conf => { 'eduai.test_mode' => 'on' });

sub requests
{
	my ($path) = @_;
	return grep { $_->{path} eq $path } map { JSON::PP::decode_json($_) } split /\n/, slurp_file($seen);
}

sub call
{
	my ($path, %option) = @_;
	my $calls = $option{calls} // 1;
	my $host = $option{host} // '127.0.0.1';
	my $prompt = '{"prompt": "hello \u00e9l\u00e8ve"}';
	my $provider = $option{options} // '{"allow_loopback": true, "headers": {"X-School": "caf\u00e9"}}';
	my $json = $node->safe_psql('postgres', qq{
		SET client_min_messages = error;
		SELECT eduai.add_provider('p', 'openai', 'http://$host:$port/$path', }
		  . ($option{key} // q{'sk-0123456789'}) . qq{, '$provider');
		SELECT eduai.add_instance('i', 'p', 'm', options => '{"connect_ms": 3000, "first_byte_ms": 3000}');
		SELECT eduai.test_call('i', 'chat', '$prompt', $calls)});
	$json =~ s/\A\s+//;
	return JSON::PP::decode_json($json);
}

# What is sent.
my $r = call('plain');
is($r->{first}{code}, 'ok', 'an answer');
my ($request) = requests('plain');
my %header = map { /^([^:]+): (.*?)\r?$/ ? (lc $1 => $2) : () } split /\n/, $request->{head};
is($header{authorization}, 'Bearer sk-0123456789', 'the key');
is($header{'content-type'}, 'application/json', 'the content type');
like($header{'user-agent'}, qr{^eduai/\d}, 'the user agent');
is($header{'accept-encoding'}, 'gzip, deflate', 'the encodings');
ok(!exists $header{expect}, 'no Expect');
ok(!exists $header{cookie}, 'no cookies');
is_deeply(
	JSON::PP->new->utf8->decode($request->{body}),
	{ model => 'm', messages => [ { role => 'user', content => "hello \x{e9}l\x{e8}ve" } ],
		stream => JSON::PP::true, stream_options => { include_usage => JSON::PP::true } },
	'the body');

# Sent once: when a kept connection dies under a request, nobody knows whether
# the provider had read it.
$r = call('closing', calls => 5);
is(scalar(() = requests('closing')), 5, 'five calls are five requests');
is_deeply($r->{outcomes}, { ok => 3, connection_closed => 2 }, 'those whose connection died have failed');

is(call('hints')->{first}{code}, 'ok', 'an informational answer comes first');
is(call('http10')->{first}{code}, 'ok', 'HTTP/1.0, closed at the end');
is(call('http10_cut')->{first}{code}, 'invalid_json', 'HTTP/1.0, cut where nothing tells the length');
is(call('http09')->{first}{code}, 'protocol_error', 'no HTTP at all');
$r = call('cut_429');
is("$r->{first}{code} $r->{first}{retry_after_ms}", 'rate_limited 3000', 'the head of a 429 is enough');
$r = call('date');
cmp_ok($r->{first}{retry_after_ms}, '>', 90_000, 'Retry-After as a date');
cmp_ok($r->{first}{retry_after_ms}, '<=', 100_000, 'Retry-After as a date, not later');
is(call('echo_key')->{first}{message}, 'no such key: [key]', 'a key that is echoed does not show');
is(call('redirect')->{first}{code}, 'redirect_refused', 'redirects are not followed');
is(scalar(() = requests('redirect')), 1, 'nor asked for');
call('cookie', calls => 2);
unlike($_->{head}, qr/^Cookie:/mi, 'cookies are not kept') for requests('cookie');

# Addresses are judged when connecting, whatever name led there.
my $before = () = requests('plain');
is(call('plain', host => 'localhost')->{first}{code}, 'ok', 'a name of the loopback, allowed');
# past what add_provider() would refuse
$node->safe_psql('postgres', q{UPDATE eduai.provider SET options = '{}' WHERE name = 'p'});
my $refused = $node->safe_psql('postgres', q{SELECT eduai.test_call('i', 'chat', '{"prompt": "x"}')->'first'->>'code'});
is($refused, 'address_refused', 'the same, not allowed');
# a connection that another provider may use is no way around it
my $shared = $node->safe_psql('postgres', qq{
	SELECT eduai.add_provider('open', 'openai', 'http://localhost:$port/plain', options => '{"allow_loopback": true}');
	SELECT eduai.add_instance('open', 'open', 'm');
	SELECT eduai.test_call('open', 'chat', '{"prompt": "x"}')->'first'->>'code';
	SELECT eduai.test_call('i', 'chat', '{"prompt": "x"}')->'first'->>'code';
	SELECT eduai.test_call('open', 'chat', '{"prompt": "x"}')->'first'->>'code'});
like($shared, qr/^ok\naddress_refused\nok$/m, 'nor over a connection that is open already');
is(scalar(() = requests('plain')), $before + 3, 'what was refused was not sent');

# Nothing of the environment is honoured.
$node->stop;
{
	local $ENV{http_proxy} = 'http://127.0.0.1:1';
	local $ENV{ALL_PROXY} = 'http://127.0.0.1:1';
	local $ENV{EDUAI_WIRE_KEY} = 'sk-from-environment';
	$node->start;
}
is(call('plain', key => q{'env:EDUAI_WIRE_KEY'})->{first}{code}, 'ok', 'no proxy');
like((requests('plain'))[-1]{head}, qr/^Authorization: Bearer sk-from-environment\r?$/m, 'a key of the server\'s environment');

# The key is in no log, whatever is logged.
$node->append_conf('postgresql.conf', "log_min_messages = debug2\nlog_min_error_statement = debug5\nlog_parameter_max_length_on_error = -1\n");
$node->reload;
my $offset = -s $node->logfile;
call('plain', key => q{'sk-never-in-a-log'});
$node->psql('postgres', q{SELECT eduai.add_provider('p', 'openai', 'http://api.example.com/', 'sk-never-in-a-log')});
$node->psql('postgres', q{SELECT eduai.add_provider('p', 'openai', 'https://api.example.com/', E'sk-never-in-a-log\n')});
$node->psql('postgres', q{DO $$ BEGIN PERFORM eduai.add_provider('p', 'nokind', 'https://api.example.com/', 'sk-never-in-a-log'); END $$});
my $log = substr(slurp_file($node->logfile), $offset);
like($log, qr/unknown provider kind "nokind"/, 'the errors are logged');
unlike($log, qr/never-in-a-log/, 'without the key');

$node->stop;
done_testing();
