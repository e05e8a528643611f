# Deletions and fills in flight, between sessions: what was deleted in a
# transaction is gone when it is committed, and does not come back. On a standby
# nothing draws a transaction id. Without preload a cache says no.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Cluster;
use Test::More;

my $node = new_node(conf => { 'eduai.cache_size' => '1MB' });

sub ask { return $node->safe_psql('postgres', $_[0]); }

ask('CREATE TABLE t (n int)');
my ($writer, $filler) = map { EduaiSession->new($node) } 1 .. 2;

for my $case (
	[ 'key', q{SELECT eduai.cache_delete('k');}, '{}' ],
	[ 'pattern', q{SELECT eduai.cache_delete_pattern('?');}, '{}' ],
	[ 'tag', q{SELECT eduai.cache_delete_tag('t');}, '{t}' ],
	[ 'all', q{SELECT eduai.cache_clear();}, '{}' ])
{
	my ($name, $delete, $tags) = @$case;
	my $fill = "SELECT eduai.cache_set('k', '\"old\"', tags => '$tags');";

	# The filler reads before the commit and stores after it.
	is($filler->ask('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) >= 0 FROM t;'), 't', "$name: a reader");
	is($writer->ask("BEGIN; INSERT INTO t VALUES (1); $delete"), $name eq 'key' ? 'f' : '0', "$name: deleted in a transaction");
	# Until the commit the old value is the right one, for everybody else.
	is(ask($fill . q{SELECT eduai.cache_get('k');}), $name eq 'tag' ? "t\n\"old\"" : "t\n\"old\"", "$name: stored by another before the commit");
	is($writer->ask(q{SELECT eduai.cache_get('k') IS NULL;}), 't', "$name: not found by who deleted it");
	$writer->ask('COMMIT;');
	is(ask(q{SELECT eduai.cache_get('k') IS NULL}), 't', "$name: gone with the commit");
	is($filler->ask($fill), 'f', "$name: what was read before is not stored after");
	$filler->ask('COMMIT;');
	is(ask(q{SELECT eduai.cache_get('k') IS NULL}), 't', "$name: and not there");
	is(ask($fill . q{SELECT eduai.cache_get('k')}), "t\n\"old\"", "$name: what is read after it is");
	ask(q{SELECT eduai.cache_clear()});
}

# A transaction that was prepared deletes when it is committed.
ask(q{SELECT eduai.cache_set('p', '1')});
$writer->ask(q{BEGIN; INSERT INTO t VALUES (1); SELECT eduai.cache_delete('p'); PREPARE TRANSACTION 'p';});
is(ask(q{SELECT eduai.cache_set('p', '2')}), 'f', 'prepared: not stored while its deleter may commit');
ask(q{COMMIT PREPARED 'p'});
is(ask(q{SELECT eduai.cache_get('p') IS NULL, eduai.cache_set('p', '3'), eduai.cache_get('p')}), 't|t|3', 'prepared: as after any deletion');

# More deletions in a transaction than are kept one by one.
ask(q{SELECT eduai.cache_set('many', '1')});
$writer->ask(q{BEGIN; INSERT INTO t VALUES (1); SELECT count(eduai.cache_delete('many:' || i)) FROM generate_series(1, 1500) i;});
is($writer->ask('COMMIT;'), '', 'many deletions');
is(ask(q{SELECT eduai.cache_get('many') IS NULL}), 't', 'count as all');

# What pushed a deletion out of the memory of deletions leaves it standing: no
# fill from before it is stored.
for my $case (
	[ 'keys', q{SELECT eduai.cache_delete('k')}, join('', map { "SELECT count(eduai.cache_delete('x$_-' || i)) FROM generate_series(1, 1000) i;" } 1 .. 50) ],
	[ 'patterns', q{SELECT eduai.cache_delete_pattern('k*')}, q{SELECT count(eduai.cache_delete_pattern('x' || i || '*')) FROM generate_series(1, 100) i;} ])
{
	my ($name, $delete, $more) = @$case;
	is($filler->ask('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) >= 0 FROM t;'), 't', "a reader before many $name");
	ask("INSERT INTO t VALUES (1); $delete; $more");
	is($filler->ask(q{SELECT eduai.cache_set('k', '"old"');}), 'f', "... stores nothing that was deleted before them");
	$filler->ask('COMMIT;');
	is(ask(q{SELECT eduai.cache_set('k', '"new"')}), 't', '... and later all is well');
}

# ---- a standby ----

$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
sub ask_standby { return $standby->safe_psql('postgres', $_[0]); }
is(ask_standby(q{SELECT eduai.cache_get('k') IS NULL, eduai.cache_set('k', '1'), eduai.cache_get('k'), eduai.cache_set('k', '2'), eduai.cache_get('k')}),
	't|t|1|t|2', 'standby: values');
is(ask_standby(q{SELECT eduai.cache_delete('k'), eduai.cache_get('k') IS NULL, eduai.cache_set('k', '3'), eduai.cache_get('k')}), 't|t|t|3', 'standby: a deletion');
is(ask_standby(q{SELECT eduai.cache_delete_pattern('*'), eduai.cache_delete_tag('t'), eduai.cache_clear()}), '1|0|0', 'standby: more deletions');
is(ask_standby(q{SELECT eduai.cache_set('k', '4', tags => '{t}')}), 'f', 'standby: nothing with tags');
$standby->stop;

# ---- without preload ----

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
is(ask(q{SELECT eduai.cache_set('k', '1'), eduai.cache_get('k') IS NULL, (SELECT hit FROM eduai.cache_lookup('k')),
	eduai.cache_delete('k'), eduai.cache_delete_tag('t'), eduai.cache_delete_pattern('*'), eduai.cache_clear()}), 'f|t|f|f|0|0|0', 'without preload: no');
is(ask(q{SELECT count(*), sum(hits + misses) FROM eduai.cache_stats}), '5|0', 'without preload: nothing to count');
is(ask(q{SELECT eduai.cache_memory() IS NULL}), 't', 'without preload: no memory');

done_testing();
