# The fault wall over time: providers that go and come back, connections that
# end between calls, names that are not found for a while, TLS that breaks.

use strict;
use warnings;

use EduaiTest;
use EduaiWall;
use IO::Socket::INET;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

# Certificates: an authority that is its own server's, for 127.0.0.1 only.
my $dir = PostgreSQL::Test::Utils::tempdir();
system_or_bail('openssl', qw(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=simulated),
	'-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', "$dir/key", '-out', "$dir/certificate");

# A resolver that knows the name, and no address of it so far.
my $shim = 'test/provider/eduai-network.so';
my $hosts = "$dir/hosts";
append_to_file($hosts, "provider.simulated\n");
die "no $shim: build test/provider" unless -e $shim;

my $node = new_node(
	start => 0,
	conf => {
		'eduai.breaker_open' => '500ms', 'eduai.breaker_ramp' => '1s', 'eduai.http_connections' => 200,
		'eduai.sweep_interval' => '1s', 'eduai.http_ca_file' => "$dir/certificate" });
{
	local %ENV = (%ENV, LD_PRELOAD => join(' ', grep { defined && length } $ENV{LD_PRELOAD}, "$ENV{TESTDIR}/$shim"), EDUAI_NETWORK_HOSTS => $hosts);
	$node->start;
}
$node->safe_psql('postgres', 'CREATE EXTENSION eduai');
my ($one, $two) = (start_simulator(), start_simulator());
$node->safe_psql('postgres', qq{
	SELECT eduai.configure_pool('chat', '{chat}', 200);
	SELECT eduai.add_provider('one', 'openai', '$one->{base_url}/v1', options => '{"allow_loopback": true}');
	SELECT eduai.add_provider('two', 'openai', '$two->{base_url}/v1', options => '{"allow_loopback": true}')});

sub add_instance
{
	my ($name, $provider, $alias, %options) = @_;
	my $options = join '', map { ", \"$_\": $options{$_}" } sort keys %options;
	$node->safe_psql('postgres', qq{SET client_min_messages = error;
		SELECT eduai.add_instance('$name', '$provider', '$name', max_concurrent => 50, options => '{"aliases": ["$alias"]$options}')});
}

# So many tasks, each so many ms after the one before it; their ids.
sub enqueue
{
	my ($alias, $many, $attempts, $apart_ms) = @_;
	$apart_ms //= 0;
	return $node->safe_psql('postgres', qq{
		SELECT string_agg(eduai.enqueue('chat', '{"model": "$alias", "user": "$alias", "prompt": "x"}', max_attempts => $attempts,
			run_at => now() + n * interval '$apart_ms ms')::text, ',') FROM generate_series(1, $many) n});
}

sub states
{
	my ($ids) = @_;
	return $node->safe_psql('postgres', "SELECT string_agg(state || ' ' || n, ', ' ORDER BY state) FROM
		(SELECT state, count(*) n FROM unnest('{$ids}'::bigint[]) id, eduai.get_task(id) t GROUP BY state) s");
}

sub all_completed
{
	my ($ids, $many, $deadline_s, $what) = @_;
	eval { wait_until(sub { states($ids) !~ /ready|running|scheduled/ }, $deadline_s, $what) };
	is(states($ids), "completed $many", $what);
}

sub calls
{
	my ($ids) = @_;
	return $node->safe_psql('postgres', "SELECT count(*) FROM eduai.usage_ledger WHERE task_id = ANY ('{$ids}'::bigint[])");
}

sub breaker { return $node->safe_psql('postgres', "SELECT breaker FROM eduai.instance_status WHERE name = '$_[0]'") }

# All down, then back: they wait for one to return rather than fail at once.
add_instance('down-1', 'one', 'down');
add_instance('down-2', 'two', 'down');
stop_simulator($_) for $one, $two;
my $ids = enqueue('down', 50, 10);
wait_until(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM eduai.usage_ledger WHERE code = 'connect_failed'}) >= 6 }, 20, 'calls fail');
wait_until(sub { breaker('down-1') eq 'open' && breaker('down-2') eq 'open' }, 20, 'both breakers open');
my $failed = calls($ids);
cmp_ok($failed, '<', 150, 'not every task tries what is down again and again') or diag "$failed calls";
unlike(states($ids), qr/dead/, 'none is given up');
($one, $two) = (start_simulator(port => $one->{port}), start_simulator(port => $two->{port}));
all_completed($ids, 50, 40, 'all down, then back: all are served');
wait_until(sub { breaker('down-1') eq 'closed' || breaker('down-2') eq 'closed' }, 30, 'a breaker has closed again');

# Flapping: half of the time it fails. The others serve; it costs a few attempts.
add_instance('flapping', 'one', 'flap');
add_instance('steady', 'two', 'flap');
sim_default($one, 'flapping', 'flap=700:700');
$ids = enqueue('flap', 300, 4, 15);
all_completed($ids, 300, 40, 'flapping: all are served');
my $wasted = calls($ids) - 300;
cmp_ok($wasted, '<', 60, 'with few attempts in vain') or diag "$wasted in vain";
my $steady = $node->safe_psql('postgres', q{SELECT count(*) FROM eduai.usage_ledger WHERE instance = 'steady' AND outcome = 'completed'});
cmp_ok($steady, '>', 100, 'mostly by the steady one');
sim_default($one, 'flapping', '');
my $good = $node->safe_psql('postgres', q{SELECT count(*) FROM eduai.usage_ledger WHERE instance = 'flapping' AND outcome = 'completed'});
wait_until(
	sub {
		my $more = enqueue('flap', 5, 3);
		wait_until(sub { states($more) !~ /ready|running|scheduled/ }, 20, 'answered');
		return breaker('flapping') eq 'closed'
		  && $node->safe_psql('postgres', q{SELECT count(*) FROM eduai.usage_ledger WHERE instance = 'flapping' AND outcome = 'completed'}) > $good;
	},
	30, 'within 30 s of its recovery it serves again');
pass('a recovered one serves again');

# A limit that never lifts: a handful of attempts, each after a longer pause.
add_instance('limited', 'one', 'limited');
sim_default($one, 'limited', 'status=429');
$ids = enqueue('limited', 1, 4);
wait_until(sub { states($ids) eq 'dead 1' }, 60, 'it was given up');
my @asked = grep { $_->{user} eq 'limited' } @{ sim_journal($one) };
is(scalar @asked, 4, 'a limit for ever: four attempts, four requests');
my @pauses = map { ($asked[$_]{first_byte_us} - $asked[ $_ - 1 ]{arrival_us}) / 1000 } 1 .. $#asked;
is(scalar(grep { $pauses[$_] < 500 * 2**$_ } 0 .. $#pauses), 0, 'each after a longer pause') or diag "@pauses";
is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT code, ',') FROM eduai.usage_ledger WHERE task_id = ANY ('{$ids}'::bigint[])"), 'rate_limited', 'and it says why');

# Connections that the server closes, unannounced, after each answer: one call
# after the other finds it out, and none is sent twice.
add_instance('closing', 'one', 'closing');
sim_default($one, 'closing', 'close');
for (1 .. 20)
{
	$ids = enqueue('closing', 1, 3);
	wait_for_task($node, $ids, 'completed', 20);
}
my ($calls, $sent) = ($node->safe_psql('postgres', q{SELECT count(*) FROM eduai.usage_ledger WHERE instance = 'closing'}),
	scalar grep { $_->{user} eq 'closing' } @{ sim_journal($one) });
cmp_ok($sent, '<=', $calls, 'closed between calls: no request without an attempt');
cmp_ok($sent, '>=', 20, 'and each was answered');

# An answer longer than it said: the rest of it is nobody's answer.
add_instance('talkative', 'one', 'talkative', stream => 'false');
sim_default($one, 'talkative', 'first=10;length=20');
$ids = enqueue('talkative', 1, 20);
wait_until(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM eduai.usage_ledger WHERE instance = 'talkative'}) >= 2 }, 20, 'two calls');
add_instance('after', 'one', 'after', stream => 'false');
my $others = enqueue('after', 30, 1);
all_completed($others, 30, 20, 'what one answer had too much is in no other');

# A name that has no address, then has one.
$node->safe_psql('postgres', qq{SELECT eduai.add_provider('named', 'openai', 'http://provider.simulated:$one->{port}/v1', options => '{"allow_loopback": true}')});
add_instance('named', 'named', 'named');
$ids = enqueue('named', 5, 20);
wait_until(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM eduai.usage_ledger WHERE code = 'dns_failed'}) >= 3 }, 30, 'the name is not found');
unlike(states($ids), qr/dead/, 'a name that is not found: none is given up');
rename $hosts, "$hosts.old";
append_to_file($hosts, "provider.simulated 127.0.0.1\n");
all_completed($ids, 5, 60, 'it is found again: all are served');

# ---- TLS ----

# A TLS server that gives its answer to whoever comes; the number of its port.
my @servers;
END { local ($?, $!); kill 'KILL', $_ for @servers }

sub free_port
{
	my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die "listen: $!";
	return $socket->sockport;
}

sub tls_server
{
	my ($answer, $ends) = @_;
	my $port = free_port();
	pipe(my $read, my $write) or die "pipe: $!";
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		open STDIN, '<&', $read;
		open STDOUT, '>', '/dev/null';
		open STDERR, '>', '/dev/null';
		close $write;
		exec 'openssl', 's_server', '-quiet', '-accept', "127.0.0.1:$port", '-cert', "$dir/certificate", '-key', "$dir/key" or POSIX::_exit(127);
	}
	push @servers, $pid;
	syswrite $write, $answer;
	close $write if $ends;
	my $hex = sprintf '%04X', $port;
	wait_until(sub { open my $f, '<', '/proc/net/tcp'; scalar grep { /:$hex 00000000:0000 0A/ } <$f> }, 10, 'the TLS server listens');
	return ($port, $write);
}

# Between a client and that server: passes on what either sends; when both have
# been silent for a moment, tells the client of an alert, in clear, and closes.
sub alert_proxy
{
	my ($server) = @_;
	my $listener = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die "listen: $!";
	my $pid = fork() // die "fork: $!";
	if ($pid)
	{
		push @servers, $pid;
		return $listener->sockport;
	}
	my $client = $listener->accept;
	my $target = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $server) or POSIX::_exit(1);
	while (1)
	{
		my $in = '';
		vec($in, fileno($_), 1) = 1 for $client, $target;
		last unless select($in, undef, undef, 1);
		for ([ $client, $target ], [ $target, $client ])
		{
			next unless vec($in, fileno($_->[0]), 1);
			sysread($_->[0], my $bytes, 65536) or POSIX::_exit(0);
			syswrite $_->[1], $bytes;
		}
	}
	syswrite $client, "\x15\x03\x03\x00\x02\x02\x50";
	POSIX::_exit(0);
}

my $answer = '{"model": "m", "choices": [{"message": {"content": "over TLS"}, "finish_reason": "stop"}]}';
my $whole = 'HTTP/1.1 200 OK' . "\r\nContent-Type: application/json\r\nContent-Length: " . length($answer) . "\r\n\r\n$answer";
my $part = 'HTTP/1.1 200 OK' . "\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n" . substr($answer, 0, 40);
my ($whole_port, $keep_1) = tls_server($whole, 0);
my ($other_port, $keep_3) = tls_server($whole, 0);
my ($alert_port, $keep_2) = tls_server($part, 0);
my ($ending_port) = tls_server($part, 1);
my %tls = (
	'tls-whole' => [ '127.0.0.1', $whole_port, 'completed', 'completed' ],
	'tls-name' => [ 'localhost', $other_port, 'dead', 'tls_failed' ],
	'tls-alert' => [ '127.0.0.1', alert_proxy($alert_port), 'dead', 'body_cut' ],
	'tls-ends' => [ '127.0.0.1', $ending_port, 'dead', 'body_cut' ],
	# it waits for the end of a line that never comes
	'tls-none' => [ '127.0.0.1', $one->{port}, 'dead', 'timeout_connect' ]);
for my $name (sort keys %tls)
{
	my ($host, $port, $state, $code) = @{ $tls{$name} };
	$node->safe_psql('postgres', qq{SELECT eduai.add_provider('$name', 'openai', 'https://$host:$port/v1', options => '{"allow_loopback": true}')});
	add_instance($name, $name, $name, stream => 'false', connect_ms => $code eq 'timeout_connect' ? 1000 : 20000);
	$ids = enqueue($name, 1, 1);
	eval { wait_until(sub { states($ids) !~ /ready|running|scheduled/ }, 30, "$name has ended") };
	is(states($ids), "$state 1", "$name: $state");
	is($node->safe_psql('postgres', "SELECT coalesce(code, outcome) FROM eduai.usage_ledger WHERE task_id = $ids"), $code, "$name: $code")
	  or diag $node->safe_psql('postgres', "SELECT error FROM eduai.get_task($ids)");
}

$node->stop;
done_testing();
