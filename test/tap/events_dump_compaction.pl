# A dump that is being restored while the projector, as eager as it can be,
# compacts, drops and makes partitions and takes snapshots: table by table in
# the worst order, with tables that come late, and two at a time.

use strict;
use warnings;

use EduaiEverything;
use EduaiSession;
use EduaiTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(conf => {
	'eduai.test_mode' => 'on', 'eduai.database' => 'postgres, slow, late, parallel',
	'eduai.compact_after' => '-1', 'eduai.task_retention' => '-1', autovacuum => 'off', max_worker_processes => 40 });
my $dir = PostgreSQL::Test::Utils::tempdir();
my @tenants = qw(default school);

sub value { return $node->safe_psql($_[1] // 'postgres', $_[0]) }

fill_everything($node, 'postgres');
command_ok([ 'pg_dump', '-Fc', '-f', "$dir/dump", $node->connstr('postgres') ], 'pg_dump');
my $expected = everything_of($node, 'postgres');
my ($contents) = run_command([ 'pg_restore', '-l', "$dir/dump" ]);
my @data = grep { / (?:TABLE DATA|SEQUENCE SET) / } split /\n/, $contents;
my @sequences = grep { / SEQUENCE SET / } @data;
my @tables = grep { / TABLE DATA / } @data;

# From now on all is old enough to be compacted.
set_week($node, 9);
value(q{ALTER SYSTEM SET "eduai.compact_after" = '1s'});
value('SELECT pg_reload_conf()');

# But for the tables that compaction changes, and what the first fetches note.
sub same_log
{
	my ($database, $what) = @_;
	my $all = everything_of($node, $database);
	is($all->{$_}, $expected->{$_}, "$database, $what: $_") for grep { !/^(?:blocks|directory|dictionaries|given ids|members)$/ } sort keys %$expected;
	return;
}

# The entries, given as lines of the table of contents, in this order.
sub restore
{
	my ($database, @entries) = @_;
	append_to_file("$dir/list", join("\n", @entries) . "\n");
	command_ok([ 'pg_restore', '-e', '-L', "$dir/list", '-d', $node->connstr($database), "$dir/dump" ], "$database: " . (@entries == 1 ? ($entries[0] =~ s/.* (?:DATA|SET) //r) : @entries . ' entries'));
	unlink "$dir/list";
	return;
}

# The chores run when asked to, whether they succeed or not: one that fails is
# put off, so the reload is repeated.
sub nudge
{
	my ($database) = @_;
	my $ran = q{SELECT c->>'runs' FROM jsonb_path_query(eduai.health(), '$.events.chores[*] ? (@.chore == "partitions")') c};
	my $before = value($ran, $database);
	$node->reload;
	wait_until(sub { value($ran, $database) > $before }, 20, "the projector of $database was asked");
	wait_until(sub { value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'eduai projector' AND datname = current_database() AND state = 'idle'}, $database) eq '1' }, 20, 'and is done');
}

# All is compacted in the end, and still the same.
sub compacts
{
	my ($database) = @_;
	wait_until(sub { $node->reload; value('SELECT sum(events) FROM eduai.event_order', $database) < 1000 }, 60, "$database is compacted");
	same_log($database, 'compacted');
	return;
}

# ---- one table at a time, the newest partition first ----

value('CREATE DATABASE slow');
command_ok([ 'pg_restore', '-e', '--section=pre-data', '-d', $node->connstr('slow'), "$dir/dump" ], 'slow: pre-data');
wait_until(sub { value(q{SELECT coalesce(bool_and(c ? 'last_run_at'), false) FROM jsonb_path_query(eduai.health(), '$.events.chores[*]') c}, 'slow') eq 't' }, 30, 'the projector of slow is at work');
for my $entry ((reverse @tables), @sequences)
{
	restore('slow', $entry);
	nudge('slow');
}
# Indexes one by one: until the last there are partitions that nobody can read.
my @indexes = grep { / (?:CONSTRAINT|INDEX) eduai / } split /\n/, $contents;
cmp_ok(scalar @indexes, '>=', 8, 'partitions have indexes of their own');
for my $entry (@indexes)
{
	restore('slow', $entry);
	nudge('slow');
}
my %done = map { $_ => 1 } @data, @indexes;
my ($pre_data) = run_command([ 'pg_restore', '-l', '--section=pre-data', "$dir/dump" ]);
my @rest = grep { /^\d/ && !$done{$_} && index($pre_data, $_) < 0 } split /\n/, $contents;
restore('slow', @rest) if @rest;
same_log('slow', 'restored');
compacts('slow');

# ---- tables that are still being filled when the sequence is set ----

# A parallel restore sets the sequences when the last tables have begun.
value('CREATE DATABASE late');
command_ok([ 'pg_restore', '-e', '--section=pre-data', '-d', $node->connstr('late'), "$dir/dump" ], 'late: pre-data');
my @late = grep { / eduai event_(?:block|stream|seen|dictionary) / } @tables;
is(scalar @late, 4, 'the tables of blocks');
my %late = map { $_ => 1 } @late;
my @loaders;
for my $entry (@late)
{
	append_to_file("$dir/one", "$entry\n");
	my ($copy) = run_command([ 'pg_restore', '-f', '-', '-L', "$dir/one", "$dir/dump" ]);
	unlink "$dir/one";
	my $loader = EduaiSession->new($node, 'late');
	$loader->ask("BEGIN;\n$copy");
	push @loaders, $loader;
}
restore('late', (grep { !$late{$_} } @tables), @sequences);
restore('late', @indexes);
nudge('late') for 1 .. 2;
is(value('SELECT count(*) FROM eduai.event_block', 'late'), '0', 'late: nothing is compacted');
$_->ask('COMMIT;') for @loaders;
$_->quit for @loaders;
restore('late', @rest) if @rest;
same_log('late', 'restored');
compacts('late');

# ---- two at a time ----

value('CREATE DATABASE parallel');
my $restore = fork() // die "fork: $!";
if ($restore == 0)
{
	exec('pg_restore', '-e', '-j2', '-d', $node->connstr('parallel'), "$dir/dump") or POSIX::_exit(127);
}
wait_until(sub { $node->reload; waitpid($restore, POSIX::WNOHANG()) == $restore }, 60, 'the restore ends');
is($?, 0, 'a parallel restore, with chores all the while');
same_log('parallel', 'restored');
compacts('parallel');

# An index that is missing is missed aloud, and nothing else goes wrong.
my @failed = grep { /could not do its chore/ && !/event \d+ of stream "[^"]+" is missing/ } split /\n/, slurp_file($node->logfile);
is("@failed", '', 'no chore failed for another reason');

$node->stop;
done_testing();
