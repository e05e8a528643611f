# Requests go only where they may: whatever a base URL says, whatever a name
# resolves to, whatever a provider answers, whatever the environment or a payload
# asks for. Shown by what did not happen: a library in front of the server's
# connect() notes each connection before it begins (eduai-network.so), and
# listeners on all of this machine's addresses count what arrives.

use strict;
use warnings;
use utf8;

use EduaiSession;
use EduaiTest;
use IO::Select;
use IO::Socket::IP;
use JSON::PP ();
use POSIX ();
use PostgreSQL::Test::Utils;
use Socket qw(AF_INET AF_INET6);
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my ($hosts, $connects, $arrivals) = map { "$dir/$_" } qw(hosts connects arrivals);
my $shim = 'test/provider/eduai-network.so';
die "no $shim: build test/provider" unless -f $shim;
$shim = POSIX::getcwd() . "/$shim";

# ---- listeners: on every address, on two ports ----

my $answer = '{"model": "m", "choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}';
my %redirect;
my $listener = IO::Socket::IP->new(Family => AF_INET, LocalHost => '0.0.0.0', Listen => 100, ReuseAddr => 1) or die "listen: $@";
my $port = $listener->sockport;
my $listener6 = IO::Socket::IP->new(Family => AF_INET6, LocalHost => '::', LocalPort => $port, Listen => 100, ReuseAddr => 1, V6Only => 1) or die "listen: $@";
my $proxy = IO::Socket::IP->new(Family => AF_INET, LocalHost => '127.0.0.1', Listen => 100, ReuseAddr => 1) or die "listen: $@";
my $proxy_port = $proxy->sockport;

sub note_arrival
{
	my ($text) = @_;
	open my $file, '>>', $arrivals or die;
	syswrite $file, JSON::PP::encode_json({ text => $text }) . "\n";
	close $file;
}

# One request a connection; a path that begins with /to/ is sent elsewhere.
sub serve
{
	my ($client, $where) = @_;
	my $request = '';
	note_arrival("accepted on $where");
	while ($request !~ /\r\n\r\n/) { sysread($client, $request, 65536, length $request) or return }
	note_arrival($request);
	my ($status) = $request =~ m{^POST /redirect/(\d+)/};
	my $head = $status ? "HTTP/1.1 $status Elsewhere\r\nLocation: http://" . ($request =~ m{^POST /redirect/\d+/([^/ ]+)})[0] . "/taken\r\n" : "HTTP/1.1 200 OK\r\n";
	syswrite $client, "${head}Content-Type: application/json\r\nConnection: close\r\nContent-Length: " . length($answer) . "\r\n\r\n$answer";
}

my $server = fork() // die;
if ($server == 0)
{
	$SIG{PIPE} = 'IGNORE';
	my $select = IO::Select->new($listener, $listener6, $proxy);
	while (my @ready = $select->can_read)
	{
		for my $socket (@ready)
		{
			my $client = $socket->accept or next;
			serve($client, $client->sockhost . ' ' . $client->sockport);
			close $client;
		}
	}
	POSIX::_exit(0);
}
close $_ for $listener, $listener6, $proxy;
END { local ($?, $!); kill 'KILL', $server if $server }

sub arrived { return -e $arrivals ? map { JSON::PP::decode_json($_)->{text} } split /\n/, slurp_file($arrivals) : () }
sub noted { return -e $connects ? split /\n/, slurp_file($connects) : () }

# What happened while CODE ran: connections begun, connections accepted.
sub happened
{
	my ($code) = @_;
	my ($before_noted, $before_arrived) = (scalar(() = noted()), scalar(() = grep { /^accepted/ } arrived()));
	$code->();
	my @new = noted();
	my @connects = grep { /^connect/ } @new[ $before_noted .. $#new ];
	my @all = grep { /^accepted/ } arrived();
	return (\@connects, [ @all[ $before_arrived .. $#all ] ]);
}

# ---- the server: its environment asks for proxies, and its home has credentials ----

mkdir "$dir/home" or die;
append_to_file("$dir/home/.netrc", "machine 127.0.0.1 login netrc-user password netrc-secret\ndefault login netrc-user password netrc-secret\n");
chmod 0600, "$dir/home/.netrc";
append_to_file("$dir/home/.curlrc", "proxy = http://127.0.0.1:$proxy_port\n");
append_to_file($hosts, '');

my $node = new_node(conf => { 'eduai.test_mode' => 'on', 'eduai.sweep_interval' => '1s' }, start => 0);
{
	local %ENV = (
		%ENV,
		LD_PRELOAD => join(' ', grep { defined && length } $ENV{LD_PRELOAD}, $shim),
		EDUAI_NETWORK_HOSTS => $hosts, EDUAI_NETWORK_LOG => $connects, HOME => "$dir/home", CURL_HOME => "$dir/home",
		map { $_ => "http://127.0.0.1:$proxy_port" } qw(http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY));
	delete @ENV{qw(NO_PROXY no_proxy)};
	$node->start;
}
$node->safe_psql('postgres', 'CREATE EXTENSION eduai');
my $session = EduaiSession->new($node);
# Health checks of the dispatcher would be connections, too.
$session->ask('SELECT eduai.stop_workers();');
wait_until(sub { $session->ask(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'eduai dispatcher';}) eq '0' }, 20, 'only this session makes calls');
sub ask { return $session->ask($_[0]) }

my $both = '{"allow_loopback": true, "allow_private": true}';
my $loopback = '{"allow_loopback": true}';
ask(q{SET client_min_messages = error; SELECT eduai.add_provider('p', 'openai', 'https://api.example.com');
	SELECT eduai.add_instance('i', 'p', 'm', options => '{"connect_ms": 2000, "first_byte_ms": 2000}');});

# The second wall alone: past what add_provider() checks.
sub plant
{
	my ($url, $options) = @_;
	$url =~ s/'/''/g;
	ask("UPDATE eduai.provider SET base_url = '$url', options = '" . ($options // '{}') . "' WHERE name = 'p';");
}

sub call { return ask(q{SELECT eduai.test_call('i', 'chat', '} . ($_[0] // '{"prompt": "hello"}') . q{')->'first'->>'code';}) }

# ---- that the eyes are open ----

plant("http://127.0.0.1:$port/v1", $loopback);
my ($begun, $accepted) = happened(sub { is(call(), 'ok', 'what is allowed is reached') });
is_deeply($begun, ["connect 127.0.0.1 $port"], 'the connection is noted as it begins');
is_deeply($accepted, ["accepted on 127.0.0.1 $port"], 'and counted as it arrives');
plant("http://[::1]:$port/v1", $loopback);
($begun, $accepted) = happened(sub { is(call(), 'ok', 'over IPv6') });
is_deeply($begun, ["connect ::1 $port"], 'noted');
is_deeply($accepted, ["accepted on ::1 $port"], 'counted');

# ---- addresses, in every way that they can be written ----

# What nothing allows, and what the machine itself may have for private ones.
my @own = grep { !/^127\.|^::1$|^fe80/ } split ' ', `hostname -I`;
my %never = map { $_ => 1 } qw(
  0.0.0.0 0 0x0 00 [::] [::ffff:0.0.0.0] 169.254.169.254 0xA9FEA9FE 0xa9.0xfe.0xa9.0xfe 2852039166 0251.0376.0251.0376 169.254.43518
  [::ffff:169.254.169.254] [::ffff:a9fe:a9fe] [::169.254.169.254] [64:ff9b::169.254.169.254] [64:ff9b::a9fe:a9fe] [64:ff9b:1::a9fe:a9fe]
  [2002:a9fe:a9fe::1] [::ffff:0:169.254.169.254] [fd00:ec2::254] [FD00:0EC2:0:0:0:0:0:254] [fd20:ce::254] [fd00:c1::a9fe:a9fe] 169.254.170.2
  100.100.100.200 168.63.129.16 192.0.0.192 224.0.0.1 239.255.255.250 [ff02::1] 255.255.255.255 240.0.0.1 [fe80::1] [fe80::1%25lo] [fec0::1]
  [2001::1] [100::1] 192.0.2.1 198.51.100.1 203.0.113.1 [2001:db8::1] %31%36%39.254.169.254 １６９.２５４.１６９.２５４ 169。254。169。254);
my %near = map { $_ => 1 } qw(
  127.0.0.1 127.1 127.0.1 2130706433 0x7f000001 0x7F.0.0.1 0x7f.1 0177.0.0.1 017700000001 127.255.255.254 127.0.0.1. [::1] [0:0:0:0:0:0:0:1]
  [::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:7F00:0001] [::127.0.0.1] [64:ff9b::127.0.0.1] [64:ff9b::7f00:1] [2002:7f00:1::] [::ffff:0:7f00:1]
  localhost LOCALHOST localhost. LocalHost api.localhost api.localhost. %6c%6f%63alhost %31%32%37.0.0.1 １２７.０.０.１ ①②⑦.⓪.⓪.① 127。0。0。1 ｌｏｃａｌｈｏｓｔ
  10.0.0.1 0x0a000001 012.0.0.1 167772161 172.16.0.1 172.31.255.254 192.168.0.1 192.168.1 0xC0A80001 100.64.0.1 198.18.0.1 [fc00::1] [fd12:3456::1]
  [::ffff:10.0.0.1] [64:ff9b::10.0.0.1] [2002:c0a8:1::]);
$near{ /:/ ? "[$_]" : $_ } = 1 for @own;

# Names that only the resolver knows are judged when it has spoken.
append_to_file($hosts, "localhost 127.0.0.1\nlocalhost. 127.0.0.1\napi.localhost 127.0.0.1\napi.localhost. 127.0.0.1\n");
my $later = 0;
my @reached;
sub attempt
{
	my ($host, $options) = @_;
	my @bad;
	for my $scheme (qw(http https))
	{
		my $url = "$scheme://$host:$port/v1";
		my ($begun, $accepted) = happened(
			sub {
				my $added = ask("SELECT eduai.add_provider('a', 'openai', '$url', NULL, '$options');");
				if ($added !~ /ERROR:  (\w+)/) { $later++ }
				elsif ($1 ne '22023') { push @bad, "add_provider: $added" }
				plant($url, $options);
				my $code = call();
				push @bad, "the call ended with $code" unless $code =~ /^(?:address_refused|bad_url|dns_failed)$/;
			});
		push @bad, @$begun, @$accepted;
	}
	push @reached, "$host with $options: @bad" if @bad;
}
attempt($_, '{}') for sort keys %near, sort keys %never;
attempt($_, $both) for sort keys %never;
is_deeply(\@reached, [], scalar(keys %near) . ' near and ' . scalar(keys %never) . ' forbidden hosts, by two schemes: refused, and no connection begun');
cmp_ok($later, '>', 0, "$later of them were stopped by the second wall alone");
attempt('127.0.0.1', '{"allow_private": true}');
attempt('10.0.0.1', $loopback);
attempt('192.168.0.1', $loopback);
is_deeply(\@reached, [], 'what allows loopback does not allow private, nor the other way');

# ---- names ----

sub resolves
{
	my ($name, @addresses) = @_;
	unlink $hosts;
	append_to_file($hosts, "$name @addresses\n");
}

sub lookups { return scalar grep { $_ eq "lookup $_[0]" } noted() }

# A name per case: libcurl remembers what it looked up for a minute.
my $n = 0;
for my $address ('127.0.0.1', '::1', '10.1.2.3', '192.168.7.7', 'fd00::7', '169.254.169.254', '::ffff:169.254.169.254', '64:ff9b::a9fe:a9fe', 'fd00:ec2::254', '0.0.0.0', '::', @own)
{
	my $name = 'case' . ++$n . '.example';
	resolves($name, $address);
	plant("http://$name:$port/v1");
	my ($begun, $accepted) = happened(sub { is(call(), 'address_refused', "a name that is $address") });
	is_deeply([ @$begun, @$accepted ], [], "$address: no connection");
	is(lookups($name), 1, "$address: it was looked up");
}
for my $address ('169.254.169.254', 'fd00:ec2::254', '0.0.0.0', '::')
{
	my $name = 'case' . ++$n . '.example';
	resolves($name, $address);
	plant("http://$name:$port/v1", $both);
	my ($begun, $accepted) = happened(sub { is(call(), 'address_refused', "a name that is $address, all allowed") });
	is_deeply([ @$begun, @$accepted ], [], "$address: no connection");
}
# Of several addresses only those that are allowed are tried.
resolves('several.example', '169.254.169.254', '10.1.2.3', '127.0.0.1');
plant("http://several.example:$port/v1", $loopback);
($begun, $accepted) = happened(sub { is(call(), 'ok', 'a name with one address that is allowed') });
is_deeply($begun, ["connect 127.0.0.1 $port"], 'is reached there and nowhere else');
# The address that was judged is the one that is connected to, each time anew.
resolves('rebind.example', '127.0.0.1');
plant("http://rebind.example:$port/v1", $loopback);
is(call(), 'ok', 'a name, at first where it may be');
for my $address ('169.254.169.254', '10.1.2.3', @own)
{
	resolves('rebind.example', $address);
	my $other = EduaiSession->new($node);
	my ($begun, $accepted) = happened(
		sub { is($other->ask(q{SELECT eduai.test_call('i', 'chat', '{"prompt": "hello"}')->'first'->>'code';}), 'address_refused', "then it is $address") });
	is_deeply([ @$begun, @$accepted ], [], "$address: no connection");
	$other->quit;
}
cmp_ok(lookups('rebind.example'), '>=', 3, 'it was looked up each time');

# ---- redirects ----

for my $status (301, 302, 303, 307, 308)
{
	for my $target ("169.254.169.254", "127.0.0.1:$proxy_port", "localhost:$port")
	{
		plant("http://127.0.0.1:$port/redirect/$status/$target", $loopback);
		my ($begun, $accepted) = happened(sub { is(call(), 'redirect_refused', "a $status to $target") });
		is_deeply($begun, ["connect 127.0.0.1 $port"], 'is not followed');
	}
}
is(scalar(grep { m{ /taken} } arrived()), 0, 'nobody was asked for what it led to');

# ---- the environment ----

plant("http://127.0.0.1:$port/v1", $loopback);
ask("CREATE TEMP TABLE environment (line text); COPY environment FROM PROGRAM 'env';");
is(ask("SELECT count(*) FROM environment WHERE line ~* '^(http|https|all)_proxy=http://127.0.0.1:$proxy_port';"), '6', 'the server has proxies in its environment');
my ($request) = grep { /^POST/ } arrived();
unlike($request, qr/^Authorization:/mi, 'no credentials of .netrc');
unlike(join("\n", arrived()), qr/netrc|bmV0cmMt/, 'in no request');
is(scalar(grep { /accepted on .* $proxy_port$/ } arrived()), 0, 'nothing came to the proxy');
is(scalar(grep { / $proxy_port$/ } noted()), 0, 'nor was begun');

# ---- schemes, users, tricks with the parser ----

my $before = () = noted();
for my $url (
	'file:///etc/passwd', 'ftp://127.0.0.1/', 'gopher://127.0.0.1:PORT/_x', 'dict://127.0.0.1:PORT/x', 'ldap://127.0.0.1', 'smb://127.0.0.1/x', 'telnet://127.0.0.1:PORT',
	'scp://127.0.0.1/x', 'tftp://127.0.0.1/x', 'unix:///tmp/x', 'ws://127.0.0.1:PORT/', 'jar:http://127.0.0.1:PORT/',
	'http://user:pass@127.0.0.1:PORT/', 'http://user@127.0.0.1:PORT', 'http://api.example.com@127.0.0.1:PORT/', 'http://api.example.com:80@127.0.0.1:PORT/',
	'http://127.0.0.1:PORT\@api.example.com/', 'http://api.example.com\@127.0.0.1:PORT/', 'http://127.0.0.1:PORT#@api.example.com/', 'http://127.0.0.1:PORT?@api.example.com/',
	'http://api.example.com#@127.0.0.1:PORT/', 'http://api.example.com %09@127.0.0.1:PORT/', "http://127.0.0.1:PORT/\tx", 'http:\\\\127.0.0.1:PORT', 'http:127.0.0.1:PORT', '//127.0.0.1:PORT',
	'127.0.0.1:PORT', 'http:///127.0.0.1:PORT/', 'http://[127.0.0.1]:PORT/', 'http://127.0.0.1:PORT:80/', 'http://127.0.0.1:99999/', "http://127.0.0.1:PORT/v1\nX: y")
{
	(my $there = $url) =~ s/PORT/$port/;
	(my $shown = $there) =~ s/[\t\n]/ /g;
	my $quoted = $there =~ s/\\/\\\\/gr;
	like(ask("SELECT eduai.add_provider('a', 'openai', E'$quoted', NULL, '$both');"), qr/ERROR:  22023: /, "no base URL: $shown");
	next if $there =~ /^http:[\\\/]*\[?127\.0\.0\.1/ && $there !~ /@|#|\?|\\/;
	ask("UPDATE eduai.provider SET base_url = E'$quoted', options = '{}' WHERE name = 'p';");
	unlike(call(), qr/^ok$/, "nor called, planted past the check: $shown");
}
is(scalar(() = noted()), $before, 'no connection was begun for any of them');

# ---- who sets base URLs ----

$node->safe_psql('postgres', q{CREATE ROLE school_app LOGIN IN ROLE eduai_app; CREATE ROLE school_worker LOGIN IN ROLE eduai_worker; CREATE ROLE school_reader LOGIN IN ROLE eduai_reader; CREATE ROLE stranger LOGIN});
for my $role (qw(school_app school_worker school_reader stranger))
{
	for my $statement ("SELECT eduai.add_provider('evil', 'openai', 'http://127.0.0.1:$port', NULL, '$loopback')",
		"INSERT INTO eduai.provider VALUES ('evil', 'openai', 'http://127.0.0.1:$port', NULL, '$loopback', 'x')",
		"UPDATE eduai.provider SET base_url = 'http://127.0.0.1:$port'", "SELECT eduai.add_instance('evil', 'p', 'm')",
		q{SELECT eduai.test_call('i', 'chat', '{"prompt": "x"}')})
	{
		like(ask("SET ROLE $role; $statement; RESET ROLE;"), qr/ERROR:  42501: /, "$role may not: " . substr($statement, 0, 32));
	}
}
like(ask("SET ROLE eduai_admin; UPDATE eduai.provider SET base_url = 'http://127.0.0.1:$port'; RESET ROLE;"), qr/ERROR:  42501: /, 'eduai_admin has the functions only');

# ---- payloads: through the dispatcher, as an application ----

plant('http://169.254.169.254/v1', $both);
ask('SELECT eduai.start_workers();');
my $sim = start_simulator();
add_fleet($node, $sim, provider => 'open', model => 'sim-open', task_types => '{chat,image_generation,embeddings,transcription}');
add_fleet($node, $sim, provider => 'claude', kind => 'anthropic', model => 'sim-claude');
my $elsewhere = "http://127.0.0.1:$port/payload";
my $more = qq{"base_url": "$elsewhere", "url": "$elsewhere", "host": "127.0.0.1:$port", "endpoint": "$elsewhere", "api_base": "$elsewhere", "proxy": "$elsewhere", }
  . qq{"headers": {"Host": "127.0.0.1:$port"}, "provider": {"base_url": "$elsewhere"}, "extra_headers": {"Host": "evil.example"}, "callback": "$elsewhere", "webhook": "$elsewhere"};
($begun, $accepted) = happened(
	sub {
		for my $case (
			[ 'chat', qq{"model": "sim-open", "messages": [{"role": "user", "content": "x"}], $more} ],
			[ 'chat', qq{"model": "sim-claude", "max_tokens": 10, "messages": [{"role": "user", "content": "x"}], $more} ],
			[ 'chat', qq{"model": "sim-open", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "$elsewhere"}}]}]} ],
			[ 'chat', qq{"model": "sim-claude", "max_tokens": 10, "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "$elsewhere"}}]}]} ],
			[ 'embeddings', qq{"model": "sim-open", "input": "x", $more} ],
			[ 'image_generation', qq{"model": "sim-open", "prompt": "x", "image": "$elsewhere", $more} ],
			[ 'transcription', qq{"model": "sim-open", "audio": {"url": "$elsewhere"}} ],
			[ 'transcription', qq{"model": "sim-open", "audio": {"base64": "T2dnUw==", "file_name": "../../x", "url": "$elsewhere"}} ],
			[ 'chat', q{"model": "../../../evil", "messages": [{"role": "user", "content": "x"}]} ])
		{
			my ($type, $payload) = @$case;
			my $id = ask("SET ROLE school_app; SELECT eduai.enqueue('$type', '{$payload}', max_attempts => 1, on_refusal => 'skip', metadata => '{$more}'); RESET ROLE;");
			if ($id =~ /^\d+$/)
			{
				my $state = ask("SELECT state FROM eduai.wait_task($id, '20 s');");
				like($state, qr/^(?:completed|dead)$/, "$type ends: " . substr($payload, 0, 60));
			}
			else
			{
				pass("$type is refused or skipped: " . substr($payload, 0, 60));
			}
		}
	});
is_deeply([ grep { $_ ne "connect 127.0.0.1 $sim->{port}" } @$begun ], [], 'payloads led to the provider only');
is_deeply($accepted, [], 'nothing arrived elsewhere');
cmp_ok(scalar(@$begun), '>', 0, 'where connections were made and noted');

$session->quit;
$node->stop;
done_testing();
