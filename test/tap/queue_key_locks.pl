# Batches with the same unique keys in different orders, and single calls with
# both kinds of keys, wait for each other but never deadlock.

use strict;
use warnings;

use EduaiTest;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node();
my $dir = PostgreSQL::Test::Utils::tempdir();
my $script = "$dir/batch.sql";
append_to_file($script, q{
SELECT eduai.enqueue_batch('custom', array_agg('{}'::jsonb), unique_keys => array_agg('k' || i ORDER BY random())) FROM generate_series(1, 20) i;
SELECT eduai.enqueue('custom', '{}', unique_key => 'k' || (random() * 20)::int, idempotency_key => 'k' || (random() * 20)::int);
});

my ($out, $err) = ('', '');
IPC::Run::run(
	[ 'pgbench', '-n', '-c', 8, '-t', 200, '-f', $script, $node->connstr('postgres') ],
	'<', '/dev/null', '>', \$out, '2>', \$err);
like($out, qr{transactions actually processed: 1600/1600}, 'all calls went through') or diag($err);
unlike(slurp_file($node->logfile), qr/deadlock detected/, 'and none of them deadlocked');
is($node->safe_psql('postgres', q{SELECT count(*) = count(DISTINCT unique_key) FROM eduai.task_live WHERE unique_key IS NOT NULL}),
	't', 'one task lives for each key');

done_testing();
