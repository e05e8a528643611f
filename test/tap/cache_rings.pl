
# Two schedules that hardly ever come about by themselves: a ring that had to
# forget a transaction, and a session that writes a table after it has cached it.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on', max_prepared_transactions => 20, autovacuum => 'off' });
sub value { return $node->safe_psql('postgres', $_[0]) }

value(q{CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, 0 FROM generate_series(0, 20) i; CREATE TABLE other (id int);});
my $sum = q{SELECT CASE WHEN before = eduai.test_cache_computed() THEN 'hit ' ELSE 'computed ' END || (rows->0->>'s')
	FROM (SELECT eduai.test_cache_computed() AS before, eduai.cached_query('SELECT sum(v) AS s FROM t') AS rows OFFSET 0) x;};

# One transaction wrote the table and is done; fourteen later ones wrote it and
# are not, so they fill the ring: what two snapshots make of these says nothing.
my ($writer, $reader) = map { EduaiSession->new($node) } 1, 2;
is($reader->ask($sum), 'computed 0', 'computed');
is($reader->ask($sum), 'hit 0', 'and kept');
$writer->ask(q{UPDATE t SET v = 1 WHERE id = 0;});
$writer->ask(qq{BEGIN; UPDATE t SET v = 100 WHERE id = $_; PREPARE TRANSACTION 'ring$_';}) for 1 .. 14;
is($reader->ask($sum), 'computed 1', 'the forgotten one is seen');
$writer->ask(qq{ROLLBACK PREPARED 'ring$_';}) for 1 .. 14;

# A session has an id, caches the table, writes it and commits. Another's id
# came after, so that its own lies between the bounds of its snapshot.
$reader->ask($sum);
$writer->ask('BEGIN; INSERT INTO other VALUES (1);');
value('INSERT INTO other VALUES (2)') for 1 .. 3;
value('UPDATE t SET v = 2 WHERE id = 0');
is($writer->ask($sum), 'computed 2', 'computed by a session with an id');
is($reader->ask($sum), 'hit 2', 'and kept for others');
$writer->ask('UPDATE t SET v = 3 WHERE id = 0; COMMIT;');
is($reader->ask($sum), 'computed 3', 'what it wrote afterwards is seen');

done_testing();
