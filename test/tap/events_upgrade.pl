# pg_upgrade carries over everything that the log stores: partitions made at run
# time, blocks, the order of the feed, what is stored by name.

use strict;
use warnings;

use EduaiEverything;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my %conf = ('eduai.test_mode' => 'on', 'eduai.compact_after' => '-1', 'eduai.task_retention' => '-1', autovacuum => 'off');
my $old = new_node(name => 'old', conf => \%conf);
my $new = new_node(name => 'new', conf => \%conf, start => 0);

sub value { return $_[0]->safe_psql('postgres', $_[1]) }

# pg_upgrade refuses columns whose values are oids of what it creates anew.
is(value($old, q{
	SELECT coalesce(string_agg(c.oid::regclass || '.' || a.attname || ' ' || a.atttypid::regtype, ', '), '')
	FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
	WHERE c.relnamespace = 'eduai'::regnamespace AND c.relkind IN ('r', 'p', 'm', 'i') AND NOT a.attisdropped
		AND a.atttypid IN (SELECT oid FROM pg_type WHERE typname LIKE 'reg%' AND typnamespace = 'pg_catalog'::regnamespace
			AND typname NOT IN ('regclass', 'regrole', 'regtype'))}), '', 'no table of eduai has a column that pg_upgrade refuses');
is(value($old, q{
	SELECT coalesce(string_agg(c.oid::regclass || '.' || a.attname, ', '), '')
	FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
	WHERE c.relnamespace = 'eduai'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
		AND a.atttypid = 'oid'::regtype}), '', 'nor one of oids, which would mean something else afterwards');

fill_everything($old, 'postgres');
my $expected = everything_of($old, 'postgres');
# As the first fetches have noted it.
$expected = everything_of($old, 'postgres');
my $parts = q{SELECT string_agg(inhrelid::regclass || ' ' || pg_get_expr(relpartbound, c.oid), ', ' ORDER BY inhrelid::regclass::text) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'eduai.event'::regclass};
my $partitions = value($old, $parts);
$old->stop;

my $bin = PostgreSQL::Test::Utils::tempdir();
my ($bindir) = grep { -x "$_/pg_upgrade" } split /:/, $ENV{PATH};
my @upgrade = ('pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $bindir, '-B', $bindir,
	'-s', $new->host, '-p', $old->port, '-P', $new->port);
chdir $bin or die "chdir $bin: $!";
command_ok([ @upgrade, '--check' ], 'pg_upgrade --check');
command_ok(\@upgrade, 'pg_upgrade');
$new->start;
set_week($new, 7);
is_same_everything($new, 'postgres', $expected, 'upgraded');
# The projector may have made the next one already.
is(substr(value($new, $parts), 0, length $partitions), $partitions, 'the partitions too');
wait_until(sub { value($new, q{SELECT coalesce(bool_and(c ? 'last_run_at'), false) FROM jsonb_path_query(eduai.health(), '$.events.chores[*]') c}) eq 't' }, 20, 'the projector works');
is(value($new, q{SELECT count(*) FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
	WHERE e.extname = 'eduai' AND d.deptype = 'e' AND d.classid = 'pg_class'::regclass AND d.objid = 'eduai.event'::regclass}), '1', 'the tables belong to the extension');

everything_goes_on($new, 'postgres', 'upgraded');

$new->stop;
done_testing();
