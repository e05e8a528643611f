# Keys are replaced under load without a failed call: a file's, a literal, and the
# master key that literals are sealed with.

use strict;
use warnings;

use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

# Few connections for many claimed calls: some always wait in line with the key
# that they were claimed with.
my $node = new_node(
	conf => {
		'eduai.queue_max_size' => 0, 'eduai.http_connections' => 8, 'eduai.notify_results' => 'off', 'eduai.sweep_interval' => '1s' });
my $dir = PostgreSQL::Test::Utils::tempdir();
my %sim = map { $_ => start_simulator() } qw(file literal);
my %key = map { $_ => "sk-rotated-$_-" . ('0123456789abcdef' x 2) } qw(f1 f2 f3 f4 l1 l2 l3);

sub value { return $node->safe_psql('postgres', $_[0]) }

sub write_key
{
	my ($text) = @_;
	open my $out, '>', "$dir/key.new" or die;
	print $out "$text\n";
	close $out;
	rename "$dir/key.new", "$dir/key" or die;
}

sub accept_keys
{
	my ($name, @keys) = @_;
	sim_post($sim{$name}, '/_sim/key', { key => join ' ', map { $key{$_} } @keys });
}

# Of tasks: health checks are something else.
sub refusals { return scalar grep { $_->{status} == 401 && $_->{endpoint} =~ /chat/ } @{ sim_journal($sim{ $_[0] }) } }

sub completed { return value("SELECT count(*) FROM eduai.provider_call WHERE provider = '$_[0]' AND outcome = 'completed'") }

# Work never runs out: what is left is filled up, for both providers.
sub feed
{
	value(q{SELECT eduai.enqueue_batch('chat', array_fill(format('{"model": "sim-%s", "prompt": "hello"}', m)::jsonb, ARRAY[200]))
		FROM unnest(ARRAY['file', 'literal']) m
		WHERE (SELECT count(*) FROM eduai.task WHERE state = 'ready' AND payload->>'model' = 'sim-' || m) < 150});
}

# So many more calls of a provider are completed, under load all the while.
sub work
{
	my ($name, $calls, $what) = @_;
	my $start = completed($name);
	wait_until(sub { feed(); completed($name) >= $start + $calls }, 60, "$calls more calls: $what");
	failed_none($what);
}

sub failed_none
{
	my ($what) = @_;
	is(value(q{SELECT string_agg(DISTINCT concat_ws(' ', provider, outcome, code), ', ') FROM eduai.provider_call WHERE outcome <> 'completed'}),
		'', "no call failed: $what");
}

# A line of calls that lasts until a key is revoked, however busy the machine is.
sub slow_down
{
	my ($name) = @_;
	sim_default($sim{$name}, undef, 'latency=2000');
	feed();
	wait_until(sub { value("SELECT sum(in_flight) FROM eduai.instance_status WHERE provider = '$name'") == 30 }, 30, 'calls wait in line');
}

# What is claimed from now on has the provider's present key.
sub settled
{
	my ($name) = @_;
	my $id = value(qq{SELECT eduai.enqueue('chat', '{"model": "sim-$name", "prompt": "new"}', priority => 'critical')});
	wait_until(sub { value("SELECT started_at IS NOT NULL FROM eduai.get_task($id)") eq 't' }, 30, 'a new call is claimed');
}

write_key($key{f1});
accept_keys(file => 'f1');
accept_keys(literal => 'l1');
add_fleet($node, $sim{file}, provider => 'file', model => 'sim-file', api_key => "file:$dir/key", max_concurrent => 30);
add_fleet($node, $sim{literal}, provider => 'literal', model => 'sim-literal', api_key => $key{l1}, max_concurrent => 30);
sim_default($_, undef, 'latency=50') for values %sim;
value(q{SELECT eduai.configure_pool('chat', '{chat}', 60)});
work($_, 50, "the first key of $_") for qw(file literal);

sub add_literal
{
	my ($name) = @_;
	value("SELECT eduai.add_provider('literal', 'openai', '$sim{literal}{base_url}/v1', '$key{$name}', '{\"allow_loopback\": true}')");
}

# ---- while both are valid, nobody is refused ----

accept_keys(file => 'f1', 'f2');
write_key($key{f2});
$node->reload;
settled('file');
work('file', 100, 'a key file and a reload');
accept_keys(file => 'f2');
work('file', 50, 'the old key of the file is revoked');
is(refusals('file'), 0, 'nobody was refused');

accept_keys(literal => 'l1', 'l2');
add_literal('l2');
settled('literal');
work('literal', 100, 'another literal');
accept_keys(literal => 'l2');
work('literal', 50, 'the old literal is revoked');
is(refusals('literal'), 0, 'nobody was refused');

# ---- where the old one is revoked at once ----

slow_down('file');
write_key($key{f3});
accept_keys(file => 'f3');
sim_default($sim{file}, undef, 'latency=50');
work('file', 100, 'a key file without a reload, the old key revoked at once');
cmp_ok(refusals('file'), '>', 0, 'calls were refused and sent again');
cmp_ok(refusals('file'), '<=', 30, 'only such as had been claimed with the old key');

slow_down('literal');
add_literal('l3');
settled('literal');
accept_keys(literal => 'l3');
sim_default($sim{literal}, undef, 'latency=50');
work('literal', 100, 'another literal, the old one revoked while calls wait in line with it');
cmp_ok(refusals('literal'), '>', 0, 'calls were refused and sent again');
my $refused = refusals('file');
work('file', 30, 'later');
is(refusals('file'), $refused, 'once the fleet has the new key nobody is refused');

# ---- a file that is no key for a while ----

write_key('');
wait_until(sub { feed(); slurp_file($node->logfile) =~ /LOG:  eduai provider "file" cannot be called: the first line of key file .* is empty/ },
	30, 'an empty key file is noticed without a reload');
settled('literal');
my $before = completed('file');
work('literal', 50, 'the other provider goes on');
cmp_ok(completed('file') - $before, '<=', 60, 'calls of the one without a key wait');
write_key($key{f3});
work('file', 50, 'the key is there again');

# ---- the master key ----

sub sealed_under { return value(q{SELECT substr(convert_from(substring(sealed from 3 for 4), 'UTF8'), 1) FROM eduai.provider_secret}) }
is(sealed_under(), 'test', 'the literal is sealed under the first master key');
write_master_key($node, 'next', 'test');
is(value('SELECT eduai.reseal_secrets()'), '1', 'one literal is sealed anew');
is(sealed_under(), 'next', 'under the next master key');
is(value('SELECT eduai.reseal_secrets()'), '0', 'and then there is none to be');
work('literal', 50, 'sealed anew');
write_master_key($node, 'next');
$node->reload;
settled('literal');
work('literal', 100, 'the old master key is gone');

# Without the right master key the provider waits, and nothing is changed.
write_master_key($node, 'test');
$node->reload;
wait_until(sub { slurp_file($node->logfile) =~ /eduai provider "literal" cannot be called: the sealed key could not be opened: the master key that sealed it is not/ },
	30, 'a master key that is missing is told');
my ($status, $out, $err) = $node->psql('postgres', 'SELECT eduai.reseal_secrets()');
like($err, qr/the key of provider "literal" could not be opened/, 'nor can it be sealed anew');
is(sealed_under(), 'next', 'it stays as it was');
write_master_key($node, 'next');
work('literal', 50, 'the master key is there again');

# ---- in the end ----

wait_until(sub { value(q{SELECT count(*) FROM eduai.task WHERE state IN ('ready', 'running', 'scheduled')}) eq '0' }, 120, 'all is done');
is(value(q{SELECT string_agg(DISTINCT state, ',') FROM eduai.task}), 'completed', 'every task is completed');
is(value('SELECT max(attempt) FROM eduai.provider_call'), '1', 'at the first attempt');
failed_none('in the end');

# A wrong key is no rotation: refused once, and that is a failure.
$refused = refusals('file');
accept_keys(file => 'f4');
my $id = value(q{SELECT eduai.enqueue('chat', '{"model": "sim-file", "prompt": "hello"}')});
is(value("SELECT state || ' ' || (error->>'code') FROM eduai.wait_task($id, '20 s')"), 'dead auth', 'a key that is revoked and not replaced');
is(refusals('file'), $refused + 1, 'was sent once');
# A provider that has moved has no key for calls to where it was.
$node->safe_psql('postgres', 'ALTER SYSTEM SET eduai.http_connections = 1');
$node->reload;
sim_reset($sim{file});
sim_default($sim{file}, undef, 'latency=1500');
accept_keys(file => 'f3');
$refused = refusals('file');
my @ids = split /\n/, value(q{SELECT unnest(eduai.enqueue_batch('chat', array_fill('{"model": "sim-file", "prompt": "hello"}'::jsonb, ARRAY[2])))});
wait_until(sub { value("SELECT count(*) FROM eduai.get_tasks('{$ids[0],$ids[1]}') WHERE state = 'running'") eq '2' }, 20, 'both are claimed');
wait_until(sub { grep { $_->{endpoint} =~ /chat/ } @{ sim_journal($sim{file}) } }, 20, 'one is sent, one waits in line');
accept_keys(literal => 'l3');
value("SELECT eduai.add_provider('file', 'openai', '$sim{literal}{base_url}/v1', '$key{l2}', '{\"allow_loopback\": true}')");
settled('literal');
accept_keys(file => 'f4');
is(value("SELECT string_agg(state || coalesce(' ' || (error->>'code'), ''), ', ' ORDER BY state) FROM eduai.wait_tasks('{$ids[0],$ids[1]}', '30 s')"),
	'completed, dead auth', 'the key of the new place is not sent to the old one');
is(refusals('file'), $refused + 1, 'the old place was asked once more, with its own key');

$node->stop;
done_testing();
