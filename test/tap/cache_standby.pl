
# Where nobody publishes: a standby computes and stores nothing that depends on
# anything; its promotion begins with an empty cache. A transaction prepared
# before a restart and committed after it. Rows that logical replication writes.
# A library that is not loaded at server start.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Cluster;
use Test::More;

my $primary = new_node(name => 'primary', conf => { 'eduai.test_mode' => 'on', max_prepared_transactions => 8, wal_level => 'logical', max_wal_senders => 8 });
sub on { my ($node, $sql) = @_; return $node->safe_psql('postgres', $sql) }

on($primary, q{CREATE TABLE t (id int PRIMARY KEY, s int, v int); INSERT INTO t VALUES (1, 1, 1), (2, 2, 2); SELECT eduai.cache_watch('t', ARRAY['s:{s}']);});
my $query = q{eduai.cached_query('SELECT v FROM t WHERE id = $1', ARRAY['1'])};
# "hit VALUE" or "computed VALUE", of a session
my $asked = qq{SELECT CASE WHEN before = eduai.test_cache_computed() THEN 'hit ' ELSE 'computed ' END || rows
	FROM (SELECT eduai.test_cache_computed() AS before, $query AS rows OFFSET 0) x};

# ---- a standby ----

$primary->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
$standby->start;
sub caught_up
{
	my $lsn = on($primary, 'SELECT pg_current_wal_insert_lsn()');
	wait_until(sub { on($standby, "SELECT pg_last_wal_replay_lsn() >= '$lsn'") eq 't' }, 20, 'the standby has caught up');
	return;
}
caught_up();
my $reader = EduaiSession->new($standby);
is($reader->ask("$asked;"), 'computed [{"v": 1}]', 'computed on a standby');
is($reader->ask("$asked;"), 'computed [{"v": 1}]', 'and again');
is($reader->ask(q{SELECT eduai.cache_set('k', '1', tags => '{s:1}');}), 'f', 'a value with a tag is not stored there');
is($reader->ask(q{SELECT eduai.cache_get('k') IS NULL;}), 't', 'nor found');
on($primary, 'UPDATE t SET v = 10 WHERE id = 1');
caught_up();
is($reader->ask("$asked;"), 'computed [{"v": 10}]', 'what came by WAL is there');
# prepared on the primary, committed after the promotion, when rings know nothing of it
on($primary, q{BEGIN; UPDATE t SET v = 11 WHERE id = 1; PREPARE TRANSACTION 'over the promotion';});
caught_up();
$standby->promote;
is($reader->ask("$asked;"), 'computed [{"v": 10}]', 'after the promotion');
on($standby, q{COMMIT PREPARED 'over the promotion'});
is($reader->ask("$asked;"), 'computed [{"v": 11}]', 'what was prepared before it is seen');
is($reader->ask("$asked;"), 'hit [{"v": 11}]', 'and the cache serves');
$reader->quit;
$standby->stop;

# ---- prepared before a restart ----

on($primary, q{ROLLBACK PREPARED 'over the promotion'});
on($primary, q{BEGIN; UPDATE t SET v = 12 WHERE id = 1; PREPARE TRANSACTION 'over the restart';});
$primary->restart;
my $session = EduaiSession->new($primary);
is($session->ask("$asked; $asked;"), "computed [{\"v\": 10}]\ncomputed [{\"v\": 10}]", 'nothing is served while one from before the start is in progress');
on($primary, q{COMMIT PREPARED 'over the restart'});
is($session->ask("$asked; $asked;"), "computed [{\"v\": 12}]\nhit [{\"v\": 12}]", 'then it is seen, and the cache serves');

# ---- logical replication ----

my $subscriber = new_node(name => 'subscriber', conf => { 'eduai.test_mode' => 'on', wal_level => 'logical' });
on($subscriber, q{CREATE TABLE t (id int PRIMARY KEY, s int, v int); SELECT eduai.cache_watch('t', ARRAY['s:{s}']);});
on($primary, 'CREATE PUBLICATION p FOR TABLE t');
my $from = $primary->connstr . ' dbname=postgres';
on($subscriber, "CREATE SUBSCRIPTION s CONNECTION '$from' PUBLICATION p");
wait_until(sub { on($subscriber, 'SELECT count(*) FROM t') eq '2' }, 30, 'the rows have come');
my $there = EduaiSession->new($subscriber);
my $by_rows = $asked =~ s/WHERE id = \$1/WHERE s = \$1/r;
$there->ask("$asked; $by_rows; SELECT eduai.cache_set('k', '1', tags => '{s:1}'), eduai.cache_set('other', '2', tags => '{s:2}');");
wait_until(sub { $there->ask("$asked;") =~ /^hit/ && $there->ask("$by_rows;") =~ /^hit/ }, 20, 'the cache serves there');
on($primary, 'UPDATE t SET v = 13 WHERE id = 1');
wait_until(sub { on($subscriber, 'SELECT v FROM t WHERE id = 1') eq '13' }, 30, 'the change has come');
is($there->ask("$asked;"), 'computed [{"v": 13}]', 'a table that replication wrote');
is($there->ask("$by_rows;"), 'computed [{"v": 13}]', 'rows that replication wrote');
is($there->ask(q{SELECT eduai.cache_get('k') IS NULL, eduai.cache_get('other');}), 't|2', 'their tag, and no other');
on($primary, 'TRUNCATE t');
wait_until(sub { on($subscriber, 'SELECT count(*) FROM t') eq '0' }, 30, 'the truncation has come');
is($there->ask("$asked; $by_rows;"), "computed []\ncomputed []", 'TRUNCATE by replication');
on($subscriber, 'DROP SUBSCRIPTION s');
$subscriber->stop;
$session->quit;

# ---- not loaded at server start ----

$primary->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$primary->restart;
is(on($primary, "INSERT INTO t VALUES (1, 1, 7); SELECT $query"), '[{"v": 7}]', 'plain SQL without preload');

done_testing();
