# A dump of a database in which everything is in use: blocks, dictionaries and
# given ids, subscriptions in the middle of their work, snapshots and their rules,
# types with upcasters, tasks. Restored in three ways, into databases that workers
# serve meanwhile, it says the same and goes on.

use strict;
use warnings;

use EduaiEverything;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(conf => {
	'eduai.test_mode' => 'on', 'eduai.database' => 'postgres, custom, plain, parallel, again',
	'eduai.compact_after' => '-1', 'eduai.task_retention' => '-1', autovacuum => 'off', max_worker_processes => 40 });
my $dir = PostgreSQL::Test::Utils::tempdir();

fill_everything($node, 'postgres');
command_ok([ 'pg_dump', '-Fc', '-f', "$dir/custom", $node->connstr('postgres') ], 'pg_dump, custom');
command_ok([ 'pg_dump', '-f', "$dir/plain", $node->connstr('postgres') ], 'pg_dump, plain');
command_ok([ 'pg_dump', '-Fd', '-j2', '-f', "$dir/directory", $node->connstr('postgres') ], 'pg_dump, directory');
my $expected = everything_of($node, 'postgres');
like($expected->{"$_: log"}, qr/^4976 \w+ 4976 /, "all events of $_") for qw(default school);
like($expected->{blocks}, qr/^\d{2,} rows/, 'many blocks');
like($expected->{dictionaries}, qr/^2 rows/, 'a dictionary for each tenant');
like($expected->{'given ids'}, qr/^160 rows/, 'ids that were given');

sub check
{
	my ($database) = @_;
	set_week($node, 7);
	is_same_everything($node, $database, $expected, $database);
	everything_goes_on($node, $database, $database);
}

$node->safe_psql('postgres', 'CREATE DATABASE custom');
command_ok([ 'pg_restore', '-e', '-d', $node->connstr('custom'), "$dir/custom" ], 'pg_restore');
check('custom');

$node->safe_psql('postgres', 'CREATE DATABASE plain');
command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-d', $node->connstr('plain'), '-f', "$dir/plain" ], 'psql with a plain dump');
check('plain');

$node->safe_psql('postgres', 'CREATE DATABASE parallel');
command_ok([ 'pg_restore', '-e', '-j2', '-d', $node->connstr('parallel'), "$dir/directory" ], 'pg_restore of a directory, two at a time');
check('parallel');

# The restored one, which is all in blocks by now.
command_ok([ 'pg_dump', '-Fc', '-f', "$dir/again", $node->connstr('parallel') ], 'pg_dump of a restored database');
$node->safe_psql('postgres', 'CREATE DATABASE again');
$expected = everything_of($node, 'parallel');
command_ok([ 'pg_restore', '-e', '-d', $node->connstr('again'), "$dir/again" ], 'and its restore');
is_same_everything($node, 'again', $expected, 'again');
unlike(slurp_file($node->logfile), qr/could not do its chore|could not take a snapshot/, 'no chore failed meanwhile');

$node->stop;
done_testing();
