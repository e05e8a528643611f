# The library loads, the extension is created, and the simulated provider that
# the other tests lean on answers and keeps its journal.

use strict;
use warnings;

use EduaiTest;
use Test::More;

my $node = new_node();
is( $node->safe_psql('postgres', q{SELECT extname FROM pg_extension WHERE extname = 'eduai'}),
	'eduai', 'the extension is there');
ok($node->safe_psql('postgres', 'SELECT eduai.version()'), 'it tells its version');

my $sim = start_simulator();
sim_post($sim, '/v1/chat/completions',
	{ model => 'sim-chat', messages => [ { role => 'user', content => 'hello' } ] });
wait_until(sub { sim_stats($sim)->{completed} == 1 }, 10, 'the simulator has counted the answer');
my $journal = sim_journal($sim);
is(scalar @$journal, 1, 'one call in the journal');
is($journal->[0]{model}, 'sim-chat', 'with its model');

sim_default($sim, 'sim-chat', 'status=503');
ok( !eval {
		sim_post($sim, '/v1/chat/completions',
			{ model => 'sim-chat', messages => [ { role => 'user', content => 'hello' } ] });
		1;
	},
	'a default behaviour is followed');

sim_reset($sim);
is(scalar @{ sim_journal($sim) }, 0, 'the journal is empty after a reset');

add_fleet($node, $sim, count => 2);
is($node->safe_psql('postgres', 'SELECT count(*) FROM eduai.instance_status'), '2', 'a fleet of two instances');

eval { wait_until(sub { 0 }, 0.2, 'what never happens') };
like($@, qr/not within 0.2 s: what never happens/, 'waiting has a deadline that fails');

stop_simulator($sim);
$node->restart;
ok($node->safe_psql('postgres', 'SELECT eduai.version()'), 'and after a restart');
$node->stop;
ok(1, 'it stops');

done_testing();
