# Certificates are verified, always: no request and no key reaches a server whose
# certificate is not from a trusted authority, or is another host's.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use IPC::Open3 ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $key = 'sk-tls-5c1f0b7e';

sub openssl
{
	my (@arguments) = @_;
	my ($out, $err) = PostgreSQL::Test::Utils::run_command([ 'openssl', @arguments ]);
	die "openssl @arguments: $err" if $?;
}

my @new_key = ('-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes');

# An authority, and certificates of it and of nobody.
openssl('req', '-x509', @new_key, '-keyout', "$dir/$_.key", '-out', "$dir/$_.pem", '-days', '30', '-subj', "/CN=$_") for qw(authority stranger);
sub certificate
{
	my ($name, $authority, $names, $days) = @_;
	append_to_file("$dir/$name.ext", "subjectAltName=$names\n");
	openssl('req', @new_key, '-keyout', "$dir/$name.key", '-out', "$dir/$name.csr", '-subj', '/CN=localhost');
	openssl('x509', '-req', '-in', "$dir/$name.csr", '-CA', "$dir/$authority.pem", '-CAkey', "$dir/$authority.key", '-CAcreateserial',
		'-out', "$dir/$name.pem", '-days', '30', '-extfile', "$dir/$name.ext");
}
certificate('good', 'authority', 'DNS:localhost,IP:127.0.0.1');
certificate('elsewhere', 'authority', 'DNS:other.example,IP:10.0.0.1');
certificate('foreign', 'stranger', 'DNS:localhost,IP:127.0.0.1');
openssl('req', '-x509', @new_key, '-keyout', "$dir/alone.key", '-out', "$dir/alone.pem", '-days', '30', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1');

my $body = '{"model": "m", "choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}';
my @servers;

# A TLS server that writes what it reads, decrypted, to a file.
sub serve
{
	my ($name, @options) = @_;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $seen = "$dir/seen-$port";
	open my $out, '>', $seen or die;
	my $pid = IPC::Open3::open3(my $in, '>&' . fileno($out), undef, 'openssl', 's_server', '-quiet', '-accept', "127.0.0.1:$port",
		'-cert', "$dir/$name.pem", '-key', "$dir/$name.key", @options);
	push @servers, $pid;
	$in->autoflush(1);
	return { port => $port, seen => $seen, in => $in, pid => $pid };
}
END { local ($?, $!); kill 'KILL', $_ for @servers }

my $node = new_node(conf => { 'eduai.test_mode' => 'on', 'eduai.http_ca_file' => "$dir/authority.pem" });
my $session = EduaiSession->new($node);
# Health checks of the dispatcher would be connections, too.
$session->ask('SELECT eduai.stop_workers();');
wait_until(sub { $session->ask(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'eduai dispatcher';}) eq '0' }, 20, 'only this session makes calls');

sub point
{
	my ($at, $host) = @_;
	my $answer = $session->ask("SELECT eduai.add_provider('p', 'openai', 'https://$host:$at->{port}/v1', '$key', '{\"allow_loopback\": true}');
		SELECT eduai.add_instance('i', 'p', 'm', options => '{\"connect_ms\": 5000, \"first_byte_ms\": 5000}');");
	die $answer if $answer =~ /ERROR/;
}

sub call
{
	my $code;
	wait_until(
		sub {
			$code = $session->ask(q{SELECT (r->>'verdict') || ' ' || (r->>'code') FROM (SELECT eduai.test_call('i', 'chat', '{"prompt": "hello"}')->'first') AS c (r);});
			return $code !~ /connect_failed/;
		},
		20, 'the server listens');
	return $code;
}

# What is trusted gets the request and the key: the file is the place to look at.
for my $host ('localhost', '127.0.0.1')
{
	my $at = serve('good');
	point($at, $host);
	$session->send(q{SELECT eduai.test_call('i', 'chat', '{"prompt": "hello"}')->'first'->>'code';});
	wait_until(
		sub {
			return 1 if slurp_file($at->{seen}) =~ /\r\n\r\n\{/;
			# not listening yet
			$session->send(q{SELECT eduai.test_call('i', 'chat', '{"prompt": "hello"}')->'first'->>'code';}) if $session->answered && $session->answer =~ /connect_failed/;
			return 0;
		},
		20, "a trusted certificate: the request reaches $host");
	print { $at->{in} } "HTTP/1.1 200 OK\r\nContent-Length: " . length($body) . "\r\n\r\n$body\n";
	is($session->answer, 'ok', "a trusted certificate of $host");
	like(slurp_file($at->{seen}), qr/^Authorization: Bearer \Q$key\E\r$/m, 'gets the key');
}

for my $case (
	[ 'alone', 'a self-signed certificate' ], [ 'foreign', 'a certificate of an authority that is not trusted' ],
	[ 'elsewhere', 'a certificate of another host' ])
{
	my ($name, $what) = @$case;
	for my $host ('localhost', '127.0.0.1')
	{
		my $at = serve($name);
		point($at, $host);
		is(call(), 'retry_elsewhere tls_failed', "$what at $host is refused");
		unlike(slurp_file($at->{seen}), qr/POST|\Q$key\E/, 'nothing was sent');
	}
}

# No option and no setting turns it off.
like($session->ask(qq{SELECT eduai.add_provider('q', 'openai', 'https://provider.example', NULL, '{"$_": false}');}), qr/ERROR:  22023: unknown provider option "$_"/, "there is no option $_")
  for qw(verify tls_verify verify_peer insecure ssl_verify);
is($session->ask(q{SELECT string_agg(name, ', ' ORDER BY name) FROM pg_settings WHERE name ~ '^eduai\..*(tls|ssl|http|verif|insecure)';}),
	'eduai.http_ca_file, eduai.http_connections', 'nor a setting');

# Old protocols.
my $old = serve('good', '-tls1_1', '-cipher', 'ALL:@SECLEVEL=0');
point($old, 'localhost');
like(call(), qr/tls_failed/, 'TLS 1.1 is refused');
unlike(slurp_file($old->{seen}), qr/POST|\Q$key\E/, 'nothing was sent');

# With the system's authorities, our own is none.
$node->append_conf('postgresql.conf', "eduai.http_ca_file = ''");
$node->reload;
wait_until(sub { $session->ask('SHOW eduai.http_ca_file;') eq '' }, 10, 'the setting is loaded');
my $own = serve('good');
point($own, 'localhost');
is(call(), 'retry_elsewhere tls_failed', 'an authority that the system does not know is refused');
unlike(slurp_file($own->{seen}), qr/POST|\Q$key\E/, 'nothing was sent');

$session->quit;
$node->stop;
done_testing();
