# The fault wall, bodies and heads without end: the dispatcher's memory stays
# bounded by its limits, the connection is dropped when they are reached, others
# are served meanwhile, and nothing is left behind.

use strict;
use warnings;

use EduaiTest;
use EduaiWall;
use Test::More;

my $limit_kb = 1024;
my $node = new_node(conf => { 'eduai.max_response_size' => "${limit_kb}kB", 'eduai.http_connections' => 200, 'eduai.breaker_open' => '1ms' });
my $sim = start_simulator();
wall_providers($node, $sim);

# As much as fits between here and there although nobody reads: the sockets' buffers.
sub socket_buffers
{
	my $bytes = 0;
	for my $file (qw(tcp_rmem tcp_wmem))
	{
		open my $f, '<', "/proc/sys/net/ipv4/$file" or die "$file: $!";
		$bytes += (split ' ', <$f>)[2];
	}
	return $bytes;
}

my $times = 10;
my $on_the_way = socket_buffers();

# name, behaviour, code, and how much of it may have left the simulator
my @floods = (
	[ 'bomb', 'gzip_bomb=200000000000', 'body_too_large', $on_the_way ],
	[ 'giant', 'giant=1000000000', 'body_too_large', $limit_kb * 1024 + $on_the_way ],
	[ 'giant-error', 'status=500;giant=1000000000', 'http_500', $limit_kb * 1024 + $on_the_way ],
	[ 'head', 'giant_headers=1000000000', 'headers_too_large', 65536 + $on_the_way ],
	[ 'interim', 'interim=20000000', 'headers_too_large', 65536 + $on_the_way ]);

$node->safe_psql('postgres', join '', map {
	sim_default($sim, "flood-$_->[0]", $_->[1]);
	"SELECT eduai.add_instance('$_->[0]', 'openai', 'flood-$_->[0]', max_concurrent => 50, options => '{\"aliases\": [\"$_->[0]\"]}');\n"
} @floods, [ 'well', '' ]);

sub flood
{
	my $ids = $node->safe_psql('postgres', qq{
		SELECT string_agg(eduai.enqueue('chat', jsonb_build_object('model', m, 'user', m, 'messages', '[{"role": "user", "content": "x"}]'::jsonb), max_attempts => 1)::text, ',')
		FROM unnest('{@{[join ',', map { $_->[0] } @floods]}, well}'::text[]) m, generate_series(1, $times)});
	wait_until(
		sub {
			$node->safe_psql('postgres', "SELECT count(*) FROM unnest('{$ids}'::bigint[]) id, eduai.get_task(id) t WHERE t.state NOT IN ('completed', 'dead')") == 0;
		},
		60, 'all have ended');
	return $ids;
}

# what is loaded and cached at the first calls is not to be counted
my $warm = $node->safe_psql('postgres', q{SELECT eduai.enqueue('chat', '{"model": "well", "prompt": "x"}')});
wait_for_task($node, $warm, 'completed', 20);
my $pid = dispatcher_pid($node);
my ($before, $descriptors) = (rss_kb($pid), scalar(() = glob "/proc/$pid/fd/*"));

my $ids = flood();
my $peak = rss_kb($pid, 1);
# a buffer grows by doubling
cmp_ok($peak - $before, '<', @floods * $times * 2 * $limit_kb + 16 * 1024, 'the memory is bounded by the limits') or diag "from $before to $peak kB";
note "memory: $before kB before, $peak kB at most";

for (@floods)
{
	my ($name, $behaviour, $code, $most) = @$_;
	my @sent = grep { $_->{user} eq $name } @{ sim_journal($sim) };
	is(scalar @sent, $times, "$name: so many were sent");
	is(scalar(grep { $_->{outcome} eq 'aborted' } @sent), $times, "$name: each connection was dropped");
	my ($largest) = sort { $b <=> $a } map { $_->{sent_bytes} } @sent;
	cmp_ok($largest, '<=', $most, "$name: early");
	note "$name: at most $largest bytes left";
	is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT code, ',') FROM eduai.usage_ledger WHERE instance = '$name'"), $code, "$name: $code");
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM eduai.usage_ledger WHERE instance = 'well' AND outcome = 'completed'}), $times + 1, 'the others were answered');

# The same again: what was needed the first time is enough.
my $after = rss_kb($pid);
flood() for 1 .. 3;
cmp_ok(rss_kb($pid) - $after, '<', 8 * 1024, 'more of them take no more memory');
wait_until(sub { sim_stats($sim)->{connections_open} <= $times + 5 }, 20, 'only connections that are well are kept');
cmp_ok(scalar(() = glob "/proc/$pid/fd/*"), '<=', $descriptors + $times + 5, 'and their descriptors');
is(dispatcher_pid($node), $pid, 'the dispatcher went on');

$node->stop;
done_testing();
